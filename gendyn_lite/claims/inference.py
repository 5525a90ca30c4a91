"""From the values of independent seeds to an interval in the quantity's range, and to a verdict.

A verdict says where the interval lies: beyond zero, and beyond δ, the smallest effect that matters. Seeds are the
replicates. A quantity with a range is treated on a scale without one: Student's t on the logit scale for shares, on
Fisher's z for correlations and differences of shares, on the logarithm for ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from gendyn_lite.errors import UserError

LEVEL = 0.025  # of each one-sided test; a 95 % interval consists of two
FEWEST = 5  # fewest seeds for a claim about a difference to hold
ALIKE = 1e-12  # smaller differences between seeds, on the open scale, are rounding
VERDICTS: tuple[str, ...] = ("holds", "holds, small", "negligible", "reversed", "undecided", "computed", "not run")
MEANING = {
    "holds": "the whole interval lies beyond δ, the smallest effect that matters, on the side of the claim; where the "
    "claim is 'as much as', within δ of equal; where it is 'there is', a run shows it on each network",
    "holds, small": "the whole interval lies beyond zero, but not all of it beyond δ, or only before the correction "
    "for testing many",
    "negligible": "the whole interval lies within δ of zero",
    "reversed": "the whole interval lies beyond zero on the other side, on one network at least or in the mean over "
    "networks that the claim is about; where the claim is 'as much as', beyond δ",
    "undecided": "none of these: too few seeds, networks that differ, or an interval too wide to say",
    "computed": "the value is computed without any chance, so there is no interval",
    "not run": "there are no runs to judge it by: none was made, or none got as far as the claim is read off (a "
    "training loss, or a share of the labels fitted)",
}


class Scale(NamedTuple):
    """The range of a quantity, and an unbounded ("open") scale on which seeds are averaged.

    Attributes:
        low: The smallest possible value.
        high: The largest possible value.
        open: Maps the range to all real numbers.
        back: Maps them back.
    """

    low: float
    high: float
    open: Callable[[Any], Any]
    back: Callable[[Any], Any]


SCALES = {
    "number": Scale(-math.inf, math.inf, np.asarray, np.asarray),
    "share": Scale(0.0, 1.0, special.logit, special.expit),
    "correlation": Scale(-1.0, 1.0, np.arctanh, np.tanh),
    "difference of shares": Scale(-1.0, 1.0, np.arctanh, np.tanh),
    "ratio": Scale(0.0, math.inf, np.log, np.exp),
}


class Estimate(NamedTuple):
    """The mean over seeds with its standard error, on the open scale of a quantity.

    Attributes:
        center: The mean over seeds, on the open scale.
        error: Its standard error; NaN if there is none.
        freedom: Degrees of freedom of Student's t.
        scale: One of `SCALES`.
        n: Number of seeds.
    """

    center: float
    error: float
    freedom: float
    scale: str
    n: int

    @property
    def value(self) -> float:
        """The mean, in the units of the quantity."""
        return float(SCALES[self.scale].back(np.float64(self.center)))

    def interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the mean, which lies within the quantity's range.

        >>> low, high = estimate([0.92, 0.94, 1.0], scale="share", resolution=0.01).interval()
        >>> 0 < low < 0.95 < high < 1
        True
        """
        half = self.error * _quantile(self.freedom) if self.n > 1 else math.nan
        with np.errstate(over="ignore"):  # the upper end of a ratio may be infinite
            ends = SCALES[self.scale].back(np.array([self.center - half, self.center + half]))
        return float(ends[0]), float(ends[1])

    def above(self, bound: float) -> float:
        """Return the one-sided p value of 'the mean is above `bound`'; NaN if there is no standard error.

        >>> round(estimate([1.0, 2.0, 3.0]).above(0.0), 3)
        0.037
        """
        return float(special.stdtr(self.freedom, (self._opened(bound) - self.center) / self.error))

    def below(self, bound: float) -> float:
        """Return the one-sided p value of 'the mean is below `bound`'."""
        return float(special.stdtr(self.freedom, (self.center - self._opened(bound)) / self.error))

    def _opened(self, bound: float) -> float:
        scale = SCALES[self.scale]
        with np.errstate(divide="ignore"):
            return float(scale.open(np.float64(min(max(bound, scale.low), scale.high))))


