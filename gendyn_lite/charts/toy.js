// Every figure.gendyn-toy of a page: a small network that the reader trains there, and asks. Its numbers are those of
// toy_engine.js, its elements those of toy.html.
window.gendynToys = window.gendynToys || (function () {
  "use strict";
  const { generator, network, step, epoch, evaluation, forward, judged, stiffness, interval, mean } = gendynEngine;
  const SLICE = 8; // ms of work between two frames of the page
  const PATIENCE = 150; // epochs, after which training ends unfitted
  const TOO_HIGH = 2; // times the first loss: training has gone astray
  const SHOWN = { train: 40, test: 20 }; // digits to choose from
  const LOW = -1, HIGH = 2, APART = 0.25, MORPHS = 13; // ends of a line through two digits; the pictures along it
  const MOST = 6; // digits shown that a step helps most, or harms most
  const LINES = [["training", "train", "#2060f0", ""], ["unseen", "test", "#d87800", "6 3"]];

  function make(name, attributes, ...inner) {
    const drawn = ["svg", "path", "line", "text", "g"].includes(name);
    const made = drawn ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    made.append(...inner);
    return made;
  }
  const percent = (share) => (share === 1 ? "100 %" : `${Math.min(99.9, 100 * share).toFixed(1)} %`);
  const short = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(2))) : "infinity");
  const signed = (value) => value.toFixed(2).replace("-", "−");

  function setUp(figure) {
    if (figure.dataset.ready) return;
    figure.dataset.ready = "yes";
    const part = (name) => figure.querySelector(".gendyn-toy-" + name);
    const given = JSON.parse(part("data").textContent), settings = { ...given.settings };
    const toy = { figure, part, given, settings, name: figure.id, chosen: null, toward: null, jobs: {}, options: [] };
    toy.sets = { train: set(given.train, given), test: set(given.test, given) };
    part("place").hidden = false;
    part("recorded").open = false;
    for (const control of figure.querySelectorAll("input[data-key]")) slider(toy, control);
    part("train").addEventListener("click", () => start(toy));
    part("pause").addEventListener("click", () => pause(toy));
    if (given.ask.length) grid(toy);
    forget(toy);
    new ResizeObserver(() => draw(toy)).observe(part("chart"));
    document.addEventListener("visibilitychange", () => Object.values(toy.jobs).forEach((go) => go()));
    restore(toy);
  }

  // A set of digits from letters, one a pixel, standardized as the library does.
  function set({ pixels, classes }, { mean, std }) {
    const bytes = Uint8Array.from(pixels, (letter) => Math.round(((letter.charCodeAt(0) - 97) * 255) / 16));
    const x = Float64Array.from(bytes, (byte) => (byte / 255 - mean) / std), truth = Uint8Array.from(classes);
    return { bytes, x, truth, y: truth, n: truth.length };
  }

  // A slider over a few values, which it shows. What was trained before belongs to other settings, and is dropped.
  function slider(toy, control) {
    const { key } = control.dataset, options = toy.given.options[key], output = control.nextElementSibling;
    const show = () => {
      const [value, words] = options[control.valueAsNumber];
      toy.settings[key] = value;
      output.textContent = words;
      control.setAttribute("aria-valuetext", words);
    };
    control.addEventListener("input", () => { show(); forget(toy); remember(toy); });
    const wanted = new URLSearchParams(location.search).get(`${toy.name}.${key}`) ?? toy.settings[key];
    control.value = Math.max(0, options.findIndex(([value]) => value === wanted));
    show();
  }

  const say = ({ part }, words) => part("status").textContent === words || part("status").replaceChildren(words);
  function reached({ history }) {
    const { epochs, train, test, trainLoss, testLoss } = history.at(-1);
    return `${epochs} ${epochs === 1 ? "epoch" : "epochs"}: ${percent(train)} of the training digits answered as ` +
      `labelled, ${percent(test)} of the unseen ones right; loss ${short(trainLoss)} and ${short(testLoss)}.`;
  }

  // Work in slices: the page stays free in between, and all stands still in a tab that is not seen.
  function work(toy, name, steps, then) {
    let frame = 0;
    const go = toy.jobs[name] = () => {
      cancelAnimationFrame(frame);
      if (toy.jobs[name] !== go || (name === "train" && toy.paused)) return;
      if (name === "train") say(toy, document.hidden ? "Paused: this page is in the background." : "Training.");
      if (document.hidden) return;
      for (const until = performance.now() + SLICE; performance.now() < until;) {
        const { done, value } = steps.next();
        if (!done) continue;
        delete toy.jobs[name];
        return then(value);
      }
      frame = requestAnimationFrame(go);
    };
    go();
  }

  function start(toy) {
    forget(toy);
    toy.begun = performance.now();
    toy.part("pause").disabled = false;
    work(toy, "train", training(toy), (how) => finish(toy, how));
  }
  function pause(toy) {
    toy.paused = !toy.paused;
    toy.part("pause").textContent = toy.paused ? "Go on" : "Pause";
    if (!toy.paused) return toy.jobs.train();
    say(toy, toy.history.length ? `Paused after ${reached(toy)}` : "Paused.");
    ask(toy);
  }
  function forget(toy) {
    Object.assign(toy, { jobs: {}, paused: false, net: null, says: null, history: [], ended: "" });
    Object.assign(toy.part("pause"), { disabled: true, textContent: "Pause" });
    delete toy.figure.dataset.ended;
    toy.sets.train.y = Uint8Array.from(toy.given.labels[toy.settings.labels]);
    say(toy, `Press Train: a network of ${toy.settings.width} hidden units learns ${toy.sets.train.n} digits.`);
    draw(toy);
    mark(toy);
    ask(toy);
  }
  function* training(toy) {
    const { given, settings, sets: { train, test } } = toy, random = generator(Number(settings.seed));
    const net = network([train.x.length / train.n, Number(settings.width), given.classes], random);
    const how = { batch: given.batch, momentum: given.momentum, rate: Number(settings.rate), random };
    for (let epochs = 0; ; epochs += 1) {
      const now = yield* evaluation(net, train), other = yield* evaluation(net, test);
      Object.assign(toy, { net, says: { train: now.said, test: other.said } });
      const row = { epochs, train: now.accuracy, test: other.accuracy, trainLoss: now.loss, testLoss: other.loss };
      toy.history.push(row);
      draw(toy);
      yield mark(toy);
      if (now.accuracy === 1) return "fitted";
      if (epochs === PATIENCE) return "unfitted";
      toy.met = yield* epoch(net, train, how);
      if (!(toy.met < TOO_HIGH * toy.history[0].trainLoss)) return "astray";
    }
  }
  function finish(toy, how) {
    const seconds = ((performance.now() - toy.begun) / 1000).toFixed(1), { epochs, train, test } = toy.history.at(-1);
    const words = {
      fitted: `Fitted in ${seconds} seconds and ${reached(toy)}`,
      unfitted: `Stopped before every label was fitted, after ${reached(toy)}`,
      astray: `Training went astray: the loss rose to ${short(toy.met)}. With a step size of ${toy.settings.rate} ` +
        "each step overshoots what it aims at. Choose a smaller one.",
    };
    say(toy, words[how]);
    toy.part("pause").disabled = true;
    toy.ended = toy.figure.dataset.ended = how;
    if (how === "astray") toy.net = toy.says = null;
    const tried = toy.part("tried");
    if (tried) {
      const set = [...toy.figure.querySelectorAll(".gendyn-toy-value")].map((value) => value.textContent);
      const ended = { fitted: epochs, unfitted: `not in ${epochs}`, astray: "went astray" }[how];
      const cells = [...set, ended, seconds, percent(train), percent(test)];
      tried.append(make("tr", {}, ...cells.map((text) => make("td", {}, String(text)))));
      tried.closest("[hidden]")?.removeAttribute("hidden");
    }
    mark(toy);
    wonder(toy);
  }

  // Accuracy and loss against epochs, side by side or below each other.
  function draw(toy) {
    const place = toy.part("chart"), wide = Math.max(240, place.clientWidth), side = wide > 640, high = 150;
    const losses = toy.history.flatMap(({ trainLoss, testLoss }) => [trainLoss, testLoss]).filter(Number.isFinite);
    const label = "Accuracy and loss. " + (toy.history.length ? `After ${reached(toy)}` : "Not trained yet.");
    const svg = make("svg", { width: wide, height: side ? high : 2 * high, role: "img", "aria-label": label });
    const each = side ? wide / 2 : wide, second = side ? `translate(${each} 0)` : `translate(0 ${high})`;
    svg.append(panel(toy, "accuracy", "", 1, "translate(0 0)", each, high));
    svg.append(panel(toy, "loss", "Loss", Math.max(2.5, ...losses), second, each, high));
    place.replaceChildren(svg);
  }
  function panel({ history }, name, suffix, top, transform, wide, high) {
    const left = 34, right = wide - 14, up = 30, down = high - 24, last = Math.max(10, history.length - 1);
    const x = (at) => left + (at / last) * (right - left), y = (value) => down - (value / top) * (down - up);
    const text = (words, at, line, anchor) => make("text", { x: at, y: line, "text-anchor": anchor || "start" }, words);
    const group = make("g", { transform }, text(name, 0, 16), text("0", left, high - 8, "middle"));
    group.append(text(`${last} epochs`, right, high - 8, "end"));
    for (const value of [0, top / 2, top]) {
      const line = { x1: left, x2: right, y1: y(value), y2: y(value), "stroke-opacity": value ? 0.14 : 0.5 };
      group.append(make("line", line), text(short(value), left - 6, y(value) + 4, "end"));
    }
    LINES.forEach(([word, key, stroke, dash], place) => {
      const values = history.map((row) => row[key + suffix]).filter(Number.isFinite), at = 62 + place * 130;
      const style = { stroke, "stroke-dasharray": dash, "stroke-width": 2.25, fill: "none" };
      const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`);
      if (points.length) group.append(make("path", { ...style, d: "M" + points.join("L") }));
      group.append(make("line", { ...style, x1: at, x2: at + 18, y1: 12, y2: 12 }));
      group.append(text(`${word} ${values.length ? (suffix ? short : percent)(values.at(-1)) : ""}`, at + 23, 16));
    });
    return group;
  }

  // Digits: their pixels and inputs by set and number. They are radio buttons: a click or an arrow key chooses one.
  const bytes = ({ sets }, { of, i }) => sets[of].bytes.subarray(64 * i, 64 * i + 64);
  const inputs = ({ sets }, { of, i }) => sets[of].x.slice(64 * i, 64 * i + 64);
  function picture(values, attributes = { "aria-hidden": "true" }) {
    const canvas = make("canvas", { width: 8, height: 8, ...attributes }), paint = canvas.getContext("2d");
    const image = paint.createImageData(8, 8);
    values.forEach((value, i) => { image.data[4 * i + 3] = value; }); // black, as opaque as a pixel is dark
    paint.putImageData(image, 0, 0);
    return canvas;
  }
  function grid(toy) {
    for (const group of toy.figure.querySelectorAll("[data-of]")) {
      const { of } = group.dataset;
      for (let i = 0; i < SHOWN[of]; i += 1) {
        const radio = make("input", { type: "radio", name: toy.name + "-digit" }), below = make("span");
        radio.addEventListener("change", () => wonder(toy, { chosen: { of, i } }));
        toy.options.push({ of, i, radio, below });
        group.append(make("label", {}, radio, picture(bytes(toy, { of, i })), below));
      }
    }
    toy.part("toward").addEventListener("change", ({ target }) => wonder(toy, { toward: target.value }));
  }
  function mark(toy) {
    for (const { of, i, radio, below } of toy.options) {
      const given = toy.sets[of].y[i], says = toy.says && toy.says[of][i];
      const words = `${of === "train" ? "training" : "unseen"} digit ${i + 1}, a ${toy.sets[of].truth[i]}`;
      const labelled = of === "train" ? `, labelled ${given}` : "";
      radio.setAttribute("aria-label", words + labelled + (toy.says ? `; the network says ${says}` : ""));
      below.textContent = toy.says ? `${given}${says === given ? "✓" : "✗"}` : given;
    }
  }

  // What the network says of the chosen digit, how far its class lasts, and whom a step on it helps.
  function wonder(toy, about) {
    Object.assign(toy, about);
    ask(toy);
    remember(toy);
  }
  function ask(toy) {
    if (!toy.options.length) return;
    const { net, chosen } = toy, ready = net && chosen && !(toy.jobs.train && !toy.paused);
    toy.part("answers").hidden = !ready;
    toy.part("answer").textContent = net && !chosen ? "Choose a digit: what does the network make of it?" : "";
    delete toy.jobs.ask;
    if (ready) work(toy, "ask", answering(toy), (words) => { toy.part("answer").textContent = words; });
  }
  function* answering(toy) {
    const { net, sets, chosen: { of, i }, given: { ask: asked } } = toy, x = inputs(toy, { of, i }), y = sets[of].y[i];
    const truth = sets[of].truth[i], { probability, said: [says] } = judged(forward(net, x, 1).pop(), [y], 1);
    const labelled = y === truth ? "" : `, labelled ${y}`;
    const words = [`${of === "train" ? "Training" : "Unseen"} digit ${i + 1} is a ${truth}${labelled}.`];
    words.push(`The network says ${says}, with probability ${percent(probability[says])}.`);
    if (asked.includes("interval")) words.push(lasting(toy, x, truth));
    if (asked.includes("stiffness")) words.push(yield* helping(toy, { x, y }));
    return words.join(" ");
  }
  // Toward a digit of the wanted class: the first other one that was learned.
  function lasting(toy, x, truth) {
    const { net, chosen, sets: { train }, given } = toy, wanted = Number(toy.toward ?? (truth + 1) % given.classes);
    const i = train.truth.findIndex((c, place) => c === wanted && !(chosen.of === "train" && chosen.i === place));
    const end = { of: "train", i }, way = inputs(toy, end).map((each, k) => each - x[k]);
    const from = bytes(toy, chosen), to = bytes(toy, end), { lower, upper, beyond } = interval(net, x, way, LOW, HIGH);
    toy.part("toward").value = wanted;
    const walk = toy.part("walk"), says = (at) => String(judged(forward(net, at, 1).pop(), [0], 1).said[0]);
    const drawn = (alpha) => make("span", {}, picture(Array.from(from, (value, k) => value + alpha * (to[k] - value))),
      says(x.map((each, k) => each + alpha * way[k])));
    toy.part("line").replaceChildren(...Array.from({ length: MORPHS }, (_, k) => drawn(LOW + k * APART)));
    (walk.oninput = () => {
      toy.part("walked").replaceChildren(drawn(walk.valueAsNumber));
      walk.setAttribute("aria-valuetext", `${signed(walk.valueAsNumber)}: ${toy.part("walked").textContent}`);
    })();
    const share = (alpha) => (100 * (alpha - LOW)) / (HIGH - LOW);
    Object.assign(toy.part("lasts").style, { left: `${share(lower)}%`, width: `${share(upper) - share(lower)}%` });
    const next = beyond[1] < 0 ? "which is as far as was looked" : `where ${beyond[1]} takes over`;
    return `On the line to a ${wanted} (0 is this digit, 1 the other) its class lasts from ${signed(lower)} to ` +
      `${signed(upper)}, ${next}.`;
  }
  function* helping(toy, one) {
    const { net, sets: { train, test }, chosen } = toy;
    const cosines = { train: yield* stiffness(net, one, train), test: yield* stiffness(net, one, test) };
    const all = Array.from(cosines.train, (cosine, i) => ({ of: "train", i, cosine }));
    if (chosen.of === "train") all.splice(chosen.i, 1);
    all.sort((a, b) => b.cosine - a.cosine);
    const shown = (each) => {
      const given = train.y[each.i], cosine = signed(each.cosine);
      const about = `a ${train.truth[each.i]} labelled ${given}, cosine ${cosine}`;
      const below = make("span", { "aria-hidden": "true" }, `${given}: ${cosine}`);
      return make("span", {}, picture(bytes(toy, each), { role: "img", "aria-label": about }), below);
    };
    toy.part("helped").replaceChildren(...all.slice(0, MOST).map(shown));
    toy.part("harmed").replaceChildren(...all.slice(-MOST).reverse().map(shown));
    toy.part("stepped").textContent = "";
    toy.part("step").onclick = () => stepped(toy, one);
    const helped = (of) => cosines[of].filter((cosine, i) => cosine > 0 && (of !== chosen.of || i !== chosen.i)).length;
    const some = (same) => all.filter(({ i }) => (train.y[i] === one.y) === same).map(({ cosine }) => cosine);
    const [alike, others] = [some(true), some(false)].map((each) => signed(mean(each)));
    return `A small step on it helps ${helped("train")} other training digits and ${helped("test")} unseen ones; the ` +
      `mean cosine is ${alike} with training digits of its label, ${others} with the others.`;
  }
  // The step itself, on a copy of the network: whose loss falls.
  function stepped(toy, one) {
    const sets = [{ x: one.x, y: Uint8Array.of(one.y), n: 1 }, toy.sets.train, toy.sets.test];
    function* taking() {
      const copy = structuredClone(toy.net), own = [], fell = [];
      step(copy, one.x, [one.y], 1, { rate: Number(toy.settings.rate), momentum: 0 });
      for (const each of sets) {
        const { losses: before } = yield* evaluation(toy.net, each), { losses: after } = yield* evaluation(copy, each);
        own.push(short(before[0]), short(after[0]));
        fell.push(after.filter((loss, i) => loss < before[i]).length);
      }
      return `A step of size ${toy.settings.rate} on this digit alone takes its loss from ${own[0]} to ${own[1]}. ` +
        `The loss falls for ${fell[1]} of ${sets[1].n} training digits and ${fell[2]} of ${sets[2].n} unseen ones.`;
    }
    work(toy, "step", taking(), (words) => { toy.part("stepped").textContent = words; });
  }

  // The address holds what differs from how the figure opens, as it does for charts: ?figure.control=value#figure
  function remember(toy) {
    const query = new URLSearchParams(location.search), { settings, given, chosen } = toy;
    for (const key of [...query.keys()]) if (key.startsWith(toy.name + ".")) query.delete(key);
    const kept = Object.keys(given.options).map((key) => [key, settings[key] !== given.settings[key] && settings[key]]);
    kept.push(["trained", toy.ended && "yes"], ["digit", chosen && `${chosen.of}-${chosen.i}`], ["toward", toy.toward]);
    for (const [key, value] of kept) if (value) query.set(`${toy.name}.${key}`, value);
    try {
      history.replaceState(history.state, "", `${query.toString() ? "?" + query : location.pathname}#${toy.name}`);
    } catch (error) {
      console.info("The address stays as it is: " + error.message); // inside another page
    }
  }
  function restore(toy) {
    const query = new URLSearchParams(location.search), wanted = (key) => query.get(`${toy.name}.${key}`) || "";
    const [, of, i] = /^(train|test)-(\d+)$/.exec(wanted("digit")) || [], trained = wanted("trained");
    if (/^\d$/.test(wanted("toward"))) toy.toward = wanted("toward");
    toy.options.find((each) => each.of === of && each.i === Number(i))?.radio.click();
    if (trained) start(toy);
  }

  // A figure is set up when it comes within half a screen of what is seen.
  const seen = (entries) => entries.forEach(({ isIntersecting, target }) => isIntersecting && setUp(target));
  const observer = new IntersectionObserver(seen, { rootMargin: "50% 0px" });
  return () => document.querySelectorAll("figure.gendyn-toy").forEach((figure) => observer.observe(figure));
})();
window.gendynToys();
