"""Claims of 'Image functions in neural networks: a perspective on generalization'."""

from __future__ import annotations

from functools import partial

import pandas as pd

from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, Near, judge, table
from gendyn_lite.results.paths import (
    CONSTANT,
    RANDOM,
    TRUE,
    correlation,
    layers_of,
    long_paths,
    mean_of_layers,
    milestones,
    named,
    networks_of_ratio,
)

PERFECT = 0.99  # a cosine from here on counts as perfect
ENDS = 3  # epochs at each end of training


def over_training(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on how paths change during training, of runs of ``"path_networks"`` or ``"path_deep"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. A claim whose runs are missing is
        there, with n_seeds = 0 and no verdict.
    """
    found: list[Claim] = []
    for (data, network, count), group in runs.groupby(["data", "network", "n_train"], sort=False):
        about = partial(judge, subject=f"{network} on {data}, n = {count:,}")
        found += _of_similarity(group, about)
        found += _of_franken_functions(group, about)
        if any(str(name).startswith("neighbours/") and group[name].notna().any() for name in group.columns):
            found += [*_of_neighbours(group, about), _of_isolation(group, about)]
    return table(found)


def _of_similarity(group: pd.DataFrame, about: partial[Claim]) -> list[Claim]:
    """Fig. 1, 2, 3, 5, 16, and what the decay of the learning rate and random labels have to do with it."""
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
    cross, own = (mean_of_layers(group, measure) for measure in ("cross", "self"))
    rise = _rise(cross, TRUE)
    found += [
        about(
            rise,
            AtLeast(0.05, weak=0.0),
            statement="Cross-path similarity is higher late in training than early",
            source="Sec. 6.2, 6.3",
            paper_value="more correlated later",
            quantity=f"mean over layers, last {ENDS} epochs minus first {ENDS},",
            opposite=0.0,
        ),
        about(
            -_rise(own, TRUE),
            Below(-0.05),
            statement="An image's path changes most at the beginning of training",
            source="Fig. 5",
            paper_value="especially in the beginning",
            quantity=f"self-similarity, first {ENDS} epochs minus last {ENDS},",
            opposite=0.0,
        ),
    ]
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
                _mean_by_seed(cross, RANDOM) - _mean_by_seed(cross, TRUE),
                AtLeast(0.02, weak=0.0),
                statement="With random labels, which do not generalize, paths are less diverse over training",
                source="its hypothesis (Sec. 1), put to a test of ours",
                paper_value="expected",
                quantity="cross-path similarity on random minus true labels, mean over epochs,",
                opposite=0.0,
            )
        )
    return found


def _rise(values: pd.DataFrame, runs: str) -> pd.Series:
    """Mean of the last epochs minus that of the first ones, by seed."""
    found = {}
    for seed, run in values[values["runs"] == runs].sort_values("epoch").groupby("seed"):
        found[seed] = run["value"].tail(ENDS).mean() - run["value"].head(ENDS).mean()
    return pd.Series(found, dtype=float)


def _mean_by_seed(values: pd.DataFrame, runs: str) -> pd.Series:
    return values[values["runs"] == runs].groupby("seed")["value"].mean()


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
        difference = (part["paths/own:loss"] - part["paths/before:loss"]).groupby(part["seed"]).mean()
        found.append(
            about(
                difference,
                AtLeast(0.05, weak=0.0),
                statement=f"On {runs}, the path that an image is newly given fits it worse than yesterday's",
                source="Sec. 5, 'franken-function'",
                paper_value="expected",
                quantity="loss along today's paths minus along yesterday's, before the first decay, in nats,",
                opposite=0.0,
            )
        )
    return found


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
    for (data, network, count), group in runs.groupby(["data", "network", "n_train"], sort=False):
        later = group[group["epoch"] >= 1]
        gaps = {
            kind: (later[f"{kind}/own:loss"] - later[f"{kind}/before:loss"]).groupby(later["seed"]).mean()
            for kind in ("trained", "unseen")
        }
        found.append(
            judge(
                gaps["unseen"] / gaps["trained"],
                Below(0.5),
                statement="Yesterday's paths fit better since training went along them: unseen images do not share it",
                source="Sec. 5, put to a test of ours",
                paper_value="implied",
                quantity="difference of the two losses, unseen images over training images,",
                subject=f"{network} on {data}, n = {count:,}",
                opposite=1.0,
            )
        )
        right = (later["unseen/own:accuracy"] - later["unseen/before:accuracy"]).groupby(later["seed"]).mean()
        found.append(
            judge(
                right,
                Near(0, margin=0.02),
                statement="Unseen images are recognized equally often along today's paths and along yesterday's",
                source="beyond the paper; added when the runs had been seen",
                paper_value="–",
                quantity="accuracy along today's paths minus along yesterday's",
                subject=f"{network} on {data}, n = {count:,}",
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
    for data, group in runs.groupby("data", sort=False):
        networks = networks_of_ratio(group)
        for said, (column, linear, source, criterion) in tested.items():
            value, low, high = correlation(networks["ratio"].tolist(), networks[column].tolist(), linear=linear)
            kind = "Pearson" if linear else "Spearman"
            found.append(
                Claim(
                    statement=f"The early-to-mid ratio of cross-path similarity {said}",
                    source=source,
                    paper_value="a roughly linear relationship" if column == "gap" else "–",
                    criterion=f"{kind} correlation over networks (bootstrap) is {criterion}",
                    subject=f"{len(networks)} networks on {data}, n = {group['n_train'].iloc[0]:,}",
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
    take as many steps an epoch, on as many images.

    Args:
        deep: Runs of experiment ``"path_deep"``.
        networks: Runs of experiment ``"path_networks"``.
    """
    values = pd.Series(dtype=float)
    resnet = deep[deep["model"] == "resnet18"]
    same = networks[networks["model"] == "alexnet_small"]
    for name in ("n_train", "batch_size", "data"):
        same = same[same[name].isin(resnet[name].unique())]
    if len(same) and len(resnet):
        values = _mean_by_seed(mean_of_layers(resnet, "cross"), TRUE) - _mean_by_seed(
            mean_of_layers(same, "cross"), TRUE
        )
    claim = judge(
        values,
        AtLeast(0.02, weak=0.0),
        statement="Cross-path similarity is higher in ResNet-18 than in AlexNet",
        source="Sec. 6.2, Fig. 2",
        paper_value="in general higher",
        quantity="difference of means at equal numbers of images and steps",
        subject="ResNet-18 beside AlexNet",
        opposite=0.0,
    )
    return table([claim])
