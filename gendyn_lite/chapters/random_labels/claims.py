"""Claims of Zhang et al. (2017), 'Understanding deep learning requires rethinking generalization'.

They are on record in `claims.toml`; here is the statistic of each, by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.random_labels.tables import BN, NONE, PaperRow, table_1_row, with_regularizers
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import PUBLISHED, Section
from gendyn_lite.results.tables import summarize, with_sizes

UNEQUAL = 2.0  # times as high, from which on two losses are not taken to be equal


def _by_seed(group: pd.DataFrame, q: float, *, inputs: str = "true") -> pd.DataFrame:
    """The runs with one label corruption and one kind of inputs, by seed, and their generalization gap."""
    chosen = group[(group["label_corruption"] == q) & (group["inputs"] == inputs)]
    return chosen.assign(gap=chosen["train_accuracy"] - chosen["test_accuracy"]).set_index("seed")


def _jump(group: pd.DataFrame) -> pd.Series:
    """The generalization gap on random labels minus that on true ones."""
    return _by_seed(group, 1.0)["gap"] - _by_seed(group, 0.0)["gap"]


def _rising(group: pd.DataFrame) -> pd.Series:
    """Rank correlation of test error with q, of seeds that were run at three fractions or more."""
    seeds = [runs for _, runs in group[group["inputs"] == "true"].groupby("seed")]
    seeds = [runs for runs in seeds if runs["label_corruption"].nunique() >= 3]
    found = [stats.spearmanr(runs["label_corruption"], runs["test_error"]).statistic for runs in seeds]
    return pd.Series(found, dtype=float)


def _of_inputs(group: pd.DataFrame, inputs: str, column: str) -> pd.Series | None:
    """A column of the runs on one kind of inputs."""
    return _by_seed(group, 0.0, inputs=inputs)[column] if (group["inputs"] == inputs).any() else None


def _sooner(group: pd.DataFrame, inputs: str) -> pd.Series | None:
    """Epochs to fit one kind of inputs over those to fit random labels."""
    times = _of_inputs(group, inputs, "fit_epoch")
    return None if times is None else times / _by_seed(group, 1.0)["fit_epoch"]


def _papers(network: str) -> dict[str, str]:
    """Train and test accuracy on random labels and the jump of the gap in Table 1, dashes where it lacks the network.

    >>> _papers("mlp_1x512")
    {'train': '0.993 (CIFAR-10)', 'test': '0.106 (CIFAR-10)', 'jump': '0.392 (CIFAR-10)'}
    >>> _papers("mlp")
    {'train': '–', 'test': '–', 'jump': '–'}
    """
    true, random = (table_1_row(network, random_labels=random) for random in (False, True))
    if true is None or random is None:
        return dict.fromkeys(("train", "test", "jump"), "–")
    jump = (random.train - random.test) - (true.train - true.test)
    percents = {"train": random.train, "test": random.test, "jump": jump}
    return {name: f"{percent / 100:.3f} (CIFAR-10)" for name, percent in percents.items()}


def _ends(group: pd.DataFrame) -> pd.DataFrame:
    """The last row of each run."""
    return group.sort_values("epoch", kind="stable").groupby("run_id", sort=False).tail(1)


def _true(group: pd.DataFrame, regularizers: str) -> pd.DataFrame:
    """The runs on true labels with these regularizers, every evaluated epoch of them."""
    return group[(group["regularizers"] == regularizers) & ~group["random"]]


def _tests(one: pd.DataFrame, other: pd.DataFrame, at: str) -> tuple[pd.Series, pd.Series]:
    """Test accuracies of two kinds of runs by seed: at equal epochs (the last of both), or at equal training loss.

    Both reached the higher of their two lowest losses: there each is taken where it first did. Where evaluations are so
    far apart that the losses found differ by more than a factor of two, the pair is left out.
    """
    found = dict[int, list[float]]()
    for seed in sorted(set(one["seed"]) & set(other["seed"])):
        pair = [runs[runs["seed"] == seed].sort_values("epoch") for runs in (one, other)]
        last = max(set(pair[0]["epoch"]) & set(pair[1]["epoch"]))
        loss = max(run["train_loss"].min() for run in pair)
        there = [run[run["epoch"] == last if at == "equal epochs" else run["train_loss"] <= loss] for run in pair]
        low, high = sorted(run["train_loss"].iloc[0] for run in there)
        if at == "equal epochs" or high <= UNEQUAL * low:
            found[seed] = [run["test_accuracy"].iloc[0] for run in there]
    table_ = pd.DataFrame.from_dict(found, orient="index", columns=pd.Index(["one", "other"]), dtype=float)
    return table_["one"], table_["other"]


def _gain(group: pd.DataFrame, regularizers: str, over: str = NONE, *, at: str) -> pd.Series:
    """Test accuracy on true labels with these regularizers minus that with others."""
    one, other = _tests(_true(group, regularizers), _true(group, over), at)
    return one - other


def _advantage_kept(group: pd.DataFrame, *, at: str) -> pd.Series:
    """Advantage over guessing without regularizers, over that with all that were tried."""
    chance = 1 / group["num_classes"].iloc[0]
    full = "random crop + weight decay" if group["crop"].any() else "weight decay"
    plain, regularized = _tests(_true(group, NONE), _true(group, full), at)
    return (plain - chance) / (regularized - chance).where(regularized > chance)  # else there is no advantage to keep


def _on_random_labels(group: pd.DataFrame) -> pd.Series:
    """Train accuracy on random labels with any regularizer."""
    ends = _ends(group)
    return ends[ends["random"] & (ends["regularizers"] != NONE)].set_index("seed")["train_accuracy"]


def _stopping(group: pd.DataFrame) -> pd.Series:
    """The best test accuracy of any epoch minus that at the end, without a regularizer."""
    plain = _true(group, NONE)
    return plain.groupby("seed")["test_accuracy"].max() - _ends(plain).set_index("seed")["test_accuracy"]


def _norm_gain(on: pd.DataFrame, off: pd.DataFrame, *, at: str) -> pd.Series:
    """Test accuracy on true labels with batch-norm minus that without."""
    one, other = _tests(_true(on, NONE), _true(off, NONE), at)
    return one - other


def _both_ways(statistics: Mapping[str, Callable[..., pd.Series | None]]) -> dict[str, Callable[..., Any]]:
    """Statistics that compare runs, at equal epochs and, as claims of their own, at equal training loss."""
    ways = {"": "equal epochs", "_at_equal_loss": "equal training loss"}
    return {name + end: partial(of, at=at) for name, of in statistics.items() for end, at in ways.items()}


def _difference(one: PaperRow, other: PaperRow) -> str:
    """The difference of the paper's two test accuracies as a fraction, or a dash where it lacks one."""
    return "–" if one is None or other is None else f"{(one.test - other.test) / 100:+.3f} (CIFAR-10)"


