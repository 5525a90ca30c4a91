"""Tables of chapter 1: Tables 1 and 2 of Zhang et al. (2017) beside our runs, rows for charts, regularizers of runs."""

from __future__ import annotations

import json
import math
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import FITTED, mean_interval, network_name, one_data_set, summarize, with_sizes

NONE, BN = "no regularizer", " without batch-norm"
LABELS = {0.0: "true", 0.5: "half random", 1.0: "random"}
MOST_POINTS = 40  # most epochs drawn of one run, which keeps pages small


def _figures(name: str) -> tuple[Any, ...]:
    """Read the rows of one of the paper's tables from the CSV file beside this module."""
    return tuple(pd.read_csv(Path(__file__).with_name(name)).itertuples(index=False))


PaperRow = Any  # of Table 1: network, crop, weight_decay, random_labels, train and test accuracy in %
TABLE_1 = _figures("table_1.csv")  # networks as our tables name them, on CIFAR-10, 50,000 images
TABLE_2 = _figures("table_2.csv")  # Inception v3 on ImageNet, in %; `best` is the best epoch's, if the paper gives it
ALEXNET_TOP5 = 83.6  # Krizhevsky et al. (2012), cited in Table 2 for reference


def table_1_row(
    network: str, *, crop: bool = False, weight_decay: bool = False, random_labels: bool = False
) -> PaperRow:
    """Return the row of Table 1 for a network and its settings, or None if the paper has none.

    >>> table_1_row("alexnet_small", crop=True).test
    79.66
    """
    wanted = (network, crop, weight_decay, random_labels)
    return next((row for row in TABLE_1 if row[:4] == wanted), None)


def thinned(table: pd.DataFrame) -> pd.DataFrame:
    """Keep at most `MOST_POINTS` epochs of each network's runs, with the first one, and the last epoch of each run.

    Args:
        table: A tidy table on one data set.
    """

    def kept(epochs: pd.Series) -> pd.Series:
        every = np.sort(epochs.unique())
        return epochs.isin(every[np.linspace(0, len(every) - 1, MOST_POINTS).round().astype(int)])

    last = table.groupby("run_id")["epoch"].transform("max")
    return table[table.groupby("network")["epoch"].transform(kept) | (table["epoch"] == last)]


