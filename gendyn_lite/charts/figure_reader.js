// What a page adds to its charts: their state in the address, no setting that draws nothing, a key for every pointer
// action, and a sentence that says what is shown. It adds to figure.js; a live notebook does without it.
(function () {
  "use strict";
  const { aids, element, bound, selections, items, rowsDrawn, tables, choose, setUp, shown } = window.gendynCharts;
  const PAUSE = 400; // ms without a change, until the sentence follows: a drag says nothing on its way
  const STEPS = 50; // of a brush, by key
  const NAMES = { rect: "cell", bar: "bar" }; // of what is drawn; all else is a point
  const LINES = ["line", "area", "trail"]; // one drawing of many items: pointing tells only the first

  // What a reader can set: each has a key for the address, its words, its values as texts, and takes them back.
  function controls(chart) {
    const found = bound(chart).map((signal) => ofInput(chart, signal));
    for (const { name, bind, select } of selections(chart)) {
      if (bind === "legend" || (bind && bind.legend)) found.push(ofLegend(chart, name, select));
      else if (!bind && (select.type || select) === "interval") found.push(...ofBrush(chart, name));
    }
    return found;
  }

  function ofInput({ view }, { name, bind }) {
    const value = () => view.signal(name);
    const place = () => (bind.options || []).indexOf(value());
    return {
      key: name,
      label: (bind.name || "").trim(),
      said: () => (bind.labels ? bind.labels[place()] : String(value())),
      get: () => [String(value())],
      set: ([text]) => {
        const options = bind.options || [Number(text)];
        const chosen = options.find((option) => String(option) === text);
        if (chosen !== undefined) view.signal(name, chosen);
      },
    };
  }

  function ofLegend({ view }, name, select) {
    const [field] = select.fields;
    const get = () => view.data(name + "_store").map(({ values }) => String(values[0]));
    return {
      key: name,
      label: "picked",
      field,
      get,
      said: () => get().join(" and "),
      set: (texts) => {
        const known = new Map(items(view).map(({ datum }) => [String(datum[field]), datum[field]]));
        const kept = texts.filter((text) => known.has(text)).map((text) => known.get(text));
        const fields = [{ type: "E", field }]; // as the signal of it says, which in charts side by side lies in one of them
        view.data(name + "_store", kept.map((value) => ({ unit: "", fields, values: [value] })));
      },
    };
  }

  // A brush by its ends, in the units of its axis. Its signals may lie in a part of a chart of several.
  function ofBrush({ view, compiled }, name) {
    const drag = /"name":"(\w+)","value":\[\],"on":\[[^\]]*\]},"update":"\[([xy])\(unit\).*?scale\(\\"(\w+)\\"/g;
    const drags = [...JSON.stringify(compiled).matchAll(drag)].filter(([, signal]) => signal.startsWith(name + "_"));
    return drags.flatMap(([, signal, axis, along]) => {
      const part = scopeOf(view._runtime, signal);
      if (!part) return [];
      const pixels = part.signals[signal], scale = () => part.scales[along].value;
      const ends = () => (pixels.value && pixels.value.length ? pixels.value.map((at) => scale().invert(at)) : []);
      const short = (value) => String(Number(value.toPrecision(3)));
      return [{
        key: `${name}_${axis}`,
        label: `range of ${axis}`,
        scale,
        ends,
        get: () => ends().map(short),
        said: () => ends().map(short).join(" to "),
        set: (texts) => view.update(pixels, texts.map((text) => scale()(Number(text)))),
      }];
    });
  }
  function scopeOf(part, name) {
    if (part.signals[name] && part.scales) return part;
    return (part.subcontext || []).map((inner) => scopeOf(inner, name)).find(Boolean);
  }

  // The address holds what differs from how a chart opens: ?figure.control=value#chart-figure
  function prefix({ name, panel }) {
    return panel.dataset.runs === "own" ? `${name}.own.` : `${name}.`;
  }
  function remember(figure, changes) {
    const query = new URLSearchParams(location.search);
    for (const [key, texts] of changes) {
      query.delete(key);
      for (const text of texts) query.append(key, text);
    }
    const text = query.toString() ? "?" + query : location.pathname;
    try {
      history.replaceState(history.state, "", `${text}#${figure.id}`);
    } catch (error) {
      console.info("The address stays as it is: " + error.message); // inside another page
    }
  }
  async function address(chart) {
    const all = controls(chart), query = new URLSearchParams(location.search);
    const first = new Map(all.map((control) => [control, control.get().join()]));
    for (const control of all) {
      const wanted = chart.kept ? chart.kept.get(control.key) : query.getAll(prefix(chart) + control.key);
      if (wanted.length && wanted.join() !== first.get(control)) control.set(wanted);
    }
    await chart.view.runAsync();
    let before = all.map((control) => control.get().join()).join("|");
    chart.changed.push(() => {
      const now = all.map((control) => control.get().join()).join("|");
      if (now === before) return;
      before = now;
      chart.kept = new Map(all.map((control) => [control.key, control.get()]));
      const differs = (control) => control.get().join() !== first.get(control);
      remember(chart.figure, all.map((each) => [prefix(chart) + each.key, differs(each) ? each.get() : []]));
    });
  }
  document.addEventListener("gendyn-runs", ({ target }) => {
    const { runs } = shown(target).dataset;
    remember(target, [[target.id.replace(/^chart-/, "") + ".runs", runs === "own" ? [runs] : []]]);
  });
  function restoreRuns() {
    for (const key of new URLSearchParams(location.search).keys()) {
      const figure = key.endsWith(".runs") && document.getElementById("chart-" + key.slice(0, -".runs".length));
      if (figure) setUp(figure), choose(figure, "own", true);
    }
  }

  // Each menu offers what has rows with the choices before it; a choice that has none gives way to the nearest that has.
  function possible(chart) {
    const inputs = bound(chart).filter(({ bind }) => bind.options);
    const settings = settingsOf(chart.spec, new Set(inputs.map(({ name }) => name)));
    if (!settings.length) return;
    const fits = (fixed) => settings.some((one) => Object.entries(fixed).every(([name, value]) => !(name in one) || one[name] === value));
    function settle(changed, chosen) {
      const fixed = {};
      for (const { name, bind } of inputs) {
        const free = bind.options.map((option) => fits({ ...fixed, [name]: option }));
        disable(chart, name, free);
        let place = bind.options.indexOf(name === changed ? chosen : chart.view.signal(name));
        if (!free[place] && free.includes(true)) {
          const far = (other) => Math.abs(other - place);
          place = free.flatMap((is, other) => (is ? [other] : [])).sort((a, b) => far(a) - far(b))[0];
          chart.view.signal(name, bind.options[place]);
        }
        fixed[name] = bind.options[place];
      }
    }
    settle();
    // Before Vega hears of the choice, so that what it draws next has rows.
    chart.place.querySelector(".vega-bindings").addEventListener("change", ({ target }) => {
      const input = inputs.find(({ name }) => name === target.name);
      if (input) settle(input.name, input.bind.options[choiceOf(target)]);
    }, true);
    return chart.view.runAsync();
  }
  function choiceOf(input) {
    const all = input.closest(".vega-bindings");
    return input.selectedIndex ?? [...all.querySelectorAll(`[name="${input.name}"]`)].indexOf(input);
  }
  function disable({ place }, name, free) {
    const inputs = place.querySelectorAll(`select[name="${name}"] option, input[type=radio][name="${name}"]`);
    inputs.forEach((input, number) => { input.disabled = !free[number]; });
    if (free.length < 2) inputs[0].closest(".vega-bind").hidden = true; // nothing to choose: the sentence names it
  }
  // The settings under which some layer has rows: of the layers that follow most of the controls.
  function settingsOf(spec, names) {
    const layers = [], known = new Map(tables(spec));
    (function walk(part, rows, filters) {
      if (part.data) rows = known.get(part.data.name) || part.data.values || [];
      filters = [...filters, ...(part.transform || []).map(({ filter }) => filter).filter((one) => typeof one === "string")];
      const inner = part.layer || part.concat || part.hconcat || part.vconcat || (part.spec ? [part.spec] : []);
      inner.forEach((each) => walk(each, rows, filters));
      const equal = [...filters.join(" && ").matchAll(/datum(?:\.(\w+)|\['([^']+)'\])\s*===\s*(\w+)/g)];
      const pairs = equal.map(([, plain, quoted, name]) => [plain || quoted, name]);
      const own = pairs.filter(([column, name]) => names.has(name) && rows.length && column in rows[0]);
      if (!inner.length && own.length) layers.push({ rows, own });
    })(spec, [], []);
    const most = Math.max(...layers.map(({ own }) => own.length));
    const found = new Map();
    for (const { rows, own } of layers.filter((layer) => layer.own.length === most)) {
      for (const row of rows) {
        const one = own.map(([column, name]) => [name, row[column]]);
        found.set(JSON.stringify(one), Object.fromEntries(one));
      }
    }
    return [...found.values()];
  }

  // What is shown, in a sentence that is read out after a change.
  function sentence(chart) {
    const { panel, place, figure } = chart, all = controls(chart);
    let line = panel.querySelector(".gendyn-shown"), waiting = 0;
    if (!line) {
      line = element("p", undefined, { class: "gendyn-shown", id: `${figure.id}-${panel.dataset.runs || "shown"}` });
      place.after(line);
      place.setAttribute("aria-describedby", line.id);
      panel.addEventListener("focusin", () => line.setAttribute("aria-live", "polite"), { once: true });
    }
    const say = () => {
      const set = all.filter((control) => control.said()).map(({ label, said }) => `${label} ${said()}`.trim());
      const pointed = telling(chart.view).filter((item) => !LINES.includes(item.mark.marktype));
      const drawn = pointed.length || rowsDrawn(chart).size;
      const [role] = pointed.map((item) => item.ariaRoleDescription || item.mark.marktype);
      const count = drawn ? `${drawn.toLocaleString("en")} ${NAMES[role] || "point"}${drawn > 1 ? "s" : ""}` : "";
      const words = [set.join(", "), count].filter(Boolean).join("; ");
      if (line.textContent !== `Shown: ${words}.`) line.textContent = words ? `Shown: ${words}.` : "";
    };
    say();
    chart.changed.push(() => {
      clearTimeout(waiting);
      waiting = setTimeout(say, PAUSE);
    });
  }

  // Keys for what a pointer does: stepping through the points, picking in the legend, brushing. Seen when focused.
  function keys(chart) {
    chart.panel.querySelectorAll(".gendyn-keys").forEach((old) => old.remove());
    const title = chart.figure.querySelector(".gendyn-title").textContent;
    const box = element("div", undefined, { class: "gendyn-keys", role: "group", "aria-label": `Keys for ${title}` });
    box.append(stepping(chart));
    for (const control of controls(chart)) {
      if (control.field) box.append(picking(chart, control));
      if (control.ends) box.append(brushing(chart, control));
    }
    chart.place.after(box);
  }

  function ranged(text, attributes) {
    const label = element("label", text + " "), range = element("input", undefined, { type: "range", ...attributes });
    label.append(range);
    return { label, range };
  }

  function stepping(chart) {
    const { label, range } = ranged("Points, by arrow keys", { min: 0, max: 0, value: 0 });
    let points = null, last = null;
    const send = (item, ...types) => {
      const { left, top, width, height } = item._svg.getBoundingClientRect();
      const at = { clientX: left + width / 2, clientY: top + height / 2, bubbles: true };
      for (const type of types) item._svg.dispatchEvent(new PointerEvent(type, at));
    };
    const leave = () => {
      if (last && last._svg) send(last, "pointerout", "mouseout");
      last = null;
    };
    function point() {
      points = points || pointed(chart.view);
      range.max = Math.max(0, points.length - 1);
      const item = points[range.valueAsNumber];
      if (!item || item === last) return;
      leave();
      last = item;
      item._svg.scrollIntoView({ block: "nearest", inline: "nearest" });
      send(item, "pointerover", "mouseover", "pointermove", "mousemove");
      range.setAttribute("aria-valuetext", inWords(item.tooltip));
    }
    range.addEventListener("focus", () => { points = null; point(); });
    range.addEventListener("input", point);
    range.addEventListener("blur", leave);
    range.addEventListener("keydown", ({ key }) => {
      if (key === "Enter" && last) send(last, "pointerdown", "mousedown", "pointerup", "mouseup", "click");
      if (key === "Escape") leave();
    });
    chart.changed.push(() => { points = null; });
    return label;
  }
  // The items that tell something when they are pointed at; and those to step through, from left to right.
  function telling(view) {
    const all = items(view).filter((item) => item.tooltip && item.tooltip !== true && item._svg);
    const nearest = all.filter((item) => item.isVoronoi), alone = all.filter((item) => !LINES.includes(item.mark.marktype));
    return [nearest, alone, all].find((each) => each.length || each === all);
  }
  function pointed(view) {
    const at = new Map(telling(view).map((item) => [item, item._svg.getBoundingClientRect()]));
    return [...at.keys()].sort((a, b) => at.get(a).left - at.get(b).left || at.get(a).top - at.get(b).top);
  }
  function inWords(tooltip) {
    if (typeof tooltip !== "object") return String(tooltip);
    return Object.entries(tooltip).map(([name, value]) => `${name} ${value}`).join(", ");
  }

  function picking(chart, control) {
    const box = element("span", "Pick ", { role: "group", "aria-label": "Pick in the legend" });
    const made = new Map();
    function refresh() {
      const named = Object.entries(chart.compiled.usermeta || {}).find(([, field]) => field === control.field);
      const drawn = new Set(items(chart.view).map(({ datum }) => datum[control.field]));
      const values = (named ? chart.view.signal(named[0]) : [...drawn]).filter((value) => value !== undefined).map(String);
      for (const value of values) if (!made.has(value)) made.set(value, button(value));
      const picked = control.get();
      for (const [value, each] of made) {
        each.hidden = !values.includes(value);
        each.setAttribute("aria-pressed", picked.includes(value));
      }
    }
    function button(value) {
      const each = element("button", value, { type: "button" });
      each.addEventListener("click", () => {
        const picked = control.get();
        control.set(picked.includes(value) ? picked.filter((one) => one !== value) : [...picked, value]);
        chart.view.runAsync();
      });
      box.append(each);
      return each;
    }
    refresh();
    chart.changed.push(refresh);
    return box;
  }

  function brushing(chart, control) {
    const [low, high] = control.scale().domain().map(Number), step = (high - low) / STEPS;
    const attributes = { min: low, max: high, step };
    const box = element("span", `R${control.label.slice(1)} `, { role: "group", "aria-label": control.label });
    const both = [ranged("from", { ...attributes, value: low }), ranged("to", { ...attributes, value: high })];
    for (const { label, range } of both) {
      range.addEventListener("input", () => {
        control.set(both.map((each) => each.range.value).sort((a, b) => a - b));
        chart.view.runAsync();
      });
      box.append(label);
    }
    return box;
  }

  // A shared link opens at its figure, also after those above it were drawn.
  function openLinked() {
    const figure = document.getElementById(location.hash.slice(1));
    if (!figure || !figure.matches(".gendyn-chart")) return;
    const stop = new AbortController();
    for (const act of ["wheel", "keydown", "pointerdown"]) window.addEventListener(act, () => stop.abort(), { signal: stop.signal });
    const drawn = new MutationObserver(() => {
      if (figure.dataset.drawn !== "yes") return;
      drawn.disconnect();
      if (!stop.signal.aborted) figure.scrollIntoView();
    });
    drawn.observe(figure, { attributes: true });
  }

  aids.push(address, possible, keys, sentence);
  restoreRuns();
  openLinked();
})();
