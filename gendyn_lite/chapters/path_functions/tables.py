"""Tables of chapter 2, made from the columns that its probes record: similarities, distances, ranks, ratios."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import SIZE, with_sizes

COLUMN = re.compile(r"(paths|activations|running|lag|movement)/(.+):(self|cross):(\w+)")
RECORDED = re.compile(r"(?:paths|distance|neighbours)/(.+):(?:on|rank|kept)")
UNFITTED = 0.01 + 1e-9  # largest training error of a network that counts as fitted, in the comparison of many networks
FEWEST = 4  # fewest networks for a correlation over networks
FOLLOWED = 128  # followed images of a run, as in the paper
VERSION = 2  # version of the probes whose runs are judged; runs of earlier versions are shown as older
LEVELS = ("distance", "low", "middle", "high")  # the numbers recorded for a bin of pairs
BESIDE = {  # probe of a baseline → its name in charts
    "running": "the same, with running statistics",
    "lag": "frozen weights, with running statistics",
    "movement": "random steps of the same length",
}
TRUE, RANDOM, CONSTANT = KINDS_OF_RUNS = ("true labels", "random labels", "true labels, no decay")


def named(table: pd.DataFrame) -> pd.DataFrame:
    """Add columns that say what distinguishes runs on one data set: those of `with_sizes`, and two more.

    Returns:
        The rows with ``setting`` (the network, with its size if it was run at several) and ``runs`` (the labels, and
        whether the learning rate decays), sorted by ``runs``.

    >>> about = {"data": "MNIST", "network": "mlp", "n_train": 50, "schedule": "step"}
    >>> named(pd.DataFrame([{**about, "label_corruption": q} for q in (0.0, 1.0)]))[["setting", "runs"]].values.tolist()
    [['mlp', 'true labels'], ['mlp', 'random labels']]
    """
    true = table["label_corruption"] == 0
    constant = np.where(table["schedule"] == "constant", CONSTANT, TRUE)
    found = with_sizes(table).assign(runs=np.where(true, constant, RANDOM))
    found["setting"] = found["network"] + found["size"]
    return found.sort_values("runs", key=lambda names: names.map(KINDS_OF_RUNS.index), kind="stable")


def present(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the runs that were measured by the present version of the probes.

    >>> len(present(pd.DataFrame({"probe_version": [1.0, 2.0, float("nan")]}))), len(present(pd.DataFrame({"a": [1]})))
    (1, 0)
    """
    return table[table["probe_version"] >= VERSION] if "probe_version" in table else table.iloc[:0]


def layers_of(table: pd.DataFrame, network: str) -> list[str]:
    """Return the recorded layers of a network, in the order of its forward pass."""
    rows = table[table["network"] == network]
    found = (RECORDED.fullmatch(str(name)) for name in rows.columns if rows[name].notna().any())
    return list(dict.fromkeys(match[1] for match in found if match))


def long_paths(table: pd.DataFrame) -> pd.DataFrame:
    """Reshape the recorded similarities to rows: one for each run, epoch, layer, measure and kind.

    Args:
        table: Runs of experiment ``"path_networks"`` or ``"path_deep"``.

    Returns:
        The run's columns, those of `named`, ``layer``, ``number`` (from 1), ``measure`` ("self" or "cross"),
        ``of`` ("paths", "activations", or a baseline: "running", "lag", "movement"), ``mean``, ``q05`` … ``q95``.

    Raises:
        UserError: No similarity was recorded.
    """
    described = named(table).reset_index(drop=True)
    found = [match for name in table.columns if (match := COLUMN.fullmatch(str(name)))]
    if not found:
        raise UserError("the table has no similarities of paths, expected runs of path_networks or path_deep")
    kinds = dict.fromkeys((match[1], match[2], match[3]) for match in found)
    parts = []
    for network in described["network"].unique():
        own = described[described["network"] == network]
        order = layers_of(table, network)
        for of, layer, measure in kinds:
            if layer not in order:
                continue
            prefix = f"{of}/{layer}:{measure}:"
            names = {name: str(name).removeprefix(prefix) for name in own if str(name).startswith(prefix)}
            values = own[list(names)].rename(columns=names)
            about = {"layer": layer, "number": order.index(layer) + 1, "measure": measure, "of": of}
            parts.append(pd.DataFrame(about, own.index).join(values)[values["mean"].notna()])
    rows = pd.concat(parts)
    labels = described.loc[rows.index, [name for name in described if "/" not in str(name)]]
    return labels.reset_index(drop=True).join(rows.reset_index(drop=True))


