"""Claims on how alike paths are to those of the epoch before, of 'Image functions in neural networks'."""

from __future__ import annotations

from functools import partial

import pandas as pd

from gendyn_lite.chapters.path_functions.tables import CONSTANT, RANDOM, TRUE, long_paths, mean_of_layers
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim

PERFECT = 0.99  # a cosine from here on counts as perfect
ENDS = 3  # epochs at each end of training


def of_similarity(group: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Fig. 1, 2, 3, 5, 16, and what the decay of the learning rate and random labels have to do with it.

    Args:
        group: Runs of one network on one data set, of experiment ``"path_networks"`` or ``"path_deep"``.
        about: `judge` with its subject.
    """
    cross, own = (mean_of_layers(group, measure) for measure in ("cross", "self"))
    rise = _rise(cross, TRUE)
    found = [*_of_imperfection(group, about), *_of_its_course(rise, _rise(own, TRUE), about)]
    if (cross["runs"] == CONSTANT).any():
        found.append(
            about(
                _rise(cross, CONSTANT) / rise,
                AtLeast(0.5, weak=0.25),
                statement="Similarity rises late also where the learning rate does not decay",
                source="beyond the paper",
                paper_value="–",
                quantity="rise without decay over rise with it",
                opposite=0.0,
            )
        )
    if (cross["runs"] == RANDOM).any():
        found.append(
            about(
                mean_by_seed(cross, RANDOM) - mean_by_seed(cross, TRUE),
                AtLeast(0.02, weak=0.0),
                statement="With random labels, which do not generalize, paths are less diverse over training",
                source="its hypothesis (Sec. 1), put to a test of ours",
                paper_value="expected",
                quantity="cross-path similarity on random minus true labels, mean over epochs,",
                opposite=0.0,
            )
        )
    return found


def _of_imperfection(group: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Most epochs change the paths of pairs, in the first recorded layer and in the last."""
    rows = long_paths(group)
    true = rows[(rows["runs"] == TRUE) & (rows["of"] == "paths")]
    found = []
    for words, number in (("first", true["number"].min()), ("last", true["number"].max())):
        layer = true[(true["number"] == number) & (true["measure"] == "cross")]
        found.append(
            about(
                layer.assign(below=layer["q50"] < PERFECT).groupby("seed")["below"].mean(),
                AtLeast(0.5, weak=0.25),
                statement=f"For most of training, cross-path similarity is not perfect in the {words} recorded layer",
                source="Fig. 1-3, 16",
                paper_value="a majority of training",
                quantity=f"share of epochs with a median below {PERFECT:g}",
                opposite=0.0,
            )
        )
    return found


def _of_its_course(cross_rise: pd.Series, own_rise: pd.Series, about: partial[Claim]) -> list[Claim]:
    """Late in training against early, of pairs and of single images."""
    return [
        about(
            cross_rise,
            AtLeast(0.05, weak=0.0),
            statement="Cross-path similarity is higher late in training than early",
            source="Sec. 6.2, 6.3",
            paper_value="more correlated later",
            quantity=f"mean over layers, last {ENDS} epochs minus first {ENDS},",
            opposite=0.0,
        ),
        about(
            -own_rise,
            Below(-0.05),
            statement="An image's path changes most at the beginning of training",
            source="Fig. 5",
            paper_value="especially in the beginning",
            quantity=f"self-similarity, first {ENDS} epochs minus last {ENDS},",
            opposite=0.0,
        ),
    ]


def _rise(values: pd.DataFrame, runs: str) -> pd.Series:
    """Mean of the last epochs minus that of the first ones, by seed."""
    found = {}
    for seed, run in values[values["runs"] == runs].sort_values("epoch").groupby("seed"):
        found[seed] = run["value"].tail(ENDS).mean() - run["value"].head(ENDS).mean()
    return pd.Series(found, dtype=float)


def mean_by_seed(values: pd.DataFrame, runs: str) -> pd.Series:
    """Mean over epochs of one kind of runs, by seed.

    Args:
        values: A table of `gendyn_lite.chapters.path_functions.tables.mean_of_layers`.
        runs: Kind of runs, of its column ``runs``.
    """
    return values[values["runs"] == runs].groupby("seed")["value"].mean()
