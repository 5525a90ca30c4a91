// A small fully connected ReLU network: prediction, SGD with momentum, stiffness, generalization intervals, paths.
// Matrices are rows after rows in a Float64Array; a layer's weights have a row for each input, a column for each unit.
const PART = 16; // examples between two yields of what goes through a set {x, y, n}

// Uniform numbers in [0, 1), the same for a seed in every browser (a linear congruential generator).
function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

// A fresh network: weights normal with variance 2/inputs (He et al., 2015), biases 0.
function network(sizes, random) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return sizes.slice(1).map((units, place) => {
    const inputs = sizes[place], scale = Math.sqrt(2 / inputs);
    const weight = Float64Array.from({ length: inputs * units }, () => scale * normal());
    return { inputs, units, weight, bias: new Float64Array(units) };
  });
}

// out += a b, of n×m and m×p; four rows of b at a time, so that what is read and written serves several times.
function product(a, b, out, n, m, p) {
  const fours = m - (m % 4);
  for (let i = 0; i < n; i += 1) {
    const to = i * p;
    for (let k = 0; k < fours; k += 4) {
      const s = i * m + k, t = k * p, a0 = a[s], a1 = a[s + 1], a2 = a[s + 2], a3 = a[s + 3];
      for (let j = t, o = to; o < to + p; j += 1, o += 1) {
        out[o] += a0 * b[j] + a1 * b[j + p] + a2 * b[j + 2 * p] + a3 * b[j + 3 * p];
      }
    }
    for (let k = fours; k < m; k += 1) for (let j = 0; j < p; j += 1) out[to + j] += a[i * m + k] * b[k * p + j];
  }
  return out;
}
function transposed(a, n, m) {
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i += 1) for (let j = 0; j < m; j += 1) out[j * n + i] = a[i * m + j];
  return out;
}

// What enters each layer, x first, and last the logits, of n inputs; with gates, along that path.
function forward(net, x, n, gates) {
  const found = [x];
  net.forEach(({ inputs, units, weight, bias }, place) => {
    const out = new Float64Array(n * units);
    for (let i = 0; i < n; i += 1) out.set(bias, i * units);
    product(found[place], weight, out, n, inputs, units);
    for (let i = 0; place < net.length - 1 && i < out.length; i += 1) {
      if (gates ? !gates[place][i % units] : out[i] < 0) out[i] = 0;
    }
    found.push(out);
  });
  return found;
}

// Of logits: each input's loss in nats, its class, the probabilities.
function judged(logits, y, n) {
  const classes = logits.length / n, losses = new Float64Array(n), said = new Uint8Array(n);
  const probability = logits.slice();
  for (let i = 0; i < n; i += 1) {
    const row = probability.subarray(i * classes, (i + 1) * classes), top = Math.max(...row), own = row[y[i]];
    said[i] = row.indexOf(top);
    row.forEach((logit, c) => { row[c] = Math.exp(logit - top); });
    const sum = row.reduce((all, each) => all + each);
    row.forEach((each, c) => { row[c] = each / sum; });
    losses[i] = Math.log(sum) + top - own;
  }
  return { losses, said, probability };
}

// Of some inputs: the gradient of their summed loss by each layer's weights and biases in turn, each one's loss, and
// its factors by layer: what enters, and the gradient by what leaves, whose outer product is that by the weights.
function gradient(net, { x, y, n }) {
  const entering = forward(net, x, n), { losses, probability } = judged(entering.pop(), y, n);
  const slopes = [], factors = [];
  let leaving = probability;
  for (let i = 0; i < n; i += 1) leaving[(i * leaving.length) / n + y[i]] -= 1;
  for (let place = net.length - 1; place >= 0; place -= 1) {
    const { inputs, units, weight } = net[place], enters = entering[place], bias = new Float64Array(units);
    factors.unshift({ enters, leaving });
    leaving.forEach((each, i) => { bias[i % units] += each; });
    slopes.unshift(product(transposed(enters, n, inputs), leaving, weight.map(() => 0), inputs, n, units), bias);
    if (place === 0) break;
    leaving = product(leaving, transposed(weight, inputs, units), new Float64Array(n * inputs), n, units, inputs);
    for (let i = 0; i < leaving.length; i += 1) if (enters[i] <= 0) leaving[i] = 0;
  }
  return { losses, slopes, factors };
}

function part({ x, y, n }, start, end = start + 1) {
  const size = x.length / n;
  return { x: x.subarray(start * size, end * size), y: y.subarray(start, end), n: end - start };
}
function* parts(set) {
  for (let i = 0; i < set.n; i += PART) yield { start: i, ...part(set, i, Math.min(set.n, i + PART)) };
}

// One step of SGD with momentum, as PyTorch's; `how` keeps its speeds. Gives the mean loss before it.
function step(net, set, how) {
  const { losses, slopes } = gradient(net, set), values = net.flatMap(({ weight, bias }) => [weight, bias]);
  how.speeds ||= slopes.map(({ length }) => new Float64Array(length));
  values.forEach((value, k) => value.forEach((each, i) => {
    how.speeds[k][i] = how.momentum * how.speeds[k][i] + slopes[k][i] / set.n;
    value[i] = each - how.rate * how.speeds[k][i];
  }));
  return mean(losses);
}

