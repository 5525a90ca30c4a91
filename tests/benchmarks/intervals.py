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
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from gendyn_lite.data import load
from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals import generalization_interval, pair_lines, same_class_tuples
from gendyn_lite.models import build
from tests.benchmarks.shared.each_way import in_turns, parse, parser, publish, row

LOW, HIGH, POINTS = -1.0, 2.0, 3001
GOALS = {"ExactLine": 3.0, "grid of 3,001 points": 50.0}


def main() -> None:
    """One line for each way."""
    options = parser(__doc__, rounds=3)
    options.add_argument("--lines", type=int, default=1000)
    given = parse(options)
    rows = compare(given.lines, given.rounds)
    if given.publish:
        publish("intervals", rows, GOALS, f"intervals.py, {given.lines:,} lines")


def compare(count: int, rounds: int) -> list[dict[str, object]]:
    """Lines a second of ours and of each peer, and how far the ends are off."""
    name, x, y = images()
    network = trained(x, y)
    lines = pair_lines(x, same_class_tuples(y, count))
    few = tuple(part[: max(1, count // 20)] for part in lines)  # the grid is slow: its time is scaled
    truth = ours(copy.deepcopy(network).double(), *(part.double() for part in lines))
    ways = {"gendyn_lite": (ours, lines), "ExactLine": (exact_line, lines), "grid of 3,001 points": (grid, few)}
    print(f"{count} lines of {name}, MLP 3x128, float32, {torch.get_num_threads()} threads")
    calls = {way: partial(call, network, *given) for way, (call, given) in ways.items()}
    taken = in_turns(calls, rounds, clock=time.perf_counter)
    for way, call in calls.items():
        found = call()
        error = (found - truth[: len(found)]).abs()
        taken[way] *= count / len(found)
        off = f"largest error {float(error.max()):.1e}, off by more than 0.001: {int((error > 1.001e-3).sum()):4}"
        print(f"{way:28} {taken[way]:8.3f} s   {off}   {taken[way] / taken['gendyn_lite']:5.1f} times ours")
    case, speed = f"MLP 3x128, {count:,} lines of {name}", {way: count / seconds for way, seconds in taken.items()}
    return [row(case, "lines/s", peer, speed["gendyn_lite"], speed[peer]) for peer in GOALS]


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


if __name__ == "__main__":
    main()
