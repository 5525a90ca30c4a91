// The plane of a toy, through two moons or through three digits, with a point that the reader moves.
const WIDE = 600, ACROSS = 60; // pixels and squares of the drawing from left to right
const COLOURS = Array.from({ length: 10 }, (_, c) => `hsl(${c < 2 ? 222 - 189 * c : 36 * c} 85% 45%)`); // by class

const signed = (value) => value.toFixed(2).replace("-", "−");
const input = ({ origin, right, up }, [u, v]) => origin.map((each, i) => each + u * right[i] + v * up[i]);

// Lets the reader drag the point of two sliders.
function draggable(canvas, sliders) {
  canvas.onpointerdown = canvas.onpointermove = canvas.onpointerup = (event) => {
    if (!event.buttons && event.type !== "pointerup") return;
    canvas.setPointerCapture(event.pointerId);
    const share = [event.offsetX / canvas.clientWidth, 1 - event.offsetY / canvas.clientHeight];
    sliders.forEach((slider, i) => { slider.value = Number(slider.min) + share[i] * (slider.max - slider.min); });
    sliders[0].dispatchEvent(new Event(event.type === "pointerup" ? "change" : "input", { bubbles: true }));
  };
}

// What the network says in every square, from above, and how many units are on: other ones in the piece beside.
function* squares(net, plane) {
  const { low, high } = plane, side = (high[0] - low[0]) / ACROSS, rows = [];
  for (let v = high[1] - side / 2; v > low[1]; v -= side) {
    const row = Array.from({ length: ACROSS }, (_, i) => [...input(plane, [low[0] + (i + 0.5) * side, v])]);
    const layers = forward(net, Float64Array.from(row.flat()), ACROSS), on = new Uint16Array(ACROSS);
    const { said } = judged(layers.pop(), [], ACROSS);
    for (const layer of layers.slice(1)) {
      layer.forEach((value, k) => { on[Math.floor((k * ACROSS) / layer.length)] += Number(value > 0); });
    }
    yield rows.push({ said, on });
  }
  plane.rows = rows;
}

// Squares, training points, lines, and the point as a cross. Classes differ in shade, and are named.
function paint(canvas, { low, high, point, classes, pieces, rows, lines, points }) {
  const scale = WIDE / (high[0] - low[0]), x = ([u]) => (u - low[0]) * scale, y = ([, v]) => (high[1] - v) * scale;
  const brush = canvas.getContext("2d"), ink = getComputedStyle(canvas).color, side = WIDE / ACROSS;
  const stroke = (from, to, lineWidth, dash = []) => {
    Object.assign(brush, { lineWidth, strokeStyle: ink }).setLineDash(dash);
    brush.stroke(new Path2D(`M${x(from)} ${y(from)}L${x(to)} ${y(to)}`));
  };
  Object.assign(canvas, { width: WIDE, height: Math.round(y(low)) }); // which clears it
  Object.assign(brush, { font: "22px sans-serif", textAlign: "center", textBaseline: "middle" });
  rows.forEach(({ said, on }, row) => said.forEach((c, i) => {
    brush.fillStyle = COLOURS[c];
    brush.globalAlpha = pieces ? 0.08 + 0.22 * c + 0.07 * (on[i] % 4) : 0.3;
    brush.fillRect(i * side, row * side, side, side);
  }));
  brush.globalAlpha = 1;
  for (let i = 0; i < points.n; i += 1) {
    const place = points.x.subarray(2 * i), c = points.y[i];
    brush.fillStyle = COLOURS[c];
    if (c) brush.fillRect(x(place) - 6, y(place) - 6, 12, 12);
    else brush.fill(new Path2D(`M${x(place) - 7} ${y(place)}a7 7 0 0 1 14 0a7 7 0 0 1 -14 0`));
  }
  brush.fillStyle = ink;
  for (let r = 3; !pieces && r < rows.length; r += 6) {
    for (let i = 3; i < ACROSS; i += 6) brush.fillText(classes[rows[r].said[i]], (i + 0.5) * side, (r + 0.5) * side);
  }
  for (const line of lines) stroke(...line);
  const [u, v] = point, arm = 16 / scale;
  stroke([u - arm, v], [u + arm, v], 6);
  stroke([u, v - arm], [u, v + arm], 6);
}

// The affine function of the path at the point, and the line on which it cannot decide; words and numbers by name.
function following(plane, net, before) {
  const { point, points: { x, y, n } } = plane, { constant, slopes } = affine(net, path(net, point));
  const margin = ([first, second]) => second - first, [a, b] = slopes.map(margin), c = margin(constant);
  const norm = a * a + b * b, end = (far) => [(-a * c - far * b) / norm, (-b * c + far * a) / norm];
  plane.lines = norm > 0 ? [[end(-99), end(99), 4, [16, 10]]] : [];
  const layer = (on) => Array.from(on, (each) => "□■"[each]).join("");
  const units = (of, place) => path(of, place).map(layer).join(" ");
  const own = units(net, point), was = units(before, point);
  const places = Array.from({ length: n }, (_, i) => x.subarray(2 * i, 2 * i + 2));
  return {
    path: own, on: own.split("■").length - 1, switched: [...own].filter((unit, i) => unit !== was[i]).length,
    right: places.filter(([u, v], i) => (a * u + b * v + c > 0) === (y[i] === 1)).length,
    x: signed(point[0]), y: signed(point[1]), a: signed(a), b: signed(b), c: signed(c),
  };
}

// How far the digit's class lasts on the line from it to the point, and that line.
function lasting(plane, net) {
  const { origin, point, classes } = plane, there = input(plane, point), on = (alpha) => point.map((u) => alpha * u);
  const { lower, upper, label, next } = interval(net, origin, there.map((each, i) => each - origin[i]));
  const [says] = judged(forward(net, there, 1).pop(), [], 1).said;
  plane.lines = [[on(-1), on(2), 2, [8, 8]], [on(lower), on(upper), 8]];
  return {
    says: classes[says], label: classes[label], lower: signed(lower), upper: signed(upper),
    next: next < 0 ? "which is as far as was looked" : `where ${classes[next]} takes over`,
  };
}
