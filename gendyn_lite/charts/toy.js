// Every figure.gendyn-toy of a page. Its elements and words are those of toy.html: a form, whose values are read here.
const SLICE = 12; // ms of work between two frames of the page
const TOO_HIGH = 2; // times the first loss: training has gone astray

const percent = (share) => (share === 1 ? "100 %" : `${Math.min(99.9, 100 * share).toFixed(1)} %`);
const short = (value) => (Number.isFinite(value) ? String(Number(value.toPrecision(2))) : "infinity");
const values = (form) => Object.fromEntries(new FormData(form));
function fill({ figure }, words) {
  for (const [name, word] of Object.entries(words)) {
    for (const place of figure.querySelectorAll(`[data-fill=${name}]`)) place.textContent = word;
  }
}

function setUp(figure) {
  if (figure.dataset.ready) return;
  figure.dataset.ready = "yes";
  const find = (name) => figure.querySelector(".gendyn-toy-" + name), form = find("place");
  const given = JSON.parse(find("data").textContent), toy = { figure, find, form, given, opens: values(form) };
  toy.sets = { train: set(given.train, given), test: set(given.test, given) };
  form.hidden = false;
  find("recorded").open = false;
  for (const [key, value] of new URLSearchParams(location.search)) {
    const [name, which] = key.split("."), control = form.elements.namedItem(which);
    if (name !== figure.id || !control) continue;
    control.value = value;
    if (!control.value) control.value = toy.opens[which]; // it has no such value
  }
  for (const { value, nextElementSibling } of digits(toy)) picture(toy, nextElementSibling, digit(toy, value).one.x);
  if (find("plane")) {
    toy.plane = { ...given.plane, classes: given.classes, points: given.plane.pieces ? toy.sets.train : { n: 0 } };
    draggable(find("plane"), [form.elements.u, form.elements.v]);
  }
  form.addEventListener("input", ({ target }) => target.type === "range" && look(toy));
  form.addEventListener("change", ({ target }) => {
    if (target.type !== "range") (target.closest(".gendyn-toy-controls") ? forget : ask)(toy);
    remember(toy);
  });
  find("train").addEventListener("click", () => start(toy));
  find("pause").addEventListener("click", () => pause(toy));
  const { trained } = values(form);
  forget(toy);
  if (trained) start(toy);
}

// Points of the plane, or digits from letters, one a pixel, standardized as the library does.
function set({ points, pixels, classes }, { mean, std }) {
  const standard = (letter) => (Math.round(((letter.charCodeAt(0) - 97) * 255) / 16) / 255 - mean) / std;
  const truth = Uint8Array.from(classes), x = Float64Array.from(points || pixels, points ? Number : standard);
  return { x, truth, y: truth, n: truth.length };
}
const digits = ({ form }) => form.elements.digit || []; // radio buttons, with values such as train-3
function digit({ sets }, name) {
  const [of, number] = name.split("-"), i = Number(number);
  return { of, i, one: part(sets[of], i), truth: sets[of].truth[i], own: of === "train" ? i : -1 };
}
function picture({ given: { mean, std } }, canvas, x) {
  const brush = canvas.getContext("2d"), image = brush.createImageData(8, 8);
  x.forEach((value, i) => { image.data[4 * i + 3] = 255 * (value * std + mean); }); // black, as opaque as it is dark
  brush.putImageData(image, 0, 0);
  return canvas;
}

// Work in slices, and none while the page is not seen; null if work of this name was begun since, or all was forgotten.
async function work(toy, name, steps) {
  const turn = toy.turns[name] = {};
  for (let until = 0; ;) {
    const begun = performance.now(), { done, value } = steps.next(), now = performance.now();
    if (done) return value;
    if (value !== true && now + (now - begun) < until) continue; // one more such step ends in time
    do await new Promise(requestAnimationFrame); while (document.hidden || (toy.paused && name === "train"));
    if (toy.turns[name] !== turn) return null;
    until = performance.now() + SLICE;
  }
}

