"""Claims on the stiffness of layers: readings of the figures of Walker's report, and of deep networks beyond it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from gendyn_lite.chapters.stiffness.tables import long_layers, of_fitted_runs
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table
from gendyn_lite.results.tables import with_sizes

WALKER = "Walker"


def by_layer(runs: pd.DataFrame) -> pd.DataFrame:
    """Readings of Walker's Fig. 2 to 5, of runs of experiment ``"stiffness_layers"`` that fitted their points.

    The figures show the stiffness of an example with a sample of both categories: the mean over all pairs.
    """
    rows = of_fitted_runs(long_layers(runs))
    sets = rows["data"].unique()
    rows = with_sizes(rows[(rows["depth"] == 4) & (rows["width"] == 32)], of="data")
    rows = rows.sort_values("data", key=lambda names: names.map(list(sets).index), kind="stable")
    found: list[Claim] = []
    for (data, size), base in rows.groupby(["data", "size"], sort=False):
        about = partial(judge, subject=f"mlp (4 hidden layers of 32) on {data}{size}")
        found += [*_of_training(base[base["activation"] == "relu"], about), *_of_activations(base, about)]
    return table(found)


def _of_training(relu: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Fig. 2 and 3: layers of networks of ReLU, trained against untrained and against each other."""
    trained, untrained = (relu[relu["state"] == state] for state in ("trained", "untrained"))
    return [
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
            trained.groupby("seed")["all"].agg(np.ptp),
            AtLeast(0.1, weak=0.05),
            statement="Stiffness changes through the layers of a trained network",
            source=f"{WALKER}, Fig. 2, 3",
            paper_value="seen in the figure",
            quantity="largest minus smallest stiffness over layers",
            opposite=0.0,
        ),
    ]


def _of_activations(base: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Fig. 4 and 5: trained networks of other activations against those of ReLU."""
    trained = base[base["state"] == "trained"]
    relu, tanh, leaky = (trained[trained["activation"] == kind] for kind in ("relu", "tanh", "leaky_relu"))
    return [
        about(
            _difference(tanh, relu),
            AtLeast(0.1, weak=0.05),
            statement="Networks of tanh have another profile through the layers than those of ReLU",
            source=f"{WALKER}, Fig. 4",
            paper_value="seen in the figure",
            quantity="mean over layers of the difference, either way,",
            opposite=0.0,
        ),
        about(
            leaky.groupby("seed")["all"].mean() - relu.groupby("seed")["all"].mean(),
            Near(0, margin=0.1),
            statement="Networks of LeakyReLU are as stiff as those of ReLU",
            source=f"{WALKER}, Fig. 5",
            paper_value="–",
            quantity="mean stiffness over layers, LeakyReLU minus ReLU,",
            opposite=0.0,
        ),
    ]


def of_deep_networks(runs: pd.DataFrame) -> pd.DataFrame:
    """Beyond both papers: layers of ResNet-18 and VGG-19, of runs of experiment ``"stiffness_deep"``."""
    rows = long_layers(runs)
    found: list[Claim] = []
    for subject, group in with_sizes(rows).groupby("subject", sort=False):
        about = partial(judge, subject=str(subject), source="beyond both papers")
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
