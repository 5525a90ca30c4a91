"""Claims of Fort et al. (2019), 'Stiffness', and of Walker's report on it: training, the plane, layers.

The claims are on record in `claims.toml`; this module computes the statistic of each, by its id.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from gendyn_lite.chapters.stiffness import tables
from gendyn_lite.chapters.stiffness.tables import LAG, LAYERS, MOVEMENT
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section
from gendyn_lite.results.tables import with_sizes

WITHIN, BETWEEN = "stiffness/within_cosine", "stiffness/between_cosine"
TEST_WITHIN, LENGTH = "stiffness/test_within_cosine", "stiffness/critical_length"


def _of_runs(rows: pd.DataFrame, value: Callable[[pd.DataFrame], float]) -> pd.Series:
    """Compute a number for each run, by seed; NaN if it is not finite. The function gets a run in order of epochs."""
    found = {int(run["seed"].iloc[0]): value(run.sort_values("epoch")) for _, run in rows.groupby("run_id", sort=False)}
    return pd.Series(found, dtype=float).replace([np.inf, -np.inf], np.nan)


def _end(rows: pd.DataFrame, column: str) -> pd.Series:
    """Return a column at the last epoch of each run, by seed."""
    return _of_runs(rows, lambda run: run[column].iloc[-1])


def _at_peak(run: pd.DataFrame, column: str) -> float:
    """Return a column of a run at the epoch (above 0) with the largest stiffness within classes."""
    trained = run[run["epoch"] > 0]
    return trained[column].iloc[int(trained[WITHIN].to_numpy().argmax())]


def _peak(rows: pd.DataFrame, column: str) -> pd.Series:
    """Return `_at_peak` of each run, by seed."""
    return _of_runs(rows, lambda run: _at_peak(run, column))


def _at_equal_loss(one: pd.DataFrame, other: pd.DataFrame, column: str) -> tuple[pd.Series, pd.Series]:
    """Return a column of two kinds of runs at the smallest training loss that both reach, by seed."""
    least = pd.concat([rows.groupby("seed")["train_loss"].min() for rows in (one, other)], axis=1).dropna().max(axis=1)

    def values(rows: pd.DataFrame) -> pd.Series:
        kept = rows[rows["seed"].isin(least.index)]
        return _of_runs(kept, lambda run: tables.at_loss(run, column, least[run["seed"].iloc[0]]))

    return values(one), values(other)


def _less(one: pd.DataFrame, other: pd.DataFrame, column: str) -> pd.Series:
    """Subtract a column of the second kind of runs from that of the first, at equal training loss."""
    first, second = _at_equal_loss(one, other, column)
    return first - second


def _ratio(first: pd.Series, second: pd.Series) -> pd.Series:
    """Divide two lengths or two values of stiffness; NaN unless both are above zero."""
    return first.where(first > 0) / second.where(second > 0)


def _fitted_rates(true: pd.DataFrame) -> list[float]:
    """Return the learning rates at which every run fitted 99 % of its training labels, in rising order."""
    ends = true.sort_values("epoch").groupby("run_id").tail(1)
    least = ends.groupby("learning_rate")["train_accuracy"].min()
    return sorted(least.index[least >= 0.99])


def _layers(base: pd.DataFrame, activation: str, state: str = "trained", pairs: str = "all") -> pd.Series:
    """Return stiffness over all pairs, or those named, by seed and layer."""
    rows = base[(base["activation"] == activation) & (base["state"] == state)]
    return rows.set_index(["seed", "number"])[pairs]


def _distance(one: pd.Series, other: pd.Series) -> pd.Series:
    """Average the absolute difference of two `_layers` over layers, by seed."""
    return (one - other).abs().groupby("seed").mean()


def _changed(base: pd.DataFrame, pairs: str) -> pd.Series:
    """Return the `_distance` between trained and untrained ReLU networks."""
    return _distance(_layers(base, "relu", pairs=pairs), _layers(base, "relu", "untrained", pairs))


def _stiffer(base: pd.DataFrame, activation: str, pairs: str) -> pd.Series:
    """Subtract the mean stiffness over layers with ReLU from that with another activation, by seed."""
    other, relu = (_layers(base, name, pairs=pairs).groupby("seed").mean() for name in (activation, "relu"))
    return other - relu


def _apart(rows: pd.DataFrame) -> pd.Series:
    """Average stiffness within minus stiffness between classes over layers, by seed."""
    return (rows["within"] - rows["between"]).groupby(rows["seed"]).mean()


def _within(rows: pd.DataFrame) -> pd.Series:
    """Return stiffness within classes, by seed and layer."""
    return rows.set_index(["seed", "number"])["within"]


def _late(rows: pd.DataFrame) -> pd.Series:
    """Subtract `_apart` in the first third of the layers from that in the last third, by seed."""
    return _apart(rows[rows["position"] > 2 / 3]) - _apart(rows[rows["position"] < 1 / 3])


def _contrast(runs: pd.DataFrame, prefix: str = "", *, first: bool = False) -> pd.Series:
    """Subtract stiffness at a boundary from that away from it, at the last (or the first) epoch, by seed."""
    values = runs.assign(contrast=runs[f"map/{prefix}inside"] - runs[f"map/{prefix}boundary"])
    return _of_runs(values, lambda run: run["contrast"].iloc[0 if first else -1])


OF_ONE_RATE = {
    "classes_apart": lambda runs: _peak(runs, WITHIN) - _peak(runs, BETWEEN),
    "falls_with_overfitting": lambda runs: _of_runs(runs, lambda run: run[WITHIN].iloc[-1] / _at_peak(run, WITHIN)),
    "test_as_train": lambda runs: _peak(runs, TEST_WITHIN) - _peak(runs, WITHIN),
    "test_as_train_fitted": lambda runs: _end(runs, TEST_WITHIN) - _end(runs, WITHIN),
    "length_falls": lambda runs: _ratio(_end(runs, LENGTH), _end(runs[runs["epoch"] <= 1], LENGTH)),
}
# A large learning rate against a small one, after equal numbers of epochs, paired by seed.
OF_RATES = {
    "larger_rate_less_stiff": lambda low, high: _end(high, WITHIN) - _end(low, WITHIN),
    "larger_rate_shorter": lambda low, high: _ratio(_end(high, LENGTH), _end(low, LENGTH)),
}
OF_FITTED_RATES = {
    "larger_rate_less_stiff_fitted": lambda low, high: _less(high, low, WITHIN),
    "larger_rate_shorter_fitted": lambda low, high: _ratio(*_at_equal_loss(high, low, LENGTH)),
}
OF_RANDOM_LABELS = {
    "random_less_stiff": lambda random, true: _ratio(_peak(random, WITHIN), _peak(true, WITHIN)),
    "random_less_stiff_fitted": lambda random, true: _ratio(*_at_equal_loss(random, true, WITHIN)),
}
OF_HALF_LABELS = {"half_less_stiff_fitted": lambda half, true: _ratio(*_at_equal_loss(half, true, WITHIN))}
OF_MAPS = {
    "boundary_seen": _contrast,
    "boundary_learnt": lambda runs: _contrast(runs) - _contrast(runs, "shifted_", first=True),
    "boundary_labelled": lambda runs: _contrast(runs) - _contrast(runs, "labelled_"),
    "boundary_at_points": lambda runs: _contrast(runs, "points_") - _contrast(runs, "points_", first=True),
}
# The first four claims are about pairs within a class, the later ones about all pairs.
OF_LAYERS = {
    "training_changes_within": lambda base: _changed(base, "within"),
    "changes_through_within": lambda base: _layers(base, "relu", pairs="within").groupby("seed").agg(np.ptp),
    "tanh_stiffer_within": lambda base: _stiffer(base, "tanh", "within"),
    "leaky_relu_as_relu_within": lambda base: _stiffer(base, "leaky_relu", "within"),
    "training_changes_layers": lambda base: _changed(base, "all"),
    "changes_through_layers": lambda base: _layers(base, "relu").groupby("seed").agg(np.ptp),
    "tanh_differs": lambda base: _distance(_layers(base, "tanh"), _layers(base, "relu")),
    "leaky_relu_as_relu": lambda base: _stiffer(base, "leaky_relu", "all"),
}
OF_DEPTH = {
    "late_layers_apart": lambda true, *_: _late(true),
    "late_layers_learnt": lambda true, _, untrained, *__: _late(true) - _late(untrained),
    "random_less_apart": lambda true, random, *_: _apart(random) - _apart(true) if len(random) else None,
    "late_layers_beyond_movement": lambda true, _, __, moved, ___: _late(true) - _late(moved),
    "lag_alone": lambda true, _, untrained, __, lag: _distance(_within(lag), _within(untrained)),
}
RECORD = on_record(
    __file__, OF_ONE_RATE, OF_RATES, OF_FITTED_RATES, OF_RANDOM_LABELS, OF_HALF_LABELS, OF_MAPS, OF_LAYERS, OF_DEPTH
)


def during_training(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on stiffness during training, on runs of experiment ``"stiffness_training"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`.
    """
    found: list[Claim] = []
    for subject, group in with_sizes(runs).groupby("subject", sort=False):
        true, half, random = (group[group["label_corruption"] == q] for q in (0.0, 0.5, 1.0))
        rates = sorted(true["learning_rate"].unique())
        low, middle, high = (true[true["learning_rate"] == rates[i]] for i in (0, len(rates) // 2, -1))
        found += RECORD.judge(str(subject), OF_ONE_RATE, middle)
        if len(rates) > 1:
            found += RECORD.judge(str(subject), OF_RATES, low, high)
        fitted = _fitted_rates(true)
        if len(fitted) > 1:
            low, high = (true[true["learning_rate"] == rate] for rate in (fitted[0], fitted[-1]))
            found += RECORD.judge(str(subject), OF_FITTED_RATES, low, high)
        for statistics, other in ((OF_RANDOM_LABELS, random), (OF_HALF_LABELS, half)):
            if len(other):
                same = true[true["learning_rate"].isin(other["learning_rate"].unique())]
                found += RECORD.judge(str(subject), statistics, other, same)
    return table(found)


def over_the_plane(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claim of Walker's Fig. 1 on runs of ``"stiffness_maps"``; a table as of `during_training`."""
    groups = with_sizes(runs).groupby(["data", "network", "size"], sort=False)
    found = (RECORD.judge(f"{network} on {data}{size}", OF_MAPS, group) for (data, network, size), group in groups)
    return table(claim for claims in found for claim in claims)


def by_layer(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge readings of Walker's Fig. 2 to 5, on runs of experiment ``"stiffness_layers"`` that fitted their points.

    The figures show the stiffness of an example with a sample of both classes, that is the mean over all pairs.
    """
    rows = tables.of_fitted_runs(tables.long_layers(runs))
    sets = list(rows["data"].unique())
    rows = with_sizes(rows[(rows["depth"] == 4) & (rows["width"] == 32)], of="data")
    rows = rows.sort_values("data", key=lambda names: names.map(sets.index), kind="stable")
    groups, network = rows.groupby(["data", "size"], sort=False), "mlp (4 hidden layers of 32)"
    found = (RECORD.judge(f"{network} on {data}{size}", OF_LAYERS, base) for (data, size), base in groups)
    return table(claim for claims in found for claim in claims)


def of_deep_networks(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge our own claims on the layers of ResNet-18 and VGG-19, on runs of experiment ``"stiffness_deep"``."""
    runs = tables.reestimated(runs)
    every, moved, lag = (with_sizes(tables.long_layers(runs, probe=probe)) for probe in (LAYERS, MOVEMENT, LAG))
    found: list[Claim] = []
    for subject, group in every.groupby("subject", sort=False):
        trained, before = (group[group["state"] == state] for state in ("trained", "untrained"))
        true, random = (trained[trained["label_corruption"] == q] for q in (0.0, 1.0))
        others = (rows[(rows["subject"] == subject) & (rows["label_corruption"] == 0)] for rows in (moved, lag))
        found += RECORD.judge(str(subject), OF_DEPTH, true, random, before[before["label_corruption"] == 0], *others)
    return table(found)


SECTIONS = (
    Section(RECORD, "where-is-a-network-stiff", ("stiffness_maps",), over_the_plane),
    Section(RECORD, "which-layers-are-stiff", ("stiffness_layers",), by_layer),
    Section(RECORD, "do-examples-of-one-class-help-each-other", ("stiffness_training",), during_training),
    Section(RECORD, "and-in-deep-networks", ("stiffness_deep",), of_deep_networks),
)
