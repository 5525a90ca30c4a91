"""Tables 1 and 2 of Zhang et al. (2017) with our runs beside them, in %."""

from __future__ import annotations

import math

import pandas as pd

from gendyn_lite.chapters.random_labels.tables import in_words, with_regularizers
from gendyn_lite.chapters.random_labels.zhang2017 import ALEXNET_TOP5, TABLE_1, TABLE_2, ImageNetRow, PaperRow
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import mean_interval, summarize, with_sizes


def table_1(runs: pd.DataFrame) -> pd.DataFrame:
    """Train and test accuracy of every row of Table 1, the paper's and ours (mean and 95 % interval over seeds).

    Args:
        runs: A tidy table of the experiments ``"regularizers"`` and ``"random_labels"`` on one data set.

    Returns:
        The paper's rows in its order, as text: network, regularizers, labels, the accuracies in %, our number of
        training images and of seeds. A network that we trained at several sizes has its rows once for each, those that
        were run at it. A row that was not run at any says so.

    Raises:
        UserError: The runs are of several data sets.

    Source:
        Zhang et al. (2017), Table 1.
    """
    if runs["data"].nunique() > 1:
        raise UserError(f"Table 1 has one data set, the runs have {runs['data'].nunique()}: choose one")
    ends = with_sizes(summarize(with_regularizers(runs)), of="base")
    ends = ends[~ends["dropout"]].sort_values("n_train", kind="stable")
    rows = []
    for network in dict.fromkeys(paper.network for paper in TABLE_1):
        papers = [paper for paper in TABLE_1 if paper.network == network]
        own = ends[ends["base"] == network]
        sizes = [(paper, _same(size, paper)) for _, size in own.groupby("subject", sort=False) for paper in papers]
        rows += [_row(paper, ours) for paper, ours in sizes if len(ours)]
        rows += [_row(paper, own.head(0)) for paper in papers if _same(own, paper).empty]
    return pd.DataFrame(rows)


def _same(ends: pd.DataFrame, paper: PaperRow) -> pd.DataFrame:
    """Our runs of a row of the paper's, of one network."""
    settings = zip(ends["crop"], ends["decay"], ends["random"], strict=True)
    return ends[[each == paper[1:4] for each in settings]]


def _row(paper: PaperRow, ours: pd.DataFrame) -> dict[str, object]:
    return {
        "network": paper.network,
        "regularizers": in_words(paper.crop, False, paper.weight_decay),
        "labels": "random" if paper.random_labels else "true",
        "train, paper": f"{paper.train:.2f}",
        "train, ours": _percent(ours["train_accuracy"]),
        "test, paper": f"{paper.test:.2f}",
        "test, ours": _percent(ours["test_accuracy"]),
        "our n, seeds": f"{ours['n_train'].iloc[0]:,}{ours['rest'].iloc[0]}, {ours['seed'].nunique()}"
        if len(ours)
        else "–",
    }


def table_2() -> pd.DataFrame:
    """Table 2: the paper's accuracies of Inception v3 on ImageNet in %, and that ours was not run.

    Where the paper has it, the best test accuracy of any epoch stands in parentheses.

    >>> table_2().iloc[3][["top-1 test", "ours"]].tolist()
    ['59.80 (63.16)', 'not run at full size']
    """
    rows = [_imagenet(row) for row in TABLE_2]
    alexnet = dict.fromkeys(rows[0], "–") | {"labels": "true (AlexNet, 2012)", "top-5 test": f"{ALEXNET_TOP5:.2f}"}
    return pd.DataFrame([*rows, alexnet])


def _imagenet(row: ImageNetRow) -> dict[str, object]:
    return {
        "labels": "random" if row.random_labels else "true",
        "augmentation": _yes(row.augmentation),
        "dropout": _yes(row.dropout),
        "weight decay": _yes(row.weight_decay),
        "top-1 train": f"{row.train_top1:.2f}",
        "top-5 train": f"{row.train_top5:.2f}",
        "top-1 test": _with_best(row.test_top1, row.best_top1),
        "top-5 test": _with_best(row.test_top5, row.best_top5),
        "ours": "not run at full size",
    }


def _with_best(last: float, best: float | None) -> str:
    return f"{last:.2f}" + ("" if best is None else f" ({best:.2f})")


def _yes(on: bool) -> str:
    return "yes" if on else "no"


def _percent(values: pd.Series) -> str:
    """Fractions as a mean in %, with half the width of its 95 % interval; what is not 100 is not rounded to it.

    >>> _percent(pd.Series([0.4, 0.5, 0.6])), _percent(pd.Series([0.5])), _percent(pd.Series([], dtype=float))
    ('50.0 ± 24.8', '50.0', 'not run')
    >>> _percent(pd.Series([1.0])), _percent(pd.Series([0.99996]))
    ('100.0', '99.996')
    """
    mean, low, high, n = mean_interval(values * 100)
    if n == 0:
        return "not run"
    digits = next((digits for digits in (1, 2, 3) if round(mean, digits) < 100), 1)
    return f"{mean:.{digits}f}" + ("" if math.isnan(low) else f" ± {(high - low) / 2:.{digits}f}")
