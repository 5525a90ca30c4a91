"""Claims of Fort et al. (2019), 'Stiffness', and readings of the figures of Walker's report on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table
from gendyn_lite.results.layers import long_layers, of_fitted_runs

WITHIN, BETWEEN = "stiffness/within_cosine", "stiffness/between_cosine"
TEST_WITHIN, LENGTH = "stiffness/test_within_cosine", "stiffness/critical_length"
FORT, WALKER = "Fort et al.", "Walker"


def during_training(runs: pd.DataFrame) -> pd.DataFrame:
    """Claims on stiffness during training, of runs of experiment ``"stiffness_training"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`.
    """
    found: list[Claim] = []
    for _, group in runs.groupby(["data", "n_train", "network"], sort=False):
        found += _during(group)
    return table(found)


def _during(group: pd.DataFrame) -> list[Claim]:
    first = group.iloc[0]
    true, random = (group[group["label_corruption"] == q] for q in (0.0, 1.0))
    rates = sorted(true["learning_rate"].unique())
    about = partial(judge, subject=f"{first['network']} on {first['data']}, n = {first['n_train']:,}")
    main = true[true["learning_rate"] == rates[len(rates) // 2]]
    found = [
        about(
            _of_runs(main, lambda run: _at_peak(run, WITHIN) - _at_peak(run, BETWEEN)),
            AtLeast(0.1, weak=0.05),
            statement="Examples of one class are stiffer with each other than with another class",
            source=f"{FORT}, Fig. 3",
            paper_value="a positive diagonal",
            quantity="cosine stiffness within classes minus between, at its peak",
            opposite=0.0,
        ),
        about(
            _of_runs(main, lambda run: run[WITHIN].iloc[-1] / _at_peak(run, WITHIN)),
            Below(0.5),
            statement="Stiffness within a class falls towards zero as the network overfits",
            source=f"{FORT}, Fig. 4",
            paper_value="falls to 0",
            quantity="stiffness within classes at the end over its peak",
            opposite=1.0,
        ),
        about(
            _of_runs(main, lambda run: _at_peak(run, TEST_WITHIN) - _at_peak(run, WITHIN)),
            Near(0, margin=0.05),
            statement="Training and test examples are as stiff with each other as training examples are",
            source=f"{FORT}, Sec. 4",
            paper_value="the same regimes",
            quantity="train-test minus train-train stiffness within classes, at the peak",
            opposite=0.0,
        ),
        about(
            _of_runs(main, lambda run: run[LENGTH].iloc[-1] / run[LENGTH].iloc[1]),
            Below(1),
            statement="The critical length falls with training",
            source=f"{FORT}, Fig. 7",
            paper_value="falls",
            quantity="critical length at the end over that after the first epochs",
            opposite=1.0,
        ),
    ]
    if len(rates) > 1:
        low, high = (true[true["learning_rate"] == rate] for rate in (rates[0], rates[-1]))
        found += _of_rates(low, high, about)
    if len(random):
        same = true[true["learning_rate"].isin(random["learning_rate"].unique())]
        found.append(
            about(
                _of_runs(random, lambda run: _at_peak(run, WITHIN)) / _of_runs(same, lambda run: _at_peak(run, WITHIN)),
                Below(0.5),
                statement="With random labels there is less stiffness within a class",
                source="beyond both papers",
                paper_value="–",
                quantity="peak stiffness within classes, random labels over true labels",
                opposite=1.0,
            )
        )
    return found


def _of_rates(low: pd.DataFrame, high: pd.DataFrame, about: Callable[..., Claim]) -> list[Claim]:
    """A large learning rate against a small one, after as many epochs, paired by seed."""
    return [
        about(
            _of_runs(high, lambda run: run[WITHIN].iloc[-1]) - _of_runs(low, lambda run: run[WITHIN].iloc[-1]),
            Below(0),
            statement="Larger learning rates lead to lower stiffness",
            source=f"{FORT}, Fig. 5",
            paper_value="lower",
            quantity="stiffness within classes at the end, largest learning rate minus smallest,",
            opposite=0.0,
        ),
        about(
            _of_runs(high, lambda run: run[LENGTH].iloc[-1]) / _of_runs(low, lambda run: run[LENGTH].iloc[-1]),
            Below(1),
            statement="Larger learning rates lead to a smaller critical length",
            source=f"{FORT}, Fig. 8",
            paper_value="smaller",
            quantity="critical length at the end, largest learning rate over smallest,",
            opposite=1.0,
        ),
    ]


def over_the_plane(runs: pd.DataFrame) -> pd.DataFrame:
    """The claim of Walker's Fig. 1, of runs of experiment ``"stiffness_maps"``."""
    found = []
    for _, group in runs.groupby(["data", "network"], sort=False):
        first = group.iloc[0]
        contrast = _of_runs(group, lambda run: run["map/inside"].iloc[-1] - run["map/boundary"].iloc[-1])
        found.append(
            judge(
                contrast,
                AtLeast(0.2, weak=0.05),
                statement="Stiffness with the neighbours shows the learned boundary",
                source=f"{WALKER}, Fig. 1",
                paper_value="seen in the figure",
                quantity="mean stiffness away from the boundary minus at it",
                subject=f"{first['network']} on {first['data']}",
                opposite=0.0,
            )
        )
    return table(found)


def by_layer(runs: pd.DataFrame) -> pd.DataFrame:
    """Readings of Walker's Fig. 2 to 5, of runs of experiment ``"stiffness_layers"`` that fitted their points.

    The figures show the stiffness of an example with a sample of both categories: the mean over all pairs.
    """
    rows = of_fitted_runs(long_layers(runs))
    found: list[Claim] = []
    for data, group in rows.groupby("data", sort=False):
        about = partial(judge, subject=f"mlp (4 hidden layers of 32) on {data}")
        base = group[(group["depth"] == 4) & (group["width"] == 32)]
        relu = base[base["activation"] == "relu"]
        trained, untrained = (relu[relu["state"] == state] for state in ("trained", "untrained"))
        spread = trained.groupby("seed")["all"].agg(np.ptp)
        found += [
            about(
                _difference(trained, untrained),
                AtLeast(0.1, weak=0.05),
                statement="Training changes the stiffness of the layers",
                source=f"{WALKER}, Fig. 2",
                paper_value="trained and untrained differ",
                quantity="mean over layers of the change of stiffness, either way,",
                opposite=0.0,
            ),
            about(
                spread,
                AtLeast(0.1, weak=0.05),
                statement="Stiffness changes through the layers of a trained network",
                source=f"{WALKER}, Fig. 2, 3",
                paper_value="seen in the figure",
                quantity="largest minus smallest stiffness over layers",
                opposite=0.0,
            ),
        ]
        tanh, leaky = (
            base[(base["activation"] == kind) & (base["state"] == "trained")] for kind in ("tanh", "leaky_relu")
        )
        found += [
            about(
                _difference(tanh, trained),
                AtLeast(0.1, weak=0.05),
                statement="Networks of tanh have another profile through the layers than those of ReLU",
                source=f"{WALKER}, Fig. 4",
                paper_value="seen in the figure",
                quantity="mean over layers of the difference, either way,",
                opposite=0.0,
            ),
            about(
                leaky.groupby("seed")["all"].mean() - trained.groupby("seed")["all"].mean(),
                Near(0, margin=0.1),
                statement="Networks of LeakyReLU are as stiff as those of ReLU",
                source=f"{WALKER}, Fig. 5",
                paper_value="–",
                quantity="mean stiffness over layers, LeakyReLU minus ReLU,",
                opposite=0.0,
            ),
        ]
    return table(found)


def of_deep_networks(runs: pd.DataFrame) -> pd.DataFrame:
    """Beyond both papers: layers of ResNet-18 and VGG-19, of runs of experiment ``"stiffness_deep"``."""
    rows = long_layers(runs)
    found: list[Claim] = []
    for (data, network), group in rows.groupby(["data", "network"], sort=False):
        about = partial(
            judge, subject=f"{network} on {data}, n = {group['n_train'].iloc[0]:,}", source="beyond both papers"
        )
        trained = group[group["state"] == "trained"]
        true, random = (trained[trained["label_corruption"] == q] for q in (0.0, 1.0))
        late, early = (true[part] for part in (true["position"] > 2 / 3, true["position"] < 1 / 3))
        found.append(
            about(
                _gap(late) - _gap(early),
                AtLeast(0.0, weak=-0.02),
                statement="Late layers set classes apart more than early ones",
                paper_value="–",
                quantity="within minus between classes, last third of the layers minus first,",
                opposite=0.0,
            )
        )
        if len(random):
            found.append(
                about(
                    _gap(random) - _gap(true),
                    Below(0),
                    statement="With random labels, classes are set apart less",
                    paper_value="–",
                    quantity="within minus between classes, random labels minus true",
                    opposite=0.0,
                )
            )
    return table(found)


def _difference(one: pd.DataFrame, other: pd.DataFrame) -> pd.Series:
    """Mean over layers of the absolute difference of stiffness over all pairs, by seed."""
    difference = one.set_index(["seed", "number"])["all"] - other.set_index(["seed", "number"])["all"]
    return difference.abs().groupby("seed").mean()


def _gap(rows: pd.DataFrame) -> pd.Series:
    """Mean over layers of stiffness within minus between classes, by seed."""
    return (rows["within"] - rows["between"]).groupby(rows["seed"]).mean()


def _at_peak(run: pd.DataFrame, column: str) -> float:
    """A column at the trained epoch with the largest stiffness within classes."""
    trained = run[run["epoch"] > 0]
    return float(trained[column].to_numpy()[int(trained[WITHIN].to_numpy().argmax())])


def _of_runs(rows: pd.DataFrame, value: Callable[[pd.DataFrame], float]) -> pd.Series:
    """A number of each run, by seed; missing where it is no number."""
    found = {int(run["seed"].iloc[0]): value(run.sort_values("epoch")) for _, run in rows.groupby("run_id", sort=False)}
    return pd.Series(
        {seed: number if math.isfinite(number) else math.nan for seed, number in found.items()}, dtype=float
    )
