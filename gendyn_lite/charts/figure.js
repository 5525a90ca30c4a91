// Draws every figure.gendyn-chart of a page from the specification it carries. One source for live notebooks and pages.
window.gendynCharts = window.gendynCharts || (function () {
  "use strict";
  const NARROW = 560; // px: below it, charts side by side are stacked and legends wrap
  const MOST_ROWS = 500;
  const SHARE = { legend: 0.85, axis: 0.42 }; // of a narrow page's width, that a label may take
  const OPTIONS = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: { disableDefaultStyle: true } };

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
    const each = Math.max(140, Math.floor(width / columns - spare));
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

  function draw(figure) {
    if (figure.dataset.drawn) return;
    figure.dataset.drawn = "pending";
    const view = figure.querySelector(".gendyn-view");
    const spec = JSON.parse(figure.querySelector(".gendyn-spec").textContent);
    const composed = spec.hconcat || spec.concat;
    let width = 0, result = null;
    async function redraw() {
      width = view.clientWidth;
      const room = { spare: 72, columns: 0 };
      async function drawn() {
        if (result) result.finalize();
        result = await window.vegaEmbed(view, fitted(spec, width, room), OPTIONS);
        return composed ? view.querySelector("svg").width.baseVal.value - view.clientWidth : 0;
      }
      for (let tries = 0, over = 1; over > 0 && tries < 3; tries += 1) {
        over = await drawn();
        room.spare += over + 1;
      }
      for (const columns of [4, 3, 2, 1]) { // a legend too wide wraps into fewer columns
        if (standingOut(view) <= 1) break;
        room.columns = columns;
        await drawn();
      }
      for (const mark of view.querySelectorAll('[role="graphics-symbol"]:not([aria-label])')) {
        mark.setAttribute("aria-hidden", "true"); // a brush, or a mark without words of its own
      }
      figure.dataset.drawn = "yes";
    }
    // A unit chart follows its container by itself; only a change of layout needs a new drawing.
    function resized() {
      const now = view.clientWidth;
      if ((now < NARROW) !== (width < NARROW) || (composed && Math.abs(now - width) > 40)) redraw();
    }
    redraw().then(() => new ResizeObserver(resized).observe(view)).catch((error) => {
      view.textContent = "This chart could not be drawn: " + error.message;
      console.error(error);
    });
    table(figure, spec);
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

  // Built when it is opened: a page with ten charts stays light.
  function table(figure, spec) {
    const details = figure.querySelector(".gendyn-data");
    const title = figure.querySelector(".gendyn-title").firstChild.textContent;
    details.addEventListener("toggle", () => {
      if (details.dataset.filled) return;
      details.dataset.filled = "yes";
      for (const [, rows] of tables(spec)) details.append(...oneTable(title, rows));
    });
  }

  function oneTable(title, rows) {
    const names = [...new Set(rows.flatMap((row) => Object.keys(row)))];
    const head = element("tr");
    head.append(...names.map((name) => element("th", name, { scope: "col" })));
    const lines = rows.slice(0, MOST_ROWS).map((row) => {
      const line = element("tr");
      line.append(...names.map((name) => element("td", row[name] ?? "")));
      return line;
    });
    const made = element("table"), thead = element("thead"), body = element("tbody");
    const more = rows.length > MOST_ROWS ? `, the first ${MOST_ROWS} shown` : "";
    thead.append(head);
    body.append(...lines);
    made.append(element("caption", `${title}: ${rows.length} rows${more}`), thead, body);
    const box = element("div", undefined, { class: "gendyn-table", tabindex: "0", role: "region", "aria-label": title });
    box.append(made);
    const quoted = (value) => `"${String(value ?? "").replaceAll('"', '""')}"`;
    const csv = [names, ...rows.map((row) => names.map((name) => row[name]))].map((line) => line.map(quoted).join(","));
    const href = "data:text/csv;charset=utf-8," + encodeURIComponent(csv.join("\n"));
    return [box, element("a", "All rows as CSV", { href, download: "chart.csv" })];
  }

  function undrawn() {
    return document.querySelectorAll("figure.gendyn-chart:not([data-drawn])");
  }

  function drawAll() {
    undrawn().forEach(draw);
  }

  // A chart is drawn when it comes within half a screen of what is seen, or when the page is printed.
  function drawSeen() {
    const observer = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) if (isIntersecting) draw(target);
    }, { rootMargin: "50% 0px" });
    undrawn().forEach((figure) => observer.observe(figure));
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
    loading = loading || (window.vegaEmbed ? Promise.resolve() : loadAll(versions));
    loading.then(drawAll).catch((error) => console.error(error));
  }

  return { drawAll, drawSeen, live };
})();
