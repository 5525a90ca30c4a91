"""How well a measure orders networks by generalization: overall, along each setting (axis), and along the worst axis.

Each row of a table is a network; networks with the same setting differ only in their seeds. Pairs of networks that
differ in one axis show whether a measure follows the effect of that axis, all else being equal. A correlation over all
networks may come from a single axis.

Source: Jiang et al. (2020), Sec. 2 and 3; Dziugaite et al. (2020), Sec. 4.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

Array = NDArray[np.float64]
Rows = NDArray[np.intp]  # row numbers of networks in a table
Seen = dict[tuple[bytes, bytes], Array]  # cache: two variables → their agreement in every resample
RESAMPLES = 500
FEWEST_PAIRS = 10  # fewest pairs along an axis
LEVEL = 0.05


class Ranked(NamedTuple):
    """A statistic with its 95 % interval from resampled settings.

    Attributes:
        value: The statistic.
        low: Lower end.
        high: Upper end.
        p: Two-sided p value of the hypothesis that the statistic is zero.
        n: Number of networks or pairs.
    """

    value: float
    low: float
    high: float
    p: float
    n: int


class Pairs(NamedTuple):
    """Pairs of networks that differ in one axis.

    Attributes:
        first: Row of the first network, [pairs].
        second: Row of the second network, [pairs].
        axis: The axis in which they differ, [pairs].
    """

    first: Rows
    second: Rows
    axis: NDArray[np.str_]

    def only(self, kept: NDArray[np.bool_]) -> Pairs:
        """Keep some of the pairs."""
        return Pairs(self.first[kept], self.second[kept], self.axis[kept])


def tau(measure: Array, target: Array) -> float:
    """Compute Kendall's τ-b over all pairs of networks; NaN if measure or target is constant.

    >>> round(tau(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.3, 0.2])), 3)
    0.333
    """
    if len(measure) < 2 or np.ptp(measure) == 0 or np.ptp(target) == 0:
        return math.nan
    return float(kendalltau(measure, target).statistic)


def partial_tau(measure: Array, target: Array, given: Sequence[Array]) -> float:
    """Compute the partial Kendall's τ of measure and target, from the inverse of the matrix of all τ.

    Args:
        measure: Value of each network, [n].
        target: Value of each network, [n].
        given: Variables that are held fixed, each [n]; constant ones are left out.

    Source: Kendall (1942), 'Partial rank correlation', for one variable; the inverse is the same for more.

    >>> half = np.array([0.0, 0, 0, 1, 1, 1])
    >>> round(partial_tau(np.array([0.0, 1, 2, 3, 4, 5]), np.array([1.0, 0, 2, 4, 3, 5]), [half]), 2)
    0.33
    """
    all_of = [measure, target, *(one for one in given if np.ptp(one) > 0)]
    matrix = np.eye(len(all_of))
    for i, j in combinations(range(len(all_of)), 2):
        matrix[i, j] = matrix[j, i] = tau(all_of[i], all_of[j])
    if np.isnan(matrix).any() or np.linalg.matrix_rank(matrix) < len(matrix):
        return math.nan
    inverse = np.linalg.inv(matrix)
    return float(-inverse[0, 1] / math.sqrt(inverse[0, 0] * inverse[1, 1]))


def pairs_along(table: pd.DataFrame, axes: Sequence[str], *, same: Sequence[str] = ("seed",)) -> Pairs:
    """Find all pairs of networks that differ in exactly one axis.

    Args:
        table: A row for each network.
        axes: Columns of settings.
        same: Further columns in which the two networks must agree.

    >>> table = pd.DataFrame({"width": [1, 2, 2], "depth": [1, 1, 2], "seed": 0})
    >>> found = pairs_along(table, ["width", "depth"])
    >>> [(int(i), int(j), str(axis)) for i, j, axis in zip(*found)]
    [(0, 1, 'width'), (1, 2, 'depth')]
    """
    found: list[tuple[int, int, str]] = []
    for axis in axes:
        others, values = [*same, *(name for name in axes if name != axis)], table[axis].tolist()
        groups = table.groupby(others, sort=False, dropna=False).ngroup()
        for places in pd.Series(range(len(table))).groupby(groups.to_numpy()).agg(list):
            found += [(i, j, axis) for i, j in combinations(places, 2) if values[i] != values[j]]
    first, second, names = zip(*found, strict=True) if found else ((), (), ())
    return Pairs(np.array(first, dtype=np.intp), np.array(second, dtype=np.intp), np.array(names, dtype=str))


def beyond_noise(accuracy: Array, n_test: Array, first: Rows, second: Rows) -> NDArray[np.bool_]:
    """Whether the test accuracies of two networks differ by more than two standard errors of their difference.

    Args:
        accuracy: Of each network on its test images, [n].
        n_test: Number of test images, [n].
        first: Row of the first network of each pair, [pairs].
        second: Row of the second network, [pairs].

    >>> beyond_noise(np.array([0.50, 0.54, 0.60]), np.full(3, 1000), np.array([0, 0]), np.array([1, 2])).tolist()
    [False, True]
    """
    variance = accuracy * (1 - accuracy) / n_test
    return np.abs(accuracy[first] - accuracy[second]) > 2 * np.sqrt(variance[first] + variance[second])


def signs(measure: Array, target: Array, pairs: Pairs) -> Array:
    """Return 1 for each pair that measure and target order alike, −1 for the opposite order, 0 for ties."""
    return np.sign(measure[pairs.first] - measure[pairs.second]) * np.sign(target[pairs.first] - target[pairs.second])


def draws(clusters: Iterable[Hashable], *, count: int = RESAMPLES) -> NDArray[np.int64]:
    """Draw settings with replacement, and count how often each network is drawn, [count, n]; seeds stay together.

    >>> drawn = draws(["a", "a", "b"], count=50)
    >>> bool((drawn[:, 0] == drawn[:, 1]).all()), bool((2 * drawn[:, 0] + 2 * drawn[:, 2] == 4).all())
    (True, True)
    """
    codes, names = pd.factorize(pd.Series(list(clusters)))
    random = np.random.default_rng(0)
    weights = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)
    return weights[:, codes]


def interval(value: float, drawn: Array, n: int) -> Ranked:
    """Return a statistic with percentiles of its resampled values; resamples with NaN are left out.

    >>> interval(0.5, np.linspace(0.3, 0.7, 401), 10)
    Ranked(value=0.5, low=0.31..., high=0.69..., p=0.004..., n=10)
    """
    known = drawn[~np.isnan(drawn)]
    if math.isnan(value) or len(known) < len(drawn) / 2:
        return Ranked(value, math.nan, math.nan, math.nan, n)
    low, high = np.quantile(known, [LEVEL / 2, 1 - LEVEL / 2])
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return Ranked(value, float(low), float(high), min(1.0, float(2 * (beyond + 1) / (len(known) + 1))), n)


def overall(
    measure: Array, target: Array, weights: NDArray[np.int64], *, given: Sequence[Array] = (), seen: Seen | None = None
) -> Ranked:
    """Compute (partial) Kendall's τ-b over all networks, with an interval by resampled settings.

    A network that is drawn twice makes a pair with itself, which is tied in both variables and does not count in τ-b.

    Args:
        measure: Value of each network, [n].
        target: Value of each network, [n].
        weights: The result of `draws`, [resamples, n].
        given: Variables that are held fixed, each [n], as in `partial_tau`.
        seen: A cache, as for `resampled`.
    """
    fixed = [one for one in given if np.ptp(one) > 0]
    value = partial_tau(measure, target, fixed) if fixed else tau(measure, target)
    return interval(value, resampled([measure, target, *fixed], weights, seen=seen), len(measure))


def resampled(variables: Sequence[Array], weights: NDArray[np.int64], *, seen: Seen | None = None) -> Array:
    """Compute τ of the first two variables, with the others held fixed, in every resample.

    Args:
        variables: Values of each network, each [n].
        weights: The result of `draws`, [resamples, n].
        seen: Cache of the agreement of two variables, for calls with the same weights.

    Returns:
        A value for each resample, [resamples]; NaN where it is not defined.
    """
    drawn = weights.astype(np.float32)  # exact for counts of pairs
    seen = {} if seen is None else seen

    def agreement(one: Array, other: Array) -> Array:
        left, right = (np.sign(each[:, None] - each[None]).astype(np.float32) for each in (one, other))
        return ((drawn @ (left * right)) * drawn).sum(1, dtype=float)

    k = len(variables)
    table = np.empty((len(drawn), k, k))
    for i, j in combinations_with_replacement(range(k), 2):
        key = variables[i].tobytes(), variables[j].tobytes()
        if key not in seen:
            seen[key] = agreement(variables[i], variables[j])
        table[:, i, j] = table[:, j, i] = seen[key]
    untied = np.sqrt(np.einsum("rii->ri", table))
    with np.errstate(divide="ignore", invalid="ignore"):
        table /= untied[:, :, None] * untied[:, None]
    if k == 2:
        return table[:, 0, 1]
    known = ~np.isnan(table).any(axis=(1, 2))
    known[known] = np.linalg.matrix_rank(table[known]) == k
    inverse = np.linalg.inv(table[known])
    found = np.full(len(drawn), math.nan)
    found[known] = -inverse[:, 0, 1] / np.sqrt(inverse[:, 0, 0] * inverse[:, 1, 1])
    return found


@dataclass(frozen=True)
class Axes:
    """How far a measure agrees with the target along each axis.

    Attributes:
        values: Axis → mean of `signs`.
        resampled: Axis → the same in every resample, [resamples].
        n: Axis → number of pairs.
    """

    values: dict[str, float] = field(default_factory=dict)
    resampled: dict[str, Array] = field(default_factory=dict)
    n: dict[str, int] = field(default_factory=dict)

    def ranked(self) -> dict[str, Ranked]:
        """Return each axis, the mean over axes (``"granulated"``) and the smallest (``"worst axis"``).

        The worst axis is found anew in each resample.

        Source: Jiang et al. (2020), Eq. 4 and 5 (granulated); Dziugaite et al. (2020), Sec. 4 (the worst environment).
        """
        if not self.values:
            return {}
        found = {axis: interval(value, self.resampled[axis], self.n[axis]) for axis, value in self.values.items()}
        values, each, total = [*self.values.values()], np.array([*self.resampled.values()]), sum(self.n.values())
        found["granulated"] = interval(float(np.mean(values)), each.mean(0), total)
        found["worst axis"] = interval(min(values), each.min(0), total)
        return found


def along_axes(agreeing: Array, pairs: Pairs, weights: NDArray[np.int64]) -> Axes:
    """Average `signs` along each axis. In a resample a pair counts by the product of its networks' counts.

    Args:
        agreeing: The result of `signs`, [pairs].
        pairs: The pairs.
        weights: The result of `draws`, [resamples, n].
    """
    counts = (weights[:, pairs.first] * weights[:, pairs.second]).astype(float)
    found = Axes()
    for axis in map(str, pd.unique(pairs.axis)):
        own = pairs.axis == axis
        if own.sum() < FEWEST_PAIRS:
            continue
        with np.errstate(invalid="ignore"):
            found.resampled[axis] = counts[:, own] @ agreeing[own] / counts[:, own].sum(1)
        found.values[axis], found.n[axis] = float(agreeing[own].mean()), int(own.sum())
    return found


def ceiling(accuracy: Array, n_test: Array) -> float:
    """Estimate the largest possible τ, given the noise of the test accuracies: τ between two measurements of them.

    100 pairs of measurements are drawn from the binomial distribution, as if each network had test images of its own.
    If networks share their test images they share noise, and the order is preserved better.

    Args:
        accuracy: Accuracy of each network, [n].
        n_test: Number of test images, [n].

    >>> ceiling(np.array([0.2, 0.5, 0.8]), np.array([1000, 1000, 1000]))
    1.0
    """
    random = np.random.default_rng(0)
    drawn = random.binomial(n_test.astype(int), accuracy, size=(2, 100, len(accuracy))) / n_test
    return float(np.nanmean([tau(one, other) for one, other in zip(*drawn, strict=True)]))
