"""Claims of Zhang et al. (2017) on explicit and implicit regularizers, and their Tables 1 and 2 beside our runs."""

from __future__ import annotations

from functools import partial

import pandas as pd

from gendyn_lite.chapters.random_labels.tables import NONE, with_regularizers
from gendyn_lite.chapters.random_labels.zhang2017 import PaperRow, table_1_row
from gendyn_lite.claims.verdicts import AtLeast, Below, Claim, judge, table
from gendyn_lite.results.tables import summarize, with_sizes

KEPT = AtLeast(0.8, weak=0.5)  # our reading of "continue to perform well without": most of the advantage over guessing
HELPS = AtLeast(0.0, weak=0.0)
SMALL_GAIN = Below(0.02)
BN = " without batch-norm"
FITTED = AtLeast(0.99, weak=0.9)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The claims on regularizers, on each network and data set.

    Args:
        runs: A tidy table of the experiments ``"regularizers"`` and ``"random_labels"``.

    Returns:
        One row per claim and subject, with the columns of `gendyn_lite.claims.Claim`; accuracies are fractions. Runs
        are compared seed by seed. A claim whose runs are missing is there, with n_seeds = 0 and no verdict; a network
        that was never regularized explicitly has no claims on that.

    Source:
        Zhang et al. (2017), Sec. 3, Table 1, Fig. 2.
    """
    rows = with_regularizers(runs)
    ends = summarize(rows).assign(best=rows.groupby("run_id", sort=False)["test_accuracy"].max().to_numpy())
    found: list[Claim] = []
    for subject, group in with_sizes(ends, of="base").groupby("subject", sort=False):
        found += _claims_of(group, str(subject))
    pairs = with_sizes(ends.assign(plain=ends["base"].str.replace(BN, "")), of="plain")
    for subject, group in pairs.groupby("subject", sort=False):
        if group["base"].nunique() > 1:
            found.append(_batch_norm(group, str(subject)))
    return table(found)


def _claims_of(group: pd.DataFrame, subject: str) -> list[Claim]:
    """The claims on explicit regularizers and early stopping, on one network at one size and one data set."""
    base, chance = str(group["base"].iloc[0]), 1 / group["num_classes"].iloc[0]
    about = partial(judge, subject=subject)
    if (group["regularizers"] == NONE).all():
        return [_early_stopping(about, group)]
    none = _test(group, NONE)
    cropped = bool(group["crop"].any())
    full = _test(group, "random crop + weight decay" if cropped else "weight decay")
    found = [
        about(
            (none - chance) / (full - chance),
            KEPT,
            statement="Explicit regularizers are not necessary: without them networks still generalize",
            source="Sec. 3, Table 1",
            paper_value=_kept(base, cropped),
            quantity="advantage over guessing without regularizers, over that with them,",
            opposite=0.0,
        ),
        about(
            group[group["random"] & (group["regularizers"] != NONE)].set_index("seed")["train_accuracy"],
            FITTED,
            statement="Explicit regularizers are not sufficient: with them networks still fit random labels",
            source="Table 2",
            paper_value="0.912 (ImageNet, dropout and weight decay)",
            quantity="train accuracy on random labels, regularized,",
            opposite=chance,
        ),
        _helps(about, none, _test(group, "weight decay"), "Weight decay", _gain(base, weight_decay=True)),
    ]
    if cropped:
        found += _of_crops(about, group, none, base)
    if group["dropout"].any():
        found.append(_helps(about, none, _test(group, "dropout"), "Dropout", "– (with others, Table 2)"))
    return [*found, _early_stopping(about, group)]


def _of_crops(about: partial[Claim], group: pd.DataFrame, none: pd.Series, base: str) -> list[Claim]:
    """Augmentation against nothing, and against weight decay."""
    crop, decay = _test(group, "random crop"), _test(group, "weight decay")
    return [
        _helps(about, none, crop, "Augmentation by random crops", _gain(base, crop=True)),
        about(
            crop - decay,
            HELPS,
            statement="Augmentation helps more than weight decay",
            source="Table 1",
            paper_value=_difference(table_1_row(base, crop=True), table_1_row(base, weight_decay=True)),
            quantity="test accuracy with random crops minus that with weight decay",
            opposite=0.0,
        ),
    ]


def _helps(about: partial[Claim], none: pd.Series, regularized: pd.Series, name: str, paper_value: str) -> Claim:
    return about(
        regularized - none,
        HELPS,
        statement=f"{name} improves test accuracy",
        source="Sec. 3, Table 1",
        paper_value=paper_value,
        quantity="test accuracy with it minus that without",
        opposite=0.0,
    )


def _early_stopping(about: partial[Claim], group: pd.DataFrame) -> Claim:
    plain = group[(group["regularizers"] == NONE) & ~group["random"]].set_index("seed")
    return about(
        plain["best"] - plain["test_accuracy"],
        SMALL_GAIN,
        statement="Early stopping is not necessarily helpful on CIFAR-10",
        source="Fig. 2b",
        paper_value="no gain (0.034 on ImageNet, Table 2)",
        quantity="best test accuracy of any epoch minus that at the end",
        opposite=SMALL_GAIN.bound,
    )


def _batch_norm(group: pd.DataFrame, subject: str) -> Claim:
    base = str(group["plain"].iloc[0])
    with_norm, without = (_test(group[group["base"] == name], NONE) for name in (base, base + BN))
    return judge(
        with_norm - without,
        HELPS,
        statement="Batch-norm improves generalization",
        source="Sec. 3.1, Table 1, Fig. 2b",
        paper_value=_difference(table_1_row(base), table_1_row(base + BN)),
        quantity="test accuracy with batch-norm minus that without",
        subject=subject,
        opposite=0.0,
    )


def _test(group: pd.DataFrame, regularizers: str) -> pd.Series:
    """Test accuracy by seed, trained on true labels with these regularizers."""
    chosen = group[(group["regularizers"] == regularizers) & ~group["random"]]
    return chosen.set_index("seed")["test_accuracy"]


def _kept(base: str, cropped: bool) -> str:
    none, full = table_1_row(base), table_1_row(base, crop=cropped, weight_decay=True)
    return "–" if none is None or full is None else f"{(none.test - 10) / (full.test - 10):.3f} (CIFAR-10)"


def _gain(base: str, *, crop: bool = False, weight_decay: bool = False) -> str:
    return _difference(table_1_row(base, crop=crop, weight_decay=weight_decay), table_1_row(base))


def _difference(one: PaperRow | None, other: PaperRow | None) -> str:
    """The difference of the paper's two test accuracies as a fraction, or a dash where it lacks one."""
    return "–" if one is None or other is None else f"{(one.test - other.test) / 100:+.3f} (CIFAR-10)"
