"""How every measure of 'Which lens?' orders its networks: overall, along axes, as a choice, case by case. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn_lite.chapters.which_lens import ranking
from gendyn_lite.chapters.which_lens.ranking import Array, Rows
from gendyn_lite.chapters.which_lens.tables import AXES, LENS, MEASURES, NOTHING, RIVAL, SETTINGS
from gendyn_lite.errors import UserError

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
    from other settings of the case, as in `chosen_better`.

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

    def _sure(self, i: Rows, j: Rows) -> NDArray[np.bool_]:
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

    def choice(self, *, alike: Sequence[str] = ()) -> Choice:
        """The choice of the better of two networks: by each measure, by the best `LENS` and `RIVAL` elsewhere.

        Args:
            alike: What the two must share; from such pairs alone it is learnt which measure is best.
        """
        groups = {kind: [name for name in self.values if MEASURES[name].kind == kind] for kind in (LENS, RIVAL)}
        settings, shared = self.table[list(AXES)], self.table[list(alike)].to_numpy()
        given = (-self.goal, self.table["setting"], settings)

        def usable(i: Rows, j: Rows) -> NDArray[np.bool_]:
            return self._sure(i, j) & (shared[i] == shared[j]).all(axis=1)

        return chosen_better(self.values, *given, groups=groups, usable=usable)

    def agreement_alike(self, measure: str, better: int) -> tuple[float, Array, int] | None:
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


class Choice(NamedTuple):
    """Whether the better of two networks was chosen.

    Attributes:
        right: 1, or 0, or ½ for a tie, by measure, [pairs].
        first: Row of the one network, [pairs].
        second: Row of the other, [pairs].
    """

    right: Mapping[str, Array]
    first: Rows
    second: Rows

    def shares(self, weights: NDArray[np.int64]) -> dict[str, tuple[float, Array]]:
        """The share of right choices less one half, by name, and the same in every resample of `draws`."""
        counts = (weights[:, self.first] * weights[:, self.second]).astype(np.float32)
        totals = counts.sum(1)
        each = {name: right.astype(np.float32) for name, right in self.right.items()}
        with np.errstate(invalid="ignore"):  # a resample without any of the pairs
            return {name: (float(right.mean()) - 0.5, counts @ right / totals - 0.5) for name, right in each.items()}


def chosen_better(
    measures: Mapping[str, Array],
    target: Array,
    clusters: Iterable[Hashable],
    settings: pd.DataFrame,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    folds: int = 5,
    seed: int = 0,
    usable: Callable[[Rows, Rows], NDArray[np.bool_]] | None = None,
) -> Choice:
    """The choice between two networks of settings that were not looked at: which has the smaller target?

    On the other folds each measure shows whether less of it or more of it is better, on pairs of the kind that it is
    then asked of; then it chooses. Of a group, the measure chooses that is right most often there. Beside the measures
    stands ``"settings"``: least squares of the target on the settings alone, which looks at no network.

    Args:
        measures: Of each network, [n], by name; where one is missing, it does not choose.
        target: What should be small, [n].
        clusters: The setting of each network.
        settings: Settings, a column an axis; every value is a step of its own.
        groups: Names of measures, by the name of the group.
        folds: How many parts the settings are divided into.
        seed: Of that division.
        usable: Whether a pair (rows i and j) counts, to learn from and to choose, for instance beyond noise; all by
            default.

    Raises:
        UserError: There are fewer settings than folds.
    """
    codes, names = pd.factorize(pd.Series(list(clusters)))
    if len(names) < 2 * folds:
        raise UserError(f"{len(names)} settings cannot be divided into {folds} parts of two: train more networks")
    fold = (np.random.default_rng(seed).permutation(len(names)) % folds)[codes]
    steps = pd.get_dummies(settings.astype(str)).to_numpy(dtype=float)
    groups = groups or {}
    right: dict[str, list[Array]] = {name: [] for name in (*measures, *groups, "settings")}
    firsts, seconds = [], []

    def pairs_of(
        places: Rows,
    ) -> tuple[Rows, Rows, Array]:
        """Pairs of different settings, and 1 where the first is better, else −1."""
        i, j = (places[part] for part in np.triu_indices(len(places), 1))
        kept = (codes[i] != codes[j]) & (target[i] != target[j])
        kept &= usable(i, j) if usable else True
        return i[kept], j[kept], np.sign(target[j] - target[i])[kept]

    for number in range(folds):
        rest = np.flatnonzero(fold != number)
        i, j, better = pairs_of(rest)
        order = {name: _order(values[i] - values[j], better) for name, values in measures.items()}
        i, j, better = pairs_of(np.flatnonzero(fold == number))
        firsts.append(i)
        seconds.append(j)
        for name, values in measures.items():
            right[name].append((1 + np.nan_to_num(np.sign(order[name] * (values[i] - values[j]))) * better) / 2)
        for group, names_of in groups.items():
            best = max(zip((abs(order[name]) for name in names_of), names_of, strict=True))[1]
            right[group].append(right[best][-1])
        weights, *_ = np.linalg.lstsq(steps[rest], target[rest], rcond=None)
        guessed = (steps @ weights).round(9)
        right["settings"].append((1 + np.sign(guessed[j] - guessed[i]) * better) / 2)
    joined = {name: np.concatenate(parts) for name, parts in right.items()}
    return Choice(joined, np.concatenate(firsts), np.concatenate(seconds))


def _order(differences: Array, better: Array) -> float:
    """Of pairs, how much oftener the better one has more of a measure than less; 0 where nothing is known."""
    signs = np.sign(differences) * better
    known = ~np.isnan(signs)
    return float(signs[known].mean()) if known.any() else 0.0