async function start(toy) {
  forget(toy);
  const { find, form, history } = toy, begun = performance.now();
  const how = await work(toy, "train", training(toy));
  if (!how) return;
  const { train, test } = history.at(-1), seconds = ((performance.now() - begun) / 1000).toFixed(1);
  if (how === "astray") toy.net = null;
  if (find("tried")) {
    const row = find("tried").insertRow(), words = Array.from(form.querySelectorAll(":checked"), ({ text }) => text);
    words.push(how === "fitted" ? history.length - 1 : how, seconds, percent(train.accuracy), percent(test.accuracy));
    for (const word of words) row.insertCell().textContent = word;
    find("tried").closest(".gendyn-table").hidden = false;
  }
  form.elements.trained.value = "yes";
  fill(toy, { seconds });
  draw(toy, how);
  ask(toy);
  remember(toy);
}
function pause(toy) {
  toy.paused = !toy.paused;
  toy.find("pause").textContent = toy.paused ? "Go on" : "Pause";
  ask(toy);
}
function forget(toy) {
  const { find, form, sets, given } = toy, { labels, width, rate } = values(form);
  Object.assign(toy, { turns: {}, paused: false, net: null, before: null, history: [] });
  find("pause").textContent = "Pause";
  form.elements.trained.value = "";
  sets.train.y = Uint8Array.from(given.labels[labels]);
  fill(toy, { width: width.replace(",", " + "), rate });
  draw(toy, "ready");
  ask(toy);
}
function* training(toy) {
  const { given, form, sets: { train, test }, history } = toy, { seed, width, rate } = values(form);
  const random = generator(Number(seed)), sizes = [train.x.length / train.n, ...width.split(",").map(Number)];
  const how = { ...given, rate: Number(rate), random }, net = network([...sizes, given.classes.length], random);
  yield toy.net = net;
  for (;;) {
    history.push({ train: yield* evaluation(net, train), test: yield* evaluation(net, test) });
    if (toy.plane?.pieces) yield* squares(net, toy.plane);
    draw(toy, "training");
    yield true;
    if (history.at(-1).train.accuracy === 1) return "fitted";
    if (history.length > given.epochs) return "unfitted";
    if (toy.plane?.pieces) toy.before = structuredClone(net);
    const loss = yield* epoch(net, train, how);
    fill(toy, { met: short(loss) });
    if (!(loss < TOO_HIGH * history[0].train.loss)) return "astray";
  }
}

// How far training has come: in numbers, accuracy and loss against epochs, what is said of each digit, the plane.
function draw(toy, state) {
  const { figure, find, history } = toy, last = Math.max(10, history.length - 1), now = history.at(-1);
  const losses = history.flatMap(({ train, test }) => [train.loss, test.loss]).filter(Number.isFinite);
  const top = { accuracy: 1, loss: Math.max(1, ...losses) };
  figure.dataset.state = state;
  find("pause").disabled = state !== "training";
  find("status").setAttribute("aria-busy", state === "training"); // read out when it has ended
  fill(toy, { top: short(top.loss), last, epochs: history.length - 1 });
  for (const line of find("chart").querySelectorAll("[data-of]")) {
    const { of, set } = line.dataset, found = history.map((row) => row[set][of]).filter(Number.isFinite);
    line.setAttribute("points", found.map((value, i) => `${i / last},${1 - value / top[of]}`).join(" "));
    if (now) fill(toy, { [`${set}-${of}`]: (of === "loss" ? short : percent)(now[set][of]) });
  }
  for (const { value, parentNode } of digits(toy)) {
    const { of, i, one: { y: [label] } } = digit(toy, value), right = now?.[of].said[i] === label;
    parentNode.lastElementChild.textContent = label + (now ? "✗✓"[Number(right)] : "");
  }
  if (toy.plane?.pieces) look(toy);
}

// The plane and its point: what is seen there, as far as the network has been trained.
function look(toy) {
  const { net, before, plane, find, figure, form: { elements: { u, v } } } = toy;
  plane.point = [u.valueAsNumber, v.valueAsNumber];
  if (!net) Object.assign(plane, { rows: [], lines: [] });
  else fill(toy, plane.pieces ? following(plane, net, before || net) : lasting(plane, net));
  for (const canvas of net ? figure.querySelectorAll("[data-at]") : []) {
    picture(toy, canvas, input(plane, canvas.dataset.at ? canvas.dataset.at.split(" ") : plane.point));
  }
  paint(find("plane"), plane);
}

