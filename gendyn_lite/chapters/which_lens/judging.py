"""How every measure of 'Which lens?' orders its networks: overall, along axes, as a choice, case by case. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn_lite.chapters.which_lens import ranking, ranking_choice
from gendyn_lite.chapters.which_lens.tables import AXES, LENS, MEASURES, NOTHING, RIVAL, SETTINGS

GIVEN = ("label_corruption", "epoch")  # held fixed by the partial correlation: what is learned, and for how long
CASE = ("train_size", "augmented", "label_corruption")  # what networks on the same images share, but for the draw
# Pairs of unseen settings that are chosen from, and what the two share: the seed draws the training images.
CHOICES: dict[str, tuple[str, ...]] = {"better of two": (), "better of two alike": (*CASE, "seed")}
MOST_MISSING = 0.1  # share of the networks that lack a measure which is judged all the same
FEWEST = 20  # settings from which anything is ranked
FEWEST_OF_A_CASE = 10  # settings from which a regression on them is tried in a case


def judged(table: pd.DataFrame, *, target: str = "error", resamples: int = ranking.RESAMPLES) -> pd.DataFrame:
    """How every measure ranks the networks of each data set and family, by `ranking`; on all labels and true ones.

    A measure is turned so that a positive number says: better, as its source has it, goes with less of the target. The
    choice of the better of two networks alone learns the direction, from other networks.

    Args:
        table: Of `networks`; networks that did not reach the loss are left out.
        target: ``"error"`` or ``"gap"``.
        resamples: Of the intervals.

    Returns:
        The columns data, family, labels, measure, kind, statistic (overall, partial, an axis, granulated, worst axis,
        those of `CHOICES`), value, low, high, p, n and settings.
    """
    rows: list[dict[str, Any]] = []
    for about, some in analyses(table[table["reached"]]):
        for measure, statistic, found in Judge(some, target=target, resamples=resamples).ranked():
            kind = MEASURES[measure].kind if measure in MEASURES else measure if measure in {LENS, RIVAL} else NOTHING
            rows.append({**about, "measure": measure, "kind": kind, "statistic": statistic, **found._asdict()})
    return pd.DataFrame(rows)


def analyses(table: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """What is judged apart: data set, family, and true labels alone (the primary analysis) or all.

    Args:
        table: Of `networks`, those that reached the loss.

    Returns:
        Pairs of data, family, labels and number of settings, and the networks; none with fewer than `FEWEST` settings.
    """
    for (data, family), some in table.groupby(["data", "family"], sort=True):
        for labels, chosen in (("true labels", some[some["label_corruption"] == 0]), ("all", some)):
            settings = chosen["setting"].nunique()
            if settings >= FEWEST:
                yield {"data": data, "family": family, "labels": labels, "settings": settings}, chosen


def in_each_case(table: pd.DataFrame, *, resamples: int = ranking.RESAMPLES) -> pd.DataFrame:
    """How often each measure says which of two networks is better that saw the same images, in every case apart.

    A case is an amount of images, with or without augmentation, and a share of random labels. Nothing is learnt: a
    measure points the way that its source gives. Beside the measures stands the regression on `SETTINGS`, which learns
    from other settings of the case, as in `gendyn_lite.chapters.which_lens.ranking_choice.chosen_better`.

    Args:
        table: Of `networks`; networks that did not reach the loss are left out.
        resamples: Of the intervals.

    Returns:
        The columns data, family, `CASE`, measure, kind, value (the share of pairs in the right order), low, high, p and
        n (pairs); no case with fewer than `gendyn_lite.chapters.which_lens.ranking.FEWEST_PAIRS` pairs.
    """
    rows: list[dict[str, Any]] = []
    by = ["data", "family", *CASE]
    for about, some in table[table["reached"]].groupby(by, sort=True):
        judge, case = Judge(some, resamples=resamples), dict(zip(by, about, strict=True))
        told = {name: judge.agreement_alike(name, MEASURES[name].better) for name in judge.values}
        if some["setting"].nunique() >= FEWEST_OF_A_CASE:
            choice = judge.choice(alike=CHOICES["better of two alike"])
            told[SETTINGS] = (*choice.shares(judge.weights)[SETTINGS], len(choice.first))
        for name, (value, drawn, n) in ((name, each) for name, each in told.items() if each):
            if n >= ranking.FEWEST_PAIRS:
                kind = MEASURES[name].kind if name in MEASURES else NOTHING
                found = ranking.interval(value + 0.5, drawn + 0.5, n)
                rows.append({**case, "measure": name, "kind": kind, **found._asdict()})
    return pd.DataFrame(rows)


class Judge:
    """Networks that are judged together, and how measures order them.

    A measure that few of the networks lack (`MOST_MISSING`) is judged on the others; one that more lack is not.

    Args:
        table: Of `networks`, those that reached the loss.
        target: ``"error"`` or ``"gap"``.
        resamples: Of the intervals.
    """

    def __init__(self, table: pd.DataFrame, *, target: str = "error", resamples: int = ranking.RESAMPLES) -> None:
        self.table, self.goal = table, -table[target].to_numpy()
        pairs = ranking.pairs_along(table, AXES)
        self.sure = pairs.only(self._sure(pairs.first, pairs.second))
        self.weights = ranking.draws(table["setting"], count=resamples)
        all_of = {
            name: measure.better * table[name].to_numpy(dtype=float)
            for name, measure in MEASURES.items()
            if table[name].isna().mean() <= MOST_MISSING
        }
        self.values: dict[str, NDArray[np.float64]] = all_of
        self._seen: dict[bytes, ranking.Seen] = defaultdict(dict)  # by the networks that have a measure

    def _sure(self, i: NDArray[np.intp], j: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Whether the test accuracies of each two networks differ beyond noise."""
        accuracy, held = (self.table[name].to_numpy() for name in ("held_accuracy", "n_held"))
        return ranking.beyond_noise(accuracy, held, i, j)

    def along_axes(self, measure: str) -> ranking.Axes:
        """How a measure orders networks that differ in one axis, beyond noise."""
        agreeing = ranking.signs(self.values[measure], self.goal, self.sure)
        known = ~np.isnan(agreeing)
        return ranking.along_axes(agreeing[known], self.sure.only(known), self.weights)

    def overall(self, measure: str, *, given: Sequence[str] = ()) -> ranking.Ranked:
        """τ over all networks, with some columns held fixed."""
        values = self.values[measure]
        known = ~np.isnan(values)
        fixed = [self.table.loc[known, name].to_numpy(dtype=float) for name in given]
        return ranking.overall(
            values[known], self.goal[known], self.weights[:, known], given=fixed, seen=self._seen[known.tobytes()]
        )

    def choice(self, *, alike: Sequence[str] = ()) -> ranking_choice.Choice:
        """The choice of the better of two networks: by each measure, by the best `LENS` and `RIVAL` elsewhere.

        Args:
            alike: What the two must share; from such pairs alone it is learnt which measure is best.
        """
        groups = {kind: [name for name in self.values if MEASURES[name].kind == kind] for kind in (LENS, RIVAL)}
        settings, shared = self.table[list(AXES)], self.table[list(alike)].to_numpy()
        given = (-self.goal, self.table["setting"], settings)

        def usable(i: NDArray[np.intp], j: NDArray[np.intp]) -> NDArray[np.bool_]:
            return self._sure(i, j) & (shared[i] == shared[j]).all(axis=1)

        return ranking_choice.chosen_better(self.values, *given, groups=groups, usable=usable)

    def agreement_alike(self, measure: str, better: int) -> tuple[float, ranking.Array, int] | None:
        """The order by a measure of networks on the same images, augmented alike.

        Nothing is learnt: the direction is given.

        Args:
            measure: Its name.
            better: 1 where more of it is said to be better, −1 where less is.

        Returns:
            The share of pairs in the right order less one half, the same in every resample, and the number of pairs.
        """
        if measure not in self.values:
            return None
        values = better * self.table[measure].to_numpy(dtype=float)
        shared = self.table[list(CHOICES["better of two alike"])].to_numpy()
        i, j = np.triu_indices(len(values), 1)
        kept = (shared[i] == shared[j]).all(axis=1) & self._sure(i, j) & ~np.isnan(values[i] - values[j])
        i, j = i[kept], j[kept]
        agreeing = np.sign(values[i] - values[j]) * np.sign(self.goal[i] - self.goal[j]) / 2
        counts = (self.weights[:, i] * self.weights[:, j]).astype(np.float32)
        with np.errstate(invalid="ignore"):  # a resample without any of the pairs
            return (float(agreeing.mean()), counts @ agreeing / counts.sum(1), len(i)) if len(i) else None

    def ranked(self) -> Iterator[tuple[str, str, ranking.Ranked]]:
        """Every statistic of every measure."""
        for name in self.values:
            yield name, "overall", self.overall(name)
            yield name, "partial", self.overall(name, given=GIVEN)
            for axis, found in self.along_axes(name).ranked().items():
                yield name, axis, found
        for statistic, alike in CHOICES.items():
            choice = self.choice(alike=alike)
            for name, (value, drawn) in choice.shares(self.weights).items() if len(choice.first) else ():
                yield name, statistic, ranking.interval(value, drawn, len(choice.first))
