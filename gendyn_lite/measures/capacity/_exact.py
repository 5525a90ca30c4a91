"""Sums without rounding, from float64 arithmetic alone: numbers are cut into parts whose sums are exact.

A memorizing network has slopes of about n² (the closest two of n projections are about 1/n² apart), which multiply the
rounding of a projection and of a sum of weights. With plain float64 the residual at n = 10,000 is about 1e-7.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PROJECTION_BITS = 25
"""Bits of the entries of a projection: few enough that products with a part of the inputs are exact."""


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
    unit = torch.ldexp(torch.ones_like(x[..., :1]), (top - bits).clamp(min=-1000))
    leading = torch.round(x / unit) * unit
    return leading, x - leading


def exact_projection(x: Tensor, a: Tensor) -> Tensor:
    """⟨a, x_i⟩ rounded once: the same number on every device, for every batch size and order of summation.

    Args:
        x: float64 [n, d].
        a: float64 [d], entries in [−1, 1] that are multiples of 2**-25.

    Returns:
        float64 [n].

    Note:
        After S. M. Rump, T. Ogita and S. Oishi, "Accurate floating-point summation", SIAM J. Sci. Comput. 2008: the
        entries of x are cut into parts of so few bits that their products with `a`, and the sums of them, are exact.
    """
    bits = 53 - (PROJECTION_BITS + 1) - max(1, math.ceil(math.log2(x.shape[1]))) - 1
    parts = []
    rest = x
    for _ in range(2):
        leading, rest = cut(rest, bits)
        parts.append(leading @ a)
    total, error = parts[0], torch.zeros_like(parts[0])
    for part in [*parts[1:], rest @ a]:
        total, rounding = two_sum(total, part)
        error = error + rounding
    return total + error


def exact_cumsum(x: Tensor) -> Tensor:
    """Prefix sums rounded once each, up to 2**-90 or so of the largest entry.

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


def two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum of two numbers and its rounding error, exactly (Knuth, TAOCP 4.2.2)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)
