"""Tables of chapter 3: what a masked run is called, its best accuracy, and the influence of steps over epochs."""

from __future__ import annotations

import math

import pandas as pd

from gendyn_lite.results.tables import with_sizes

NONE = "no mask"
WAYS = {"fisher": "Fisher", "fisher_per_layer": "Fisher, each layer", "magnitude": "magnitude", "random": "random"}
FORMS = {
    "influence/kl": "KL, measured",
    "influence/quadratic_true": "true Fisher",
    "influence/quadratic_empirical": "empirical Fisher",
    "influence/quadratic_diagonal": "diagonal",
}


def described(table: pd.DataFrame) -> pd.DataFrame:
    """A tidy table with columns that say what a run is about.

    Returns:
        The rows with ``way`` ("no mask", "Fisher", "random", …), ``kept`` (share of weights that move), ``labels``
        ("true labels", "20 % redrawn", "random labels"), ``place`` (network, data, size) and ``subject`` (place,
        labels).
    """
    way = table["mask_by"].map(WAYS).where(table["mask_keep"] < 1, NONE)
    labels = table["label_corruption"].map(_labels)
    several = table.groupby(["data", "model"])["network"].transform("nunique") > 1
    place = with_sizes(table.assign(name=table["network"].where(several, table["model"])), of="name")["subject"]
    return table.assign(way=way, kept=table["mask_keep"], labels=labels, place=place, subject=place + ", " + labels)


def _labels(corruption: float) -> str:
    """Words for a label corruption.

    >>> _labels(0.0), _labels(0.2), _labels(1.0)
    ('true labels', '20 % redrawn', 'random labels')
    """
    return {0.0: "true labels", 1.0: "random labels"}.get(corruption, f"{corruption:.0%} redrawn".replace("%", " %"))


def best(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run, described: ``best`` (its highest test accuracy, in %) and the metrics of its last epoch.

    The best epoch is chosen by the test set, as in the paper; it flatters every condition alike.
    """
    rows = described(table).sort_values("epoch", kind="stable")
    last = rows.groupby("run_id", sort=False).tail(1).set_index("run_id")
    return last.assign(best=100 * rows.groupby("run_id")["test_accuracy"].max()).reset_index()


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """The best accuracy of each masked run minus that of the run of its seed without a mask, in points.

    Args:
        runs: A row per run, of `best`.

    Returns:
        ``subject``, ``way``, ``kept``, ``seed`` and ``gain``.
    """
    base = runs[runs["way"] == NONE].set_index(["subject", "seed"])["best"]
    masked = runs[runs["way"] != NONE]
    keys = pd.MultiIndex.from_frame(masked[["subject", "seed"]])
    gain = masked["best"].to_numpy() - base.reindex(keys).to_numpy()
    return masked[["subject", "way", "kept", "seed"]].assign(gain=gain).dropna().reset_index(drop=True)


def influences(table: pd.DataFrame) -> pd.DataFrame:
    """The rows at which influence was measured, described.

    ResNet-18 is left out: its batch-norm keeps running statistics, which lag behind in the few steps of these runs, so
    that in evaluation mode a step's influence spans twenty orders of magnitude and says nothing of the training.
    """
    return described(table[table["influence/quadratic_true"].notna() & (table["model"] != "resnet18")])


def by_size(rows: pd.DataFrame, column: str) -> list[str]:
    """The values of a column, those with most rows first: what a menu begins with.

    >>> by_size(pd.DataFrame({"name": ["a", "b", "b"]}), "name")
    ['b', 'a']
    """
    return [str(name) for name in rows[column].value_counts(sort=True).index]


def log_ratio(value: float, base: float) -> float:
    """The decimal logarithm of value / base; missing where one of them is not above 0.

    >>> log_ratio(10.0, 1.0), log_ratio(0.0, 1.0)
    (1.0, nan)
    """
    return math.log10(value / base) if value > 0 and base > 0 else math.nan
