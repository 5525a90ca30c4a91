"""Claims of 'Image functions in neural networks: a perspective on generalization'."""

from __future__ import annotations

from functools import partial

import pandas as pd

from gendyn_lite.chapters.path_functions.claims_similarity import mean_by_seed, of_similarity
from gendyn_lite.chapters.path_functions.tables import (
    RANDOM,
    TRUE,
    correlation,
    layers_of,
    mean_of_layers,
    milestones,
    named,
    networks_of_ratio,
)
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table
from gendyn_lite.results.tables import with_sizes

PAPER = "Image functions (anonymous)"


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
        about = partial(judge, subject=str(subject))
        found += of_similarity(group, about)
        found += _of_franken_functions(group, about)
        if any(str(name).startswith("neighbours/") and group[name].notna().any() for name in group.columns):
            found += [*_of_neighbours(group, about), _of_isolation(group, about)]
    return table(found)


def _of_franken_functions(group: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Loss along the network's own paths against that along the paths of the epoch before, before the first decay."""
    rows = named(group)
    first = min(milestones(group), default=int(rows["epoch"].max()))
    early = rows[(rows["epoch"] >= 1) & (rows["epoch"] <= first)]
    found = []
    for runs in (TRUE, RANDOM):
        part = early[early["runs"] == runs]
        if part.empty:
            continue
        found.append(
            about(
                _today_minus_yesterday(part, "paths", "loss"),
                AtLeast(0.05, weak=0.0),
                statement=f"On {runs}, the path that an image is newly given fits it worse than yesterday's",
                source="Sec. 5, 'franken-function'",
                paper_value="expected",
                quantity="loss along today's paths minus along yesterday's, before the first decay, in nats,",
                opposite=0.0,
            )
        )
    return found


def _today_minus_yesterday(rows: pd.DataFrame, images: str, what: str) -> pd.Series:
    """Loss or accuracy of some images along their paths of today minus along yesterday's: mean over epochs, by seed."""
    return (rows[f"{images}/own:{what}"] - rows[f"{images}/before:{what}"]).groupby(rows["seed"]).mean()


def _of_neighbours(group: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Fig. 4 and 6, App. E."""
    rows = named(group)
    true = rows[rows["runs"] == TRUE]
    layers = layers_of(group, str(group["network"].iloc[0]))
    second, last = layers[min(1, len(layers) - 1)], layers[-1]
    ends = true.sort_values("epoch").groupby("run_id").tail(1).set_index("seed")
    found = [
        about(
            ends[f"distance/{layer}:rank"].abs(),
            Below(0.7),
            statement=f"Path overlap does not simply follow the distance of the images ({words})",
            source="Fig. 4",
            paper_value="no clean linear relationship",
            quantity="size of the rank correlation at the end",
            opposite=1.0,
        )
        for layer, words in ((second, "second layer"), (last, "last layer"))
    ]
    later = true[true["epoch"] >= 1]
    kinds = [
        (f"neighbours/{second}:changed", AtLeast(0.1, weak=0.01), "its path", "Fig. 6", 0.0,
         "share of images whose nearest one is another than an epoch before"),
        (f"activations/{last}:kept", Below(0.9), "its activations", "App. E", 1.0,
         "share of the six nearest that were among them an epoch before"),
    ]  # fmt: skip
    for column, criterion, words, source, opposite, quantity in kinds:
        found.append(
            about(
                later.groupby("seed")[column].mean(),
                criterion,
                statement=f"Which images are nearest to an image by {words} changes during training",
                source=source,
                paper_value="different neighbours",
                quantity=f"{quantity}, mean over epochs,",
                opposite=opposite,
            )
        )
    return found


def _of_isolation(group: pd.DataFrame, about: partial[Claim]) -> Claim:
    """App. C: an image's update as a network of its own."""
    rows = named(group)
    late = rows[(rows["runs"] == TRUE) & (rows["epoch"] >= 1)]
    return about(
        late.groupby("seed")["isolation/mean"].mean(),
        Below(0.5),
        statement="An image's update in isolation is a function little correlated with the whole network's",
        source="Sec. 1, App. C",
        paper_value="may not be too correlated",
        quantity="mean correlation over images and epochs",
        opposite=1.0,
    )


def unseen(runs: pd.DataFrame) -> pd.DataFrame:
    """Is the difference between the two losses there only for images that were trained on? Of ``"path_unseen"``.

    Args:
        runs: A tidy table.
    """
    found = []
    for subject, group in with_sizes(runs).groupby("subject", sort=False):
        later = group[group["epoch"] >= 1]
        about = partial(judge, subject=str(subject))
        found.append(
            about(
                _today_minus_yesterday(later, "unseen", "loss") / _today_minus_yesterday(later, "trained", "loss"),
                Below(0.5),
                statement="Yesterday's paths fit better since training went along them: unseen images do not share it",
                source="Sec. 5, put to a test of ours",
                paper_value="implied",
                quantity="difference of the two losses, unseen images over training images,",
                opposite=1.0,
            )
        )
        found.append(
            about(
                _today_minus_yesterday(later, "unseen", "accuracy"),
                Near(0, margin=0.02),
                statement="Unseen images are recognized equally often along today's paths and along yesterday's",
                source="beyond the paper; added when the runs had been seen",
                paper_value="–",
                quantity="accuracy along today's paths minus along yesterday's",
                opposite=0.0,
            )
        )
    return table(found)


def ratio(runs: pd.DataFrame) -> pd.DataFrame:
    """The claim of Fig. 7 on runs of experiment ``"path_ratio"``: does the early-to-mid ratio predict generalization?

    The interval is a bootstrap over the networks; `n_seeds` is the number of seeds of each.

    Args:
        runs: A tidy table.
    """
    found = []
    falls = Below(-0.5)
    tested: dict[str, tuple[str, bool, str, AtLeast | Below]] = {
        "falls in rank with generalization error": ("gap", False, "Fig. 7", falls),
        "falls linearly with generalization error": ("gap", True, "Fig. 7", falls),
        "falls in rank with the error on test images": ("test_error", False, "beyond the paper", falls),
        "rises in rank with the error on training images": (
            "train_error", False, "beyond the paper; added when the runs had been seen", AtLeast(0.5, weak=0.3),
        ),
    }  # fmt: skip
    for (data, _), group in with_sizes(runs, of="data").groupby(["data", "size"], sort=False):
        networks = networks_of_ratio(group)
        size = f"n = {group['n_train'].iloc[0]:,}{group['rest'].iloc[0]}"
        for said, (column, linear, source, criterion) in tested.items():
            value, low, high = correlation(networks["ratio"].tolist(), networks[column].tolist(), linear=linear)
            kind = "Pearson" if linear else "Spearman"
            found.append(
                Claim(
                    statement=f"The early-to-mid ratio of cross-path similarity {said}",
                    source=source,
                    paper_value="a roughly linear relationship" if column == "gap" else "–",
                    criterion=f"{kind} correlation over networks (bootstrap) is {criterion}",
                    subject=f"{len(networks)} networks on {data}, {size}",
                    value=value,
                    low=low,
                    high=high,
                    n_seeds=int(networks["seeds"].min()),
                    effect=value,
                    verdict=criterion.verdict(value, low, high),
                )
            )
    return table(found)


def relative_height(deep: pd.DataFrame, networks: pd.DataFrame) -> pd.DataFrame:
    """The claim of Sec. 6.2 that ResNet-18's similarities are higher than AlexNet's.

    Between two epochs a path changes more, the more steps are taken: the claim can be tested only where both networks
    take as many steps an epoch, on as many images. Each size at which they do is a test of its own.

    Args:
        deep: Runs of experiment ``"path_deep"``.
        networks: Runs of experiment ``"path_networks"``.
    """
    keys = ["data", "n_train", "batch_size", "epochs"]
    resnets, alexnets = (
        with_sizes(rows[rows["model"] == model]).groupby([*keys, "rest"], sort=False)
        for rows, model in ((deep, "resnet18"), (networks, "alexnet_small"))
    )
    means = [
        {key: mean_by_seed(mean_of_layers(rows, "cross"), TRUE) for key, rows in each} for each in (resnets, alexnets)
    ]
    found = {
        f"{data}, n = {n:,}{rest}{other}": high - low
        for (data, n, *same, rest), high in means[0].items()
        for (*place, other), low in means[1].items()
        if place == [data, n, *same]
    }
    about = partial(
        judge,
        criterion=AtLeast(0.02, weak=0.0),
        statement="Cross-path similarity is higher in ResNet-18 than in AlexNet",
        source="Sec. 6.2, Fig. 2",
        paper_value="in general higher",
        quantity="difference of means at equal numbers of images and steps",
        opposite=0.0,
    )
    if len(found) < 2:
        return table([about(next(iter(found.values()), pd.Series(dtype=float)), subject="ResNet-18 beside AlexNet")])
    return table([about(values, subject=f"ResNet-18 beside AlexNet on {place}") for place, values in found.items()])


def _relative_height(runs: pd.DataFrame) -> pd.DataFrame:
    """Deep networks beside AlexNet."""
    deep = runs["experiment"] == "path_deep"
    return relative_height(runs[deep], runs[~deep])


SECTIONS = (
    Section(PAPER, PUBLISHED, ("path_networks",), over_training),
    Section(PAPER, PUBLISHED, ("path_unseen",), unseen),
    Section(PAPER, "deeper-networks", ("path_deep",), over_training),
    Section(PAPER, "deeper-networks", ("path_deep", "path_networks"), _relative_height),
    Section(PAPER, "many-networks-published", ("path_ratio",), ratio),
)
