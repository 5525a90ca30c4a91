"""Claims of Zhang et al. (2017), 'Understanding deep learning requires rethinking generalization'.

The claims are on record in `claims.toml`; this module computes the statistic of each, by its id.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from scipy import stats

from gendyn_lite.chapters.random_labels import tables
from gendyn_lite.chapters.random_labels.tables import BN, NONE, table_1_row
from gendyn_lite.claims import Claim, table
from gendyn_lite.claims.record import on_record
from gendyn_lite.claims.sections import Section
from gendyn_lite.results.tables import summarize, with_sizes


def _by_seed(group: pd.DataFrame, q: float, *, inputs: str = "true") -> pd.DataFrame:
    """Return the runs with one label corruption and one kind of inputs, by seed, with their generalization gap."""
    chosen = group[(group["label_corruption"] == q) & (group["inputs"] == inputs)]
    return chosen.assign(gap=chosen["train_accuracy"] - chosen["test_accuracy"]).set_index("seed")


def _jump(group: pd.DataFrame) -> pd.Series:
    """Subtract the generalization gap on true labels from that on random labels."""
    return _by_seed(group, 1.0)["gap"] - _by_seed(group, 0.0)["gap"]


def _rising(group: pd.DataFrame) -> pd.Series:
    """Return the rank correlation of test error with q, for each seed that was run at three or more values of q."""
    seeds = [runs for _, runs in group[group["inputs"] == "true"].groupby("seed")]
    seeds = [runs for runs in seeds if runs["label_corruption"].nunique() >= 3]
    found = [stats.spearmanr(runs["label_corruption"], runs["test_error"]).statistic for runs in seeds]
    return pd.Series(found, dtype=float)


def _of_inputs(group: pd.DataFrame, inputs: str, column: str) -> pd.Series | None:
    """Return a column of the runs on one kind of inputs, by seed; None if there are no such runs."""
    return _by_seed(group, 0.0, inputs=inputs)[column] if (group["inputs"] == inputs).any() else None


def _sooner(group: pd.DataFrame, inputs: str) -> pd.Series | None:
    """Divide the epochs to fit one kind of inputs by the epochs to fit random labels."""
    times = _of_inputs(group, inputs, "fit_epoch")
    return None if times is None else times / _by_seed(group, 1.0)["fit_epoch"]


def _papers(network: str) -> dict[str, str]:
    """Return Table 1's train and test accuracy on random labels and the jump of the gap; dashes for other networks.

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


def _of(ends: pd.DataFrame, regularizers: str, *, q: float = 0.0) -> pd.DataFrame:
    """Return the last rows of the runs with these regularizers and this label corruption, by seed."""
    return ends[(ends["regularizers"] == regularizers) & (ends["label_corruption"] == q)].set_index("seed")


def _gain(ends: pd.DataFrame, regularizers: str, over: str = NONE) -> pd.Series:
    """Subtract the test accuracy on true labels with the regularizers `over` from that with `regularizers`."""
    return _of(ends, regularizers)["test_accuracy"] - _of(ends, over)["test_accuracy"]


def _with_crops(ends: pd.DataFrame, over: str = NONE) -> pd.Series | None:
    return _gain(ends, "random crop", over) if ends["crop"].any() else None


def _advantage_kept(ends: pd.DataFrame) -> pd.Series:
    """Divide the advantage over guessing without regularizers by the advantage with all that were tried."""
    chance = 1 / ends["num_classes"].iloc[0]
    full = "random crop + weight decay" if ends["crop"].any() else "weight decay"
    plain, regularized = (_of(ends, words)["test_accuracy"] for words in (NONE, full))
    return (plain - chance) / (regularized - chance).where(regularized > chance)  # else there is no advantage to keep


def _on_random_labels(ends: pd.DataFrame) -> pd.Series:
    """Return the train accuracy on random labels with any regularizer."""
    chosen = ends[(ends["label_corruption"] == 1) & (ends["regularizers"] != NONE)]
    return chosen.set_index("seed")["train_accuracy"]


def _shrunk(ends: pd.DataFrame) -> pd.Series:
    """Divide the norm of the weights with weight decay by that without, on true labels."""
    return _of(ends, "weight decay")["watched/weight_norm"] / _of(ends, NONE)["watched/weight_norm"]


def _stopping(ends: pd.DataFrame, q: float = 0.0) -> pd.Series:
    """Subtract the final test accuracy from that at the epoch that validation images choose, without a regularizer."""
    plain = _of(ends, NONE, q=q)
    return plain["stopped"] - plain["watched/test_accuracy"]


def _slower(runs: pd.DataFrame) -> pd.Series:
    """Return the rank correlation of epochs to fit with the number of variants; runs that never fit come last."""
    ends = runs.assign(fit_epoch=runs["fit_epoch"].fillna(runs["epochs"].max() + 1))
    return pd.Series(
        {seed: stats.spearmanr(each["variants"], each["fit_epoch"]).statistic for seed, each in ends.groupby("seed")}
    )


def _difference(one: tables.PaperRow, other: tables.PaperRow) -> str:
    """Return the difference of two test accuracies of the paper as a fraction, or a dash if one is missing."""
    return "–" if one is None or other is None else f"{(one.test - other.test) / 100:+.3f} (CIFAR-10)"


