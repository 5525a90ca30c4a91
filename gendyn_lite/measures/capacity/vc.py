"""The VC dimension of fully connected ReLU networks: a number without labels in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from gendyn_lite.errors import UserError


def vc_dimension_bound(widths: Sequence[int]) -> float:
    """An upper bound of the VC dimension of a fully connected ReLU network: L + L̄ W log₂(4eR log₂(2eR)).

    L is the number of layers of weights, W that of weights and biases, L̄ W the sum over layers of the weights up to
    that layer, and R = Σ_i i · (units of layer i).

    Args:
        widths: Input dimensions, units of each hidden layer, outputs: ``(2352, 512, 10)`` is the MLP 1x512 of Zhang et
            al.

    Returns:
        The bound. It depends on the architecture alone: not on the data, and not on the labels.

    Raises:
        UserError: Fewer than two numbers, or one below 1.

    Source:
        P. L. Bartlett, N. Harvey, C. Liaw and A. Mehrabian, "Nearly-tight VC-dimension and pseudodimension bounds for
        piecewise linear neural networks", JMLR 2019, Theorem 7 with one breakpoint and degree 1. It is stated for one
        output; of several, the sign of one difference of two outputs is meant.

    >>> round(vc_dimension_bound((2352, 512, 10)) / 1e6, 1)
    38.7
    """
    if len(widths) < 2 or any(isinstance(width, bool) or int(width) != width or width < 1 for width in widths):
        raise UserError(
            f"widths is {tuple(widths)}, expected whole numbers of at least 1: inputs, hidden layers, outputs"
        )
    layers = [(before + 1) * after for before, after in itertools.pairwise(widths)]
    up_to = sum(sum(layers[: i + 1]) for i in range(len(layers)))
    r = sum(i * units for i, units in enumerate(widths[1:], start=1))
    return len(layers) + up_to * math.log2(4 * math.e * r * math.log2(2 * math.e * r))


def vc_gap_bound(dimension: float, n: int, *, delta: float = 0.05) -> float:
    """With probability 1 − δ no classifier of the class has a larger gap between test and train error than this.

    √((8/n)(D ln(2en/D) + ln(4/δ))), where the first term is at most 2n ln 2: there are no more than 2^(2n) labellings.

    Args:
        dimension: VC dimension D, or a bound of it.
        n: Number of training examples.
        delta: Probability of failing.

    Raises:
        UserError: The dimension or n is below 1, or delta outside (0, 1).

    Source:
        V. N. Vapnik, "Statistical learning theory", 1998, with Sauer's lemma. A bound of 1 or more says nothing.

    >>> round(vc_gap_bound(10, 1_000_000), 3), vc_gap_bound(1e7, 50_000) > 1
    (0.033, True)
    """
    if not dimension >= 1 or n < 1 or not 0 < delta < 1:
        raise UserError(f"dimension is {dimension}, n {n}, delta {delta}: expected at least 1, at least 1, and (0, 1)")
    growth = 2 * n * math.log(2)
    if dimension < 2 * n:
        growth = min(growth, dimension * math.log(2 * math.e * n / dimension))
    return math.sqrt(8 / n * (growth + math.log(4 / delta)))
