// Draws every figure.gendyn-chart of a page from the specification it carries. One source for live notebooks and pages.
window.gendynCharts = window.gendynCharts || (function () {
  "use strict";
  const NARROW = 560; // px: below it, charts side by side are stacked and legends wrap
  const MOST_ROWS = 500;
  const SHARE = { legend: 0.85, axis: 0.42 }; // of a narrow page's width, that a label may take
  const SOON = 60; // ms after the last change, when what follows the controls is made again
  const ROW = "__row";
  const TITLE = 30, INK = "#1b2530"; // of a chart that is saved: room for its title, colour of its words
  const OPTIONS = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: { disableDefaultStyle: true } };
  OPTIONS.patch = namedByDrawing;

  // Charts side by side share the width, or stand below each other where there is little of it.
  // `spare` is what one chart's axes take beside its plot; `columns` bounds the columns of its legends.
  function fitted(spec, width, { spare, columns: most }) {
    const fit = structuredClone(spec);
    const narrow = width < NARROW;
    const parts = fit.hconcat || fit.concat;
    if (narrow || parts || most) {
      const config = fit.config || {};
      fit.config = { ...config, legend: { columns: most || 2, ...config.legend, titleOrient: "top" } };
    }
    adjust(fit, (name, guide) => {
      if (name === "legend" && most) guide.columns = Math.min(most, guide.columns || most);
      if (name === "legend" && most) guide.titleOrient = "top";
      if (narrow && guide.labelLimit) guide.labelLimit = Math.min(guide.labelLimit, Math.floor(width * SHARE[name]));
    });
    if (!parts) return fit;
    const columns = narrow ? 1 : fit.columns || parts.length;
    delete fit.hconcat;
    fit.concat = parts;
    fit.columns = columns;
    const each = Math.max(100, Math.floor(width / columns - spare));
    for (const part of parts) if (part.width === undefined && !part.concat && !part.hconcat) part.width = each;
    return fit;
  }

  // Every legend and axis of a specification, wherever it is encoded.
  function adjust(part, change) {
    if (!part || typeof part !== "object") return;
    for (const [name, inner] of Object.entries(part)) {
      if (name === "datasets" || name === "data") continue;
      if (SHARE[name] && inner && typeof inner === "object") change(name, inner);
      adjust(inner, change);
    }
  }

  // How far the words of a drawing stand out on the right of its place.
  function standingOut(view) {
    const edge = view.getBoundingClientRect().left + view.clientWidth;
    const words = [...view.querySelectorAll("svg.marks text")].map((text) => text.getBoundingClientRect().right);
    return Math.max(0, ...words) - edge;
  }

  // Data stand in a page column by column; everything else has them as rows.
  function withRows(spec) {
    for (const [name, data] of Object.entries(spec.datasets || {})) {
      if (Array.isArray(data)) continue;
      const columns = Object.entries(data);
      spec.datasets[name] = columns[0][1].map((_, at) => Object.fromEntries(columns.map(([key, all]) => [key, all[at]])));
    }
    return spec;
  }

  // The chart of a panel: drawn in its place, and again where the layout changes, with what the reader has set.
  function draw(panel) {
    if (panel.dataset.drawn) return;
    panel.dataset.drawn = "pending";
    const figure = panel.closest("figure"), place = panel.querySelector(".gendyn-view");
    const spec = withRows(JSON.parse(panel.querySelector(".gendyn-spec").textContent));
    const composed = spec.hconcat || spec.concat;
    const chart = { figure, panel, place, spec, view: null, name: figure.id.replace(/^chart-/, ""), changed: [] };
    let width = 0, result = null;
    async function redraw() {
      width = place.clientWidth;
      const room = { spare: 72, columns: 0 };
      async function drawn() {
        if (result) result.finalize();
        result = await window.vegaEmbed(place, numbered(fitted(spec, width, room)), OPTIONS);
        return composed ? place.querySelector("svg").width.baseVal.value - place.clientWidth : 0;
      }
      for (let tries = 0, over = 1; over > 0 && tries < 3; tries += 1) {
        over = await drawn();
        room.spare += over + 1;
      }
      for (const columns of [4, 3, 2, 1]) { // a legend too wide wraps into fewer columns
        if (standingOut(place) <= 1) break;
        room.columns = columns;
        await drawn();
      }
      for (const mark of place.querySelectorAll('[role="graphics-symbol"]:not([aria-label])')) {
        mark.setAttribute("aria-hidden", "true"); // a brush, or a mark without words of its own
      }
      Object.assign(chart, { view: result.view, compiled: result.vgSpec });
      await ready(chart);
      panel.dataset.drawn = "yes";
      mark(figure);
    }
    // A unit chart follows its container by itself; only a change of layout needs a new drawing.
    function resized() {
      const now = place.clientWidth;
      if (now && ((now < NARROW) !== (width < NARROW) || (composed && Math.abs(now - width) > 40))) redraw();
    }
    table(chart);
    redraw().then(() => new ResizeObserver(resized).observe(place)).catch((error) => {
      place.textContent = "This chart could not be drawn: " + error.message;
      console.error(error);
    });
  }

  // What is done with every drawing: of this file, and of others that add to `aids`.
  const aids = [];
  async function ready(chart) {
    chart.changed = [];
    for (const aid of [sliders, legends, openTable, ...aids]) await aid(chart);
    let waiting = 0;
    const soon = () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => chart.changed.forEach((then) => then()), SOON);
    };
    for (const signal of bound(chart)) chart.view.addSignalListener(signal.name, soon);
    for (const { name } of selections(chart)) chart.view.addDataListener(name + "_store", soon);
  }

  // The signals of a drawing that have an input, and its selections.
  const bound = (chart) => chart.compiled.signals.filter((signal) => signal.bind && signal.bind.input);
  const selections = (chart) => (chart.spec.params || []).filter((param) => param.select);

  // Menus of numbers become sliders that show the number, never its place in the list.
  function sliders(chart) {
    for (const { name, bind } of bound(chart)) {
      if (bind.input !== "select" || bind.options.some((option) => typeof option !== "number")) continue;
      const select = chart.place.querySelector(`select[name="${name}"]`);
      const most = bind.options.length - 1;
      const range = element("input", undefined, { type: "range", min: 0, max: most, step: 1 });
      const output = element("span", undefined, { class: "gendyn-value" });
      const show = () => {
        range.value = select.selectedIndex;
        output.textContent = select.selectedOptions[0].text;
        range.setAttribute("aria-valuetext", output.textContent);
      };
      range.addEventListener("input", () => {
        const now = select.selectedIndex, aim = range.valueAsNumber, step = Math.sign(aim - now) || 1;
        const free = (place) => !select.options[place].disabled;
        let place = aim;
        while (place <= most && place >= 0 && !free(place)) place += step;
        if (place > most || place < 0) for (place = aim; !free(place) && place !== now;) place -= step;
        select.selectedIndex = place;
        select.dispatchEvent(new Event("change"));
        show();
      });
      select.before(range, output);
      select.hidden = true;
      chart.view.addSignalListener(name, () => setTimeout(show));
      show();
    }
  }

  // Every row of the data gets a number, by which what is drawn of it is known again.
  function numbered(spec) {
    let number = 0;
    for (const [, rows] of tables(spec)) for (const row of rows) row[ROW] = number++;
    return spec;
  }

  // What of the data is drawn, item by item.
  function items(view) {
    const found = [];
    (function walk(mark) {
      for (const item of mark.items) {
        if (mark.marktype === "group") item.items.forEach(walk);
        else if (mark.role === "mark" && item.datum) found.push(item);
      }
    })(view.scenegraph().root);
    return found;
  }

  // The numbers of the rows that are drawn.
  function rowsDrawn(chart) {
    return new Set(items(chart.view).map((item) => item.datum[ROW]).filter((number) => number !== undefined));
  }

  function tables(spec) {
    const named = Object.entries(spec.datasets || {});
    return named.length ? named : spec.data && Array.isArray(spec.data.values) ? [["data", spec.data.values]] : [];
  }

  function element(name, text, attributes) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  }

  // Built when it is opened: a page with ten charts stays light. It follows the controls.
  function table(chart) {
    const details = chart.panel.querySelector(".gendyn-data");
    details.addEventListener("toggle", () => fill(chart));
  }
  function openTable(chart) {
    fill(chart);
    chart.changed.push(() => fill(chart));
  }
  function fill(chart) {
    const details = chart.panel.querySelector(".gendyn-data");
    if (!details.open || !chart.view) return;
    details.querySelectorAll(":scope > :not(summary)").forEach((old) => old.remove());
    const drawn = rowsDrawn(chart);
    let first = 0;
    for (const [place, [, rows]] of tables(chart.spec).entries()) {
      const kept = rows.filter((_, number) => drawn.has(first + number));
      first += rows.length;
      details.append(...oneTable(chart, kept.length ? kept : rows, rows, place ? `-${place + 1}` : ""));
    }
    const button = element("button", "Save as SVG", { type: "button" });
    button.addEventListener("click", () => save(chart, ".svg", picture(chart), "image/svg+xml"));
    details.append(button);
  }

  function oneTable(chart, rows, all, suffix) {
    const title = chart.figure.querySelector(".gendyn-title").textContent;
    const names = [...new Set(all.flatMap((row) => Object.keys(row)))];
    const head = element("tr");
    head.append(...names.map((name) => element("th", name, { scope: "col" })));
    const lines = rows.slice(0, MOST_ROWS).map((row) => {
      const line = element("tr");
      line.append(...names.map((name) => cell(row[name] ?? "")));
      return line;
    });
    const made = element("table"), thead = element("thead"), body = element("tbody");
    const of = rows.length < all.length ? ` of ${all.length}, as the chart is set` : "";
    const more = rows.length > MOST_ROWS ? `, the first ${MOST_ROWS} here` : "";
    thead.append(head);
    body.append(...lines);
    made.append(element("caption", `${title}: ${rows.length} rows${of}${more}`), thead, body);
    const named = { class: "gendyn-table", tabindex: "0", role: "region", "aria-label": title + suffix };
    const box = element("div", undefined, named);
    box.append(made);
    const saved = (text, kept, end) => {
      const button = element("button", text, { type: "button" });
      button.addEventListener("click", () => save(chart, suffix + end + ".csv", csv(names, kept), "text/csv"));
      return button;
    };
    const found = [box, saved("Save as CSV", rows, "")];
    return rows.length < all.length ? [...found, saved("Save all rows as CSV", all, "-all")] : found;
  }

  function cell(value) {
    if (!String(value).startsWith("data:image/")) return element("td", value);
    const made = element("td");
    made.append(element("img", undefined, { src: value, alt: "picture", loading: "lazy" }));
    return made;
  }

  function csv(names, rows) {
    const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
    return [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(quoted).join(",")).join("\n");
  }

  function save(chart, end, text, type) {
    const runs = chart.panel.dataset.runs === "own" ? "-own-run" : "";
    const href = URL.createObjectURL(new Blob([text], { type: type + ";charset=utf-8" }));
    element("a", undefined, { href, download: chart.name + runs + end }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  }

  // The drawing as a file of its own: its title above, and dark on white whatever the page is.
  function picture(chart) {
    const copy = chart.place.querySelector("svg.marks").cloneNode(true);
    const wide = Number(copy.getAttribute("width")), high = Number(copy.getAttribute("height")) + TITLE;
    const title = chart.figure.querySelector(".gendyn-title").textContent;
    const top = `<rect y="${-TITLE}" width="100%" height="100%" fill="#fff"/><text x="4" y="-9" font-size="14"` +
      ` font-weight="600" font-family="system-ui, sans-serif" fill="${INK}"></text>`;
    copy.insertAdjacentHTML("afterbegin", "<title></title><desc></desc>" + top);
    copy.querySelector("title").textContent = copy.querySelector("text").textContent = title;
    copy.querySelector("desc").textContent = chart.place.getAttribute("aria-label");
    for (const [name, value] of Object.entries({ viewBox: `0 ${-TITLE} ${wide} ${high}`, height: high, color: INK })) {
      copy.setAttribute(name, value);
    }
    return new XMLSerializer().serializeToString(copy).replaceAll("currentColor", INK).replaceAll("currentcolor", INK);
  }

  // Legends name only what is drawn: their values are a signal, set again after every change.
  function namedByDrawing(compiled) {
    const scales = new Map(), fields = new Map();
    (function walk(part) {
      for (const scale of part.scales || []) if (Array.isArray(scale.domain)) scales.set(scale.name, scale.domain);
      for (const { encode } of part.marks || []) {
        for (const rule of Object.values((encode && encode.update) || {}).flat()) {
          if (rule && rule.scale && typeof rule.field === "string") fields.set(rule.scale, rule.field);
        }
      }
      for (const legend of part.legends || []) {
        const scale = ["stroke", "fill", "shape", "strokeDash"].map((name) => legend[name]).find(Boolean);
        if (legend.gradientLength && !legend.values) ended(legend, scale);
        if (legend.values || !scales.has(scale) || !fields.has(scale)) continue;
        const [domain, signal] = [scales.get(scale), `legend_of_${scale}`];
        legend.values = { signal };
        if (!compiled.signals.some(({ name }) => name === signal)) compiled.signals.push({ name: signal, value: domain });
        (compiled.usermeta ||= {})[signal] = fields.get(scale);
      }
      (part.marks || []).forEach(walk);
    })(compiled);
    pickable(compiled);
    return compiled;
  }
  // The one legend of charts side by side is given back the names by which a click on it is known.
  function pickable({ signals, legends: [legend, ...others] = [] }) {
    const [, field] = JSON.stringify(signals || []).match(/"(\w+)_legend_labels"/) || [];
    if (!field || !legend || others.length) return;
    const encode = (legend.encode ||= {});
    for (const part of ["symbols", "labels"]) {
      encode[part] = { name: `${field}_legend_${part}`, interactive: true, ...encode[part] };
    }
  }
  // A colour bar has a number at both of its ends, and where it passes zero.
  function ended(legend, scale) {
    const domain = `domain("${scale}")`, low = `${domain}[0]`, high = `peek(${domain})`;
    legend.values = { signal: `${low} < 0 && ${high} > 0 ? [${low}, 0, ${high}] : [${low}, ${high}]` };
    legend.format = legend.format || ".4~r";
  }
  async function legends(chart) {
    const named = Object.entries(chart.compiled.usermeta || {}).filter(([name]) => name.startsWith("legend_of_"));
    const all = new Map(chart.compiled.signals.map(({ name, value }) => [name, value]));
    async function refresh() {
      const found = items(chart.view);
      for (const [signal, field] of named) {
        const values = new Set(found.map((item) => item.datum[field]));
        const kept = all.get(signal).filter((value) => values.has(value));
        if (kept.length && kept.join() !== chart.view.signal(signal).join()) chart.view.signal(signal, kept);
      }
      await chart.view.runAsync();
    }
    chart.changed.push(refresh);
    await refresh();
  }

  // Two charts in one figure: a switch shows one of them, and only that is drawn.
  function setUp(figure) {
    if (figure.dataset.ready) return;
    figure.dataset.ready = "yes";
    const panels = [...figure.querySelectorAll(".gendyn-panel")];
    if (panels.length < 2) return;
    const box = element("fieldset", undefined, { class: "gendyn-switch" });
    box.append(element("legend", "Runs shown"));
    for (const panel of panels) {
      const heading = panel.querySelector(".gendyn-runs"), label = element("label");
      const input = element("input", undefined, { type: "radio", name: figure.id + "-runs", value: panel.dataset.runs });
      label.append(input, heading.textContent);
      input.addEventListener("change", () => choose(figure, input.value));
      heading.hidden = true;
      box.append(label);
    }
    figure.querySelector(".gendyn-title").after(box);
    choose(figure, panels[0].dataset.runs, true);
  }
  function choose(figure, runs, first) {
    for (const panel of figure.querySelectorAll(".gendyn-panel")) panel.hidden = panel.dataset.runs !== runs;
    for (const input of figure.querySelectorAll(".gendyn-switch input")) input.checked = input.value === runs;
    if (!first) drawShown(figure);
    if (!first) figure.dispatchEvent(new Event("gendyn-runs", { bubbles: true }));
  }
  const shown = (figure) => figure.querySelector(".gendyn-panel:not([hidden])");
  function drawShown(figure) {
    setUp(figure);
    draw(shown(figure));
    mark(figure);
  }
  function mark(figure) {
    figure.dataset.drawn = shown(figure).dataset.drawn;
  }

  function undrawn() {
    return document.querySelectorAll("figure.gendyn-chart:not([data-drawn])");
  }

  function drawAll() {
    undrawn().forEach(drawShown);
  }

  // A chart is drawn when it comes within half a screen of what is seen, or when the page is printed.
  function drawSeen() {
    const observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) drawShown(target);
    }, { rootMargin: "50% 0px" });
    for (const figure of undrawn()) {
      setUp(figure);
      observer.observe(figure);
    }
    window.addEventListener("beforeprint", drawAll);
  }

  let loading = null; // one load of Vega for all the charts of a live notebook
  function load(name, version) {
    return new Promise((resolve, reject) => {
      const script = element("script", undefined, { src: `https://cdn.jsdelivr.net/npm/${name}@${version}` });
      script.onload = resolve;
      script.onerror = () => reject(new Error("could not load " + script.src));
      document.head.append(script);
    });
  }
  async function loadAll(versions) {
    const amd = window.define && window.define.amd; // require.js would swallow the globals
    if (amd) window.define.amd = undefined;
    try {
      for (const [name, version] of Object.entries(versions)) await load(name, version);
    } finally {
      if (amd) window.define.amd = amd;
    }
  }
  function live(versions) {
    loading = window.vegaEmbed ? Promise.resolve() : loading || loadAll(versions);
    loading.then(drawAll).catch(undrawable);
  }
  // Without Vega every chart says once why only its description is there.
  function undrawable(error) {
    console.error(error);
    for (const view of document.querySelectorAll(".gendyn-panel:not([data-drawn]) .gendyn-view:not([data-told])")) {
      view.dataset.told = "yes";
      view.append(element("p", "Not drawn: the internet cannot be reached, and vl-convert-python is not installed."));
    }
  }

  return { drawAll, drawSeen, live, aids, element, bound, selections, items, rowsDrawn, tables, choose, setUp, shown };
})();
