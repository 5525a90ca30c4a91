"""Claims of Fort et al. (2019), 'Stiffness', and of Walker's report on it: training, the plane, layers.

They are on record in `claims.toml`; here is the statistic of each, by its id.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from gendyn_lite.chapters.stiffness.tables import long_layers, of_fitted_runs
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section
from gendyn_lite.results.tables import with_sizes

WITHIN, BETWEEN = "stiffness/within_cosine", "stiffness/between_cosine"
TEST_WITHIN, LENGTH = "stiffness/test_within_cosine", "stiffness/critical_length"


def _of_runs(rows: pd.DataFrame, value: Callable[[pd.DataFrame], float]) -> pd.Series:
    """A number of each run, by seed; missing where it is not finite."""
    found = {int(run["seed"].iloc[0]): value(run.sort_values("epoch")) for _, run in rows.groupby("run_id", sort=False)}
    return pd.Series(found, dtype=float).replace([np.inf, -np.inf], np.nan)


def _end(rows: pd.DataFrame, column: str) -> pd.Series:
    """A column at the last epoch of each run, by seed."""
    return _of_runs(rows, lambda run: run[column].iloc[-1])


def _at_peak(run: pd.DataFrame, column: str) -> float:
    """The value of a column at the trained epoch with the largest stiffness within classes, of a run."""
    trained = run[run["epoch"] > 0]
    return trained[column].iloc[int(trained[WITHIN].to_numpy().argmax())]


def _peak(rows: pd.DataFrame, column: str) -> pd.Series:
    """`_at_peak` of each run, by seed."""
    return _of_runs(rows, lambda run: _at_peak(run, column))


def _layers(base: pd.DataFrame, activation: str, state: str = "trained") -> pd.Series:
    """Stiffness over all pairs, by seed and layer."""
    rows = base[(base["activation"] == activation) & (base["state"] == state)]
    return rows.set_index(["seed", "number"])["all"]


def _distance(one: pd.Series, other: pd.Series) -> pd.Series:
    """Mean over layers of the absolute difference of two `_layers`, by seed."""
    return (one - other).abs().groupby("seed").mean()


def _mean(layers: pd.Series) -> pd.Series:
    return layers.groupby("seed").mean()


def _apart(rows: pd.DataFrame) -> pd.Series:
    """Mean over layers of stiffness within minus between classes, by seed."""
    return (rows["within"] - rows["between"]).groupby(rows["seed"]).mean()


OF_ONE_RATE = {
    "classes_apart": lambda runs: _peak(runs, WITHIN) - _peak(runs, BETWEEN),
    "falls_with_overfitting": lambda runs: _of_runs(runs, lambda run: run[WITHIN].iloc[-1] / _at_peak(run, WITHIN)),
    "test_as_train": lambda runs: _peak(runs, TEST_WITHIN) - _peak(runs, WITHIN),
    "length_falls": lambda runs: _of_runs(runs, lambda run: run[LENGTH].iloc[-1] / run[LENGTH].iloc[1]),
}
# A large learning rate against a small one, after as many epochs, paired by seed.
OF_RATES = {
    "larger_rate_less_stiff": lambda low, high: _end(high, WITHIN) - _end(low, WITHIN),
    "larger_rate_shorter": lambda low, high: _end(high, LENGTH) / _end(low, LENGTH),
}
OF_RANDOM_LABELS = {"random_less_stiff": lambda random, true: _peak(random, WITHIN) / _peak(true, WITHIN)}
OF_MAPS = {"boundary_seen": lambda runs: _end(runs, "map/inside") - _end(runs, "map/boundary")}
OF_LAYERS = {
    "training_changes_layers": lambda base: _distance(_layers(base, "relu"), _layers(base, "relu", "untrained")),
    "changes_through_layers": lambda base: _layers(base, "relu").groupby("seed").agg(np.ptp),
    "tanh_differs": lambda base: _distance(_layers(base, "tanh"), _layers(base, "relu")),
    "leaky_relu_as_relu": lambda base: _mean(_layers(base, "leaky_relu")) - _mean(_layers(base, "relu")),
}
OF_DEPTH = {
    "late_layers_apart": lambda true, _: (
        _apart(true[true["position"] > 2 / 3]) - _apart(true[true["position"] < 1 / 3])
    ),
    "random_less_apart": lambda true, random: _apart(random) - _apart(true) if len(random) else None,
}
RECORD = on_record(__file__, OF_ONE_RATE, OF_RATES, OF_RANDOM_LABELS, OF_MAPS, OF_LAYERS, OF_DEPTH)


def during_training(runs: pd.DataFrame) -> pd.DataFrame:
    """Claims on stiffness during training, of runs of experiment ``"stiffness_training"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`.
    """
    found: list[Claim] = []
    for subject, group in with_sizes(runs).groupby("subject", sort=False):
        true, random = (group[group["label_corruption"] == q] for q in (0.0, 1.0))
        rates = sorted(true["learning_rate"].unique())
        low, middle, high = (true[true["learning_rate"] == rates[i]] for i in (0, len(rates) // 2, -1))
        found += RECORD.judge(str(subject), OF_ONE_RATE, middle)
        if len(rates) > 1:
            found += RECORD.judge(str(subject), OF_RATES, low, high)
        if len(random):
            same = true[true["learning_rate"].isin(random["learning_rate"].unique())]
            found += RECORD.judge(str(subject), OF_RANDOM_LABELS, random, same)
    return table(found)


def over_the_plane(runs: pd.DataFrame) -> pd.DataFrame:
    """The claim of Walker's Fig. 1, of runs of experiment ``"stiffness_maps"``, in a table as of `during_training`."""
    groups = with_sizes(runs).groupby(["data", "network", "size"], sort=False)
    found = (RECORD.judge(f"{network} on {data}{size}", OF_MAPS, group) for (data, network, size), group in groups)
    return table(claim for claims in found for claim in claims)


def by_layer(runs: pd.DataFrame) -> pd.DataFrame:
    """Readings of Walker's Fig. 2 to 5, of runs of experiment ``"stiffness_layers"`` that fitted their points.

    The figures show the stiffness of an example with a sample of both categories: the mean over all pairs.
    """
    rows = of_fitted_runs(long_layers(runs))
    sets = list(rows["data"].unique())
    rows = with_sizes(rows[(rows["depth"] == 4) & (rows["width"] == 32)], of="data")
    rows = rows.sort_values("data", key=lambda names: names.map(sets.index), kind="stable")
    groups, network = rows.groupby(["data", "size"], sort=False), "mlp (4 hidden layers of 32)"
    found = (RECORD.judge(f"{network} on {data}{size}", OF_LAYERS, base) for (data, size), base in groups)
    return table(claim for claims in found for claim in claims)


def of_deep_networks(runs: pd.DataFrame) -> pd.DataFrame:
    """Beyond both papers: layers of ResNet-18 and VGG-19, of runs of experiment ``"stiffness_deep"``."""
    rows = with_sizes(long_layers(runs))
    found: list[Claim] = []
    for subject, trained in rows[rows["state"] == "trained"].groupby("subject", sort=False):
        true, random = (trained[trained["label_corruption"] == q] for q in (0.0, 1.0))
        found += RECORD.judge(str(subject), OF_DEPTH, true, random)
    return table(found)


SECTIONS = (
    Section(RECORD, "where-is-a-network-stiff", ("stiffness_maps",), over_the_plane),
    Section(RECORD, "which-layers-are-stiff", ("stiffness_layers",), by_layer),
    Section(RECORD, "do-examples-of-one-class-help-each-other", ("stiffness_training",), during_training),
    Section(RECORD, "and-in-deep-networks", ("stiffness_deep",), of_deep_networks),
)
