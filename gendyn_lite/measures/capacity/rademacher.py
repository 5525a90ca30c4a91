"""Complexity of a class of functions: its VC dimension, and how well it fits random signs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from gendyn_lite.config import shown
from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.given import check_points
from gendyn_lite.measures.per_example.checks import check_number, check_whole, dtype_name


def vc_dimension_bound(widths: Sequence[int]) -> float:
    """Bound the VC dimension of a fully connected ReLU network from above: L + L̄ W log₂(4eR log₂(2eR)).

    L is the number of layers of weights, W the number of weights and biases, L̄ W the sum over layers of the number of
    weights up to that layer, and R = Σ_i i · (units of layer i).

    Args:
        widths: Input dimensions, units of each hidden layer, outputs: ``(2352, 512, 10)`` is the MLP 1x512 of Zhang et
            al.

    Returns:
        The bound. It depends only on the architecture, not on the data or the labels.

    Raises:
        UserError: There are fewer than two numbers, or one is below 1.

    Source: Bartlett et al. (2019), Nearly-tight VC-dimension and Pseudodimension Bounds for Piecewise Linear Neural
        Networks, Theorem 7 with one breakpoint and degree 1. It is stated for one output; with several outputs it
        applies to the sign of the difference of two of them.

    >>> round(vc_dimension_bound((2352, 512, 10)) / 1e6, 1)
    38.7
    """
    if len(widths) < 2 or any(isinstance(width, bool) or int(width) != width or width < 1 for width in widths):
        wanted = "whole numbers of at least 1: inputs, hidden layers, outputs"
        raise UserError(f"widths is {tuple(widths)}, expected {wanted}")
    layers = [(before + 1) * after for before, after in itertools.pairwise(widths)]
    up_to = sum(sum(layers[: i + 1]) for i in range(len(layers)))
    r = sum(i * units for i, units in enumerate(widths[1:], start=1))
    return len(layers) + up_to * math.log2(4 * math.e * r * math.log2(2 * math.e * r))


def vc_gap_bound(dimension: float, n: int, *, delta: float = 0.05) -> float:
    """Bound the gap between test and train error of all classifiers of a class, with probability 1 − δ.

    The bound is √((8/n)(D ln(2en/D) + ln(4/δ))). Its first term is at most 2n ln 2, since there are at most 2^(2n)
    labellings.

    Args:
        dimension: VC dimension D, or a bound of it.
        n: Number of training examples.
        delta: Probability δ that the bound fails.

    Returns:
        The bound, a difference of errors; 1 or more is vacuous.

    Raises:
        UserError: The dimension or n is below 1, or delta is outside (0, 1).

    Source: Vapnik (1998), Statistical Learning Theory, with Sauer's lemma.

    >>> round(vc_gap_bound(10, 1_000_000), 3), vc_gap_bound(1e7, 50_000) > 1
    (0.033, True)
    """
    if not dimension >= 1 or not 1 <= n < math.inf or not 0 < delta < 1:
        raise UserError(f"dimension is {dimension}, n {n}, delta {delta}: expected at least 1, at least 1, and (0, 1)")
    growth = 2 * n * math.log(2)
    if dimension < 2 * n:
        growth = min(growth, dimension * math.log(2 * math.e * n / dimension))
    return math.sqrt(8 / n * (growth + math.log(4 / delta)))


MOST_DRAWS = 100_000
Predict = Callable[[Tensor], Tensor]
Fit = Callable[[Tensor, Tensor], Predict]
"""``fit(x, y)`` trains on inputs and labels, and returns a function from inputs to predictions."""


class Rademacher(NamedTuple):
    """An empirical Rademacher complexity, from draws of random signs.

    Attributes:
        values: The mean of sign times prediction for each draw, float64 [draws].
        mean: Their mean.
        low: Lower end of the confidence interval for the mean over all possible signs.
        high: Upper end.
        confidence: Confidence level of the interval.
    """

    values: Tensor
    mean: float
    low: float
    high: float
    confidence: float


def empirical_rademacher(
    fit: Fit, x: Tensor, *, draws: int = 10, confidence: float = 0.95, seed: int = 0
) -> Rademacher:
    """Estimate R̂ = E_σ [ sup_h (1/n) Σ_i σ_i h(x_i) ] over random signs σ_i = ±1 by training on the signs.

    Training may not reach the supremum, so this is a lower bound of the complexity. A network that fits every random
    labelling has R̂ = 1, the largest possible value, and the bound that follows from it is vacuous.

    Args:
        fit: ``fit(x, signs) -> predict``: trains a new function on inputs and signs (int64 −1 or 1, [n]) and returns
            it; ``predict(x)`` gives [n] real numbers, whose signs are the predictions (0 is no prediction).
        x: [n, ...] inputs, passed to `fit` unchanged.
        draws: Number of draws of all signs (at least 2).
        confidence: Confidence level of the interval, by Student's t over the draws, cut to [−1, 1].
        seed: Seed of the signs.

    Returns:
        The value of each draw, their mean and its interval.

    Raises:
        UserError: There are no points or fewer than two draws, the confidence is outside (0, 1), the predictions are
            not finite numbers [n] with a sign, or training changes x in place.

    Source: Zhang et al. (2017), Sec. 2.2; Bartlett and Mendelson (2002).

    >>> memorize = lambda x, signs: lambda inputs: signs
    >>> empirical_rademacher(memorize, torch.rand(20, 3), draws=3).mean
    1.0
    """
    check_points(x)
    check_whole("draws", draws, least=2, most=MOST_DRAWS, why=" (an interval needs two)")
    check_number("confidence", confidence, "a number in (0, 1)", lambda value: 0 < value < 1)
    found = []
    for draw in range(draws):
        signs = random_signs(len(x), seed=seed, draw=draw)
        with unchanged(x):
            predictions = _check(fit(x, signs.to(x.device, copy=True))(x), len(x))
        found.append(float((signs * predictions.sign()).mean()))
    values = torch.tensor(found, dtype=torch.float64)
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(draws)
    half = float(stats.t.ppf((1 + confidence) / 2, draws - 1)) * error
    return Rademacher(values, mean, max(mean - half, -1.0), min(mean + half, 1.0), confidence)


@contextmanager
def unchanged(x: Tensor) -> Iterator[None]:
    """Refuse a training that changes its inputs in place: the next one would see others.

    >>> with unchanged(x := torch.ones(2)):
    ...     x.sub_(1)
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: fit changed x in place: work on a copy (x.clone())
    """
    before = None if x.is_inference() else x._version  # tensors of inference mode have no version
    yield
    if before is not None and x._version != before:
        raise UserError("fit changed x in place: work on a copy (x.clone())")


def random_signs(n: int, *, seed: int, draw: int) -> Tensor:
    """Draw random signs on the CPU, so that they are equal on every device.

    Args:
        n: Number of points.
        seed: Seed of all draws.
        draw: Number of the draw, from 0.

    Returns:
        int64 [n], −1 or 1.

    >>> sorted(set(random_signs(100, seed=0, draw=0).tolist()))
    [-1, 1]
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + draw)
    return torch.randint(2, (n,), generator=generator) * 2 - 1


