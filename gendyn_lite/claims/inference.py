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

LEVEL = 0.025  # of each one-sided test: an interval of 95 % has both
FEWEST = 5  # seeds from which a claim about a difference can hold
ALIKE = 1e-12  # seeds that differ by less, on the open scale, differ by rounding
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
    "not run": "there are no runs to judge it by",
}


class Scale(NamedTuple):
    """A quantity's range, and the scale without bounds on which its seeds are averaged.

    Attributes:
        low: The least value that it can have.
        high: The largest.
        open: Maps the range to all numbers.
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
        error: Its standard error; missing where there is none.
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
        """Where the mean lies, with 95 % confidence; within the quantity's range.

        >>> low, high = estimate([0.92, 0.94, 1.0], scale="share", resolution=0.01).interval()
        >>> 0 < low < 0.95 < high < 1
        True
        """
        half = self.error * _quantile(self.freedom) if self.n > 1 else math.nan
        with np.errstate(over="ignore"):  # a ratio without an upper end
            ends = SCALES[self.scale].back(np.array([self.center - half, self.center + half]))
        return float(ends[0]), float(ends[1])

    def above(self, bound: float) -> float:
        """One-sided p value of 'the mean is above `bound`', in the units of the quantity; missing without an error.

        >>> round(estimate([1.0, 2.0, 3.0]).above(0.0), 3)
        0.037
        """
        return float(special.stdtr(self.freedom, (self._opened(bound) - self.center) / self.error))

    def below(self, bound: float) -> float:
        """One-sided p value of 'the mean is below `bound`'."""
        return float(special.stdtr(self.freedom, (self.center - self._opened(bound)) / self.error))

    def _opened(self, bound: float) -> float:
        scale = SCALES[self.scale]
        with np.errstate(divide="ignore"):
            return float(scale.open(np.float64(min(max(bound, scale.low), scale.high))))


def estimate(values: Iterable[float], *, scale: str = "number", resolution: float = 0.0) -> Estimate:
    """The mean of independent seeds on the open scale of a quantity.

    A value at an end of the range counts as half a resolution within it. The interval reaches at least one resolution
    to each side: seeds that agree are no proof that the next one would.

    Args:
        values: One value per seed [n]; missing ones are left out.
        scale: What the values are, one of `SCALES`.
        resolution: What the values are rounded to, in their units: 1/n for a share of n, 3 for an epoch if every third
            one was evaluated. Without it, equal values have no interval.

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
    """What Student's t exceeds with probability `LEVEL`."""
    return -float(special.stdtrit(freedom, LEVEL))


def _reach(scale: Scale, center: float, resolution: float, inside: tuple[float, float]) -> float:
    """How far one resolution is from the mean on the open scale: the larger of both sides."""
    value = float(scale.back(np.float64(center)))
    ends = scale.open(np.clip(np.array([value - resolution, value + resolution]), *inside))
    return float(np.abs(ends - center).max())


class PValues(NamedTuple):
    """One-sided p values of where an effect lies.

    Attributes:
        beyond: 'It is beyond δ, in the direction of the claim.'
        positive: 'It is beyond zero, in the direction of the claim.'
        within: 'It is within ±δ' (the larger one of two one-sided tests).
        negative: 'It is beyond zero, in the other direction.'
        outside: 'It is beyond δ, on one side or the other.'
    """

    beyond: float
    positive: float
    within: float
    negative: float
    outside: float


def bounds(null: float, delta: float, scale: str) -> dict[int, float]:
    """Where an effect begins to matter, above no effect (1) and below it (-1).

    >>> bounds(0.5, 0.1, "share"), bounds(1.0, 1.0, "ratio")
    ({1: 0.6, -1: 0.4}, {1: 2.0, -1: 0.5})
    """
    if scale == "ratio":
        return {1: null * (1 + delta), -1: null / (1 + delta)}
    return {1: null + delta, -1: null - delta}


def p_values(found: Estimate, *, delta: float, null: float = 0.0, sign: int = 1) -> PValues:
    """Where the effect lies, `found` minus `null`.

    Args:
        found: Of the statistic.
        delta: The smallest effect that matters, in the units of the statistic; for a ratio, relative (0.1: a tenth
            more, or as many times less).
        null: The value of no effect: 0, and 1 for ratios.
        sign: 1 where the claim says 'more', -1 where it says 'less'.

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
    """The tests of 'on every network': what must be so on all is as sure as where it is least; what refutes it, on one.

    Args:
        each: The p values on each network; those of refuting it are multiplied by their number (Bonferroni). A network
            where the effect is negligible does not refute it, nor does one without an interval.

    >>> all_of([PValues(0.01, 0.001, 1.0, 1.0, 0.02), PValues(1.0, 1.0, 0.2, 0.01, 0.4)])
    PValues(beyond=1.0, positive=1.0, within=1.0, negative=0.02, outside=0.04)
    """
    beyond, positive, within, negative, outside = np.array(each).T
    negative = np.where(within <= LEVEL, 1.0, negative)
    on_one = (min(1.0, float(np.nan_to_num(p, nan=1.0).min()) * len(each)) for p in (negative, outside))
    return PValues(*(float(p.max()) for p in (beyond, positive, within)), *on_one)


def mean_of(each: Sequence[Estimate]) -> Estimate:
    """The mean over networks, each with the error of its own seeds (Welch and Satterthwaite's degrees of freedom).

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
    """The verdicts that the tests of a claim can give, in order, each with the p value that decides it.

    Args:
        p: The p values.
        equivalence: Whether the claim says 'as much as', which holds within ±δ and is reversed beyond it.

    >>> list(places(PValues(0.01, 0.001, 1.0, 1.0, 0.02), equivalence=False))
    ['holds', 'holds, small', 'negligible', 'reversed']
    """
    if equivalence:
        return {"holds": p.within, "reversed": p.outside / 2}
    return {"holds": p.beyond, "holds, small": p.positive, "negligible": p.within, "reversed": p.negative}


def first(tests: Mapping[str, float], *, n: int, needed: int = FEWEST) -> str:
    """The first verdict that the tests of a claim allow: the first whose p value is small enough.

    Args:
        tests: The p value of each verdict, as of `places`, corrected where several claims are tested.
        n: Number of seeds.
        needed: Fewer seeds than this leave it undecided.

    >>> clear = PValues(beyond=0.01, positive=0.001, within=1.0, negative=1.0, outside=0.02)
    >>> [first(places(clear, equivalence=False), n=n) for n in (5, 3, 0)]
    ['holds', 'undecided', 'not run']
    """
    if n == 0:
        return "not run"
    return next((name for name, p in tests.items() if p <= LEVEL and n >= needed), "undecided")
