"""Claims of 'Image functions in neural networks: a perspective on generalization'.

The claims are on record in `claims.toml`; this module computes the statistic of each, by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import sub, truediv
from typing import Any

import pandas as pd

from gendyn_lite.chapters.path_functions import tables
from gendyn_lite.chapters.path_functions.tables import CONSTANT, RANDOM, TRUE
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section
from gendyn_lite.results.tables import with_sizes

PERFECT = 0.99  # smallest cosine that counts as perfect
ENDS = 3  # number of epochs that count as the beginning, and as the end, of training
Measure = Callable[[pd.DataFrame, str], pd.Series]  # (values, kind of runs) → a number by seed
Combined = Callable[[pd.Series, pd.Series], pd.Series]


def _imperfect(rows: pd.DataFrame, which: str) -> pd.Series:
    """Return the share of epochs with imperfect median similarity in the first or last recorded layer, by seed."""
    true = rows[(rows["runs"] == TRUE) & (rows["of"] == "paths")]
    cross = true[(true["measure"] == "cross") & (true["number"] == true["number"].agg(which))]
    return cross.assign(below=cross["q50"] < PERFECT).groupby("seed")["below"].mean()


def _has(values: pd.DataFrame, runs: str) -> bool:
    return bool((values["runs"] == runs).any())


def _rise(values: pd.DataFrame, runs: str) -> pd.Series:
    """Subtract the mean over the first epochs from that over the last ones, by seed."""
    found = values[values["runs"] == runs].sort_values("epoch", kind="stable").groupby("seed")["value"]
    return found.agg(lambda run: run.tail(ENDS).mean() - run.head(ENDS).mean())


def _left(values: pd.DataFrame, runs: str) -> pd.Series:
    """Divide the change (1 − similarity) in the last epochs by that in the first ones, by seed."""
    change = values.assign(value=1 - values["value"])[values["runs"] == runs].sort_values("epoch", kind="stable")
    return change.groupby("seed")["value"].agg(lambda run: run.tail(ENDS).mean() / run.head(ENDS).mean())


def _mean_by_seed(values: pd.DataFrame, runs: str) -> pd.Series:
    """Average over the epochs of one kind of runs, by seed."""
    return values[values["runs"] == runs].groupby("seed")["value"].mean()


def _before_decay(group: pd.DataFrame) -> pd.DataFrame:
    """Keep the epochs from 1 to the first decay of the learning rate."""
    rows = tables.named(group)
    first = min(tables.milestones(group), default=int(rows["epoch"].max()))
    return rows[(rows["epoch"] >= 1) & (rows["epoch"] <= first)]


def _today_minus_yesterday(rows: pd.DataFrame, images: str, what: str) -> pd.Series:
    """Subtract the loss (or accuracy) along the previous epoch's paths from that along this epoch's paths.

    Returns:
        The mean over epochs, by seed.
    """
    return (rows[f"{images}/own:{what}"] - rows[f"{images}/before:{what}"]).groupby(rows["seed"]).mean()


def _newly_given(early: pd.DataFrame, runs: str) -> pd.Series | None:
    return _today_minus_yesterday(early[early["runs"] == runs], "paths", "loss") if _has(early, runs) else None


def _with_others(later: Any, layers: list[str]) -> pd.Series:
    """Average the cosine of an image's path with others' paths an epoch before, over epochs and layers, by seed."""
    return later[[f"apart/{layer}:others" for layer in layers]].mean().mean(axis=1)


def _older_left(early: pd.DataFrame, layers: list[str]) -> pd.Series:
    """Subtract self-similarity with one epoch before from that with eight, over the epochs that have both."""
    both = early.dropna(subset=[f"apart/{layer}:self8" for layer in layers])
    pairs = (both[f"apart/{layer}:self8"] - both[f"paths/{layer}:self:mean"] for layer in layers)
    return sum(pairs).groupby(both["seed"]).mean() / len(layers)  # type: ignore[union-attr]


def _against(
    values: dict[str, pd.DataFrame], one: str, other: str, of: Measure = _mean_by_seed, *, how: Combined = sub
) -> pd.Series | None:
    """Compare a measure of two curves on true labels, by seed; None if a curve is missing."""
    return how(of(values[one], TRUE), of(values[other], TRUE)) if one in values and other in values else None


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
# Statistics of the last epoch of runs on true labels by seed, in the second and the last layer.
OF_DISTANCE = {
    f"no_{name}_{place}": partial(lambda ends, layers, probe, kind, at: ends[f"{probe}/{layers[at]}:{kind}"].abs(),
                                  probe=probe, kind=kind, at=at)
    for name, probe, kind in (("distance", "pixels", "linear"), ("rank", "pixels", "rank"),
                              ("standardized", "distance", "rank"))
    for place, at in (("second", 1), ("last", -1))
}  # fmt: skip
# Arguments: the epochs from 1 on grouped by seed, and the layers.
OF_NEIGHBOURS = {
    "neighbours_by_path": lambda later, layers: later[f"neighbours/{layers[1]}:changed"].mean(),
    "neighbours_by_activations": lambda later, layers: later[f"activations/{layers[-1]}:kept"].mean(),
    "isolated_update": lambda later, layers: later["isolation/mean"].mean(),
    "isolated_over_random": lambda later, layers: later["isolation/mean"].mean() - later["isolation/random"].mean(),
    "others_in_part": _with_others,
}
OF_OLDER = {"older_paths_left": _older_left}
# Arguments: cross-path similarity of the run and of each baseline, up to the first decay and over all epochs.
OF_BASELINES = {
    "more_than_movement": lambda early, whole: _against(early, "paths", "movement"),
    "rise_beyond_movement": lambda early, whole: _against(whole, "paths", "movement", _rise),
    "settles_beyond_movement": lambda early, whole: _against(whole, "paths", "movement", _left, how=truediv),
    "lag_alone": lambda early, whole: (
        1 - _mean_by_seed(early["lag"].query("epoch <= @ENDS"), TRUE) if "lag" in early else None
    ),
    "more_than_lag": lambda early, whole: _against(early, "running", "lag"),
    "statistics_matter": lambda early, whole: _against(early, "paths", "running"),
}
OF_UNSEEN = {
    "unseen_do_not_share": lambda later: (
        _today_minus_yesterday(later, "unseen", "loss") / _today_minus_yesterday(later, "trained", "loss")
    ),
    "unseen_recognized_equally": partial(_today_minus_yesterday, images="unseen", what="accuracy"),
}
OF_RATIO = {
    "ratio_gap_rank": partial(tables.correlation_of_ratio, column="gap"),
    "ratio_gap_linear": partial(tables.correlation_of_ratio, column="gap", how="linear"),
    "ratio_gap_partial": partial(tables.correlation_of_ratio, column="gap", how="partial"),
    "ratio_test_error": partial(tables.correlation_of_ratio, column="test_error"),
    "ratio_train_loss": partial(tables.correlation_of_ratio, column="train_loss"),
}
OF_TWO_NETWORKS = {"resnet_above_alexnet": lambda difference: difference}
OF_TRAINING = (OF_LAYERS, OF_SIMILARITY, OF_NEW_PATHS, OF_DISTANCE, OF_NEIGHBOURS, OF_OLDER, OF_BASELINES)
RECORD = on_record(__file__, *OF_TRAINING, OF_UNSEEN, OF_RATIO, OF_TWO_NETWORKS)


def over_training(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on how paths change during training, on runs of ``"path_networks"`` or ``"path_deep"``.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. A claim without runs has a row
        with n_seeds = 0 and no verdict. Runs with earlier probes are judged only by the claims that their values fit.
    """
    found: list[Claim] = []
    for name, group in with_sizes(runs).groupby("subject", sort=False):
        subject, early, rows = str(name), _before_decay(group), tables.long_paths(group)
        cross, own = (tables.mean_of_layers(rows, measure) for measure in ("cross", "self"))
        found += RECORD.judge(subject, OF_LAYERS, rows)
        found += RECORD.judge(subject, OF_SIMILARITY, cross, own)
        found += RECORD.judge(subject, OF_NEW_PATHS, early)
        if len(tables.present(group)) < len(group):
            continue  # older runs: of three seeds or fewer, and what they measured differs
        if _measured(group, "neighbours/"):
            true, layers = early[early["runs"] == TRUE], tables.layers_of(group, str(group["network"].iloc[0]))
            found += RECORD.judge(subject, OF_OLDER, true, layers)
            true = tables.named(group).query("runs == @TRUE")
            ends = true.sort_values("epoch", kind="stable").groupby("run_id").tail(1).set_index("seed")
            found += RECORD.judge(subject, OF_DISTANCE, ends, layers)
            found += RECORD.judge(subject, OF_NEIGHBOURS, true[true["epoch"] >= 1].groupby("seed"), layers)
        curves = [of for of in ("paths", *tables.BESIDE) if _measured(group, f"{of}/")]
        both = (
            {of: tables.mean_of_layers(each, "cross", of=of) for of in curves}
            for each in (tables.long_paths(early), rows)
        )
        found += RECORD.judge(subject, OF_BASELINES, *both)
    return table(found)


