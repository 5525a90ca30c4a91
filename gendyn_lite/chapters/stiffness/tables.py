"""Tables of chapter 4: values by layer in long form, values at equal training loss, and names of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import with_sizes

LAYERS, MOVEMENT, LAG = "layers", "movement", "lag"  # probes: the network itself, and two baselines
KINDS = ("all", "within", "between")
BEFORE, AFTER = "before training", "after training"
TRUE, HALF, RANDOM = "true labels", "half of the labels random", "random labels"


def long_layers(table: pd.DataFrame, *, probe: str = LAYERS) -> pd.DataFrame:
    """Reshape the columns ``<probe>/<layer>:<kind>`` of a tidy table to a row for each layer, in network order.

    Args:
        table: Runs that recorded a layer probe.
        probe: The probe: of the network itself, or of a baseline.

    Returns:
        The run's columns, ``layer``, ``number`` (from 1), ``position`` in [0, 1] (first to last layer), ``all``,
        ``within`` and ``between`` (mean cosine stiffness), ``state`` ("untrained" at epoch 0, else "trained"), and the
        ``width``, ``depth`` and ``activation`` of an MLP.

    Raises:
        UserError: No layer was recorded.
    """
    columns, prefix = [str(name) for name in table.columns], f"{probe}/"
    names = dict.fromkeys(name.removeprefix(prefix).rpartition(":")[0] for name in columns if name.startswith(prefix))
    if not names:
        raise UserError("the table has no values of layers, expected runs with a layer probe")
    labels = table[[name for name in columns if "/" not in name]]
    parts = []
    for network, order in _orders(table, list(names), prefix).items():
        chosen = table["network"] == network
        for layer in order:
            values = {kind: table[f"{prefix}{layer}:{kind}"] for kind in KINDS}
            parts.append(labels.assign(layer=layer, **values)[chosen & values["all"].notna()])
    rows = pd.concat(parts)
    rows["number"] = rows.groupby(["run_id", "epoch"]).cumcount() + 1
    last = rows.groupby(["run_id", "epoch"])["number"].transform("max")
    rows["position"] = (rows["number"] - 1) / (last - 1).clip(lower=1)
    rows["state"] = rows["epoch"].map(lambda epoch: "untrained" if epoch == 0 else "trained")
    options = rows["model_options"].map(json.loads)
    rows["width"] = options.map(lambda each: each.get("widths", [0])[0])
    rows["depth"] = options.map(lambda each: len(each.get("widths", [])))
    rows["activation"] = options.map(lambda each: each.get("activation", "relu"))
    return rows.sort_values(["run_id", "epoch", "number"]).reset_index(drop=True)


def reestimated(runs: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs with re-estimated batch-norm statistics; the other runs are a control.

    Args:
        runs: A tidy table.
    """
    return runs[runs["batch_norm_statistics"] == "re-estimated"]


def of_fitted_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of runs that fitted 99 % of their training labels.

    Args:
        rows: A table of `long_layers`.
    """
    fitted = rows.loc[(rows["state"] == "trained") & (rows["train_accuracy"] >= 0.99), "run_id"]
    return rows[rows["run_id"].isin(fitted)]


def at_loss(run: pd.DataFrame, column: str, loss: float) -> float:
    """Read off a column where the training loss first falls to a level, interpolated in the logarithm of the loss.

    Args:
        run: Rows of one run, in order of epochs.
        column: Name of the column.
        loss: The level, which the run must reach.

    >>> at_loss(pd.DataFrame({"train_loss": [2.0, 0.5, 0.1], "value": [0.0, 1.0, 5.0]}), "value", 1.0)
    0.5
    """
    losses, values = run["train_loss"].to_numpy(), run[column].to_numpy()
    at = int((losses <= loss).argmax())
    if at == 0 or losses[at] == loss:
        return float(values[at])
    before, after, level = np.log([losses[at - 1], losses[at], loss])
    return float(values[at - 1] + (values[at] - values[at - 1]) * (before - level) / (before - after))


def by_loss(runs: pd.DataFrame, column: str, levels: Sequence[float], *, apart: Sequence[str] = ()) -> pd.DataFrame:
    """Read off a column at several levels of the training loss.

    Args:
        runs: A tidy table.
        column: Name of the column.
        levels: Training losses.
        apart: Columns that distinguish copies of a run that occurs in the table more than once.

    Returns:
        A row per run and level that it reaches, with ``level`` and ``value``.
    """
    frames = []
    for _, run in runs.sort_values("epoch").groupby(["run_id", *apart], sort=False):
        reached = [level for level in levels if run["train_loss"].min() <= level <= run["train_loss"].iloc[0]]
        values = [at_loss(run, column, level) for level in reached]
        about = run.drop(columns=["epoch", "train_loss"]).iloc[[0] * len(reached)]
        frames.append(about.assign(level=reached, value=values))
    return pd.concat(frames, ignore_index=True)


def _orders(table: pd.DataFrame, names: list[str], prefix: str) -> dict[str, list[str]]:
    """Return the layers of each network, from input to output.

    The columns are in the order of the first network that has them. The last layer of a network ("fc") is moved to the
    end for later networks that have it too.
    """
    orders: dict[str, list[str]] = {}
    last: set[str] = set()
    for network, rows in table.groupby("network", sort=False):
        own = [layer for layer in names if rows[f"{prefix}{layer}:all"].notna().any()]
        orders[str(network)] = [layer for layer in own if layer not in last] + [layer for layer in own if layer in last]
        last.update(own[-1:] if not last.intersection(own) else ())
    return orders


def decoded(runs: pd.DataFrame, column: str, scale: int) -> list[tuple[tuple[str, str, int], list[list[float]]]]:
    """Decode the rows of numbers that a column holds as text.

    Returns:
        For each run (its condition, when it was measured, its seed) and the rows of numbers.
    """
    rows = runs[runs[column].notna()]
    when = rows["epoch"].map(lambda epoch: BEFORE if epoch == 0 else AFTER)
    texts = [[list(map(int, line.split())) for line in text.split("/")] for text in rows[column]]
    values = [[[value / scale for value in line] for line in lines] for lines in texts]
    return list(zip(zip(conditions(rows), when, rows["seed"], strict=True), values, strict=True))


def subjects(runs: pd.DataFrame) -> pd.Series:
    """Name the data of each run, with its network and its size where there are several on the same data."""
    several = runs.groupby("data")["network"].transform("nunique") > 1
    return runs["data"].where(~several, runs["network"] + " on " + runs["data"]) + with_sizes(runs)["size"]


def conditions(runs: pd.DataFrame) -> pd.Series:
    """Name each run by data, labels and learning rate, short enough for a menu on a phone."""
    return subjects(runs) + ", " + labelled(runs) + runs["learning_rate"].map(", rate {:g}".format)


def labelled(runs: pd.DataFrame) -> pd.Series:
    """Name the labels of each run: true, half of them random, or random."""
    return runs["label_corruption"].map({0.0: TRUE, 0.5: HALF, 1.0: RANDOM})
