// Search: on its page it finds sections, on every other page it marks the words that were looked for. Wide equations.
(function () {
  "use strict";
  const MOST = 60, AROUND = 110; // results shown; letters of an excerpt on each side of the first word found
  const FEW = 8, LATER = 3000; // done at once of what is not seen, and ms until that
  const SET = "mjx-container[display=true]";
  const SCROLLED = `div.math, ${SET}, pre, .cell_output, .pst-scrollable-table-container`;
  const asked = new URLSearchParams(window.location.search);

  const plain = (text) => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").toLowerCase();
  // The words of a question, each found at the beginning of a word; a plural finds the singular, too.
  const words = (question) => [...new Set(plain(question).match(/[\p{L}\p{N}_]+([.’'-][\p{L}\p{N}_]+)*/gu) || [])]
    .map((word) => (word.length > 4 ? word.replace(/s$/, "") : word));
  const pattern = (word) => `(?<![\\p{L}\\p{N}])${word.replace(/[.]/g, "\\.")}s?`;
  const count = (text, word) => (text.match(new RegExp(pattern(word), "gu")) || []).length;

  function element(name, text, attributes) {
    const made = document.createElement(name);
    made.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  }

  // Every place with all of the words, else with any of them; those with the words in their heading first.
  function find(looked) {
    const places = [];
    for (const [page, chapter, entries] of window.gendynSections) {
      const whole = plain(chapter);
      for (const [anchor, title, text] of entries) {
        const head = plain(title), body = plain(text);
        const points = looked.map((word) =>
          (count(head, word) ? 20 : 0) + (count(whole, word) ? 3 : 0) + 4 * Math.log2(1 + count(body, word)));
        const own = looked.filter((word) => count(head, word) || count(body, word)).length;
        const score = points.reduce((sum, one) => sum + one, head === looked.join(" ") ? 30 : 0);
        if (own) places.push({ page, chapter, anchor, title, text, score, all: points.every((one) => one > 0) });
      }
    }
    const best = places.some((place) => place.all) ? places.filter((place) => place.all) : places;
    return best.sort((a, b) => b.score - a.score);
  }

  // The text around the first word found, with the words marked.
  function excerpt(text, looked) {
    const searched = plain(text).length === text.length ? plain(text) : text.toLowerCase();
    const every = new RegExp(looked.map(pattern).join("|"), "gu");
    const first = searched.search(every);
    const from = first < AROUND ? 0 : text.indexOf(" ", first - AROUND) + 1;
    const until = text.length - from < 2 * AROUND + 40 ? text.length : text.lastIndexOf(" ", from + 2 * AROUND);
    const shown = element("p", from ? "… " : ""), end = until < text.length ? " …" : "";
    let at = from;
    for (const { 0: found, index } of searched.slice(0, until).matchAll(every)) {
      if (index < at) continue;
      shown.append(text.slice(at, index), element("mark", text.slice(index, index + found.length)));
      at = index + found.length;
    }
    shown.append(text.slice(at, until) + end);
    return shown;
  }

  function show(results) {
    const question = (asked.get("q") || "").trim(), looked = words(question);
    const field = document.querySelector(".bd-search-container input[type=search]");
    if (field) field.value = question;
    if (!looked.length) return;
    const found = find(looked), many = found.length === 1 ? "1 place" : `${found.length || "No"} places`;
    const limit = found.length > MOST ? `, the best ${MOST} shown` : "";
    const list = element("ol", "", { class: "gendyn-results" });
    for (const { page, chapter, anchor, title, text } of found.slice(0, MOST)) {
      const item = element("li", "");
      item.append(element("a", title, { href: `${page}?highlight=${encodeURIComponent(question)}#${anchor}` }));
      if (title !== chapter) item.append(element("span", chapter, { class: "gendyn-where" }));
      item.append(excerpt(text, looked));
      list.append(item);
    }
    results.append(element("p", `${many} with “${question}”${limit}`, { role: "status" }), list);
  }

  // Marks words without changing the page; Escape takes the marks away.
  function mark(looked) {
    if (!looked.length || !window.Highlight) return;
    const every = new RegExp(looked.map(pattern).join("|"), "giu"), ranges = [];
    const skipped = "script, style, noscript, button, svg, nav, mjx-container, .math";
    const walker = document.createTreeWalker(document.querySelector("article") || document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.parentElement.closest(skipped)) continue;
      for (const { 0: found, index } of node.data.matchAll(every)) {
        const range = new Range();
        range.setStart(node, index);
        range.setEnd(node, index + found.length);
        ranges.push(range);
      }
    }
    CSS.highlights.set("gendyn-found", new Highlight(...ranges));
    document.addEventListener("keydown", (event) => event.key === "Escape" && CSS.highlights.delete("gendyn-found"));
  }

  const set = () => (window.MathJax && window.MathJax.startup ? window.MathJax.startup.promise : null);
  const pause = () => new Promise((done) => (window.requestIdleCallback || setTimeout)(done));

  // What a page has many of is made ready as it comes near, and on paper; the rest later, a few at a time: a long page
  // answers at once. Gives its word when that which is near at first is ready.
  function asNeeded(selector, work) {
    const waiting = new Set(document.querySelectorAll(selector));
    const take = (some) => work(some.filter((element) => waiting.delete(element)));
    window.addEventListener("beforeprint", () => take([...waiting]));
    let observer;
    const first = new Promise((done) => {
      const seen = (entries) => take(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target));
      observer = new IntersectionObserver((entries) => done(seen(entries)), { rootMargin: "50% 0px" });
      waiting.forEach((element) => observer.observe(element));
      if (!waiting.size) done();
    });
    setTimeout(async () => {
      for (; waiting.size; await pause()) await take([...waiting].slice(0, FEW));
      observer.disconnect();
    }, LATER);
    return first;
  }

  // What is wider than its place can be scrolled by keyboard, and only such a thing is a stop of the Tab key.
  function stops(some) {
    const wide = some.map((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX !== "visible");
    some.forEach((one, number) => (wide[number] ? one.setAttribute("tabindex", 0) : one.removeAttribute("tabindex")));
  }
  // Again whenever its size is another: laid out, unfolded, typeset, in a window of another width.
  const sizes = new ResizeObserver((entries) => stops(entries.map((entry) => entry.target)));
  const reachable = (place) => place.querySelectorAll(SCROLLED).forEach((one) => sizes.observe(one));

  const setMathematics = () => asNeeded(".math", async (some) => {
    if (some.length) await window.MathJax.typesetPromise(some);
    some.forEach(reachable);
  });

  // What was left out of the layout of a page that opens (book.css) is laid out, so that all heights are the real ones.
  const layOut = () => asNeeded("div.cell, .admonition, .gendyn-wide", (some) => {
    for (const each of some) each.style.contentVisibility = "visible";
  });

  // What is set or drawn above the place asked for moves it: go there again, until the reader moves.
  async function stay() {
    const place = document.getElementById(decodeURIComponent(window.location.hash.slice(1)));
    if (!place) return;
    let moved = false;
    for (const kind of ["wheel", "touchstart", "keydown", "pointerdown"]) {
      window.addEventListener(kind, () => { moved = true; }, { once: true, passive: true });
    }
    await set();
    const again = new ResizeObserver(() => { if (!moved) place.scrollIntoView(); });
    again.observe(document.body);  // at once, and whenever what is laid out later changes the page's height
    window.setTimeout(() => again.disconnect(), 10000);
  }

  const results = document.getElementById("search-results");
  if (results) {
    document.addEventListener("DOMContentLoaded", () => show(results));
  } else {
    mark(words(asked.get("highlight") || ""));
    window.addEventListener("load", stay);
    window.addEventListener("load", layOut);
    window.addEventListener("load", () => reachable(document));
    if (window.MathJax) window.MathJax.startup = { pageReady: setMathematics };
  }
})();
