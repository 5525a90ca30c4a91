"""Sums without rounding error in float64 arithmetic, and the sum of hinges that takes given values.

A memorizing network has slopes of about n², because the closest two of n projections are about 1/n² apart. These slopes
amplify the rounding of projections and of sums of weights: with plain float64 the residual at n = 10,000 is about 1e-7.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)
PROJECTION_BITS = 25
"""Bits of the entries of a projection; few enough that products with parts of the inputs are exact."""


def cut(x: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Cut each row into its leading bits and the rest, exactly.

    Args:
        x: float64 [..., m].
        bits: Number of bits kept, counted from the largest entry of the row.

    Returns:
        ``(leading, rest)`` with ``leading + rest == x`` and `leading` whole multiples of one power of two in each row.

    >>> leading, rest = cut(torch.tensor([1.0, 0.3], dtype=torch.float64), 3)
    >>> leading.tolist(), (leading + rest).tolist()
    ([1.0, 0.25], [1.0, 0.3])
    """
    top = torch.frexp(x.abs().amax(dim=-1, keepdim=True))[1]
    exponent = (top.long() - bits).clamp(min=-1000)
    unit = ((exponent + 1023) << 52).view(torch.float64)  # 2**exponent by its bits: ldexp of older torch is of float32
    leading = torch.round(x / unit) * unit
    return leading, x - leading


def exact_projection(x: Tensor, a: Tensor) -> Tensor:
    """Compute ⟨a, x_i⟩ with a single rounding, so that it is equal on every device and for every batch size.

    Args:
        x: float64 [n, d].
        a: float64 [d], entries in [−1, 1] that are multiples of 2**-25.

    Returns:
        float64 [n].

    Note:
        After S. M. Rump, T. Ogita and S. Oishi, "Accurate floating-point summation", SIAM J. Sci. Comput. 2008: the
        entries of x are cut into parts of so few bits that their products with `a`, and the sums of them, are exact.

    >>> exact_projection(torch.tensor([[1e16, 1.0, -1e16]], dtype=torch.float64), torch.ones(3).double()).tolist()
    [1.0]
    """
    bits = 53 - (PROJECTION_BITS + 1) - max(1, math.ceil(math.log2(x.shape[1]))) - 1
    first, rest = cut(x, bits)
    second, rest = cut(rest, bits)
    total, error = two_sum(first @ a, second @ a)
    total, rounding = two_sum(total, rest @ a)
    return total + (error + rounding)


def exact_cumsum(x: Tensor) -> Tensor:
    """Compute prefix sums with a single rounding each, up to about 2**-90 of the largest entry.

    Args:
        x: float64 [n].

    Returns:
        float64 [n].

    >>> exact_cumsum(torch.tensor([1e16, 1.0, -1e16], dtype=torch.float64)).tolist()
    [1e+16, 1e+16, 1.0]
    """
    bits = 53 - math.ceil(math.log2(len(x) + 1)) - 1
    high, rest = cut(x, bits)
    middle, low = cut(rest, bits)
    total, rounding = two_sum(high.cumsum(0), middle.cumsum(0))
    return total + (rounding + low.cumsum(0))


def two_sum(a: Number, b: Number) -> tuple[Number, Number]:
    """Return the rounded sum of two numbers and its exact rounding error (Knuth, TAOCP 4.2.2).

    >>> two_sum(1e16, 1.0)
    (1e+16, 1.0)
    """
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@dataclass
class Units:
    """The hidden units of a layer that is being solved for, with the exact sum of their rounded weights.

    Attributes:
        biases: Their kinks.
        weights: Their weights.
        high: The rounded sum of the weights.
        low: The rounding error of that sum.
    """

    biases: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    high: float = 0.0
    low: float = 0.0

    def add(self, bias: float, weight: float) -> None:
        """Add a unit."""
        self.biases.append(bias)
        self.weights.append(weight)
        total, rounding = two_sum(self.high, weight)
        low = self.low + rounding
        self.high = total + low
        self.low = low - (self.high - total)


def solve(z: list[float], y: list[float], blocks: int) -> list[Units]:
    """Choose the weights in one pass over the sorted points, each given the exact sum of the rounded weights before it.

    Args:
        z: Projections of the points, in rising order.
        y: Their labels.
        blocks: Number of hidden layers.

    Returns:
        The units of each layer.

    >>> [(layer.biases, layer.weights) for layer in solve([0.0, 1.0], [2.0, 2.0], blocks=1)]
    [([-1.0, 0.25], [2.0, -2.666...])]
    """
    kinks = interleaved_kinks(z)
    starts = {len(z) * i // blocks for i in range(1, blocks)}
    whole, layers, value = Units(), [Units()], 0.0
    for j, (kink, point, label) in enumerate(zip(kinks, z, y, strict=True)):
        if j in starts:
            # From here on the layer's part of the function is constant, and later layers add to a constant.
            closing = -layers[-1].high
            layers[-1].add(kink, closing)
            whole.add(kink, closing)
            layers.append(Units())
        wanted = (label - value) / (point - kink)
        weight = (wanted - whole.high) - whole.low
        layers[-1].add(kink, weight)
        whole.add(kink, weight)
        value += whole.high * (point - kink)
        if j + 1 < len(z):
            value += whole.high * (kinks[j + 1] - point)
    return layers


def interleaved_kinks(z: list[float]) -> list[float]:
    """Return kinks b_1 < z_1 < b_2 < …, a quarter of the smaller adjacent gap past each point.

    Where float64 has no number in between, a kink is at its point.

    >>> interleaved_kinks([0.0, 1.0, 3.0])
    [-1.0, 0.25, 1.25]
    """
    gaps = [after - before for before, after in itertools.pairwise(z)]
    first = gaps[0] if gaps else 1.0
    past = [min(left, right) / 4 for left, right in zip([first, *gaps], gaps, strict=False)]
    return [z[0] - first, *(point + step for point, step in zip(z, past, strict=False))]
