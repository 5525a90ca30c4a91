"""Tables of chapter 5: descriptions of runs, and interval lengths by bin, by direction and by epoch."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from gendyn_lite.results.tables import mean_intervals, with_sizes

BINS = 30  # of a recorded distribution of lengths
# Kind of direction → lowest and highest α. For pairs and midlines α is that of the paper; for the other kinds it is in
# units of the distance between two points of the class.
SPANS: dict[str, tuple[float, float]] = {
    "pair": (-1.0, 2.0),
    "midline": (-2.0, 3.0),
    **dict.fromkeys(("principal", "minor", "means", "random", "varying", "span", "adversarial"), (-1.0, 2.0)),
}
OWN, OTHER = "its class", "strongest other class"  # names of the logits recorded along single lines
NORM_RANGE = (0.0, 1.5)  # range of the recorded distribution of the regions' norms
MAIN = "3x128"  # the paper's network, for which resolution and direction are varied
LABELS = {0.0: "true labels", 1.0: "random labels"}
UNTRAINED = "untrained network"  # with its own predictions as labels
DIRECTIONS = {
    "pair": "another point of the class",
    "principal": "first principal component",
    "minor": "last principal component",
    "random": "at random",
    "varying": "at random, as pixels vary",
    "span": "at random, in the class's span",
    "means": "mean of another class",
    "adversarial": "nearest boundary",
}


def described(table: pd.DataFrame) -> pd.DataFrame:
    """Add columns to a tidy table that describe each run.

    Returns:
        The rows, those with more images first, with ``labels`` ("true labels", "random labels"), ``downsample`` (1 for
        whole images), ``widths`` ("3x128") and ``training`` (whether the run was measured at many epochs).
    """
    table = table.sort_values(["n_train", "data"], ascending=False, kind="stable").reset_index(drop=True)
    options = [json.loads(text) for text in table["model_options"]]
    widths = pd.Series([_widths(each.get("widths", [])) for each in options], index=table.index, dtype=str)
    return table.assign(
        labels=table["label_corruption"].map(LABELS),
        downsample=[each.get("downsample", 1) for each in options],
        widths=widths.where(widths != "", table["model"]),
        training=table["eval_every"] < table["epochs"],
    )


def _widths(widths: list[int]) -> str:
    """Name hidden layers as the paper does.

    >>> _widths([128, 128, 128]), _widths([8, 4]), _widths([])
    ('3x128', '8-4', '')
    """
    return f"{len(widths)}x{widths[0]}" if len(set(widths)) == 1 else "-".join(map(str, widths))


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """Return the last row of each run that was measured at its end only, described and `with_sizes`."""
    rows = described(table)
    rows = rows[~rows["training"]].sort_values("epoch", kind="stable")
    return with_sizes(rows.groupby("run_id", sort=False).tail(1).sort_index().reset_index(drop=True))


def main_network(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of the paper's network, or of the first fully connected one if the paper's was not run."""
    dense = runs[runs["model"] == "mlp"]
    widths = MAIN if (dense["widths"] == MAIN).any() else dense["widths"].iloc[0]
    return dense[dense["widths"] == widths]


def middles(kind: str) -> np.ndarray:
    """Return the centres of the bins of a kind of direction (in α) or of ``"norm"``, [BINS]."""
    low, high = {**SPANS, "norm": NORM_RANGE}[kind]
    return (np.arange(BINS) + 0.5) * (high - low) / BINS


def counts(row: pd.Series, kind: str) -> np.ndarray:
    """Read the recorded counts of one run and kind of direction (or ``"norm"``), [BINS]; zeros if not measured."""
    text = row.get(f"intervals/{kind}_bins")
    return np.array([int(each) for each in text.split()]) if isinstance(text, str) else np.zeros(BINS, dtype=int)


