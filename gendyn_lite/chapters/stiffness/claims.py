"""Claims of Fort et al. (2019), 'Stiffness', and of Walker's report on it: training, the plane, layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from gendyn_lite.chapters.stiffness.tables import long_layers, of_fitted_runs
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Evidence, Near, judge_all, table
from gendyn_lite.results.tables import with_sizes

WITHIN, BETWEEN = "stiffness/within_cosine", "stiffness/between_cosine"
TEST_WITHIN, LENGTH = "stiffness/test_within_cosine", "stiffness/critical_length"
FORT, WALKER = "Fort et al.", "Walker"
OURS = "beyond both papers", "–"
CLEAR = AtLeast(0.1, weak=0.05)
Rows = Iterator[tuple[str, Evidence]]  # a claim in our words, and what decides it


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
        found += judge_all(str(subject), _of_one_rate(middle))
        if len(rates) > 1:
            found += judge_all(str(subject), _of_rates(low, high))
        if len(random):
            same = true[true["learning_rate"].isin(random["learning_rate"].unique())]
            found += judge_all(str(subject), _of_random_labels(random, same))
    return table(found)


def _of_one_rate(runs: pd.DataFrame) -> Rows:
    """Stiffness within classes, beside that between them, at the end, and with test examples; the critical length."""
    within, between, test = (_of_runs(runs, _peak(column)) for column in (WITHIN, BETWEEN, TEST_WITHIN))
    left = _of_runs(runs, lambda run: run[WITHIN].iloc[-1] / _peak(WITHIN)(run))
    yield (
        "Examples of one class are stiffer with each other than with another class",
        Evidence(
            within - between,
            CLEAR,
            f"{FORT}, Fig. 3",
            "a positive diagonal",
            "cosine stiffness within classes minus between, at its peak",
        ),
    )
    yield (
        "Stiffness within a class falls towards zero as the network overfits",
        Evidence(
            left, Below(0.5), f"{FORT}, Fig. 4", "falls to 0", "stiffness within classes at the end over its peak", 1.0
        ),
    )
    same = "Training and test examples are as stiff with each other as training examples are"
    yield (
        same,
        Evidence(
            test - within,
            Near(0, 0.05),
            f"{FORT}, Sec. 4",
            "the same regimes",
            "train-test minus train-train stiffness within classes, at the peak",
        ),
    )
    falls = _of_runs(runs, lambda run: run[LENGTH].iloc[-1] / run[LENGTH].iloc[1])
    yield (
        "The critical length falls with training",
        Evidence(
            falls,
            Below(1),
            f"{FORT}, Fig. 7",
            "falls",
            "critical length at the end over that after the first epochs",
            1.0,
        ),
    )


def _of_rates(low: pd.DataFrame, high: pd.DataFrame) -> Rows:
    """A large learning rate against a small one, after as many epochs, paired by seed."""
    change, ratio = _end(high, WITHIN) - _end(low, WITHIN), _end(high, LENGTH) / _end(low, LENGTH)
    yield (
        "Larger learning rates lead to lower stiffness",
        Evidence(
            change,
            Below(0),
            f"{FORT}, Fig. 5",
            "lower",
            "stiffness within classes at the end, largest learning rate minus smallest,",
        ),
    )
    yield (
        "Larger learning rates lead to a smaller critical length",
        Evidence(
            ratio,
            Below(1),
            f"{FORT}, Fig. 8",
            "smaller",
            "critical length at the end, largest learning rate over smallest,",
            1.0,
        ),
    )


def _of_random_labels(random: pd.DataFrame, true: pd.DataFrame) -> Rows:
    ratio = _of_runs(random, _peak(WITHIN)) / _of_runs(true, _peak(WITHIN))
    yield (
        "With random labels there is less stiffness within a class",
        Evidence(ratio, Below(0.5), *OURS, "peak stiffness within classes, random labels over true labels", 1.0),
    )


def over_the_plane(runs: pd.DataFrame) -> pd.DataFrame:
    """The claim of Walker's Fig. 1, of runs of experiment ``"stiffness_maps"``."""
    said = "Stiffness with the neighbours shows the learned boundary"
    quantity = "mean stiffness away from the boundary minus at it"
    found: list[Claim] = []
    for (data, network, size), group in with_sizes(runs).groupby(["data", "network", "size"], sort=False):
        contrast = _end(group, "map/inside") - _end(group, "map/boundary")
        shown = Evidence(contrast, AtLeast(0.2, weak=0.05), f"{WALKER}, Fig. 1", "seen in the figure", quantity)
        found += judge_all(f"{network} on {data}{size}", [(said, shown)])
    return table(found)


