"""What a paper claims beside what our runs say: value, interval, number of seeds, effect size and a verdict.

A claim is held to a criterion that is fixed before the data are seen; `gendyn_lite.claims.sections` reads it from the
file where it is on record.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import pandas as pd
from scipy import stats

from gendyn_lite.results.tables import mean_interval

LEVEL = 0.95  # of every interval
VERDICTS = ("holds", "weaker", "not seen", "not testable at this size")


def _verdict(low: float, high: float, *, holds: bool, weaker: bool) -> str:
    """The verdict on an interval, or that there is none."""
    if math.isnan(low) or math.isnan(high):
        return VERDICTS[3]
    return VERDICTS[0] if holds else VERDICTS[1 if weaker else 2]


def _above(mean: float, bound: float, error: float, freedom: int) -> float:
    """One-sided p value of "the true mean is at least `bound`"; with no spread at all it is 0 or 1.

    >>> round(_above(1.0, 0.0, 0.5, 4), 3), _above(1.0, 1.0, 0.0, 2), _above(0.9, 1.0, 0.0, 2)
    (0.058, 0.0, 1.0)
    """
    if error == 0:
        return 0.0 if mean >= bound else 1.0
    return float(stats.t.sf((mean - bound) / error, freedom))


@dataclass(frozen=True)
class AtLeast:
    """Holds if the whole interval is at least `bound`, weaker if the mean is at least `weak`.

    >>> AtLeast(0.99, weak=0.9).verdict(0.995, 0.992, 0.998), AtLeast(0.99, weak=0.9).verdict(0.95, 0.85, 1.0)
    ('holds', 'weaker')
    >>> AtLeast(0.99, weak=0.9).verdict(0.2, 0.1, 0.3), AtLeast(0.99, weak=0.9).verdict(0.995, math.nan, math.nan)
    ('not seen', 'not testable at this size')
    """

    bound: float
    weak: float

    def __str__(self) -> str:
        """In words."""
        return f"at least {self.bound:g}"

    def verdict(self, mean: float, low: float, high: float) -> str:
        """One of `VERDICTS`."""
        return _verdict(low, high, holds=low >= self.bound, weaker=mean >= self.weak)

    def p_value(self, mean: float, error: float, freedom: int) -> float:
        """Probability of a mean as good as this one if the criterion fails by a hair: a one-sided t test.

        Args:
            mean: Mean over seeds.
            error: Its standard error.
            freedom: Degrees of freedom, the number of seeds less one.
        """
        return _above(mean, self.bound, error, freedom)


@dataclass(frozen=True)
class Below:
    """Holds if the whole interval is below `bound`, weaker if only the mean is.

    >>> Below(3).verdict(1.5, 1.0, 2.0), Below(3).verdict(2.5, 1.0, 4.0), Below(3).verdict(3.5, 2.5, 4.5)
    ('holds', 'weaker', 'not seen')
    """

    bound: float

    def __str__(self) -> str:
        """In words."""
        return f"below {self.bound:g}"

    def verdict(self, mean: float, low: float, high: float) -> str:
        """One of `VERDICTS`."""
        return _verdict(low, high, holds=high < self.bound, weaker=mean < self.bound)

    def p_value(self, mean: float, error: float, freedom: int) -> float:
        """One-sided; see `AtLeast`."""
        return _above(-mean, -self.bound, error, freedom) if error or mean != self.bound else 1.0


@dataclass(frozen=True)
class Near:
    """Holds if the whole interval is within `margin` of `target` (an equivalence test: a wide one never holds).

    Weaker if the interval only overlaps that range, not seen if it lies outside.

    >>> Near(0.1, margin=0.02).verdict(0.1, 0.09, 0.11), Near(0.1, margin=0.02).verdict(0.15, 0.05, 0.25)
    ('holds', 'weaker')
    >>> Near(0.1, margin=0.02).verdict(0.25, 0.2, 0.3)
    'not seen'
    """

    target: float
    margin: float

    def __str__(self) -> str:
        """In words."""
        return f"{self.target:.3g} ± {self.margin:g}"

    def verdict(self, mean: float, low: float, high: float) -> str:
        """One of `VERDICTS`."""
        lowest, highest = self.target - self.margin, self.target + self.margin
        overlap = low <= highest and high >= lowest
        return _verdict(low, high, holds=lowest <= low and high <= highest, weaker=overlap)

    def p_value(self, mean: float, error: float, freedom: int) -> float:
        """The larger of both one-sided ones, as in an equivalence test; see `AtLeast`."""
        lowest, highest = self.target - self.margin, self.target + self.margin
        return max(_above(mean, lowest, error, freedom), _above(-mean, -highest, error, freedom))


Criterion = AtLeast | Below | Near


class Estimate(NamedTuple):
    """A value with an interval that is not made of a spread over seeds, so that it has no t test.

    Attributes:
        value: The estimate.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n_seeds: Number of independent seeds behind it.
    """

    value: float
    low: float
    high: float
    n_seeds: int


@dataclass(frozen=True)
class Claim:
    """One claim of a paper and what our runs say of it.

    Attributes:
        statement: The claim, in our words.
        source: Figure or table of the paper.
        paper_value: The paper's figure as text, or what it says in words.
        criterion: What the interval must satisfy for the claim to hold.
        subject: What was measured on: network and data.
        value: Our mean over seeds.
        low: Lower end of the 95 % interval of the mean.
        high: Upper end.
        n_seeds: Number of independent seeds.
        effect: Effect size: our mean minus what the opposite of the claim predicts, in the units of value.
        verdict: One of `VERDICTS`.
        p_value: One-sided p value of the criterion (t test over seeds); missing where there is no such test. The claim
            holds where it is at most 0.025.
    """

    statement: str
    source: str
    paper_value: str
    criterion: str
    subject: str
    value: float
    low: float
    high: float
    n_seeds: int
    effect: float
    verdict: str
    p_value: float = math.nan


def judge(
    values: Sequence[float] | pd.Series | Estimate,
    criterion: Criterion,
    *,
    quantity: str,
    null_value: float = 0.0,
    **about: str,
) -> Claim:
    """Hold the values of independent seeds to a criterion.

    Args:
        values: One value per seed; missing ones are left out. Or an estimate that brings its own interval.
        criterion: `AtLeast`, `Below` or `Near`.
        quantity: Name of what `values` holds.
        null_value: The value that the opposite of the claim predicts; the effect is measured from it.
        **about: The fields of `Claim` ``statement``, ``source``, ``paper_value`` and ``subject``.

    Returns:
        The claim with its mean, Student-t interval, effect and verdict. Fewer than three seeds have no interval, and
        no verdict but that.

    >>> about = {"statement": "They fit", "source": "Table 1", "paper_value": "1.0", "subject": "mlp on digits"}
    >>> claim = judge([0.99, 1.0, 0.98], AtLeast(0.9, weak=0.5), quantity="accuracy", **about)
    >>> claim.verdict, claim.criterion, round(claim.value, 2), claim.n_seeds
    ('holds', 'accuracy is at least 0.9', 0.99, 3)
    """
    if isinstance(values, Estimate):
        (mean, low, high, n), p_value = values, math.nan
    else:
        mean, low, high, n = mean_interval(values, level=LEVEL)
        p_value = _p_value(criterion, mean, low, high, n)
    return Claim(
        criterion=f"{quantity} is {criterion}",
        value=mean,
        low=low,
        high=high,
        n_seeds=n,
        effect=mean - null_value,
        verdict=criterion.verdict(mean, low, high),
        p_value=p_value,
        **about,
    )


def _p_value(criterion: Criterion, mean: float, low: float, high: float, n: int) -> float:
    """The criterion's p value from a Student-t interval of the mean of n seeds."""
    if math.isnan(low):
        return math.nan
    error = (high - low) / 2 / float(stats.t.ppf((1 + LEVEL) / 2, n - 1))
    return criterion.p_value(mean, error, n - 1)


def table(claims: Iterable[Claim]) -> pd.DataFrame:
    """The claims as a table, a row each, columns named as the fields of `Claim`."""
    return pd.DataFrame([asdict(claim) for claim in claims], columns=pd.Index(Claim.__dataclass_fields__))