def _with_regularizers(base: str, *, cropped: bool) -> dict[str, str]:
    """Return the values of Table 1 that the claims on regularizers name in ``{}``."""
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
    "not_necessary": _advantage_kept,
    "not_sufficient": _on_random_labels,
    "decay_acts": _shrunk,
    "weight_decay_helps": partial(_gain, regularizers="weight decay"),
    "crops_help": _with_crops,
    "crops_help_more": partial(_with_crops, over="weight decay"),
    "dropout_helps": lambda ends: _gain(ends, "dropout") if ends["dropout"].any() else None,
    "stopping_no_help": _stopping,
    "stopping_helps_noisy": partial(_stopping, q=0.5),
}
OF_BATCH_NORM = {
    "batch_norm_helps": lambda on, off: _of(on, NONE)["test_accuracy"] - _of(off, NONE)["test_accuracy"],
}
OF_VARIANTS = {
    "augmented_fitted": lambda ends: ends[ends["variants"] == ends["variants"].max()].set_index("seed")[
        "train_accuracy"
    ],
    "variants_slow": _slower,
}
RECORD = on_record(__file__, OF_LABELS, OF_REGULARIZERS, OF_BATCH_NORM, OF_VARIANTS)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims of the paper on each network and data set of a tidy table.

    Args:
        runs: A tidy table of `gendyn_lite.results.load` or `published`, experiment ``"random_labels"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`. Accuracies, errors and gaps
        are fractions. A claim without runs has a row with n_seeds = 0 and no verdict.
    """
    found: list[Claim] = []
    for subject, group in with_sizes(summarize(runs)).groupby("subject", sort=False):
        network, classes = group[["network", "num_classes"]].iloc[0]
        found += RECORD.judge(str(subject), OF_LABELS, group, chance=1 / classes, **_papers(network))
    return table(found)


def regularizer_claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on regularizers on each network and data set.

    Args:
        runs: A tidy table of the experiment ``"regularizers"``; runs that stop when fitted are left out.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; accuracies are fractions. Runs
        are compared seed by seed at their last epochs, after equal numbers of epochs. A claim without runs has a row
        with n_seeds = 0 and no verdict; networks without an explicit regularizer have no rows on explicit ones.

    Source: Zhang et al. (2017), Sec. 3, Table 1, Fig. 2.
    """
    runs = tables.with_regularizers(runs[~runs["stop_when_fitted"].astype(bool)])
    if runs.empty:
        return table(())
    ends = tables.stopped_early(runs)
    found: list[Claim] = []
    for subject, group in with_sizes(ends, of="base").groupby("subject", sort=False):
        if (group["regularizers"] != NONE).any():
            known = _with_regularizers(str(group["base"].iloc[0]), cropped=bool(group["crop"].any()))
            chance = 1 / group["num_classes"].iloc[0]
            found += RECORD.judge(str(subject), OF_REGULARIZERS, group, chance=chance, **known)
    pairs = with_sizes(ends.assign(plain=ends["base"].str.replace(BN, "")), of="plain")
    for subject, group in pairs.groupby("subject", sort=False):
        if group["base"].nunique() > 1:
            base = str(group["plain"].iloc[0])
            on, off = (group[group["base"] == name] for name in (base, base + BN))
            norm = _difference(table_1_row(base), table_1_row(base + BN))
            found += RECORD.judge(str(subject), OF_BATCH_NORM, on, off, norm=norm)
    return table(found)


def augmentation_claims(runs: pd.DataFrame) -> pd.DataFrame:
    """Judge the claims on random labels under augmentation.

    Args:
        runs: A tidy table of the experiment ``"augmented_labels"``.
    """
    groups = with_sizes(tables.with_variants(summarize(runs))).groupby("subject", sort=False)
    return table(claim for subject, ends in groups for claim in RECORD.judge(str(subject), OF_VARIANTS, ends))


IN_SHORT = {
    "fits_random": "Networks fit random labels",
    "random_at_chance": "After that, test accuracy is at chance",
    "gap_jumps": "Random labels alone make the gap jump",
    "random_slower": "Random labels take less than ten times as long",
    "error_rises": "Test error rises with the noise",
    "fits_random_pixels": "Random pixels are fitted too",
    "fits_gaussian": "Gaussian noise is fitted too",
    "gaussian_sooner": "Noise is fitted sooner than random labels",
    "not_necessary": "Regularizers are not necessary",
    "not_sufficient": "Weight decay is not sufficient to stop memorizing",
    "weight_decay_helps": "Weight decay helps",
    "crops_help": "Random crops help",
    "crops_help_more": "Random crops help more than weight decay",
    "stopping_no_help": "Early stopping does not help on CIFAR-10",
    "batch_norm_helps": "Batch-norm helps",
}
SECTIONS = (
    Section(RECORD, "do-networks-memorize-random-labels", ("random_labels",), claims),
    Section(RECORD, "are-regularizers-necessary-or-sufficient", ("regularizers",), regularizer_claims),
    Section(RECORD, "a-trap-too-few-epochs-or-other-labels", ("augmented_labels",), augmentation_claims),
)
