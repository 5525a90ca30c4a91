"""The choice between two networks of settings that were not looked at, by a measure and by the settings alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gendyn_lite.chapters.which_lens.ranking import Array, tau
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

    On the other folds each measure shows whether less of it or more of it is better; then it chooses. Of a group, the
    measure chooses that orders the networks of the other folds best. Beside the measures stands ``"settings"``: least
    squares on the settings alone, which sees no network.

    Args:
        measures: Of each network, [n], by name; where one is missing, it does not choose.
        target: What should be small, [n].
        clusters: The setting of each network.
        settings: Settings, a column an axis; every value is a step of its own.
        groups: Names of measures, by the name of the group.
        folds: How many parts the settings are divided into.
        seed: Of that division.
        usable: Whether a pair (rows i and j) counts, for instance beyond noise; all by default.

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
    for number in range(folds):
        out, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        i, j = (out[part] for part in np.triu_indices(len(out), 1))
        kept = (codes[i] != codes[j]) & (target[i] != target[j])
        kept &= usable(i, j) if usable else True
        i, j = i[kept], j[kept]
        firsts.append(i)
        seconds.append(j)
        better = np.sign(target[j] - target[i])  # 1 where the first is better
        order = {name: _order(values[rest], target[rest]) for name, values in measures.items()}
        for name, values in measures.items():
            right[name].append((1 + np.nan_to_num(np.sign(order[name] * (values[j] - values[i]))) * better) / 2)
        for group, names_of in groups.items():
            best = max(zip((abs(order[name]) for name in names_of), names_of, strict=True))[1]
            right[group].append(right[best][-1])
        weights, *_ = np.linalg.lstsq(steps[rest], target[rest], rcond=None)
        guessed = (steps @ weights).round(9)
        right["settings"].append((1 + np.sign(guessed[j] - guessed[i]) * better) / 2)
    joined = {name: np.concatenate(parts) for name, parts in right.items()}
    return Choice(joined, np.concatenate(firsts), np.concatenate(seconds))


def _order(measure: Array, target: Array) -> float:
    """τ over the networks that have the measure; 0 where it says nothing."""
    known = ~np.isnan(measure)
    return float(np.nan_to_num(tau(measure[known], target[known])))