def by_layer(runs: pd.DataFrame) -> pd.DataFrame:
    """Readings of Walker's Fig. 2 to 5, of runs of experiment ``"stiffness_layers"`` that fitted their points.

    The figures show the stiffness of an example with a sample of both categories: the mean over all pairs.
    """
    rows = of_fitted_runs(long_layers(runs))
    sets = list(rows["data"].unique())
    rows = with_sizes(rows[(rows["depth"] == 4) & (rows["width"] == 32)], of="data")
    rows = rows.sort_values("data", key=lambda names: names.map(sets.index), kind="stable")
    found: list[Claim] = []
    for (data, size), base in rows.groupby(["data", "size"], sort=False):
        found += judge_all(f"mlp (4 hidden layers of 32) on {data}{size}", _of_layers(base))
    return table(found)


def _of_layers(base: pd.DataFrame) -> Rows:
    """Fig. 2 and 3: layers of networks of ReLU, before and after training. Fig. 4 and 5: those of other activations."""
    trained, untrained = (base[base["state"] == state] for state in ("trained", "untrained"))
    relu, tanh, leaky = (trained[trained["activation"] == kind] for kind in ("relu", "tanh", "leaky_relu"))
    change = _difference(relu, untrained[untrained["activation"] == "relu"])
    yield (
        "Training changes the stiffness of the layers",
        Evidence(
            change,
            CLEAR,
            f"{WALKER}, Fig. 2",
            "trained and untrained differ",
            "mean over layers of the change of stiffness, either way,",
        ),
    )
    spread = relu.groupby("seed")["all"].agg(np.ptp)
    yield (
        "Stiffness changes through the layers of a trained network",
        Evidence(
            spread, CLEAR, f"{WALKER}, Fig. 2, 3", "seen in the figure", "largest minus smallest stiffness over layers"
        ),
    )
    profile = "Networks of tanh have another profile through the layers than those of ReLU"
    yield (
        profile,
        Evidence(
            _difference(tanh, relu),
            CLEAR,
            f"{WALKER}, Fig. 4",
            "seen in the figure",
            "mean over layers of the difference, either way,",
        ),
    )
    more = leaky.groupby("seed")["all"].mean() - relu.groupby("seed")["all"].mean()
    yield (
        "Networks of LeakyReLU are as stiff as those of ReLU",
        Evidence(
            more, Near(0, margin=0.1), f"{WALKER}, Fig. 5", "–", "mean stiffness over layers, LeakyReLU minus ReLU,"
        ),
    )


def of_deep_networks(runs: pd.DataFrame) -> pd.DataFrame:
    """Beyond both papers: layers of ResNet-18 and VGG-19, of runs of experiment ``"stiffness_deep"``."""
    rows = with_sizes(long_layers(runs))
    found: list[Claim] = []
    for subject, group in rows[rows["state"] == "trained"].groupby("subject", sort=False):
        found += judge_all(str(subject), _of_depth(group))
    return table(found)


def _of_depth(trained: pd.DataFrame) -> Rows:
    """How far classes are set apart: in late layers against early ones, with random labels against true ones."""
    true, random = (trained[trained["label_corruption"] == q] for q in (0.0, 1.0))
    late, early = (_gap(true[part]) for part in (true["position"] > 2 / 3, true["position"] < 1 / 3))
    yield (
        "Late layers set classes apart more than early ones",
        Evidence(
            late - early,
            AtLeast(0.0, weak=-0.02),
            *OURS,
            "within minus between classes, last third of the layers minus first,",
        ),
    )
    if len(random):
        yield (
            "With random labels, classes are set apart less",
            Evidence(
                _gap(random) - _gap(true), Below(0), *OURS, "within minus between classes, random labels minus true"
            ),
        )


def _difference(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Mean over layers of the absolute difference of stiffness over all pairs, by seed."""
    difference = one.set_index(["seed", "number"])["all"] - other.set_index(["seed", "number"])["all"]
    return difference.abs().groupby("seed").mean()


def _gap(rows: pd.DataFrame) -> pd.Series:
    """Mean over layers of stiffness within minus between classes, by seed."""
    return (rows["within"] - rows["between"]).groupby(rows["seed"]).mean()


def _end(rows: pd.DataFrame, column: str) -> pd.Series:
    """A column at the last epoch of each run, by seed."""
    return _of_runs(rows, lambda run: run[column].iloc[-1])


def _peak(column: str) -> Callable[[pd.DataFrame], float]:
    """The value of a column at the trained epoch with the largest stiffness within classes, of a run."""

    def value(run: pd.DataFrame) -> float:
        trained = run[run["epoch"] > 0]
        return trained[column].iloc[int(trained[WITHIN].to_numpy().argmax())]

    return value


def _of_runs(rows: pd.DataFrame, value: Callable[[pd.DataFrame], float]) -> pd.Series:
    """A number of each run, by seed; missing where it is not finite."""
    found = {int(run["seed"].iloc[0]): value(run.sort_values("epoch")) for _, run in rows.groupby("run_id", sort=False)}
    return pd.Series(found, dtype=float).replace([np.inf, -np.inf], np.nan)


SECTIONS = tuple(
    Section("Fort et al. (2019); Walker", PUBLISHED, (f"stiffness_{kind}",), claims)
    for kind, claims in {
        "maps": over_the_plane,
        "layers": by_layer,
        "training": during_training,
        "deep": of_deep_networks,
    }.items()
)
