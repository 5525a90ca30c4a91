"""Claims of 'Image functions in neural networks: a perspective on generalization'."""

from __future__ import annotations

import pandas as pd

from gendyn_lite.chapters.path_functions import tables
from gendyn_lite.chapters.path_functions.tables import CONSTANT, RANDOM, TRUE
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Evidence, Near, judge_all, table
from gendyn_lite.results.tables import with_sizes

PAPER = "Image functions (anonymous)"
PERFECT = 0.99  # a cosine from here on counts as perfect
ENDS = 3  # epochs at each end of training
Row = tuple[str, Evidence]  # a claim in our words, and what decides it


def over_training(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on how paths change during training, of runs of ``"path_networks"`` or ``"path_deep"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. A claim whose runs are missing is
        there, with n_seeds = 0 and no verdict.
    """
    found: list[Claim] = []
    for subject, group in with_sizes(runs).groupby("subject", sort=False):
        rows = [*_of_similarity(group), *_of_franken_functions(group)]
        if any(str(name).startswith("neighbours/") and group[name].notna().any() for name in group.columns):
            rows += _of_neighbours(group)
        found += judge_all(str(subject), rows)
    return table(found)


def _of_similarity(group: pd.DataFrame) -> list[Row]:
    """Fig. 1, 2, 3, 5, 16, and what the decay of the learning rate and random labels have to do with it."""
    cross, own = (tables.mean_of_layers(group, measure) for measure in ("cross", "self"))
    rise = _rise(cross, TRUE)
    rows = [
        *_of_imperfection(tables.long_paths(group)),
        (
            "Cross-path similarity is higher late in training than early",
            Evidence(
                rise,
                AtLeast(0.05, weak=0.0),
                "Sec. 6.2, 6.3",
                "more correlated later",
                f"mean over layers, last {ENDS} epochs minus first {ENDS},",
            ),
        ),
        (
            "An image's path changes most at the beginning of training",
            Evidence(
                -_rise(own, TRUE),
                Below(-0.05),
                "Fig. 5",
                "especially in the beginning",
                f"self-similarity, first {ENDS} epochs minus last {ENDS},",
            ),
        ),
    ]
    if (cross["runs"] == CONSTANT).any():
        rows.append(
            (
                "Similarity rises late also where the learning rate does not decay",
                Evidence(
                    _rise(cross, CONSTANT) / rise,
                    AtLeast(0.5, weak=0.25),
                    "beyond the paper",
                    "–",
                    "rise without decay over rise with it",
                ),
            )
        )
    if (cross["runs"] == RANDOM).any():
        rows.append(
            (
                "With random labels, which do not generalize, paths are less diverse over training",
                Evidence(
                    _mean_by_seed(cross, RANDOM) - _mean_by_seed(cross, TRUE),
                    AtLeast(0.02, weak=0.0),
                    "its hypothesis (Sec. 1), put to a test of ours",
                    "expected",
                    "cross-path similarity on random minus true labels, mean over epochs,",
                ),
            )
        )
    return rows


def _of_imperfection(rows: pd.DataFrame) -> list[Row]:
    """Most epochs change the paths of pairs, in the first recorded layer and in the last."""
    true = rows[(rows["runs"] == TRUE) & (rows["of"] == "paths")]
    cross = true[true["measure"] == "cross"]
    below = cross.assign(below=cross["q50"] < PERFECT)
    return [
        (
            f"For most of training, cross-path similarity is not perfect in the {words} recorded layer",
            Evidence(
                below[below["number"] == number].groupby("seed")["below"].mean(),
                AtLeast(0.5, weak=0.25),
                "Fig. 1-3, 16",
                "a majority of training",
                f"share of epochs with a median below {PERFECT:g}",
            ),
        )
        for words, number in (("first", true["number"].min()), ("last", true["number"].max()))
    ]


def _rise(values: pd.DataFrame, runs: str) -> pd.Series:
    """Mean of the last epochs minus that of the first ones, by seed."""
    found = values[values["runs"] == runs].sort_values("epoch", kind="stable").groupby("seed")["value"]
    return found.agg(lambda run: run.tail(ENDS).mean() - run.head(ENDS).mean())


def _mean_by_seed(values: pd.DataFrame, runs: str) -> pd.Series:
    """Mean over epochs of one kind of runs, by seed."""
    return values[values["runs"] == runs].groupby("seed")["value"].mean()


def _of_franken_functions(group: pd.DataFrame) -> list[Row]:
    """Loss along the network's own paths against that along the paths of the epoch before, before the first decay."""
    rows = tables.named(group)
    first = min(tables.milestones(group), default=int(rows["epoch"].max()))
    early = rows[(rows["epoch"] >= 1) & (rows["epoch"] <= first)]
    return [
        (
            f"On {runs}, the path that an image is newly given fits it worse than yesterday's",
            Evidence(
                _today_minus_yesterday(early[early["runs"] == runs], "paths", "loss"),
                AtLeast(0.05, weak=0.0),
                "Sec. 5, 'franken-function'",
                "expected",
                "loss along today's paths minus along yesterday's, before the first decay, in nats,",
            ),
        )
        for runs in (TRUE, RANDOM)
        if (early["runs"] == runs).any()
    ]


def _today_minus_yesterday(rows: pd.DataFrame, images: str, what: str) -> pd.Series:
    """Loss or accuracy of some images along their paths of today minus along yesterday's: mean over epochs, by seed."""
    return (rows[f"{images}/own:{what}"] - rows[f"{images}/before:{what}"]).groupby(rows["seed"]).mean()


def _of_neighbours(group: pd.DataFrame) -> list[Row]:
    """Fig. 4 and 6, App. E; and App. C, an image's update as a network of its own."""
    rows = tables.named(group)
    true = rows[rows["runs"] == TRUE]
    layers = tables.layers_of(group, str(group["network"].iloc[0]))
    second, last = layers[min(1, len(layers) - 1)], layers[-1]
    ends = true.sort_values("epoch", kind="stable").groupby("run_id").tail(1).set_index("seed")
    later = true[true["epoch"] >= 1].groupby("seed")
    changes = "Which images are nearest to an image by its {} changes during training"
    return [
        *(
            (
                f"Path overlap does not simply follow the distance of the images ({words})",
                Evidence(
                    ends[f"distance/{layer}:rank"].abs(),
                    Below(0.7),
                    "Fig. 4",
                    "no clean linear relationship",
                    "size of the rank correlation at the end",
                    1.0,
                ),
            )
            for layer, words in ((second, "second layer"), (last, "last layer"))
        ),
        (
            changes.format("path"),
            Evidence(
                later[f"neighbours/{second}:changed"].mean(),
                AtLeast(0.1, weak=0.01),
                "Fig. 6",
                "different neighbours",
                "share of images whose nearest one is another than an epoch before, mean over epochs,",
            ),
        ),
        (
            changes.format("activations"),
            Evidence(
                later[f"activations/{last}:kept"].mean(),
                Below(0.9),
                "App. E",
                "different neighbours",
                "share of the six nearest that were among them an epoch before, mean over epochs,",
                1.0,
            ),
        ),
        (
            "An image's update in isolation is a function little correlated with the whole network's",
            Evidence(
                later["isolation/mean"].mean(),
                Below(0.5),
                "Sec. 1, App. C",
                "may not be too correlated",
                "mean correlation over images and epochs",
                1.0,
            ),
        ),
    ]


def unseen(runs: pd.DataFrame) -> pd.DataFrame:
    """Is the difference between the two losses there only for images that were trained on? Of ``"path_unseen"``.

    Args:
        runs: A tidy table.
    """
    found = []
    for subject, group in with_sizes(runs).groupby("subject", sort=False):
        later = group[group["epoch"] >= 1]
        losses, trained = (_today_minus_yesterday(later, images, "loss") for images in ("unseen", "trained"))
        rows: list[Row] = [
            (
                "Yesterday's paths fit better since training went along them: unseen images do not share it",
                Evidence(
                    losses / trained,
                    Below(0.5),
                    "Sec. 5, put to a test of ours",
                    "implied",
                    "difference of the two losses, unseen images over training images,",
                    1.0,
                ),
            ),
            (
                "Unseen images are recognized equally often along today's paths and along yesterday's",
                Evidence(
                    _today_minus_yesterday(later, "unseen", "accuracy"),
                    Near(0, margin=0.02),
                    "beyond the paper; added when the runs had been seen",
                    "–",
                    "accuracy along today's paths minus along yesterday's",
                ),
            ),
        ]
        found += judge_all(str(subject), rows)
    return table(found)


def ratio(runs: pd.DataFrame) -> pd.DataFrame:
    """The claim of Fig. 7 on runs of experiment ``"path_ratio"``: does the early-to-mid ratio predict generalization?

    The interval is a bootstrap over the networks; `n_seeds` is the number of seeds of each.

    Args:
        runs: A tidy table.
    """
    falls, linear = Below(-0.5), "a roughly linear relationship"
    tested = [
        ("gap", "Spearman", falls, "falls in rank with generalization error", "Fig. 7", linear),
        ("gap", "Pearson", falls, "falls linearly with generalization error", "Fig. 7", linear),
        ("test_error", "Spearman", falls, "falls in rank with the error on test images", "beyond the paper", "–"),
        (
            "train_error",
            "Spearman",
            AtLeast(0.5, weak=0.3),
            "rises in rank with the error on training images",
            "beyond the paper; added when the runs had been seen",
            "–",
        ),
    ]
    found = []
    for (data, _), group in with_sizes(runs, of="data").groupby(["data", "size"], sort=False):
        networks = tables.networks_of_ratio(group)
        for column, kind, criterion, said, source, paper_value in tested:
            value, low, high = tables.correlation(
                networks["ratio"].tolist(), networks[column].tolist(), linear=kind == "Pearson"
            )
            found.append(
                Claim(
                    statement=f"The early-to-mid ratio of cross-path similarity {said}",
                    source=source,
                    paper_value=paper_value,
                    criterion=f"{kind} correlation over networks (bootstrap) is {criterion}",
                    subject=f"{len(networks)} networks on {data}, n = {group['n_train'].iloc[0]:,}"
                    f"{group['rest'].iloc[0]}",
                    value=value,
                    low=low,
                    high=high,
                    n_seeds=int(networks["seeds"].min()),
                    effect=value,
                    verdict=criterion.verdict(value, low, high),
                )
            )
    return table(found)


def relative_height(*runs: pd.DataFrame) -> pd.DataFrame:
    """The claim of Sec. 6.2 that ResNet-18's similarities are higher than AlexNet's.

    Between two epochs a path changes more, the more steps are taken: the claim can be tested only where both networks
    take as many steps an epoch, on as many images. Each size at which they do is a test of its own.

    Args:
        *runs: Runs of experiments ``"path_deep"`` and ``"path_networks"``, in one table or in several.
    """
    every = pd.concat(runs, ignore_index=True)
    keys = ["data", "n_train", "batch_size", "epochs", "rest"]
    resnets, alexnets = (
        {
            key: _mean_by_seed(tables.mean_of_layers(rows, "cross"), TRUE)
            for key, rows in with_sizes(every[every["model"] == model]).groupby(keys, sort=False)
        }
        for model in ("resnet18", "alexnet_small")
    )
    subject = "ResNet-18 beside AlexNet"
    found = {
        f"{subject} on {data}, n = {n:,}{rest}{other}": high - low
        for (data, n, *same, rest), high in resnets.items()
        for (*place, other), low in alexnets.items()
        if place == [data, n, *same]
    }
    if len(found) < 2:
        found = {subject: next(iter(found.values()), pd.Series(dtype=float))}
    said = "Cross-path similarity is higher in ResNet-18 than in AlexNet"
    paper, quantity = (
        ("Sec. 6.2, Fig. 2", "in general higher"),
        "difference of means at equal numbers of images and steps",
    )
    claims = []
    for subject, values in found.items():
        claims += judge_all(subject, [(said, Evidence(values, AtLeast(0.02, weak=0.0), *paper, quantity))])
    return table(claims)


SECTIONS = (
    Section(PAPER, PUBLISHED, ("path_networks",), over_training),
    Section(PAPER, PUBLISHED, ("path_unseen",), unseen),
    Section(PAPER, "deeper-networks", ("path_deep",), over_training),
    Section(PAPER, "deeper-networks", ("path_deep", "path_networks"), relative_height),
    Section(PAPER, "many-networks-published", ("path_ratio",), ratio),
)