def rademacher_gap_bound(complexity: float, n: int, *, delta: float = 0.05) -> float:
    """Bound test error minus train error of all classifiers with values ±1, with probability 1 − δ.

    The bound is R̂ + 3 √(ln(2/δ)/(2n)).

    Args:
        complexity: R̂, for instance the mean of `empirical_rademacher`.
        n: Number of training examples.
        delta: Probability δ that the bound fails.

    Returns:
        The bound, a difference of errors; 1 or more is vacuous.

    Raises:
        UserError: The complexity is not finite, n is below 1, or delta is outside (0, 1).

    Source: Mohri et al. (2018), Foundations of Machine Learning, Theorem 3.5.

    >>> round(rademacher_gap_bound(1.0, 50_000), 3)
    1.018
    """
    if not (math.isfinite(complexity) and 1 <= n < math.inf and 0 < delta < 1):
        told = f"complexity is {complexity}, n {shown(n)}, delta {delta}"
        raise UserError(f"{told}: expected finite, at least 1 and in (0, 1)")
    return complexity + 3 * math.sqrt(math.log(2 / delta) / (2 * n))


def _check(predictions: Tensor, n: int) -> Tensor:
    """Return predictions in float64 on the CPU; refuse those that are not finite numbers [n]."""
    if isinstance(predictions, Tensor) and _signless(predictions):
        told = f"fit(x, signs)(x) gave {dtype_name(predictions)}, and no −1"
        raise UserError(f"{told}: expected the sign of each class, −1 or 1, or real numbers")
    if not isinstance(predictions, Tensor) or predictions.shape != (n,) or not torch.isfinite(predictions).all():
        shape = tuple(predictions.shape) if isinstance(predictions, Tensor) else type(predictions).__name__
        raise UserError(f"fit(x, signs)(x) gave {shape}, expected finite numbers of shape ({n},)")
    return predictions.detach().to("cpu", torch.float64)


def _signless(predictions: Tensor) -> bool:
    """Return whether predictions are of a kind without signs, or the numbers 0 and 1 of two classes."""
    if predictions.is_floating_point() or not predictions.numel():
        return False
    return predictions.is_complex() or not predictions.dtype.is_signed or predictions.unique().tolist() == [0, 1]
