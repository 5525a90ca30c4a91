"""How well measures of 'Which lens?' order networks: overall, along settings, as a choice between two. No torch."""

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

GIVEN = ("label_corruption", "epoch")  # what the partial correlation holds fixed
CASE = ("train_size", "augmented", "label_corruption")  # what networks on the same images share
# Name of a choice between two networks → the columns in which the two must agree. The seed draws the training images.
CHOICES: dict[str, tuple[str, ...]] = {"better of two": (), "better of two alike": (*CASE, "seed")}
MOST_MISSING = 0.1  # largest share of networks without a measure for which the measure is still judged
FEWEST = 20  # fewest settings for a ranking
FOLDS = 5  # parts of the settings in the cross-validation of a choice
FEWEST_OF_A_CASE = 10  # fewest settings for a regression on the settings within a case


def judged(table: pd.DataFrame, *, target: str = "error", resamples: int = ranking.RESAMPLES) -> pd.DataFrame:
    """Judge how every measure ranks the networks of each data set and family, with true labels and with all labels.

    A positive value means that networks that are better by the measure, in the direction of its source, have less of
    the target. Only the choice between two networks learns the direction, from other networks.

    Args:
        table: A table of `networks`; networks that did not reach the training loss are left out.
        target: ``"error"`` or ``"gap"``.
        resamples: Number of resamples for the intervals.

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
    """Yield the networks that are judged together: by data set and family, with true labels (primary) or all labels.

    Args:
        table: The rows of `networks` that reached the training loss.

    Yields:
        A description (data, family, labels, number of settings) and the networks. Groups with fewer than `FEWEST`
        settings are left out.
    """
    for (data, family), some in table.groupby(["data", "family"], sort=True):
        for labels, chosen in (("true labels", some[some["label_corruption"] == 0]), ("all", some)):
            settings = chosen["setting"].nunique()
            if settings >= FEWEST:
                yield {"data": data, "family": family, "labels": labels, "settings": settings}, chosen


def in_each_case(table: pd.DataFrame, *, resamples: int = ranking.RESAMPLES) -> pd.DataFrame:
    """Judge how often each measure tells which of two networks on the same images is better, separately in every case.

    A case is a number of images, with or without augmentation, and a share of random labels. Nothing is learnt: each
    measure is used in the direction of its source. For comparison there is a regression on the settings, which learns
    from other settings of the case, as in `chosen_better`.

    Args:
        table: A table of `networks`; networks that did not reach the training loss are left out.
        resamples: Number of resamples for the intervals.

    Returns:
        The columns data, family, those of `CASE`, measure, kind, value (share of pairs in the right order), low, high,
        p and n (pairs). Measures with fewer than `ranking.FEWEST_PAIRS` pairs in a case are left out.
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

    A measure that is missing for a share of at most `MOST_MISSING` of the networks is judged on the others; if it is
    missing for more, it is not judged.

    Args:
        table: The rows of `networks` that reached the training loss.
        target: ``"error"`` or ``"gap"``.
        resamples: Number of resamples for the intervals.
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
        """Whether the test accuracies of each pair of networks differ beyond noise."""
        accuracy, held = (self.table[name].to_numpy() for name in ("held_accuracy", "n_held"))
        return ranking.beyond_noise(accuracy, held, i, j)

    def along_axes(self, measure: str) -> ranking.Axes:
        """Judge how a measure orders networks that differ in one axis and beyond noise."""
        agreeing = ranking.signs(self.values[measure], self.goal, self.sure)
        known = ~np.isnan(agreeing)
        return ranking.along_axes(agreeing[known], self.sure.only(known), self.weights)

    def overall(self, measure: str, *, given: Sequence[str] = ()) -> ranking.Ranked:
        """Compute τ over all networks, with some columns held fixed."""
        values = self.values[measure]
        known = ~np.isnan(values)
        fixed = [self.table.loc[known, name].to_numpy(dtype=float) for name in given]
        return ranking.overall(
            values[known], self.goal[known], self.weights[:, known], given=fixed, seen=self._seen[known.tobytes()]
        )

    def choice(self, *, alike: Sequence[str] = ()) -> Choice:
        """Choose the better of two networks by each measure, and by the lens and the rival that are best elsewhere.

        Args:
            alike: Columns in which the two networks must agree; which measure is best is learnt from such pairs too.
        """
        groups = {kind: [name for name in self.values if MEASURES[name].kind == kind] for kind in (LENS, RIVAL)}
        settings, shared = self.table[list(AXES)], self.table[list(alike)].to_numpy()
        given = (-self.goal, self.table["setting"], settings)

        def usable(i: Rows, j: Rows) -> NDArray[np.bool_]:
            return self._sure(i, j) & (shared[i] == shared[j]).all(axis=1)

        return chosen_better(self.values, *given, groups=groups, usable=usable)

    def agreement_alike(self, measure: str, better: int) -> tuple[float, Array, int] | None:
        """Judge how a measure orders pairs of networks on the same, equally augmented images, in a given direction.

        Args:
            measure: Name of the measure.
            better: 1 if larger values are said to be better, −1 if smaller ones are.

        Returns:
            The share of pairs in the right order minus one half, the same for every resample, and the number of pairs.
            None if the measure is not judged or there is no pair.
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
        """Yield every statistic of every measure: measure, name of the statistic, value with interval."""
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
    """Choices between two networks, for many pairs.

    Attributes:
        right: Measure → 1 if it chose the better network, 0 if not, ½ for a tie, [pairs].
        first: Row of the first network, [pairs].
        second: Row of the second network, [pairs].
    """

    right: Mapping[str, Array]
    first: Rows
    second: Rows

    def shares(self, weights: NDArray[np.int64]) -> dict[str, tuple[float, Array]]:
        """Return the share of right choices minus one half by name, and the same for every resample of `draws`."""
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
    usable: Callable[[Rows, Rows], NDArray[np.bool_]] | None = None,
) -> Choice:
    """Choose which of two networks has the smaller target, for pairs of held-out settings (cross-validation).

    The settings are divided into `FOLDS` parts. Each measure learns on the other parts whether smaller or larger values
    are better, from pairs of the same kind, and then chooses in its part. In a group the measure that is right most
    often on the other parts chooses. The choice ``"settings"`` is a least-squares regression of the target on the
    settings alone, which looks at no network.

    Args:
        measures: Name → value of each network, [n]; where it is NaN the measure does not choose.
        target: What should be small, [n].
        clusters: The setting of each network.
        settings: The settings, a column for each axis; values are treated as categories.
        groups: Name of a group → names of its measures.
        usable: Whether a pair (rows i and j) is used for learning and choosing; all pairs by default.

    Raises:
        UserError: There are fewer than two settings for each part.
    """
    codes, names = pd.factorize(pd.Series(list(clusters)))
    if len(names) < 2 * FOLDS:
        raise UserError(f"{len(names)} settings cannot be divided into {FOLDS} parts of two: train more networks")
    fold = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[codes]
    steps = pd.get_dummies(settings.astype(str)).to_numpy(dtype=float)
    groups = groups or {}
    right: dict[str, list[Array]] = {name: [] for name in (*measures, *groups, "settings")}
    firsts, seconds = [], []

    def pairs_of(
        places: Rows,
    ) -> tuple[Rows, Rows, Array]:
        """Return pairs of networks with different settings, and 1 if the first is better, else −1."""
        i, j = (places[part] for part in np.triu_indices(len(places), 1))
        kept = (codes[i] != codes[j]) & (target[i] != target[j])
        kept &= usable(i, j) if usable else True
        return i[kept], j[kept], np.sign(target[j] - target[i])[kept]

    for number in range(FOLDS):
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
    """Return the mean sign of better-minus-worse differences of a measure over pairs; 0 if none is known."""
    signs = np.sign(differences) * better
    known = ~np.isnan(signs)
    return float(signs[known].mean()) if known.any() else 0.0