function* epoch(net, { x, y, n }, how) {
  const { inputs } = net[0], keys = Float64Array.from({ length: n }, how.random);
  const order = Uint32Array.from(keys.keys()).sort((i, j) => keys[i] - keys[j]);
  let total = 0;
  for (let start = 0; start < n; start += how.batch) {
    const chosen = order.subarray(start, start + how.batch), rows = new Float64Array(chosen.length * inputs);
    chosen.forEach((i, place) => rows.set(x.subarray(i * inputs, (i + 1) * inputs), place * inputs));
    const set = { x: rows, y: Uint8Array.from(chosen, (i) => y[i]), n: chosen.length };
    yield total += set.n * step(net, set, how);
  }
  return total / n;
}

function* evaluation(net, set) {
  const said = new Uint8Array(set.n), losses = new Float64Array(set.n);
  for (const { start, x, y, n } of parts(set)) {
    const found = judged(forward(net, x, n).pop(), y, n);
    said.set(found.said, start);
    yield losses.set(found.losses, start);
  }
  return { said, losses, loss: mean(losses), accuracy: said.filter((c, i) => c === set.y[i]).length / set.n };
}
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// Cosine of one example's loss gradient with that of each of a set, by their factors.
function* stiffness(net, one, set) {
  const dot = (a, i, b, j, size) => {
    let sum = 0;
    for (let k = 0; k < size; k += 1) sum += a[i * size + k] * b[j * size + k];
    return sum;
  };
  const gram = (a, i, b, j) => net.reduce((sum, { inputs, units }, k) =>
    sum + (1 + dot(a[k].enters, i, b[k].enters, j, inputs)) * dot(a[k].leaving, i, b[k].leaving, j, units), 0);
  const own = gradient(net, one).factors, cosines = new Float64Array(set.n);
  for (const part of parts(set)) {
    const all = gradient(net, part).factors;
    for (let j = 0; j < part.n; j += 1) {
      const scale = gram(own, 0, own, 0) * gram(all, j, all, j);
      cosines[part.start + j] = scale > 0 ? gram(own, 0, all, j) / Math.sqrt(scale) : 0;
    }
    yield;
  }
  return cosines;
}

// Which units are on at x, layer by layer: its path. Along a path the network is affine: logits at 0, slopes by input.
const path = (net, x) => forward(net, x, 1).slice(1, -1).map((layer) => Uint8Array.from(layer, (value) => value > 0));
function affine(net, gates) {
  const { inputs } = net[0], logits = (x) => forward(net, x, 1, gates).pop(), zero = new Float64Array(inputs);
  const constant = logits(zero), along = (i) => logits(zero.map((_, k) => Number(k === i)));
  return { constant, slopes: Array.from(zero, (_, i) => along(i).map((logit, c) => logit - constant[c])) };
}

// How far x + α d keeps the class of x, within [low, high]. All is linear between knots, where units change sides.
function interval(net, x, direction, low = -1, high = 2) {
  let knots = [low, 0, high], rows = knots.map((alpha) => x.map((each, i) => each + alpha * direction[i]));
  net.forEach(({ inputs, units, weight, bias }, place) => {
    rows = rows.map((row) => product(row, weight, bias.slice(), 1, inputs, units));
    if (place < net.length - 1) [knots, rows] = cut(knots, rows);
  });
  const start = knots.indexOf(0), label = rows[start].indexOf(Math.max(...rows[start]));
  const [down, up] = [-1, 1].map((way) => {
    for (let k = start; knots[k + way] !== undefined; k += way) {
      const [now, then] = [rows[k], rows[k + way]].map((row) => row.map((logit) => row[label] - logit));
      const shares = now.map((margin, c) => (then[c] < 0 ? margin / (margin - then[c]) : Infinity));
      const share = Math.min(...shares), next = shares.indexOf(share);
      if (share < Infinity) return { end: knots[k] + share * (knots[k + way] - knots[k]), next };
    }
    return { end: way < 0 ? low : high, next: -1 };
  });
  return { lower: down.end, upper: up.end, label, next: up.next };
}
// Further knots where a unit's value crosses 0, and all values there, the negative ones as 0.
function cut(knots, rows) {
  const found = [[], []];
  knots.forEach((knot, k) => {
    const from = rows[k], to = rows[k + 1] || from, width = (knots[k + 1] ?? knot) - knot;
    const shares = Array.from(from, (a, unit) => a / (a - to[unit])).filter((share) => share > 0 && share < 1);
    for (const share of [0, ...shares.sort((p, q) => p - q)]) {
      found[0].push(knot + share * width);
      found[1].push(from.map((a, unit) => Math.max(0, a + share * (to[unit] - a))));
    }
  });
  return found;
}
