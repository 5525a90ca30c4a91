"""The weights of a sum of hinges that takes given values: a lower triangular system solved by differences of slopes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field


@dataclass
class Slope:
    """A running sum of weights as an unevaluated pair: what the stored, rounded weights truly add up to."""

    high: float = 0.0
    low: float = 0.0

    def add(self, weight: float) -> None:
        total = self.high + weight
        part = total - self.high
        low = self.low + ((self.high - (total - part)) + (weight - part))
        self.high = total + low
        self.low = low - (self.high - total)


@dataclass
class Layer:
    """The units of one hidden layer while it is being solved for."""

    biases: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    slope: Slope = field(default_factory=Slope)

    def add(self, bias: float, weight: float) -> None:
        self.biases.append(bias)
        self.weights.append(weight)
        self.slope.add(weight)


def solve(z: list[float], y: list[float], blocks: int) -> list[Layer]:
    """Walk over the sorted points once; each new weight is chosen against what the rounded ones before it add up to."""
    kinks = interleaved_kinks(z)
    starts = {len(z) * i // blocks for i in range(1, blocks)}
    layers = [Layer()]
    slope, value = Slope(), 0.0
    for j, (kink, point, label) in enumerate(zip(kinks, z, y, strict=True)):
        if j in starts:
            # The layer's part of the function stays flat from here on: what later layers add starts from a constant.
            closing = -layers[-1].slope.high
            layers[-1].add(kink, closing)
            slope.add(closing)
            layers.append(Layer())
        wanted = (label - value) / (point - kink)
        weight = (wanted - slope.high) - slope.low
        layers[-1].add(kink, weight)
        slope.add(weight)
        value += slope.high * (point - kink)
        if j + 1 < len(z):
            value += slope.high * (kinks[j + 1] - point)
    return layers


def interleaved_kinks(z: list[float]) -> list[float]:
    """b_1 < z_1 < b_2 < …: past each point by a quarter of the smaller gap beside it (at it, where float64 ends)."""
    gaps = [after - before for before, after in itertools.pairwise(z)]
    first = gaps[0] if gaps else 1.0
    past = [min(left, right) / 4 for left, right in zip([first, *gaps], gaps, strict=False)]
    return [z[0] - first, *(point + step for point, step in zip(z, past, strict=False))]
