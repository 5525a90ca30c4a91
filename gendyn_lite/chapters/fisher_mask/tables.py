"""Tables of chapter 3: names of masked runs, their best accuracies, and influence over epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gendyn_lite.results.tables import with_sizes

NONE = "no mask"
EVERY_EPOCH = 2  # first version of the probes that measured influence at every epoch
WAYS = {
    "fisher": "Fisher",
    "fisher_per_layer": "Fisher, each layer",
    "magnitude": "magnitude",
    "random": "random, redrawn",
    "random_fixed": "random, fixed",
    "shorter_steps": "no mask, steps as short",
}
CURVES = {
    "influence/quadratic_true": "influence (log₁₀ nats)",
    "test_loss": "test loss (nats)",
    "test_accuracy": "test accuracy",
    "train_accuracy": "training accuracy",
}
OF_PARTS = {
    "influence": "influence (log₁₀ nats)",
    "gradient": "squared gradient (log₁₀)",
    "ratio": "influence per squared gradient (log₁₀)",
    "75": "share of the gradient held by a mask that keeps 75 %",
    "25": "share of the gradient held by a mask that keeps 25 %",
}
FORMS = {
    "influence/kl": "KL, measured",
    "influence/quadratic_true": "true Fisher",
    "influence/quadratic_empirical": "empirical Fisher",
    "influence/quadratic_diagonal": "diagonal",
}


def described(table: pd.DataFrame) -> pd.DataFrame:
    """Add columns to a tidy table that describe each run.

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
    """Name a label corruption.

    >>> _labels(0.0), _labels(0.2), _labels(1.0)
    ('true labels', '20 % redrawn', 'random labels')
    """
    return {0.0: "true labels", 1.0: "random labels"}.get(corruption, f"{corruption:.0%} redrawn".replace("%", " %"))


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Return one described row per run: ``best``, its highest test accuracy in %, and the metrics of its last epoch.

    As in the paper, the best epoch is chosen on the test set, which flatters all conditions alike. Runs with lagging
    statistics of batch-norm, which are repeated with re-estimated ones, are left out.
    """
    rows = described(table).sort_values("epoch", kind="stable")
    rows = rows[~_lags(rows)]
    last = rows.groupby("run_id", sort=False).tail(1).set_index("run_id")
    return last.assign(best=100 * rows.groupby("run_id")["test_accuracy"].max()).reset_index()


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """Subtract the best accuracy of the run without a mask from that of each masked run of the same seed, in points.

    Args:
        runs: A table of `best`, a row per run.

    Returns:
        ``subject``, ``way``, ``kept``, ``seed`` and ``gain``.
    """
    base = runs[runs["way"] == NONE].set_index(["subject", "seed"])["best"]
    masked = runs[runs["way"] != NONE]
    keys = pd.MultiIndex.from_frame(masked[["subject", "seed"]])
    gain = masked["best"].to_numpy() - base.reindex(keys).to_numpy()
    return masked[["subject", "way", "kept", "seed"]].assign(gain=gain).dropna().reset_index(drop=True)


def influences(table: pd.DataFrame) -> pd.DataFrame:
    """Return the described rows with influence; with batch-norm only those with re-estimated statistics.

    Running statistics lag behind the weights in short runs, and influence then measures the lag: see `lagging`. Runs
    with version 1 of the probes, which measured at six epochs only, are left out.
    """
    rows = _measured(table)
    return rows[~_lags(rows)]


def lagging(table: pd.DataFrame) -> pd.DataFrame:
    """Return the described rows with influence that was measured with running statistics of batch-norm."""
    rows = _measured(table)
    return rows[_lags(rows)]


def _measured(table: pd.DataFrame) -> pd.DataFrame:
    """Return the described rows with influence, of runs that measured it at every epoch."""
    rows = described(table[table["influence/quadratic_true"].notna()])
    return rows[rows["probe_version"].fillna(1) >= EVERY_EPOCH] if "probe_version" in rows else rows


def _lags(rows: pd.DataFrame) -> pd.Series:
    return (rows["model"] == "resnet18") & (statistics_of(rows) == "running")


def statistics_of(table: pd.DataFrame) -> pd.Series:
    """Return which statistics batch-norm used when a network was measured: "running" or "re-estimated"."""
    there = "batch_norm_statistics" in table
    return table["batch_norm_statistics"].fillna("running") if there else pd.Series("running", index=table.index)


def at_level(run: pd.DataFrame, column: str, level: float, wanted: str) -> float:
    """Read off one column where another first reaches a level, interpolated linearly between two epochs.

    Args:
        run: The rows of one run, in order of epochs.
        column: The column that reaches the level: ``"train_loss"``, which falls to it, or an accuracy, which rises.
        level: The level.
        wanted: The column that is read off.

    Returns:
        The value; NaN if the level is never reached, or was reached from the start.

    >>> run = pd.DataFrame({"train_loss": [2.0, 1.0, 0.0], "test_loss": [3.0, 2.0, 4.0]})
    >>> at_level(run, "train_loss", 0.5, "test_loss"), at_level(run, "train_loss", -1.0, "test_loss")
    (3.0, nan)
    """
    values = run[column].to_numpy(dtype=float)
    reached = values <= level if column.endswith("loss") else values >= level
    first = int(reached.argmax())
    if not reached.any() or first == 0:
        return math.nan
    before, after = values[first - 1], values[first]
    low, high = run[wanted].to_numpy(dtype=float)[first - 1 : first + 1]
    return float(low + (high - low) * (level - before) / (after - before))


def levels(rows: pd.DataFrame, column: str, level: float, wanted: str) -> pd.Series:
    """Return `at_level` of each run, by seed."""
    rows = rows[["seed", "epoch", column, wanted]].sort_values("epoch")
    found = {seed: at_level(run, column, level, wanted) for seed, run in rows.groupby("seed")}
    return pd.Series(found, dtype=float)


EQUAL = ("epochs", "training loss")  # what is equal where curves are compared
LOSSES = (2.0, 1.5, 1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.07, 0.05)


def compared(rows: pd.DataFrame, columns: Mapping[str, str], keys: Sequence[str]) -> pd.DataFrame:
    """Return curves of runs at equal epochs, and at equal training losses.

    Args:
        rows: Described rows of runs.
        columns: Column → its name in charts.
        keys: Columns that distinguish the curves.

    Returns:
        The keys, ``seed``, ``of`` (the column's name in charts), ``equal`` (one of `EQUAL`), ``at`` (the epoch, or
        −log₁₀ of the training loss in nats) and ``value``. Losses that a run never reaches are left out.
    """
    there = {name: words for name, words in columns.items() if name in rows}
    found = []
    for _, run in rows.sort_values("epoch").groupby("run_id", sort=False):
        about = {name: run[name].iloc[0] for name in (*keys, "seed")}
        for name, words in there.items():
            each = zip(run["epoch"], run[name], strict=True)
            found += [{**about, "of": words, "equal": EQUAL[0], "at": epoch, "value": value} for epoch, value in each]
            for loss in LOSSES:
                value = at_level(run, "train_loss", loss, name)
                found.append({**about, "of": words, "equal": EQUAL[1], "at": -math.log10(loss), "value": value})
    return pd.DataFrame(found).dropna(subset=["value"])


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """Return the share of wrong labels fitted at given shares of right labels fitted.

    Args:
        table: A tidy table of experiment ``"fisher_mask"``.

    Returns:
        A row for each run and share: ``run_id``, ``subject``, ``way``, ``kept``, ``seed``, ``right`` and ``wrong``.
        Shares that a run never reaches are left out.
    """
    if "fit/wrong" not in table:
        return pd.DataFrame(columns=pd.Index(["run_id", "subject", "way", "kept", "seed", "right", "wrong"]))
    rows = described(table[table["fit/wrong"].notna()])
    found = []
    for _, run in rows.sort_values("epoch").groupby("run_id", sort=False):
        about = {name: run[name].iloc[0] for name in ("run_id", "subject", "way", "kept", "seed")}
        for tenths in range(3, 11):
            right = min(tenths / 10, 0.99)
            found.append({**about, "right": right, "wrong": at_level(run, "fit/right", right, "fit/wrong")})
    return pd.DataFrame(found).dropna(subset=["wrong"])


def gains_at(table: pd.DataFrame, losses: Mapping[float, float]) -> pd.DataFrame:
    """Subtract the test accuracy without a mask from that with one, at a training loss and seed by seed, in points.

    Args:
        table: A tidy table of experiment ``"fisher_mask"``.
        losses: Share of the weights kept → the training loss at which runs are compared.

    Returns:
        The columns of `gains`.
    """
    rows = described(table)
    rows, found = rows[~_lags(rows)], []
    for subject, own in rows.groupby("subject", sort=False):
        bare = own[own["way"] == NONE]
        for kept, loss in losses.items():
            for way, runs in own[(own["way"] != NONE) & (own["kept"] == kept)].groupby("way", sort=False):
                masked, plain = (levels(part, "train_loss", loss, "test_accuracy") for part in (runs, bare))
                gain = 100 * (masked - plain)
                found += [{"subject": subject, "way": way, "kept": kept, "seed": s, "gain": g} for s, g in gain.items()]
    columns = pd.Index(["subject", "way", "kept", "seed", "gain"])
    return pd.DataFrame(found, columns=columns).dropna().reset_index(drop=True)


def by_size(rows: pd.DataFrame, column: str) -> list[str]:
    """Return the values of a column, those with most rows first, as options of a menu.

    >>> by_size(pd.DataFrame({"name": ["a", "b", "b"]}), "name")
    ['b', 'a']
    """
    return [str(name) for name in rows[column].value_counts(sort=True).index]


def log_ratio(value: float, base: float) -> float:
    """Return log₁₀(value / base); NaN unless both are above 0.

    >>> log_ratio(10.0, 1.0), log_ratio(0.0, 1.0)
    (1.0, nan)
    """
    return math.log10(value / base) if value > 0 and base > 0 else math.nan


def with_and_without(table: pd.DataFrame, gained: pd.DataFrame) -> pd.DataFrame:
    """Return the runs whose differences are the gains: those with a mask, and those of the same seeds without one."""
    masked = gained[["subject", "way", "kept", "seed"]]
    both = pd.concat([masked, masked.assign(way=NONE, kept=1.0)]).drop_duplicates()
    return described(table).merge(both, on=list(both))


def logarithms(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Replace some columns by their decimal logarithms; NaN where they are not above 0."""
    return rows.assign(**{name: np.log10(rows[name].where(rows[name] > 0)) for name in columns})
