"""Our claims on which measure tells how well a network generalizes.

The claims are on record in `claims.toml`; this module computes the statistic of each, by its id. The independent unit
is a setting: intervals come from settings drawn with replacement, and the two seeds of a setting stay together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from scipy import special

from gendyn_lite.chapters.which_lens import ranking
from gendyn_lite.chapters.which_lens.judging import Judge, analyses
from gendyn_lite.chapters.which_lens.tables import LENS, MEASURES, RIVAL, SETTINGS, networks
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.inference import LEVEL, Estimate
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section

LENSES = tuple(name for name, measure in MEASURES.items() if measure.kind == LENS)
RANKS = ("epoch", "early_to_mid", "kept", "influence", "share", "trace", "within", "between", "critical_length")
RANKS += ("pair", "random", "adversarial")
# These were noticed on fully connected networks after the fact, and are tested on other networks.
ALIKE = ("epoch", "adversarial", "sharpness", "pair", "spectral_over_margin")
WITH_RANDOM = ("epoch", "adversarial", "pair", "sharpness")
# These were noticed on convolutional networks on MNIST, and are tested on those on CIFAR-10.
ALIKE += ("train_loss", "rate")
WITH_RANDOM += ("random", "rate")


@dataclass(frozen=True)
class Judged:
    """The networks of one data set and family.

    Attributes:
        true: The networks with true labels.
        every: The networks with any labels; None if there are only true labels.
    """

    true: Judge
    every: Judge | None

    @cached_property
    def random(self) -> Judge | None:
        """Judge of the networks with random labels, of every share."""
        some = self.every.table.query("label_corruption > 0") if self.every else pd.DataFrame()
        return Judge(some) if len(some) else None

    def estimate(self, value: float, resampled: ranking.Array, *, of: Judge | None = None) -> Estimate:
        """Return a statistic with an interval as wide as that of its resampled values.

        The half width is at least 1/settings: if all pairs are ordered correctly, so they are in every resample, but
        that does not prove that the next pair would be.
        """
        settings = int((of or self.true).table["setting"].nunique())
        found = ranking.interval(value, resampled, settings)
        half = max((found.high - found.low) / 2, 1 / settings)
        return Estimate(value, half / -float(special.stdtrit(settings - 1, LEVEL)), settings - 1, "number", settings)

    def agreement(self, measure: str) -> tuple[float, ranking.Array] | None:
        """Average over axes how a measure orders networks that differ in one axis; also for every resample."""
        if measure not in self.true.values or not (axes := self.true.along_axes(measure)).values:
            return None
        return float(np.mean([*axes.values.values()])), np.mean([*axes.resampled.values()], axis=0)

    @cached_property
    def shares(self) -> Mapping[str, tuple[float, ranking.Array]]:
        """Share of right choices minus one half by measure, and the same for every resample."""
        return self.true.choice().shares(self.true.weights)


def _ranks(judged: Judged, measure: str) -> Estimate | None:
    found = judged.agreement(measure)
    return judged.estimate(*found) if found else None


def _best_at_worst(judged: Judged) -> Estimate | None:
    """Return the largest agreement over lenses, each along the axis where it agrees least."""
    each = [judged.true.along_axes(name) for name in LENSES if name in judged.true.values]
    each = [axes for axes in each if axes.values]
    if not each:
        return None
    worst = max(min(axes.values.values()) for axes in each)
    resampled = np.max([np.min([*axes.resampled.values()], axis=0) for axes in each], axis=0)
    return judged.estimate(worst, resampled)


def _more_right(judged: Judged, other: str | None = None) -> Estimate:
    """Return the share of right choices by the lens that is best elsewhere, minus one half or minus another's share."""
    value, resampled = judged.shares[LENS]
    if other is None:
        return judged.estimate(value, resampled)
    less, drawn = judged.shares[other]
    return judged.estimate(value - less, resampled - drawn)


def _right_alike(judged: Judged, measure: str, *, random: bool = False) -> Estimate | None:
    judge = judged.random if random else judged.true
    better = MEASURES[measure].better * (-1 if random and measure == "rate" else 1)  # as the claims say
    found = judge.agreement_alike(measure, better) if judge else None
    return judged.estimate(*found[:2], of=judge) if found else None


def _flattered(judged: Judged) -> Estimate | None:
    """Subtract τ of stiffness within classes over networks with true labels from that over all, in equal resamples."""
    if judged.every is None:
        return None
    true = judged.every.table["label_corruption"].to_numpy() == 0
    values, goal, weights = judged.every.values["within"], judged.every.goal, judged.every.weights
    value = ranking.tau(values, goal) - ranking.tau(values[true], goal[true])
    over_all = ranking.resampled([values, goal], weights)
    return judged.estimate(value, over_all - ranking.resampled([values[true], goal[true]], weights[:, true]))


def _beyond_training_images(judged: Judged) -> Estimate | None:
    found, less = judged.agreement("test_within"), judged.agreement("within")
    return judged.estimate(found[0] - less[0], found[1] - less[1]) if found and less else None


STATISTICS = {f"{name}_ranks": lambda judged, name=name: _ranks(judged, name) for name in RANKS}
STATISTICS |= {
    "every_lens_fails_somewhere": _best_at_worst,
    "lens_beats_coin": _more_right,
    "lens_beats_settings": lambda judged: _more_right(judged, SETTINGS),
    "lens_beats_rivals": lambda judged: _more_right(judged, RIVAL),
    "labels_flatter": _flattered,
    "test_images_flatter": _beyond_training_images,
    "validation_ranks": lambda judged: _ranks(judged, "validation_accuracy"),
}
STATISTICS |= {f"{name}_tells_alike": partial(_right_alike, measure=name) for name in ALIKE}
STATISTICS |= {f"{name}_tells_random": partial(_right_alike, measure=name, random=True) for name in WITH_RANDOM}
RECORD = on_record(__file__, STATISTICS)


def of_networks(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on runs of experiment ``"which_lens"``, for each data set and family with enough settings.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`.
    """
    every = networks(runs)
    reached = analyses(every[every["reached"]])
    groups = {(about["data"], about["family"], about["labels"]): some for about, some in reached}
    found: list[Claim] = []
    for (data, family, labels), some in groups.items():
        if labels != "true labels":
            continue
        mixed = groups.get((data, family, "all"))
        judged = Judged(Judge(some), Judge(mixed) if mixed is not None and len(mixed) > len(some) else None)
        own = runs[runs["run_id"].isin(some["run_id"])]
        asked = {name: each for name, each in STATISTICS.items() if len(RECORD.entries[name].of(own)) == len(own)}
        found += RECORD.judge(f"{family} on {data}", asked, judged)
    return table(found)


SECTIONS = (Section(RECORD, "what-ranks-them", ("which_lens",), of_networks),)
