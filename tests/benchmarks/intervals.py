"""Generalization intervals against their peers: seconds, and how far the ends are off.

Run:      python tests/benchmarks/intervals.py [--lines 1000] [--threads 1] [--publish]
Takes:    about a minute on two cores for 1,000 lines.
Data:     1,000 training images of MNIST where it is prepared (else the embedded digits, enlarged), MLP 3x128 trained to
          fit them; lines between pairs of one class, α from -1 to 2.
Peers:    ExactLine (Sotoudeh and Thakur 2019), a line at a time, written here in NumPy; a grid of 3,001 points, one
          forward pass a line.
Expected: at least 3 times ExactLine and 50 times the grid, with errors below 1e-5; the grid's are up to its step of
          1e-3, and whatever it stepped over. Errors are against gendyn_lite in float64, which tests compare with brute
          force.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gendyn_lite.data import load
from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals import generalization_interval, pair_lines, same_class_tuples
from gendyn_lite.models import build
from tests.benchmarks.shared.each_way import parse, parser, publish, row

LOW, HIGH, POINTS = -1.0, 2.0, 3001
GOALS = {"ExactLine": 3.0, "grid of 3,001 points": 50.0}


def main() -> None:
    """One line for each way."""
    options = parser("Generalization intervals against their peers.", rounds=5)
    options.add_argument("--lines", type=int, default=1000)
    given = parse(options)
    rows = compare(given.lines, given.rounds)
    if given.publish:
        publish("intervals", rows, GOALS, f"intervals.py, {given.lines:,} lines")


def compare(count: int, rounds: int) -> list[dict[str, object]]:
    """Lines a second of ours and of each peer."""
    name, x, y = images()
    network = trained(x, y)
    origin, direction = pair_lines(x, same_class_tuples(y, count))
    truth = ours(copy.deepcopy(network).double(), origin.double(), direction.double())
    print(f"{count} lines of {name}, MLP 3x128, float32, {torch.get_num_threads()} threads")
    found, base = timed(lambda: ours(network, origin, direction), repeats=rounds)
    report("gendyn_lite", found, base, truth, None)
    found, line = timed(lambda: exact_line(network, origin, direction), repeats=3)
    report("ExactLine, a line at a time", found, line, truth, base)
    few = slice(0, max(1, count // 20))  # the grid is slow: a twentieth of the lines, time scaled
    found, seconds = timed(lambda: grid(network, origin[few], direction[few]), repeats=1)
    sampled = seconds * count / len(found)
    report(f"grid of {POINTS} points", found, sampled, truth[few], base)
    case = f"MLP 3x128, {count:,} lines of {name}"
    return [
        row(case, "lines/s", peer, count / base, count / taken)
        for peer, taken in zip(GOALS, (line, sampled), strict=True)
    ]


def images() -> tuple[str, Tensor, Tensor]:
    """Standardized images [n, 784] and their labels."""
    try:
        data = load("mnist", train_size=1000)
        x = data.train.x.flatten(1).float()
    except UserError:
        data = load("digits", train_size=1000)
        x = nn.functional.interpolate(data.train.x.float(), size=28, mode="bilinear").flatten(1)
    x = (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    return data.description, x, data.train.y


def trained(x: Tensor, y: Tensor) -> nn.Module:
    """MLP 3x128 that fits every label."""
    network = build("mlp", num_classes=10, in_shape=(784,), widths=(128, 128, 128), seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(60):
        for part in torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).split(100):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[part]), y[part]).backward()
            optimizer.step()
    return network.eval()


def ours(network: nn.Module, x: Tensor, d: Tensor) -> Tensor:
    found = generalization_interval(network, x, d, low=LOW, high=HIGH)
    return torch.stack([found.lower, found.upper], dim=1)


@torch.no_grad()
def exact_line(network: nn.Module, x: Tensor, d: Tensor) -> Tensor:
    """Every breakpoint of one line after the other, in NumPy float32."""
    layers = [(m.weight.numpy(), m.bias.numpy()) for m in network.modules() if isinstance(m, nn.Linear)]
    found = [_one_line(layers, p, v) for p, v in zip(x.numpy(), d.numpy(), strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def _one_line(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    alpha, H = np.array([LOW, 0.0, HIGH]), np.stack([x + LOW * d, x, x + HIGH * d])
    for depth, (W, b) in enumerate(layers):
        H = H @ W.T + b
        if depth == len(layers) - 1:
            break
        row, unit = np.nonzero((H[:-1] > 0) != (H[1:] > 0))
        before, after = H[row, unit], H[row + 1, unit]
        t = before / (before - after)
        between = H[row] + t[:, None] * (H[row + 1] - H[row])
        between[np.arange(len(row)), unit] = 0
        order = np.argsort(np.concatenate([np.arange(len(alpha)), row + t.clip(0, 1 - 1e-6)]), kind="stable")
        alpha = np.concatenate([alpha, alpha[row] + t * (alpha[row + 1] - alpha[row])])[order]
        H = np.maximum(np.concatenate([H, between])[order], 0)
    start = int(np.nonzero(alpha == 0)[0][0])
    margin = H[:, [H[start].argmax()]] - H
    return tuple(_leave(alpha, margin, range(start, stop, step), step) for stop, step in ((-1, -1), (len(alpha), 1)))  # type: ignore[return-value]


def _leave(alpha: np.ndarray, margin: np.ndarray, walk: range, step: int) -> float:
    for k in walk:
        bad = margin[k] < 0
        if bad.any():
            before = margin[k - step][bad]
            t = (before / (before - margin[k][bad])).min()
            return float(alpha[k - step] + t * (alpha[k] - alpha[k - step]))
    return float(alpha[walk[-1]])


@torch.no_grad()
def grid(network: nn.Module, x: Tensor, d: Tensor) -> Tensor:
    """The samples around 0 that have its class, a forward pass of 3,001 points for each line."""
    alpha = torch.linspace(LOW, HIGH, POINTS)
    zero = int(alpha.abs().argmin())
    found = []
    for p, v in zip(x, d, strict=True):
        label = network(p + alpha[:, None] * v).argmax(1)
        other = (label != label[zero]).nonzero().squeeze(1)
        left, right = other[other < zero], other[other > zero]
        low = alpha[left[-1] + 1] if len(left) else alpha[0]
        high = alpha[right[0] - 1] if len(right) else alpha[-1]
        found.append((float(low), float(high)))
    return torch.tensor(found, dtype=torch.float64)


def timed(call: Callable[[], Tensor], *, repeats: int) -> tuple[Tensor, float]:
    """The result and the seconds of the fastest run."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return result, best


def report(who: str, found: Tensor, seconds: float, truth: Tensor, base: float | None) -> None:
    """One line: who, seconds, error, how many ends are off by more than the grid's step."""
    error = (found - truth).abs()
    times = "" if base is None else f"   gendyn_lite is {seconds / base:5.1f} times as fast"
    off = f"ends off by more than 0.001: {int((error > 1.001e-3).sum()):4}"
    print(f"{who:28} {seconds:8.3f} s   largest error {float(error.max()):.1e}   {off}{times}")


if __name__ == "__main__":
    main()
