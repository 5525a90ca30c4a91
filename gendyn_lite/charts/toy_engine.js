// A small fully connected ReLU network: prediction, gradients, SGD with momentum, stiffness, generalization intervals.
// Matrices are rows after rows in a Float64Array; a layer's weights have a row for each input, a column for each unit.
globalThis.gendynEngine = (function () {
  "use strict";

  // Uniform numbers in [0, 1), the same for a seed in every browser (mulberry32).
  function generator(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  // A fresh network: weights normal with variance 2/inputs (He et al., 2015), biases 0.
  function network(sizes, random) {
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return sizes.slice(1).map((units, place) => {
      const inputs = sizes[place], scale = Math.sqrt(2 / inputs);
      const weight = Float64Array.from({ length: inputs * units }, () => scale * normal());
      return layer(inputs, units, weight, new Float64Array(units));
    });
  }
  const layer = (inputs, units, weight, bias) => ({
    inputs, units, weight, bias, speed: { weight: new Float64Array(weight.length), bias: new Float64Array(units) },
  });

  // out += a b, of n×m and m×p; in blocks of two rows of a and four of b, so that what is read is used several times.
  function product(a, b, out, n, m, p) {
    const pairs = n - (n % 2), fours = m - (m % 4);
    for (let i = 0; i < pairs; i += 2) {
      const first = i * p, second = first + p;
      for (let k = 0; k < fours; k += 4) {
        const s = i * m + k, t = s + m, b0 = k * p, b1 = b0 + p, b2 = b1 + p, b3 = b2 + p;
        const s0 = a[s], s1 = a[s + 1], s2 = a[s + 2], s3 = a[s + 3];
        const t0 = a[t], t1 = a[t + 1], t2 = a[t + 2], t3 = a[t + 3];
        for (let j = 0; j < p; j += 1) {
          const u = b[b0 + j], v = b[b1 + j], w = b[b2 + j], z = b[b3 + j];
          out[first + j] += s0 * u + s1 * v + s2 * w + s3 * z;
          out[second + j] += t0 * u + t1 * v + t2 * w + t3 * z;
        }
      }
    }
    for (let i = 0; i < n; i += 1) {
      for (let k = i < pairs ? fours : 0; k < m; k += 1) {
        const s = a[i * m + k];
        for (let j = 0; j < p; j += 1) out[i * p + j] += s * b[k * p + j];
      }
    }
    return out;
  }
  function transposed(a, n, m) {
    const out = new Float64Array(n * m);
    for (let i = 0; i < n; i += 1) for (let j = 0; j < m; j += 1) out[j * n + i] = a[i * m + j];
    return out;
  }

  // What enters each layer, [x, first hidden layer, …], and last the logits, of n inputs.
  function forward(net, x, n) {
    const found = [x];
    net.forEach(({ inputs, units, weight, bias }, place) => {
      const out = new Float64Array(n * units);
      for (let i = 0; i < n; i += 1) out.set(bias, i * units);
      product(found[place], weight, out, n, inputs, units);
      if (place < net.length - 1) for (let i = 0; i < out.length; i += 1) if (out[i] < 0) out[i] = 0;
      found.push(out);
    });
    return found;
  }

  // Of logits: each input's loss in nats, its class, the probabilities, and the loss's gradient by the logits.
  function judged(logits, y, n) {
    const classes = logits.length / n, losses = new Float64Array(n), said = new Uint8Array(n);
    const probability = new Float64Array(logits.length);
    for (let i = 0; i < n; i += 1) {
      const row = logits.subarray(i * classes, (i + 1) * classes);
      for (let c = 1; c < classes; c += 1) if (row[c] > row[said[i]]) said[i] = c;
      let sum = 0;
      for (const logit of row) sum += Math.exp(logit - row[said[i]]);
      losses[i] = Math.log(sum) + row[said[i]] - row[y[i]];
      for (let c = 0; c < classes; c += 1) probability[i * classes + c] = Math.exp(row[c] - row[said[i]]) / sum;
    }
    const delta = probability.slice();
    for (let i = 0; i < n; i += 1) delta[i * classes + y[i]] -= 1;
    return { losses, said, probability, delta };
  }

  // Of each input and layer: what enters, and the gradient of that input's loss by what leaves. Their outer product is
  // the gradient by the weights.
  function factors(net, x, y, n) {
    const entering = forward(net, x, n), found = judged(entering.pop(), y, n), leaving = [found.delta];
    for (let place = net.length - 1; place > 0; place -= 1) {
      const { inputs, units, weight } = net[place], back = new Float64Array(n * inputs);
      product(leaving[0], transposed(weight, inputs, units), back, n, units, inputs);
      for (let i = 0; i < back.length; i += 1) if (entering[place][i] <= 0) back[i] = 0;
      leaving.unshift(back);
    }
    return { ...found, entering, leaving };
  }

  // The gradient of the mean loss by all weights and biases.
  function gradient(net, x, y, n) {
    const { entering, leaving, losses, said } = factors(net, x, y, n);
    const layers = net.map(({ inputs, units }, place) => {
      const delta = leaving[place].map((each) => each / n), bias = new Float64Array(units);
      for (let i = 0; i < delta.length; i += 1) bias[i % units] += delta[i];
      const weight = new Float64Array(inputs * units);
      return { weight: product(transposed(entering[place], n, inputs), delta, weight, inputs, n, units), bias };
    });
    return { layers, losses, said };
  }

  // One step of SGD with momentum, as PyTorch's. Gives the mean loss before it.
  function step(net, x, y, n, { rate, momentum }) {
    const { layers, losses } = gradient(net, x, y, n);
    net.forEach((each, place) => {
      for (const name of ["weight", "bias"]) {
        const value = each[name], speed = each.speed[name], slope = layers[place][name];
        for (let i = 0; i < value.length; i += 1) {
          speed[i] = momentum * speed[i] + slope[i];
          value[i] -= rate * speed[i];
        }
      }
    });
    return mean(losses);
  }

  // One epoch in batches; it yields after each, so that a page can draw in between. Gives the mean loss on its way.
  function* epoch(net, { x, y, n }, { batch, random, ...how }) {
    const { inputs } = net[0], keys = Float64Array.from({ length: n }, random);
    const order = Uint32Array.from(keys.keys()).sort((i, j) => keys[i] - keys[j]);
    let total = 0;
    for (let start = 0; start < n; start += batch) {
      const chosen = order.subarray(start, start + batch), rows = new Float64Array(chosen.length * inputs);
      chosen.forEach((i, place) => rows.set(x.subarray(i * inputs, (i + 1) * inputs), place * inputs));
      total += chosen.length * step(net, rows, Uint8Array.from(chosen, (i) => y[i]), chosen.length, how);
      yield;
    }
    return total / n;
  }

  // Loss, accuracy and what is said of each input of a set; it yields between parts of it.
  function* evaluation(net, { x, y, n }, part = 64) {
    const inputs = net[0].inputs, said = new Uint8Array(n), losses = new Float64Array(n);
    for (let start = 0; start < n; start += part) {
      const end = Math.min(n, start + part), rows = x.subarray(start * inputs, end * inputs);
      const found = judged(forward(net, rows, end - start).pop(), y.subarray(start, end), end - start);
      said.set(found.said, start);
      yield losses.set(found.losses, start);
    }
    return { said, losses, loss: mean(losses), accuracy: said.filter((c, i) => c === y[i]).length / n };
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  function dot(a, i, b, j, length) {
    let sum = 0;
    for (let k = 0; k < length; k += 1) sum += a[i * length + k] * b[j * length + k];
    return sum;
  }

  // Cosine of one example's loss gradient with that of each of a set: the Gram matrix by the factors of each layer.
  // It yields between parts of the set.
  function* stiffness(net, one, { x, y, n }, part = 64) {
    const own = factors(net, one.x, [one.y], 1), norm = grams(net, own, 0, own, 0), cosines = new Float64Array(n);
    for (let start = 0; start < n; start += part) {
      const end = Math.min(n, start + part), inputs = net[0].inputs;
      const all = factors(net, x.subarray(start * inputs, end * inputs), y.subarray(start, end), end - start);
      for (let j = 0; j < end - start; j += 1) {
        const scale = norm * grams(net, all, j, all, j);
        if (scale > 0) cosines[start + j] = grams(net, own, 0, all, j) / Math.sqrt(scale);
      }
      yield;
    }
    return cosines;
  }
  function grams(net, a, i, b, j) {
    return net.reduce((sum, { inputs, units }, k) => {
      return sum + (dot(a.entering[k], i, b.entering[k], j, inputs) + 1) * dot(a.leaving[k], i, b.leaving[k], j, units);
    }, 0);
  }

  // How far x + α d keeps the class of x, within [low, high]: linear piece by linear piece, a unit of the network
  // changing sides at each, until another logit overtakes.
  function interval(net, x, direction, low = -1, high = 2) {
    const ends = [-low, high].map((most, way) => walk(net, x, direction.map((each) => (way ? each : -each)), most));
    return { lower: -ends[0].end, upper: ends[1].end, label: ends[0].label, beyond: ends.map(({ next }) => next) };
  }
  function walk(net, x, direction, most) {
    const gates = forward(net, x, 1).slice(1, -1).map((values) => Uint8Array.from(values, (value) => value > 0));
    let at = 0, label = -1;
    for (let turns = 0; turns < 100000; turns += 1) {
      const { value, slope, flip } = along(net, gates, x, direction, at, most);
      if (label < 0) label = value.indexOf(Math.max(...value));
      let end = flip.at, next = -1;
      for (let c = 0; c < value.length; c += 1) {
        const meets = at + Math.max(0, (value[label] - value[c]) / (slope[c] - slope[label]));
        if (slope[c] > slope[label] && meets < end) [end, next] = [meets, c];
      }
      if (next >= 0 || flip.place < 0) return { end, label, next };
      gates[flip.place][flip.unit] ^= 1;
      at = flip.at;
    }
    throw new Error("a line has more than 100,000 linear pieces");
  }
  // Logits at α and their slopes on the linear piece of these gates; the next unit that changes sides, up to `most`.
  function along(net, gates, x, direction, at, most) {
    let value = x.map((each, i) => each + at * direction[i]), slope = direction;
    const flip = { at: most, place: -1, unit: -1 };
    net.forEach(({ inputs, units, weight, bias }, place) => {
      value = product(value, weight, bias.slice(), 1, inputs, units);
      slope = product(slope, weight, new Float64Array(units), 1, inputs, units);
      if (place === net.length - 1) return;
      for (let unit = 0; unit < units; unit += 1) {
        const open = gates[place][unit], leaves = open ? slope[unit] < 0 : slope[unit] > 0;
        const meets = at + Math.max(0, -value[unit] / slope[unit]);
        if (leaves && meets < flip.at) Object.assign(flip, { at: meets, place, unit });
        if (!open) value[unit] = slope[unit] = 0;
      }
    });
    return { value, slope, flip };
  }

  return { generator, network, layer, forward, judged, gradient, step, epoch, evaluation, stiffness, interval, mean };
})();