def _with_regularizers(base: str, *, cropped: bool) -> dict[str, str]:
    """What Table 1 gives for the claims on regularizers, by the names that they use."""
    none, decay, crop = (table_1_row(base, **on) for on in ({}, {"weight_decay": True}, {"crop": True}))
    full = table_1_row(base, crop=cropped, weight_decay=True)
    kept = "–" if none is None or full is None else f"{(none.test - 10) / (full.test - 10):.3f} (CIFAR-10)"
    gains = {"decay": _difference(decay, none), "crop": _difference(crop, none), "more": _difference(crop, decay)}
    return {"kept": kept, **gains}


OF_LABELS = {
    "fits_random": lambda group: _by_seed(group, 1.0)["train_accuracy"],
    "random_at_chance": lambda group: _by_seed(group, 1.0)["test_accuracy"],
    "gap_jumps": _jump,
    "random_slower": lambda group: _by_seed(group, 1.0)["fit_epoch"] / _by_seed(group, 0.0)["fit_epoch"],
    "error_rises": _rising,
    "fits_shuffled_pixels": partial(_of_inputs, inputs="shuffled_pixels", column="train_accuracy"),
    "fits_random_pixels": partial(_of_inputs, inputs="random_pixels", column="train_accuracy"),
    "random_pixels_sooner": partial(_sooner, inputs="random_pixels"),
    "fits_gaussian": partial(_of_inputs, inputs="gaussian", column="train_accuracy"),
    "gaussian_sooner": partial(_sooner, inputs="gaussian"),
}
OF_REGULARIZERS = {
    "not_sufficient": _on_random_labels,
    **_both_ways(
        {
            "not_necessary": _advantage_kept,
            "weight_decay_helps": partial(_gain, regularizers="weight decay"),
            "crops_help": lambda group, at: _gain(group, "random crop", at=at) if group["crop"].any() else None,
            "crops_help_more": lambda group, at: (
                _gain(group, "random crop", "weight decay", at=at) if group["crop"].any() else None
            ),
            "dropout_helps": lambda group, at: _gain(group, "dropout", at=at) if group["dropout"].any() else None,
        }
    ),
}
OF_STOPPING = {"stopping_no_help": _stopping}
OF_BATCH_NORM = _both_ways({"batch_norm_helps": _norm_gain})
RECORD = on_record(__file__, OF_LABELS, OF_REGULARIZERS, OF_STOPPING, OF_BATCH_NORM)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims of the paper on each network and data set of a tidy table.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`, experiment ``"random_labels"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Accuracies, errors and gaps
        are fractions. A claim whose runs are missing is there, with n_seeds = 0 and no verdict.
    """
    found: list[Claim] = []
    for subject, group in with_sizes(summarize(runs)).groupby("subject", sort=False):
        network, classes = group[["network", "num_classes"]].iloc[0]
        found += RECORD.judge(str(subject), OF_LABELS, group, chance=1 / classes, **_papers(network))
    return table(found)


def regularizer_claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on regularizers, on each network and data set.

    Args:
        runs: A tidy table of the experiments ``"regularizers"`` and ``"random_labels"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; accuracies are fractions. Runs
        are compared seed by seed, at equal epochs and at equal training loss. A claim whose runs are missing is there,
        with n_seeds = 0 and no verdict; a network that was never regularized explicitly has no claims on that.

    Source: Zhang et al. (2017), Sec. 3, Table 1, Fig. 2.
    """
    rows = with_regularizers(runs)
    found: list[Claim] = []
    for subject, group in with_sizes(rows, of="base").groupby("subject", sort=False):
        if (group["regularizers"] != NONE).any():
            known = _with_regularizers(str(group["base"].iloc[0]), cropped=bool(group["crop"].any()))
            chance = 1 / group["num_classes"].iloc[0]
            found += RECORD.judge(str(subject), OF_REGULARIZERS, group, chance=chance, **known)
        found += RECORD.judge(str(subject), OF_STOPPING, group)
    pairs = with_sizes(rows.assign(plain=rows["base"].str.replace(BN, "")), of="plain")
    for subject, group in pairs.groupby("subject", sort=False):
        if group["base"].nunique() > 1:
            base = str(group["plain"].iloc[0])
            on, off = (group[group["base"] == name] for name in (base, base + BN))
            norm = _difference(table_1_row(base), table_1_row(base + BN))
            found += RECORD.judge(str(subject), OF_BATCH_NORM, on, off, norm=norm)
    return table(found)


def _regularized(runs: pd.DataFrame) -> pd.DataFrame:
    """Only the data on which something was regularized: other runs have no comparison."""
    return regularizer_claims(runs[runs["data"].isin(runs.loc[runs["experiment"] == "regularizers", "data"])])


SECTIONS = (
    Section(RECORD, PUBLISHED, ("random_labels",), claims),
    Section(RECORD, "regularizers-on-cifar-10", ("random_labels", "regularizers"), _regularized),
)