def mean_of_layers(rows: pd.DataFrame, measure: str, *, of: str = "paths") -> pd.DataFrame:
    """Average the similarity over layers: the columns run_id, seed, runs, schedule, epoch and value.

    Args:
        rows: A table of `long_paths`.
        measure: ``"self"`` or ``"cross"``.
        of: Which similarity, a value of the column ``of``.
    """
    rows = rows[(rows["measure"] == measure) & (rows["of"] == of)]
    means = rows.groupby(["run_id", "seed", "runs", "schedule", "epoch"], sort=False)["mean"].mean()
    return means.rename("value").reset_index()


def with_bins(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows that `distances` reads: those with bins, of runs whose learning rate decays."""
    counted = table[[name for name in table if str(name).endswith(":bins")]].notna().any(axis=1)
    return table[counted & ((table["schedule"] != "constant") | (table["label_corruption"] != 0))]


def milestones(table: pd.DataFrame) -> list[int]:
    """Return the epochs after which the learning rate decays in any of the runs.

    >>> milestones(pd.DataFrame({"milestones": ["", "8 14"]}))
    [8, 14]
    """
    return sorted({int(epoch) for text in table["milestones"].dropna() for epoch in str(text).split()})


SPACES = {"pixels": "pixels", "distance": "standardized images"}  # probe → the space in which it takes distances


def distances(table: pd.DataFrame) -> pd.DataFrame:
    """Return path overlap against distance at the end of training, averaged over seeds, in bins of pairs.

    Args:
        table: Runs of experiment ``"path_networks"``.

    Returns:
        A row for each kind of runs, space, layer and bin: data, network, size, runs, space, layer, bin, distance, low,
        middle and high (quartiles of the overlap as a share of the layer's units), rank and linear (Spearman's and
        Pearson's correlation), and seeds.
    """
    described = named(table)
    rows: list[dict[str, Any]] = []
    for run in described.to_dict("records"):
        about = {column: run[column] for column in ("data", "network", "size", "runs", "seed")}
        for (space, words), layer in product(SPACES.items(), layers_of(described, run["network"])):
            text = run.get(f"{space}/{layer}:bins")
            found = {name: run.get(f"{space}/{layer}:{name}") for name in ("rank", "linear")}
            for place, part in enumerate(text.split("/") if isinstance(text, str) else ()):
                values = dict(zip(LEVELS, (int(each) / 1000 for each in part.split()), strict=True))
                rows.append({**about, "space": words, "layer": layer, "bin": place, **values, **found})
    keys = ["data", "network", "size", "runs", "space", "layer", "bin"]
    grouped = pd.DataFrame(rows).groupby(keys, sort=False)
    return grouped.mean().drop(columns="seed").assign(seeds=grouped["seed"].nunique()).reset_index()


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Read the recorded ranks of neighbours over epochs, of runs on true labels.

    Args:
        table: Runs of experiment ``"path_networks"``.

    Returns:
        A row for each run, layer, image, neighbour and epoch: run_id, setting, seed, place (the layer), who (the
        image), neighbour, final (its rank at the end, from 1), epoch, rank (from 1).
    """
    described = named(table)
    described = described[described["runs"] == TRUE]
    rows: list[dict[str, Any]] = []
    for run in described.to_dict("records"):
        for number, layer in enumerate(layers_of(described, run["network"]), start=1):
            text = run.get(f"neighbours/{layer}:ranks")
            for part in text.split("/") if isinstance(text, str) else ():
                pair, _, values = part.partition(": ")
                anchor, neighbour = pair.split()
                each = [int(value) + 1 for value in values.split()]
                about = {name: run[name] for name in ("run_id", "setting", "seed")} | {"place": f"{number}: {layer}"}
                about |= {"who": f"image {anchor}", "neighbour": int(neighbour), "final": each[-1]}
                rows += [{**about, "epoch": epoch, "rank": rank} for epoch, rank in enumerate(each)]
    return pd.DataFrame(rows)


def networks_of_ratio(table: pd.DataFrame) -> pd.DataFrame:
    """Return early-to-mid ratio and generalization error of each network, averaged over its seeds.

    Args:
        table: Runs of experiment ``"path_ratio"``.

    Returns:
        A row per network: data, network, name (with its settings), the columns of `SIZE`, ratio, ratio_first,
        ratio_last, gap (test error minus training error at the last epoch), test_error, train_error, train_loss, seeds,
        and fitted (whether every seed fits at least 99 % of the training images).
    """
    in_order = table.sort_values("epoch", kind="stable").groupby("run_id", sort=False)
    # The learning rate is that of the first epoch, before it decays.
    last = in_order.tail(1).assign(learning_rate=in_order["learning_rate"].transform("first"))
    last = with_sizes(last.rename(columns=lambda name: name.removeprefix("paths/")))
    last = last.assign(
        name=[_described(row) for row in last.to_dict("records")],
        gap=last["train_accuracy"] - last["test_accuracy"],
        test_error=1 - last["test_accuracy"],
        train_error=1 - last["train_accuracy"],
    )
    values = ["ratio", "ratio_first", "ratio_last", "gap", "test_error", "train_error", "train_loss"]
    keys = ["group_id", "data", "network", "name", *(column for column in SIZE if column in last)]
    grouped = last.groupby(keys, sort=False)
    told = {"seeds": grouped["seed"].nunique(), "fitted": grouped["train_error"].max() <= UNFITTED}
    return grouped[values].mean().assign(**told).reset_index().drop(columns="group_id")


def _described(run: Mapping[Any, Any]) -> str:
    """Describe a network with its learning rate and regularization."""
    words = [f"{run['network']}{run['size']}", f"learning rate {run['learning_rate']:g}"]
    words += [f"batch size {run['batch_size']}"] if "batch_size" in run else []
    words += [f"momentum {run['momentum']:g}"] if run.get("momentum", 0.9) != 0.9 else []
    words += ["standardized by channel"] if run.get("standardize") == "per_channel" else []
    if run["weight_decay"]:
        words.append(f"weight decay {run['weight_decay']:g}")
    if run["random_crop"]:
        words.append("random crop and flip" if run["flip"] else "random crop")
    return ", ".join(words)


def partial_rank(x: Sequence[float], y: Sequence[float], given: Sequence[float]) -> float:
    """Compute the partial rank correlation (Spearman) of two values over networks, given a third one.

    Args:
        x: One value per network.
        y: Another value per network.
        given: The value z that is controlled for.

    Returns:
        (r_xy − r_xz·r_yz) / √((1 − r_xz²)(1 − r_yz²)) of the ranks. NaN with fewer than four networks, if a value is
        constant, or if x or y has the same ranks as z.

    >>> round(partial_rank([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], [3, 1, 5, 4, 2]), 3)
    0.833
    """
    if len(x) < 4 or min(np.ptp(x), np.ptp(y), np.ptp(given)) == 0:
        return math.nan
    r = np.asarray(np.corrcoef([stats.rankdata(each) for each in (x, y, given)]))
    left = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / math.sqrt(left)) if left > 1e-12 else math.nan


def correlation(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Compute the rank correlation (Spearman) of two values, with a 95 % bootstrap interval over the networks.

    Args:
        x: One value per network.
        y: Another value per network.

    Returns:
        (correlation, low, high). The ends are percentiles of 2,000 resamples, without those in which a value is
        constant. NaN with fewer than three networks or a constant value.

    >>> correlation([1, 2, 3, 4, 5], [10, 20, 30, 40, 50])[0]
    1.0
    """
    if len(x) < 3 or min(np.ptp(x), np.ptp(y)) == 0:
        return math.nan, math.nan, math.nan

    def statistic(left: np.ndarray, right: np.ndarray, axis: int) -> np.ndarray:
        ranked = (stats.rankdata(each, axis=axis) for each in (left, right))
        p, q = (stats.zscore(each, axis=axis) for each in ranked)  # NaN where a value is constant
        return (p * q).mean(axis=axis)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of resamples in which a value is constant
        rng = np.random.default_rng(0)
        found = stats.bootstrap((x, y), statistic, n_resamples=2000, paired=True, method="percentile", random_state=rng)
    low, high = np.nanpercentile(found.bootstrap_distribution, [2.5, 97.5])
    return round(float(statistic(np.asarray(x), np.asarray(y), -1)), 12), float(low), float(high)


def correlation_of_ratio(group: pd.DataFrame, column: str, *, how: str = "rank") -> pd.Series:
    """Correlate the ratio with a column over the fitted networks of each seed that has at least four of them."""
    found = {}
    for seed, runs in group.groupby("seed"):
        rows = networks_of_ratio(runs).query("fitted")
        x, y = rows["ratio"], rows[column]
        if how == "partial" and len(rows) >= FEWEST:
            found[seed] = partial_rank(x.tolist(), y.tolist(), rows["train_loss"].tolist())
        elif len(rows) >= FEWEST:
            found[seed] = (stats.pearsonr if how == "linear" else stats.spearmanr)(x, y).statistic
    return pd.Series(found, dtype=float)
