"""Claims of 'Image functions in neural networks: a perspective on generalization'.

They are on record in `claims.toml`; here is the statistic of each, by its id.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.path_functions import tables
from gendyn_lite.chapters.path_functions.tables import CONSTANT, RANDOM, TRUE
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.results.tables import with_sizes

PERFECT = 0.99  # a cosine from here on counts as perfect
ENDS = 3  # epochs at each end of training


def _imperfect(rows: pd.DataFrame, which: str) -> pd.Series:
    """Share of epochs whose median similarity is not perfect, in the first or the last recorded layer, by seed."""
    true = rows[(rows["runs"] == TRUE) & (rows["of"] == "paths")]
    cross = true[(true["measure"] == "cross") & (true["number"] == true["number"].agg(which))]
    return cross.assign(below=cross["q50"] < PERFECT).groupby("seed")["below"].mean()


def _has(values: pd.DataFrame, runs: str) -> bool:
    return bool((values["runs"] == runs).any())


def _rise(values: pd.DataFrame, runs: str) -> pd.Series:
    """Mean of the last epochs minus that of the first ones, by seed."""
    found = values[values["runs"] == runs].sort_values("epoch", kind="stable").groupby("seed")["value"]
    return found.agg(lambda run: run.tail(ENDS).mean() - run.head(ENDS).mean())


def _mean_by_seed(values: pd.DataFrame, runs: str) -> pd.Series:
    """Mean over epochs of one kind of runs, by seed."""
    return values[values["runs"] == runs].groupby("seed")["value"].mean()


def _before_decay(group: pd.DataFrame) -> pd.DataFrame:
    """The epochs up to the first decay of the learning rate."""
    rows = tables.named(group)
    first = min(tables.milestones(group), default=int(rows["epoch"].max()))
    return rows[(rows["epoch"] >= 1) & (rows["epoch"] <= first)]


def _today_minus_yesterday(rows: pd.DataFrame, images: str, what: str) -> pd.Series:
    """Loss or accuracy of some images along their paths of today minus along yesterday's: mean over epochs, by seed."""
    return (rows[f"{images}/own:{what}"] - rows[f"{images}/before:{what}"]).groupby(rows["seed"]).mean()


def _newly_given(early: pd.DataFrame, runs: str) -> pd.Series | None:
    return _today_minus_yesterday(early[early["runs"] == runs], "paths", "loss") if _has(early, runs) else None


def _correlation(group: pd.DataFrame, column: str, *, linear: bool = False) -> pd.Series:
    """Correlation of the ratio with a column over networks, of each seed that has three of them."""
    measure = stats.pearsonr if linear else stats.spearmanr
    each = {seed: tables.networks_of_ratio(runs) for seed, runs in group.groupby("seed")}
    found = {seed: measure(rows["ratio"], rows[column]).statistic for seed, rows in each.items() if len(rows) > 2}
    return pd.Series(found, dtype=float)


OF_LAYERS = {"imperfect_first": partial(_imperfect, which="min"), "imperfect_last": partial(_imperfect, which="max")}
OF_SIMILARITY = {
    "higher_late": lambda cross, own: _rise(cross, TRUE),
    "changes_at_first": lambda cross, own: -_rise(own, TRUE),
    "higher_without_decay": lambda cross, own: (
        _rise(cross, CONSTANT) / _rise(cross, TRUE) if _has(cross, CONSTANT) else None
    ),
    "random_less_diverse": lambda cross, own: (
        _mean_by_seed(cross, RANDOM) - _mean_by_seed(cross, TRUE) if _has(cross, RANDOM) else None
    ),
}
# Loss along the network's own paths against that along the paths of the epoch before.
OF_NEW_PATHS = {
    "new_path_worse_true": partial(_newly_given, runs=TRUE),
    "new_path_worse_random": partial(_newly_given, runs=RANDOM),
}
# Of runs on true labels: the last epoch by seed, the epochs after the first by seed, the second and the last layer.
OF_NEIGHBOURS = {
    "no_distance_second": lambda ends, later, second, last: ends[f"distance/{second}:rank"].abs(),
    "no_distance_last": lambda ends, later, second, last: ends[f"distance/{last}:rank"].abs(),
    "neighbours_by_path": lambda ends, later, second, last: later[f"neighbours/{second}:changed"].mean(),
    "neighbours_by_activations": lambda ends, later, second, last: later[f"activations/{last}:kept"].mean(),
    "isolated_update": lambda ends, later, second, last: later["isolation/mean"].mean(),
}
OF_UNSEEN = {
    "unseen_do_not_share": lambda later: (
        _today_minus_yesterday(later, "unseen", "loss") / _today_minus_yesterday(later, "trained", "loss")
    ),
    "unseen_recognized_equally": partial(_today_minus_yesterday, images="unseen", what="accuracy"),
}
OF_RATIO = {
    "ratio_gap_rank": partial(_correlation, column="gap"),
    "ratio_gap_linear": partial(_correlation, column="gap", linear=True),
    "ratio_test_error": partial(_correlation, column="test_error"),
    "ratio_train_error": partial(_correlation, column="train_error"),
}
OF_TWO_NETWORKS = {"resnet_above_alexnet": lambda difference: difference}
OF_TRAINING = (OF_LAYERS, OF_SIMILARITY, OF_NEW_PATHS, OF_NEIGHBOURS)
RECORD = on_record(__file__, *OF_TRAINING, OF_UNSEEN, OF_RATIO, OF_TWO_NETWORKS)