def with_lengths(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Keep the runs with recorded `counts` of a kind."""
    return runs[runs[f"intervals/{kind}_bins"].notna()]


def distributions(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return the shares of interval lengths in bins, a row per run and bin.

    Args:
        runs: A table of `ends`, a row per run.
        kind: Kind of direction, one of `SPANS`, or ``"norm"``.

    Returns:
        The columns subject, data, labels, downsample, widths, size, seed, length (centre of the bin) and share.
    """
    about = runs[["subject", "data", "labels", "downsample", "widths", "size", "seed"]]
    found = np.array([counts(run, kind) for _, run in runs.iterrows()]).reshape(-1, BINS)
    rows = about.iloc[np.arange(len(about)).repeat(BINS)].reset_index(drop=True)
    sums = found.sum(axis=1, keepdims=True).clip(min=1)
    rows = rows.assign(length=np.tile(middles(kind).round(4), len(about)), share=(found / sums).ravel())
    return rows[found.any(axis=1).repeat(BINS)].reset_index(drop=True)


def with_subjects(runs: pd.DataFrame, by: str) -> pd.DataFrame:
    """Keep the runs that a menu chooses among, and name them in the column ``subject``.

    Args:
        runs: A table of `ends`, a row per run.
        by: What the menu chooses beside the data: ``"downsample"`` or ``"widths"``.
    """
    if by == "downsample":
        runs = main_network(runs).sort_values("downsample", kind="stable")
        choice = runs["downsample"].map(lambda side: "" if side == 1 else f", 1/{side} of the side")
        return runs.assign(subject=runs["data"] + choice + runs["size"])
    runs = runs[(runs["downsample"] == 1) & (runs["model"] == "mlp")]
    several = runs.groupby("data", sort=False)["widths"].nunique()
    sets = list(several[several > 1].index) or [several.idxmax()]
    runs = runs[runs["data"].isin(sets)].sort_values(["data", "widths"], ascending=[False, True], kind="stable")
    return runs.assign(subject=runs["widths"] + ("" if len(sets) == 1 else ", " + runs["data"]) + runs["size"])


def shares(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Average the share of each bin over seeds, with intervals; rows are grouped by subject.

    Args:
        runs: A table of `with_subjects`, a row per run.
        kind: As for `distributions`.
    """
    found = distributions(pd.concat([part for _, part in runs.groupby("subject", sort=False)]), kind)
    return _drawn(mean_intervals(found, ["subject", "labels", "length"], "share", name="share"))


def _drawn(frame: pd.DataFrame, highest: float = 1.0) -> pd.DataFrame:
    """Cut intervals at the smallest and largest possible value, and round."""
    return frame.assign(low=frame["low"].clip(0, highest), high=frame["high"].clip(0, highest)).round(4)


def by_direction(runs: pd.DataFrame) -> pd.DataFrame:
    """Average the length over seeds, for each data set (and size), kind of labels and direction.

    Args:
        runs: A table of `ends`, a row per run.
    """
    initial = runs[runs["label_corruption"] == 0].assign(labels=UNTRAINED)
    by, found = ["data", "labels", "direction"], []
    for prefix, part in (("", runs), ("untrained_", initial)):
        columns = {f"intervals/{prefix}{kind}_mean": name for kind, name in DIRECTIONS.items()}
        keys = [part["data"] + part["size"], part["labels"]]
        lengths = part.reindex(columns=list(columns)).rename(columns=columns).set_index(keys)
        stacked: pd.Series = lengths.stack()  # type: ignore[assignment]
        found.append(stacked.rename("length").dropna().rename_axis(by).reset_index())
    rows = pd.concat(found)
    return _drawn(mean_intervals(rows, by, "length", name="length"), highest=3.0)


def watched(table: pd.DataFrame) -> pd.DataFrame:
    """Return the runs on true labels that were measured at many epochs, described and `with_sizes`.

    Args:
        table: A tidy table of experiment ``"generalization_intervals"``.
    """
    return with_sizes(described(table).query("training and label_corruption == 0"))


def while_training(runs: pd.DataFrame) -> pd.DataFrame:
    """Return lengths and accuracies by epoch, averaged over seeds, a row for each curve and epoch.

    Args:
        runs: A table of `watched`.
    """
    low, high = SPANS["pair"]
    curves = {
        "length / 3": runs["intervals/pair_mean"] / (high - low),
        "length / 3, unfitted: 0": runs["intervals/pair_mean"] * runs["intervals/fitted"] / (high - low),
        "train accuracy": runs["train_accuracy"],
        "test accuracy": runs["test_accuracy"],
    }
    about = runs[["epoch", "seed"]].assign(data=runs["data"] + runs["size"])
    rows = about.assign(**curves).melt(list(about), var_name="of")
    return _drawn(mean_intervals(rows, ["data", "of", "epoch"], name="value"))


def convolutional(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Summarize intervals of the convolutional networks, a row for each network and kind of labels.

    Args:
        table: A tidy table of experiment ``"generalization_intervals"``.

    Returns:
        As text: network, data, labels, share of labels fitted, mean length along pairs and along midlines (with the
        length that is proved, of certified intervals), number of pairs (and of midlines) of a run, and the method.
    """
    runs = ends(table)
    rows = []
    by = runs[runs["model"] != "mlp"].groupby(["network", "data", "labels"], sort=False)
    for names, part in by:
        method, lines = str(part["intervals/method"].iloc[0]), str(counts(part.iloc[0], "pair").sum())
        lengths = (_length(part, kind, proved=method == "certified") for kind in ("pair", "midline"))
        fitted = f"{part['intervals/fitted'].mean():.1%}"
        rows.append((*map(str, names), fitted, *lengths, lines, method))
    return rows


def _length(runs: pd.DataFrame, kind: str, *, proved: bool) -> str:
    """Write the mean length of a kind of line, and of certified intervals the part of it that is proved."""
    length, certain = (f"intervals/{kind}_{name}" for name in ("mean", "certain"))
    more = f" ({runs[certain].mean():.2f} proved)" if proved else ""
    return f"{runs[length].mean():.2f}{more}"