// What the network says of the chosen digit, the plane through it, and whom a step on it helps.
function ask(toy) {
  const { figure, find, form, net, turns, paused } = toy, name = values(form).digit;
  if (!find("answers")) return;
  delete turns.ask;
  const asked = net && name && (figure.dataset.state !== "training" || paused);
  find("answers").hidden = !asked;
  find("answers").setAttribute("aria-busy", "true"); // read out when it has ended
  if (asked) work(toy, "ask", answering(toy, digit(toy, name)));
}
function* answering(toy, { one, truth, own }) {
  const { net, find, plane } = toy, { probability, said: [says] } = judged(forward(net, one.x, 1).pop(), one.y, 1);
  const about = find("grid").querySelector("label:has(:checked)").textContent.slice(0, -1);
  yield fill(toy, { about, said: says, probability: percent(probability[says]) });
  if (plane) yield* across(toy, one.x, truth, own);
  if (find("step")) yield* helping(toy, one, own);
  find("answers").setAttribute("aria-busy", "false");
}
// The plane through a digit, the first that was learned of the class to go to, and the first of the class after that.
function* across(toy, x, truth, own) {
  const { net, plane, form, sets: { train }, given: { classes } } = toy, { toward } = values(form);
  const [right, up] = [0, 1].map((after) => {
    const wanted = (Number(toward || truth + 1) + after) % classes.length;
    return part(train, train.truth.findIndex((c, i) => c === wanted && i !== own)).x.map((each, k) => each - x[k]);
  });
  Object.assign(plane, { origin: x, right, up, rows: [] });
  yield look(toy);
  yield* squares(net, plane);
  look(toy);
}
function* helping(toy, one, own) {
  const { net, sets: { train }, find } = toy, [label] = one.y;
  const cosines = yield* stiffness(net, one, train), about = (cosine, i) => ({ i, cosine, same: train.y[i] === label });
  const all = Array.from(cosines, about).filter(({ i }) => i !== own).sort((a, b) => b.cosine - a.cosine);
  for (const [name, sorted] of [["helped", all], ["harmed", [...all].reverse()]]) {
    [...find(name).children].forEach(({ firstElementChild: canvas, lastElementChild: below }, place) => {
      const { i, cosine } = sorted[place];
      picture(toy, canvas, part(train, i).x);
      canvas.setAttribute("aria-label", `a ${train.truth[i]} labelled ${train.y[i]}, cosine ${signed(cosine)}`);
      below.textContent = `${train.y[i]}: ${signed(cosine)}`;
    });
  }
  const average = (wanted) => signed(mean(all.filter(({ same }) => same === wanted).map(({ cosine }) => cosine)));
  fill(toy, { alike: average(true), others: average(false) });
  find("stepped").hidden = true;
  find("step").onclick = () => work(toy, "step", stepping(toy, one));
}
// The step itself, on a copy of the network: whose loss falls.
function* stepping(toy, one) {
  const { net, form, sets, find } = toy, copy = structuredClone(net), fell = [];
  step(copy, one, { rate: Number(values(form).rate), momentum: 0 });
  for (const set of [one, sets.train, sets.test]) {
    const { losses: before } = yield* evaluation(net, set), { losses: after } = yield* evaluation(copy, set);
    fell.push(after.filter((loss, i) => loss < before[i]).length);
    if (set === one) fill(toy, { from: short(before[0]), to: short(after[0]) });
  }
  fill(toy, { "fell-train": fell[1], "fell-test": fell[2] });
  find("stepped").hidden = false;
}

// The address holds what differs from how the figure opens, as it does for charts: ?figure.control=value#figure
function remember({ figure, form, opens }) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of new FormData(form)) {
    query.delete(`${figure.id}.${name}`);
    if (value !== opens[name]) query.set(`${figure.id}.${name}`, value);
  }
  try {
    history.replaceState(history.state, "", `${query.size ? "?" + query : location.pathname}#${figure.id}`);
  } catch (error) {
    console.info("The address stays as it is: " + error.message); // inside another page
  }
}

// A figure is set up when it comes within half a screen of what is seen.
const seen = (entries) => entries.forEach(({ isIntersecting, target }) => isIntersecting && setUp(target));
const observer = new IntersectionObserver(seen, { rootMargin: "50% 0px" });
return () => document.querySelectorAll("figure.gendyn-toy").forEach((figure) => observer.observe(figure));