def _measured(group: pd.DataFrame, prefix: str) -> bool:
    """Whether a probe has measured something in some of these runs."""
    return any(str(column).startswith(prefix) and group[column].notna().any() for column in group)


def unseen(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge whether the two losses differ only for training images, on runs of ``"path_unseen"``.

    Args:
        runs: A tidy table.
    """
    groups = with_sizes(runs[runs["epoch"] >= 1]).groupby("subject", sort=False)
    return table(claim for subject, group in groups for claim in RECORD.judge(str(subject), OF_UNSEEN, group))


def ratio(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claim of Fig. 7, that the early-to-mid ratio predicts generalization, on runs of ``"path_ratio"``.

    Each seed gives one correlation, over its networks that fit at least 99 % of their training images.

    Args:
        runs: A tidy table.
    """
    found: list[Claim] = []
    for (data, _), group in with_sizes(tables.present(runs), of="data").groupby(["data", "size"], sort=False):
        networks, first = tables.networks_of_ratio(group), group.iloc[0]
        told = f"{networks['fitted'].sum()} fitted networks of {len(networks)}"
        subject = f"{told} on {data}, n = {first['n_train']:,}{first['rest']}"
        found += RECORD.judge(subject, OF_RATIO, group)
    return table(found)


def relative_height(*runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claim of Sec. 6.2 that ResNet-18's similarities are higher than AlexNet's.

    A path changes more between two epochs, the more steps an epoch has. So the claim can be tested only where both
    networks take equally many steps an epoch on equally many images; each such size is a test of its own.

    Args:
        *runs: Runs of experiments ``"path_deep"`` and ``"path_networks"``, in one or several tables.
    """
    every = tables.present(pd.concat(runs, ignore_index=True))
    keys = ["data", "n_train", "batch_size", "epochs", "rest"]

    def similarities(model: str) -> dict[Any, pd.Series]:
        groups = with_sizes(every[every["model"] == model]).groupby(keys, sort=False)
        return {
            key: _mean_by_seed(tables.mean_of_layers(tables.long_paths(rows), "cross"), TRUE) for key, rows in groups
        }

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


# The paper's claims in short, for the box at the top of the page; our own additional claims are further down.
IN_SHORT = {
    "imperfect_first": "Paths change for most of training: first layer",
    "imperfect_last": "Paths change for most of training: last layer",
    "higher_late": "They change less after the decay",
    "changes_at_first": "They change more at first than at the end",
    "older_paths_left": "Older paths are left behind",
    "random_less_diverse": "Without generalization they change less",
    "new_path_worse_true": "A new path fits worse than yesterday's",
    "new_path_worse_random": "With random labels, too, a new path fits worse",
    "unseen_do_not_share": "A new path fits unseen images no worse",
    "no_distance_second": "Overlap is not linear in distance: 2nd layer",
    "no_distance_last": "Overlap is not linear in distance: last layer",
    "neighbours_by_path": "The nearest images change, by path",
    "neighbours_by_activations": "The nearest images change, by activations",
    "others_in_part": "Paths of two images overlap only in part",
    "isolated_update": "One update alone is another function",
    "ratio_gap_rank": "The ratio falls with the gap, in rank",
    "ratio_gap_linear": "The ratio falls with the gap, linearly",
    "resnet_above_alexnet": "ResNet-18 changes paths less than AlexNet",
}
QUESTIONS = {  # section of the page → the claims on AlexNet that it shows
    "do-paths-change-while-a-network-trains": (*OF_LAYERS, *OF_OLDER, "higher_late", "changes_at_first",
                                               "higher_without_decay"),
    "do-they-change-less-where-nothing-can-be-learned": ("random_less_diverse",),
    "does-a-new-path-fit-worse": tuple(OF_NEW_PATHS),
    "near-in-pixels-near-in-paths": tuple(OF_DISTANCE),
    "who-is-near-over-time": ("neighbours_by_path", "neighbours_by_activations", "others_in_part"),
    "what-is-one-image-s-update-worth-alone": ("isolated_update", "isolated_over_random"),
    "how-much-of-this-needs-no-learning": tuple(OF_BASELINES),
}  # fmt: skip


SECTIONS = (
    *(Section(RECORD, anchor, ("path_networks",), over_training, names) for anchor, names in QUESTIONS.items()),
    Section(RECORD, "does-a-new-path-fit-worse", ("path_unseen",), unseen),
    Section(RECORD, "how-much-of-this-needs-no-learning", ("path_deep",), over_training),
    Section(RECORD, "how-much-of-this-needs-no-learning", ("path_deep", "path_networks"), relative_height),
    Section(RECORD, "does-the-ratio-tell-how-well-a-network-generalizes", ("path_ratio",), ratio),
)
