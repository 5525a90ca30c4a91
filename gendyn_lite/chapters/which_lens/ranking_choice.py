"""The choice between two networks of settings that were not looked at, by a measure and by the settings alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn_lite.chapters.which_lens.ranking import Array
from gendyn_lite.errors import UserError


class Choice(NamedTuple):
    """Whether the better of two networks was chosen.

    Attributes:
        right: 1, or 0, or ½ for a tie, by measure, [pairs].
        first: Row of the one network, [pairs].
        second: Row of the other, [pairs].
    """

    right: Mapping[str, Array]
    first: NDArray[np.intp]
    second: NDArray[np.intp]

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
    usable: Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]] | None = None,
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

    def pairs_of(places: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], Array]:
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
