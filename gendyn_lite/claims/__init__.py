"""Claims of papers, the criteria by which they are judged, and the verdicts of our runs.

Each chapter's claims are on record in a file, `claims.toml`, which is written before the runs. The chapter computes one
statistic for each claim, with a value for each seed. `gendyn_lite.claims.record` reads the file, `inference` computes
intervals and verdicts, and `sections` combines the claims over all networks and data sets.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from gendyn_lite.claims.inference import Estimate, PValues, bounds, estimate, first, p_values, places
from gendyn_lite.errors import UserError

COMPARED = {  # what is equal when runs are compared → words for it
    "one run": "within each run",
    "equal epochs": "after equal numbers of epochs",
    "equal fit": "when the training labels are fitted",
    "equal training loss": "at equal training loss",
    "equal clean fit": "when the same share of the right labels is fitted",
    "equal data": "on equal data",
    "unequal epochs": "after unequal numbers of epochs",
    "unequal fit": "with training labels fitted unequally well",
}
DECIDING = ("statistic", "experiments", "type", "scale", "criterion", "seeds", "pooled", "primary", "resolution")
# Id of a claim → function of runs that gives a value for each seed, an estimate, or None if the claim does not apply.
Statistics = Mapping[str, Callable[..., "pd.Series | Estimate | None"]]


@dataclass(frozen=True)
class Claim:
    """A claim on one network and data set, and the verdict of our runs there.

    Attributes:
        id: Its name on record.
        statement: The claim, in our words.
        source: Figure or table of the paper.
        paper_value: The paper's value as text, or what it says in words.
        criterion: What is measured and what it is compared with, in words.
        subject: The network and data.
        value: Our mean over seeds; for an existence claim our largest value.
        low: Lower end of its 95 % interval; NaN if there is none.
        high: Upper end.
        n_seeds: Number of independent seeds, or of other units (`unit`).
        effect: Our value minus the value of no effect.
        verdict: One of `gendyn_lite.claims.inference.VERDICTS`, for this network alone.
        null: The value of no effect.
        delta: The smallest effect that matters.
        center: The mean on the scale of the intervals (`gendyn_lite.claims.inference.Estimate`).
        error: Its standard error.
        freedom: Degrees of freedom.
        unit: What `n_seeds` counts.
    """

    id: str
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
    null: float
    delta: float
    center: float
    error: float
    freedom: float
    unit: str


def table(claims: Iterable[Claim]) -> pd.DataFrame:
    """Return claims as a table, with a row for each and the fields of `Claim` as columns."""
    return pd.DataFrame([asdict(claim) for claim in claims], columns=pd.Index(Claim.__dataclass_fields__))


@dataclass(frozen=True)
class Entry:
    """A claim on record. Its words and numbers may refer to names that only the runs know, such as ``"chance"``.

    Attributes:
        id: A short permanent name, in snake_case.
        statement: The claim, in our words. Here and in `paper_value` ``{name}`` is replaced by a value of the runs.
        source: Figure, table or section of the paper.
        paper_value: The paper's value as text, or what it says in words.
        statistic: What is measured, with one value for each seed, in words.
        experiments: The experiments whose runs judge it.
        type: ``"existence"``, ``"difference"``, ``"association"``, ``"equivalence"`` or ``"computed"``.
        scale: The kind of quantity, one of `gendyn_lite.claims.inference.SCALES`.
        criterion: For an existence ``at_least``; else ``more_than``, ``less_than`` or ``equal_to`` with the value of no
            effect, and ``delta``, the smallest effect that matters (relative to that value if the scale is a ratio).
        seeds: Number of seeds that a network needs before the claim can hold on it.
        pooled: ``"every"`` if the claim must hold on every network, ``"mean"`` if in the mean over networks.
        primary: Whether it is one of the paper's own claims, which are corrected together for multiple testing.
        compared: What is equal when runs are compared, one of `COMPARED`.
        resolution: What the statistic is rounded to, in its units.
        only: The runs that it is about, by fields of their configuration; empty for all runs of the experiments.
        unit: What its values are counted in: seeds, or what is drawn instead.
        largest: The largest magnitude that a statistic on the scale of numbers can have, where an interval ends.
    """

    id: str
    statement: str
    source: str
    paper_value: str
    statistic: str
    experiments: tuple[str, ...]
    type: str
    scale: str
    criterion: Mapping[str, float | str]
    seeds: int
    pooled: str
    primary: bool
    compared: str = ""
    resolution: float | str = 0.0
    only: Mapping[str, list[str]] = field(default_factory=dict)
    unit: str = "seed"
    largest: float = math.inf

    @property
    def sign(self) -> int:
        """-1 if the claim says 'less', else 1."""
        return -1 if "less_than" in self.criterion else 1

    def of(self, runs: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a tidy table that the claim is about."""
        settings = {"experiment": self.experiments, **self.only}
        return runs[runs[list(settings)].isin({name: list(values) for name, values in settings.items()}).all(axis=1)]

    def fingerprint(self) -> str:
        """Hash everything that decides the verdict; editing only the words of a claim does not change the hash."""
        deciding = json.dumps({name: getattr(self, name) for name in DECIDING}, sort_keys=True)
        return hashlib.sha256(deciding.encode()).hexdigest()[:12]

    def judge(self, values: Iterable[float] | Estimate, subject: str, known: Mapping[str, Any]) -> Claim:
        """Judge the claim on one network and data set.

        Args:
            values: One value for each seed (NaN is left out), or an estimate of the statistic with its error.
            subject: The network and data.
            known: Values of the runs that the claim may refer to, by name.

        Raises:
            UserError: The claim refers to an unknown name, or a value lies outside the range of its scale.

        >>> about = {"id": "gains", "statement": "It {what}", "source": "Fig. 1", "paper_value": "more", "seeds": 5}
        >>> held = {"statistic": "accuracy", "type": "difference", "scale": "share", "experiments": ("demo",)}
        >>> more = {"criterion": {"more_than": "chance", "delta": 0.1}, "pooled": "every", "primary": True}
        >>> entry = Entry(**about, **held, **more)
        >>> claim = entry.judge([0.8, 0.81, 0.8, 0.79, 0.8], "mlp", {"what": "gains", "chance": 0.5})
        >>> claim.statement, claim.criterion, claim.verdict
        ('It gains', 'accuracy is above 0.6 (no effect: 0.5)', 'holds')
        """
        try:
            null, delta = [*(_number(value, known) for value in self.criterion.values()), math.nan, math.nan][:2]
            resolution = _number(self.resolution, known)
            statement, paper_value = (text.format_map(known) for text in (self.statement, self.paper_value))
        except KeyError as name:
            raise UserError(f"claim {self.id!r} names {name}, which its runs do not tell") from None
        if isinstance(values, Estimate):
            found, best = values, values.value
        else:
            seeds = pd.Series(list(values), dtype=float)
            found, best = estimate(seeds, scale=self.scale, resolution=resolution), seeds.max()
        value, (low, high) = found.value, self.interval(found)
        if self.type == "existence":
            value, low, high = best, math.nan, math.nan
        about: dict[str, Any] = {"id": self.id, "statement": statement, "source": self.source, "subject": subject}
        about |= {"paper_value": paper_value, "criterion": self._in_words(null, delta)}
        about |= {"value": value, "low": low, "high": high, "n_seeds": found.n, "effect": value - null}
        about |= {"verdict": self.alone(found, null, delta, best), "null": null, "delta": delta}
        return Claim(**about, center=found.center, error=found.error, freedom=found.freedom, unit=self.unit)

    def interval(self, found: Estimate) -> tuple[float, float]:
        """Return the 95 % confidence interval of an estimate of the statistic, within what the statistic can be."""
        low, high = found.interval()
        return max(low, -self.largest), min(high, self.largest)

    def alone(self, found: Estimate, null: float, delta: float, best: float) -> str:
        """Return the verdict on one network, without correction for multiple testing."""
        if found.n == 0 or self.type == "computed":
            return "computed" if found.n else "not run"
        if self.type == "existence":
            return "holds" if best >= null else "undecided"
        tests = self.places(p_values(found, delta=delta, null=null, sign=self.sign))
        return first(tests, n=found.n, needed=self.seeds)

    def places(self, p: PValues) -> dict[str, float]:
        """Return the possible verdicts on this claim in order, as `gendyn_lite.claims.inference.places` does.

        Args:
            p: The p values of its effect.
        """
        return places(p, equivalence=self.type == "equivalence")

    def _in_words(self, null: float, delta: float) -> str:
        """Say what is measured and what it is compared with: a threshold that is δ beyond no effect."""
        if self.type == "computed":
            return f"{self.statistic}, computed"
        if self.type == "existence":
            return f"{self.statistic} is at least {null:g} in some run"
        if self.type == "equivalence":
            within = f"within a factor of {1 + delta:g} of" if self.scale == "ratio" else f"within {delta:g} of"
            return f"{self.statistic} is {within} {null:.3g}"
        threshold = bounds(null, delta, self.scale)[self.sign]
        return f"{self.statistic} is {'above' if self.sign > 0 else 'below'} {threshold:.3g} (no effect: {null:.3g})"


def _number(value: float | str, known: Mapping[str, Any]) -> float:
    """Return a number of the record, or the value of the runs with that name."""
    return known[value] if isinstance(value, str) else value


@dataclass(frozen=True)
class Record:
    """The claims of one file.

    Attributes:
        paper: Author and year, or short title.
        entries: The claims by id, in the order of the file.
    """

    paper: str
    entries: Mapping[str, Entry]

    def judge(self, subject: str, statistics: Statistics, *runs: Any, **known: Any) -> list[Claim]:
        """Judge some of the claims on one network and data set.

        Args:
            subject: The network and data.
            statistics: Id of a claim → its statistic.
            *runs: The arguments of each statistic.
            **known: Values of the runs that claims refer to, by name.

        Returns:
            A claim for each statistic that is not None, in the order of the statistics.

        Raises:
            UserError: A claim refers to an unknown name.
        """
        found = ((self.entries[name], statistic(*runs)) for name, statistic in statistics.items())
        return [entry.judge(values, subject, known) for entry, values in found if values is not None]