def seed_points(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return one row per run: network, q, seed, value.

    Args:
        runs: A table of `gendyn_lite.results.tables.summarize`.
        column: The column with the value; runs without a value are left out.
    """
    points = runs[["network", "label_corruption", "seed", column]].dropna()
    return points.set_axis(["network", "q", "seed", "value"], axis=1).round(4)


def with_regularizers(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs on true inputs with true, half random or random labels, and add columns on their regularizers.

    Args:
        table: A tidy table of `gendyn_lite.results.load`, experiments ``"regularizers"`` and ``"random_labels"``.

    Returns:
        These rows with the columns ``base`` (the network without its dropout), ``crop``, ``decay``, ``dropout`` (bool)
        and ``regularizers`` (in words).

    >>> run = {"inputs": "true", "label_corruption": 1.0, "model": "mlp", "model_options": "{}", "random_crop": 0}
    >>> with_regularizers(pd.DataFrame([{**run, "weight_decay": 0.1}]))["regularizers"].tolist()
    ['weight decay']
    """
    rows = table[(table["inputs"] == "true") & table["label_corruption"].isin(LABELS)]
    options = [json.loads(text) for text in rows["model_options"]]
    dropout = [each.pop("dropout", 0.0) > 0 for each in options]
    base = [network_name(model, rest) for model, rest in zip(rows["model"], options, strict=True)]
    crop, decay = rows["random_crop"] > 0, rows["weight_decay"] > 0
    words = [in_words(*which) for which in zip(crop, dropout, decay, strict=True)]
    return rows.assign(base=base, crop=crop, decay=decay, dropout=dropout, regularizers=words)


def stopped_early(table: pd.DataFrame) -> pd.DataFrame:
    """Return the last row of each run, with the accuracy that early stopping would have given.

    Args:
        table: A tidy table of the experiment ``"regularizers"``, with the values of its probe.

    Returns:
        These rows with two more columns: ``stopped_at``, the first epoch with the highest accuracy on one half of the
        test images, and ``stopped``, the accuracy on the other half at that epoch.

    >>> watched = {"watched/validation_accuracy": [0.1, 0.6, 0.5], "watched/test_accuracy": [0.1, 0.4, 0.5]}
    >>> run = {"run_id": "a", "epoch": [0, 1, 2], "train_accuracy": 1.0, "test_accuracy": 0.5}
    >>> stopped_early(pd.DataFrame({**run, **watched}))[["stopped", "stopped_at"]].values.tolist()
    [[0.4, 1.0]]
    """
    rows = table.sort_values("epoch", kind="stable").reset_index(drop=True)
    chosen = rows.loc[rows.groupby("run_id")["watched/validation_accuracy"].idxmax()].set_index("run_id")
    ends = summarize(table)
    found = chosen.loc[ends["run_id"], ["watched/test_accuracy", "epoch"]].to_numpy()
    return ends.assign(stopped=found[:, 0], stopped_at=found[:, 1])


def with_variants(table: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``variants``: how many images augmentation makes of each image, crops times mirror images.

    >>> with_variants(pd.DataFrame({"random_crop": [0, 2], "flip": [False, True]}))["variants"].tolist()
    [1, 50]
    """
    return table.assign(variants=(2 * table["random_crop"] + 1) ** 2 * (1 + table["flip"].astype(int)))


def by_variants(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean train accuracy over seeds by network, variants and epoch; fitted runs keep their last value.

    Args:
        table: A tidy table of the experiment ``"augmented_labels"`` on one data set.
    """
    rows, found = with_variants(table), []
    for (network, variants), runs in rows.groupby(["network", "variants"], sort=False):
        means = runs.pivot(index="epoch", columns="run_id", values="train_accuracy")
        means = means.reindex(sorted(rows.loc[rows["network"] == network, "epoch"].unique())).ffill()
        means = means.mean(axis="columns").round(4).rename("accuracy").reset_index()
        found.append(means.assign(network=str(network), variants=str(variants)))
    return pd.concat(found, ignore_index=True)


def all_fitted(table: pd.DataFrame) -> pd.DataFrame:
    """Return the first evaluated epoch by which every seed has fitted, by network and variants.

    Args:
        table: A tidy table of the experiment ``"augmented_labels"`` on one data set.

    >>> run = {"network": "mlp", "random_crop": 0, "flip": False, "epoch": [40, 80]}
    >>> runs = [pd.DataFrame({**run, "run_id": seed, "train_accuracy": [0.5 + seed, 1.0]}) for seed in (0, 0.5)]
    >>> all_fitted(pd.concat(runs))["epoch"].tolist()
    [80]
    """
    rows, keys = with_variants(table), ["network", "variants"]
    first = rows[rows["train_accuracy"] >= FITTED].groupby([*keys, "run_id"], sort=False)["epoch"].min()
    last = first.groupby(level=keys, sort=False).agg(["max", "size"])
    every = last["size"] == rows.groupby(keys)["run_id"].nunique().reindex(last.index)
    return last.loc[every, "max"].rename("epoch").reset_index()


def in_words(crop: bool, dropout: bool, decay: bool) -> str:
    """Name the regularizers that are on.

    >>> in_words(True, False, True), in_words(False, False, False)
    ('random crop + weight decay', 'no regularizer')
    """
    words = [name for name, on in (("random crop", crop), ("dropout", dropout), ("weight decay", decay)) if on]
    return " + ".join(words) or NONE


def table_1(runs: pd.DataFrame) -> pd.DataFrame:
    """Return train and test accuracy for every row of Table 1: the paper's, and ours with a 95 % interval over seeds.

    Args:
        runs: A tidy table of the experiments ``"regularizers"`` and ``"random_labels"`` on one data set.

    Returns:
        The paper's rows in its order, as text: network, regularizers, labels, accuracies in %, our numbers of training
        images, seeds and epochs. A network that we trained at several sizes has a row for each of them; of sizes
        without any regularizer only the largest is shown if there are others. A row that was not run says so.

    Raises:
        UserError: The runs are on several data sets.

    Source: Zhang et al. (2017), Table 1.
    """
    if runs["data"].nunique() > 1:
        raise UserError(f"Table 1 has one data set, the runs have {runs['data'].nunique()}: choose one")
    ends = with_sizes(summarize(with_regularizers(runs)), of="base")
    ends = ends[~ends["dropout"]].sort_values("n_train", kind="stable")
    rows = []
    for network, grouped in groupby(TABLE_1, key=lambda paper: paper.network):
        papers, own = list(grouped), ends[ends["base"] == network]
        regularized = (own["experiment"] == "regularizers") & (own["regularizers"] != NONE)
        switched = own["subject"].isin(own.loc[regularized, "subject"])
        own = own[switched | (own["n_train"] == own["n_train"].max())] if switched.any() else own
        sizes = [(paper, _same(size, paper)) for _, size in own.groupby("subject", sort=False) for paper in papers]
        rows += [_row(paper, ours) for paper, ours in sizes if len(ours)]
        rows += [_row(paper, own.head(0)) for paper in papers if _same(own, paper).empty]
    return pd.DataFrame(rows)


def _same(ends: pd.DataFrame, paper: PaperRow) -> pd.DataFrame:
    """Return our runs with the settings of a row of the paper, among the runs of one network."""
    settings = zip(ends["crop"], ends["decay"], ends["label_corruption"], strict=True)
    return ends[[each == paper[1:4] for each in settings]]  # True is 1.0


def _row(paper: PaperRow, ours: pd.DataFrame) -> dict[str, object]:
    size = epochs = "–"
    if len(ours):
        size = f"{ours['n_train'].iloc[0]:,}{ours['rest'].iloc[0]}, {ours['seed'].nunique()}"
        epochs = "–".join(map(str, sorted({int(ours["epoch"].min()), int(ours["epoch"].max())})))
    on, labels = in_words(paper.crop, False, paper.weight_decay), LABELS[float(paper.random_labels)]
    row: dict[str, object] = {"network": paper.network, "regularizers": on, "labels": labels}
    for part, percent in (("train", paper.train), ("test", paper.test)):
        row |= {f"{part}, paper": f"{percent:.2f}", f"{part}, ours": _percent(ours[f"{part}_accuracy"])}
    return {**row, "our n, seeds": size, "our epochs": epochs}


def table_2() -> pd.DataFrame:
    """Return the paper's accuracies of Inception v3 on ImageNet in % (Table 2); we did not run it at full size.

    The best test accuracy of any epoch is in parentheses where the paper gives it.

    >>> table_2().iloc[3][["top-1 test", "ours"]].tolist()
    ['59.80 (63.16)', 'not run at full size']
    """
    rows = []
    for row in TABLE_2:
        on = ["yes" if each else "no" for each in (row.augmentation, row.dropout, row.weight_decay)]
        train = [f"{row.train_top1:.2f}", f"{row.train_top5:.2f}"]
        test = [_with_best(row.test_top1, row.best_top1), _with_best(row.test_top5, row.best_top5)]
        rows.append([LABELS[float(row.random_labels)], *on, *train, *test, "not run at full size"])
    rows.append(["true (AlexNet, 2012)", *["–"] * 6, f"{ALEXNET_TOP5:.2f}", "–"])
    columns = ["labels", "augmentation", "dropout", "weight decay", "top-1 train", "top-5 train"]
    return pd.DataFrame(rows, columns=pd.Index([*columns, "top-1 test", "top-5 test", "ours"]))


def _with_best(last: float, best: float) -> str:
    return f"{last:.2f}" + ("" if math.isnan(best) else f" ({best:.2f})")


def _percent(values: pd.Series) -> str:
    """Format fractions as a mean in % ± half of its 95 % interval; a mean below 100 is never rounded to 100.

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


def with_true_inputs(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows trained on true inputs; refuse a table without any, or with several data sets."""
    rows = table[table["inputs"] == "true"]
    if rows.empty:
        raise UserError("the table has no run on true inputs, expected runs of the experiment 'random_labels'")
    return one_data_set(rows)
