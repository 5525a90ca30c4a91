"""Claims of Fort et al. (2019), 'Stiffness', on training, and of the first figure of Walker's report on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pandas as pd

from gendyn_lite.chapters.stiffness import claims_layers
from gendyn_lite.chapters.stiffness.claims_layers import WALKER
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table
from gendyn_lite.results.tables import with_sizes

WITHIN, BETWEEN = "stiffness/within_cosine", "stiffness/between_cosine"
TEST_WITHIN, LENGTH = "stiffness/test_within_cosine", "stiffness/critical_length"
FORT = "Fort et al."
PAPER = "Fort et al. (2019); Walker"


def during_training(runs: pd.DataFrame) -> pd.DataFrame:
    """Claims on stiffness during training, of runs of experiment ``"stiffness_training"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`.
    """
    found: list[Claim] = []
    for _, group in with_sizes(runs).groupby("subject", sort=False):
        found += _during(group)
    return table(found)


def _during(group: pd.DataFrame) -> list[Claim]:
    """Every claim on one network and data set: one learning rate, several of them, random labels."""
    first = group.iloc[0]
    true, random = (group[group["label_corruption"] == q] for q in (0.0, 1.0))
    rates = sorted(true["learning_rate"].unique())
    about = partial(judge, subject=str(first["subject"]))
    main = true[true["learning_rate"] == rates[len(rates) // 2]]
    found = [*_of_classes(main, about), _of_length(main, about)]
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


def _of_classes(main: pd.DataFrame, about: Callable[..., Claim]) -> list[Claim]:
    """Stiffness within classes: beside that between them, at the end, and of training with test examples."""
    return [
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
    ]


def _of_length(main: pd.DataFrame, about: Callable[..., Claim]) -> Claim:
    return about(
        _of_runs(main, lambda run: run[LENGTH].iloc[-1] / run[LENGTH].iloc[1]),
        Below(1),
        statement="The critical length falls with training",
        source=f"{FORT}, Fig. 7",
        paper_value="falls",
        quantity="critical length at the end over that after the first epochs",
        opposite=1.0,
    )


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
    for _, group in with_sizes(runs).groupby(["data", "network", "size"], sort=False):
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
                subject=f"{first['network']} on {first['data']}{first['size']}",
                opposite=0.0,
            )
        )
    return table(found)


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


SECTIONS = (
    Section(PAPER, PUBLISHED, ("stiffness_maps",), over_the_plane),
    Section(PAPER, PUBLISHED, ("stiffness_layers",), claims_layers.by_layer),
    Section(PAPER, PUBLISHED, ("stiffness_training",), during_training),
    Section(PAPER, PUBLISHED, ("stiffness_deep",), claims_layers.of_deep_networks),
)