def estimate(values: Iterable[float], *, scale: str = "number", resolution: float = 0.0) -> Estimate:
    """Estimate the mean of independent seeds on the open scale of a quantity.

    A value at an end of the range is moved inside by half the resolution. The interval extends at least one resolution
    to each side, because seeds that agree do not prove that the next one would agree too.

    Args:
        values: One value for each seed [n]; NaN is left out.
        scale: The kind of quantity, one of `SCALES`.
        resolution: What the values are rounded to, in their units: 1/n for a share of n, 3 for an epoch if every third
            one was evaluated. Without it equal values have no interval.

    Raises:
        UserError: The scale is unknown, or a value lies outside its range.

    >>> estimate([0.5, 0.5, 0.5], scale="share", resolution=0.02).interval()
    (0.48..., 0.52...)
    >>> estimate([2.0, 2.0, 2.0]).interval()
    (nan, nan)
    """
    if scale not in SCALES:
        raise UserError(f"the scale is {scale!r}, expected one of {', '.join(SCALES)}")
    low, high, to_open, _ = SCALES[scale]
    found = pd.Series(list(values), dtype=float).dropna().to_numpy()
    if ((found < low) | (found > high) | np.isinf(found)).any():
        raise UserError(f"a {scale} is {found.min():g} to {found.max():g}, expected {low:g} to {high:g}")
    n = len(found)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, scale, 0)
    inside = (low + resolution / 2, high - resolution / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        opened = to_open(np.clip(found, *inside))
        center = float(opened.mean())
        spread = float(opened.std(ddof=1)) if n > 1 else math.nan
        if n == 1 or not math.isfinite(center):
            return Estimate(center, math.nan, n - 1, scale, n)
        least = _reach(SCALES[scale], center, resolution, inside) / _quantile(n - 1) if resolution else 0.0
    if max(spread, least) <= ALIKE * max(1.0, abs(center)):
        return Estimate(center, math.nan, n - 1, scale, n)
    return Estimate(center, max(spread / math.sqrt(n), least), n - 1, scale, n)


def _quantile(freedom: float) -> float:
    """Return the value that Student's t exceeds with probability `LEVEL`."""
    return -float(special.stdtrit(freedom, LEVEL))


def _reach(scale: Scale, center: float, resolution: float, inside: tuple[float, float]) -> float:
    """Return one resolution around the mean as a distance on the open scale, the larger of both sides."""
    value = float(scale.back(np.float64(center)))
    ends = scale.open(np.clip(np.array([value - resolution, value + resolution]), *inside))
    return float(np.abs(ends - center).max())


class PValues(NamedTuple):
    """p values of statements about an effect.

    Attributes:
        beyond: Of 'it is beyond δ, in the direction of the claim'.
        positive: Of 'it is beyond zero, in the direction of the claim'.
        within: Of 'it is within ±δ' (the larger of two one-sided p values).
        negative: Of 'it is beyond zero, in the opposite direction'.
        outside: Of 'it is beyond δ, in either direction'.
    """

    beyond: float
    positive: float
    within: float
    negative: float
    outside: float


def bounds(null: float, delta: float, scale: str) -> dict[int, float]:
    """Return the values from which an effect matters, above (1) and below (-1) the value of no effect.

    >>> bounds(0.5, 0.1, "share"), bounds(1.0, 1.0, "ratio")
    ({1: 0.6, -1: 0.4}, {1: 2.0, -1: 0.5})
    """
    if scale == "ratio":
        return {1: null * (1 + delta), -1: null / (1 + delta)}
    return {1: null + delta, -1: null - delta}


def p_values(found: Estimate, *, delta: float, null: float = 0.0, sign: int = 1) -> PValues:
    """Compute the p values of the effect, `found` minus `null`.

    Args:
        found: The estimate of the statistic.
        delta: The smallest effect that matters, in the units of the statistic; for a ratio it is relative (0.1 means a
            factor of 1.1 or 1/1.1).
        null: The value of no effect: 0, or 1 for ratios.
        sign: 1 if the claim says 'more', -1 if it says 'less'.

    >>> [round(p, 3) for p in p_values(estimate([0.2, 0.3, 0.4]), delta=0.1)]
    [0.037, 0.018, 0.963, 0.982, 0.074]
    """
    ends = bounds(null, delta, found.scale)
    more, less, far, near = found.above, found.below, ends[1], ends[-1]
    if sign < 0:
        more, less, far, near = less, more, near, far
    outside = min(1.0, 2 * min(more(far), less(near)))
    return PValues(more(far), more(null), max(less(far), more(near)), less(null), outside)


def all_of(each: Sequence[PValues]) -> PValues:
    """Combine p values for claims about every network.

    What must be true on all networks has the largest p value; what refutes the claim on one network has the smallest
    one times the number of networks (Bonferroni). Networks where the effect is negligible, and those without an
    interval, do not refute it.

    Args:
        each: The p values on each network.

    >>> all_of([PValues(0.01, 0.001, 1.0, 1.0, 0.02), PValues(1.0, 1.0, 0.2, 0.01, 0.4)])
    PValues(beyond=1.0, positive=1.0, within=1.0, negative=0.02, outside=0.04)
    """
    beyond, positive, within, negative, outside = np.array(each).T
    negative = np.where(within <= LEVEL, 1.0, negative)
    on_one = (min(1.0, float(np.nan_to_num(p, nan=1.0).min()) * len(each)) for p in (negative, outside))
    return PValues(*(float(p.max()) for p in (beyond, positive, within)), *on_one)


def mean_of(each: Sequence[Estimate]) -> Estimate:
    """Average estimates over networks, with the degrees of freedom of Welch and Satterthwaite.

    Args:
        each: The networks' estimates, on one scale.

    >>> both = mean_of([estimate([1.0, 2.0, 3.0]), estimate([3.0, 4.0, 5.0])])
    >>> both.value, round(both.freedom)
    (3.0, 4)
    """
    variances = np.array([one.error**2 for one in each])
    freedom = np.array([one.freedom for one in each])
    total = float(variances.sum())
    kept = total**2 / float((variances**2 / freedom).sum()) if total > 0 else math.nan
    center = sum(one.center for one in each) / len(each)
    return Estimate(center, math.sqrt(total) / len(each), kept, each[0].scale, min(one.n for one in each))


def places(p: PValues, *, equivalence: bool) -> dict[str, float]:
    """Return the possible verdicts on a claim in order, each with the p value that decides it.

    Args:
        p: The p values.
        equivalence: Whether the claim says 'as much as': it then holds within ±δ and is reversed beyond it.

    >>> list(places(PValues(0.01, 0.001, 1.0, 1.0, 0.02), equivalence=False))
    ['holds', 'holds, small', 'negligible', 'reversed']
    """
    if equivalence:
        return {"holds": p.within, "reversed": p.outside / 2}
    return {"holds": p.beyond, "holds, small": p.positive, "negligible": p.within, "reversed": p.negative}


def first(tests: Mapping[str, float], *, n: int, needed: int = FEWEST) -> str:
    """Return the first verdict whose p value is small enough.

    Args:
        tests: The p value of each verdict, as from `places`, possibly corrected for multiple testing.
        n: Number of seeds.
        needed: Number of seeds below which the claim is undecided.

    >>> clear = PValues(beyond=0.01, positive=0.001, within=1.0, negative=1.0, outside=0.02)
    >>> [first(places(clear, equivalence=False), n=n) for n in (5, 3, 0)]
    ['holds', 'undecided', 'not run']
    """
    if n == 0:
        return "not run"
    return next((name for name, p in tests.items() if p <= LEVEL and n >= needed), "undecided")
