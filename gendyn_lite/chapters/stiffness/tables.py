"""Values recorded for each layer, as a long table: a row per run, epoch and layer."""

from __future__ import annotations

import json

import pandas as pd

from gendyn_lite.errors import UserError

PREFIX = "layers/"
KINDS = ("all", "within", "between")


def long_layers(table: pd.DataFrame) -> pd.DataFrame:
    """The columns ``layers/<layer>:<kind>`` of a tidy table as rows, the layers of each network in their order.

    Args:
        table: Runs that recorded a layer probe.

    Returns:
        The run's columns, ``layer``, ``number`` (from 1), ``position`` in [0, 1] (first to last layer), ``all``,
        ``within``, ``between`` (mean cosine stiffness), ``state`` ("untrained" at epoch 0, else "trained"), and the
        ``width``, ``depth`` and ``activation`` of an MLP.

    Raises:
        UserError: No layer was recorded.
    """
    columns = [str(name) for name in table.columns]
    names = dict.fromkeys(name.removeprefix(PREFIX).rpartition(":")[0] for name in columns if name.startswith(PREFIX))
    if not names:
        raise UserError("the table has no values of layers, expected runs with a layer probe")
    labels = table[[name for name in columns if "/" not in name]]
    parts = []
    for network, order in _orders(table, list(names)).items():
        chosen = table["network"] == network
        for layer in order:
            values = {kind: table[f"{PREFIX}{layer}:{kind}"] for kind in KINDS}
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


def of_fitted_runs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs that fitted 99 % of their training labels.

    Args:
        rows: A table of `long_layers`.
    """
    fitted = rows.loc[(rows["state"] == "trained") & (rows["train_accuracy"] >= 0.99), "run_id"]
    return rows[rows["run_id"].isin(fitted)]


def _orders(table: pd.DataFrame, names: list[str]) -> dict[str, list[str]]:
    """The layers of each network, from input to output.

    The columns stand in the order of the first network that has them; a last layer that a later network has too
    ("fc") is its last one as well.
    """
    orders: dict[str, list[str]] = {}
    last: set[str] = set()
    for network, rows in table.groupby("network", sort=False):
        own = [layer for layer in names if rows[f"{PREFIX}{layer}:all"].notna().any()]
        orders[str(network)] = [layer for layer in own if layer not in last] + [layer for layer in own if layer in last]
        last.update(own[-1:] if not last.intersection(own) else ())
    return orders