def over_training(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on how paths change during training, of runs of ``"path_networks"`` or ``"path_deep"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. A claim whose runs are missing is
        there, with n_seeds = 0 and no verdict.
    """
    found: list[Claim] = []
    for name, group in with_sizes(runs).groupby("subject", sort=False):
        subject = str(name)
        cross, own = (tables.mean_of_layers(group, measure) for measure in ("cross", "self"))
        found += RECORD.judge(subject, OF_LAYERS, tables.long_paths(group))
        found += RECORD.judge(subject, OF_SIMILARITY, cross, own)
        found += RECORD.judge(subject, OF_NEW_PATHS, _before_decay(group))
        if any(str(column).startswith("neighbours/") and group[column].notna().any() for column in group):
            true = tables.named(group).query("runs == @TRUE")
            ends = true.sort_values("epoch", kind="stable").groupby("run_id").tail(1).set_index("seed")
            layers = tables.layers_of(group, str(group["network"].iloc[0]))
            of_two = layers[min(1, len(layers) - 1)], layers[-1]
            found += RECORD.judge(subject, OF_NEIGHBOURS, ends, true[true["epoch"] >= 1].groupby("seed"), *of_two)
    return table(found)


def unseen(runs: pd.DataFrame) -> pd.DataFrame:
    """Is the difference between the two losses there only for images that were trained on? Of ``"path_unseen"``.

    Args:
        runs: A tidy table.
    """
    groups = with_sizes(runs[runs["epoch"] >= 1]).groupby("subject", sort=False)
    return table(claim for subject, group in groups for claim in RECORD.judge(str(subject), OF_UNSEEN, group))


def ratio(runs: pd.DataFrame) -> pd.DataFrame:
    """The claim of Fig. 7 on runs of experiment ``"path_ratio"``: does the early-to-mid ratio predict generalization?

    Each seed gives one correlation over the networks.

    Args:
        runs: A tidy table.
    """
    found: list[Claim] = []
    for (data, _), group in with_sizes(runs, of="data").groupby(["data", "size"], sort=False):
        networks, first = tables.networks_of_ratio(group), group.iloc[0]
        subject = f"{len(networks)} networks on {data}, n = {first['n_train']:,}{first['rest']}"
        found += RECORD.judge(subject, OF_RATIO, group)
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

    def similarities(model: str) -> dict[Any, pd.Series]:
        groups = with_sizes(every[every["model"] == model]).groupby(keys, sort=False)
        return {key: _mean_by_seed(tables.mean_of_layers(rows, "cross"), TRUE) for key, rows in groups}

    resnets, alexnets, subject = similarities("resnet18"), similarities("alexnet_small"), "ResNet-18 beside AlexNet"
    found = {
        f"{subject} on {data}, n = {n:,}{rest}{other}": high - low
        for (data, n, *same, rest), high in resnets.items()
        for (*place, other), low in alexnets.items()
        if place == [data, n, *same]
    }
    if len(found) < 2:
        found = {subject: next(iter(found.values()), pd.Series(dtype=float))}
    return table(claim for name, values in found.items() for claim in RECORD.judge(name, OF_TWO_NETWORKS, values))


SECTIONS = (
    Section(RECORD, PUBLISHED, ("path_networks",), over_training),
    Section(RECORD, PUBLISHED, ("path_unseen",), unseen),
    Section(RECORD, "deeper-networks", ("path_deep",), over_training),
    Section(RECORD, "deeper-networks", ("path_deep", "path_networks"), relative_height),
    Section(RECORD, "many-networks-published", ("path_ratio",), ratio),
)
