"""Runs as tidy tables: one row per run and epoch, or one row per run."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from gendyn_lite.errors import UserError, check_name
from gendyn_lite.results.runs import Run, read_run, runs_root

# Training accuracy from which labels count as fitted: all but one in a thousand. When the very last label is fitted
# says more about that label than about the network.
FITTED = 0.999
FEWEST = 3  # seeds that an interval needs: one of two seeds is either uselessly wide or narrow by chance
# Columns that make up the size of a run, with their formats. Runs of one network that differ in size are never combined
# into one line, mean, test or count of seeds.
SIZE = {"n_train": "n = {:,}", "precision": "{}", "epochs": "at most {} epochs"}
# Columns that say which run a row belongs to and where it comes from.
PROVENANCE = ("run_id", "group_id", "experiment", "profile", "data", "data_fingerprint", "device")


def load(experiment: str, *, root: str | Path | None = None) -> pd.DataFrame:
    """Load every complete run of an experiment as one tidy table.

    Args:
        experiment: Name of the experiment, for instance ``"random_labels"``.
        root: Folder of the runs (default: the variable GENDYN_RUNS, else ``./runs``).

    Returns:
        One row per run and evaluated epoch: provenance (run_id, group_id, experiment, profile, data, data_fingerprint,
        device), every field of the configuration, and the metrics of the epoch. Losses are in nats, accuracies in
        [0, 1].

    Raises:
        UserError: There is no complete run.

    >>> load("random_labels", root="no_such_folder")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: no complete run of 'random_labels' under ...: run it first (gendyn run, make run)
    """
    check_name("experiment", experiment)
    folder = runs_root(root) / experiment
    runs = [read_run(path.parent) for path in sorted(folder.glob("[!.]*/config.json"))]
    done = [run for run in runs if run.complete]
    if not done:
        raise UserError(f"no complete run of {experiment!r} under {folder}: run it first (gendyn run, make run)")
    return load_runs(done)


def load_runs(runs: Iterable[Run]) -> pd.DataFrame:
    """Load some complete runs as one tidy table, in their order.

    Args:
        runs: The runs.

    Returns:
        One row per run and evaluated epoch, as for `load`.

    Raises:
        UserError: No runs were given.

    >>> load_runs([])
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: no runs were given, expected at least one
    """
    frames = [pd.DataFrame([{**labels(run), **row} for row in run.rows()]) for run in runs]
    if not frames:
        raise UserError("no runs were given, expected at least one")
    return pd.concat(frames, ignore_index=True)


def labels(run: Run) -> dict[str, Any]:
    """The columns that have the same value in all rows of a run.

    ``trained_together`` is the number of runs that were trained as one batched network, 1 for a run trained on its own;
    it may change the results of the same settings by float32 rounding. ``resumed_at`` is missing for runs of early
    versions, which did not record it.
    """
    env, options = run.env(), run.config.model_options
    config = {name: math.nan if value is None else value for name, value in run.config.as_dict().items()}
    config["model_options"] = json.dumps(options, sort_keys=True)
    config["milestones"] = " ".join(map(str, run.config.milestones))
    return {
        "run_id": run.run_id,
        "group_id": run.config.group_id(run.data_fingerprint),
        **{name: env.get(name) for name in ("profile", "data", "n_train", "num_classes")},
        "data_fingerprint": run.data_fingerprint,
        "device": env.get("device"),
        "network": network_name(run.config.model, options),
        "trained_together": env.get("trained_together", 1),
        **config,
        **({"resumed_at": json.dumps(env["resumed_at"])} if "resumed_at" in env else {}),
    }


def network_name(model: str, model_options: Mapping[str, Any]) -> str:
    """The name of a network in tables and charts: the model and, if there are any, its options.

    >>> network_name("inception_small", {"batch_norm": False}), network_name("mlp", {"widths": [8, 8]})
    ('inception_small without batch-norm', 'mlp (widths 8, 8)')
    """
    options = dict(model_options)
    without = " without batch-norm" if options.pop("batch_norm", True) is False else ""
    words = [f"{name} {str(value).strip('[]')}" for name, value in sorted(options.items())]
    return model + without + (f" ({'; '.join(words)})" if words else "")


def with_sizes(table: pd.DataFrame, *, of: str = "network") -> pd.DataFrame:
    """Add columns of text that distinguish runs of one network on one data set by their size.

    Args:
        table: A tidy table, as returned by `load` or `published`.
        of: The column that names the networks; or ``"data"``, to compare all networks on one data set.

    Returns:
        The table with three more columns. ``size`` is to be appended to the network's name in a chart; it is empty if
        the network was run at only one size. ``rest`` is ``size`` without the number of training examples. ``subject``
        is the network, the data, the number of training examples, and as much of the rest as is needed to be unique.

    >>> runs = {"data": "MNIST", "network": "mlp", "n_train": [1000, 60000, 60000], "epochs": [80, 60, 200]}
    >>> with_sizes(pd.DataFrame(runs))["size"].tolist()
    [', n = 1,000', ', n = 60,000, at most 60 epochs', ', n = 60,000, at most 200 epochs']
    >>> with_sizes(pd.DataFrame(runs))["subject"].tolist()[0]
    'mlp on MNIST, n = 1,000'
    """

    def where_several(column: str, *given: str) -> pd.Series:
        if column not in table or table[column].nunique() < 2:
            return pd.Series("", table.index)
        groups = table.groupby(["data", of, *(key for key in given if key in table)], dropna=False)
        words = table[column].map((", " + SIZE[column]).format)
        return words.where(groups[column].transform("nunique") > 1, "")

    epochs = where_several("epochs", "n_train", "precision")
    rest = where_several("precision") + epochs
    subject = table[of] + " on " + table["data"] + table["n_train"].map((", " + SIZE["n_train"]).format)
    # A copy is consolidated: adding columns to a table of many blocks is slow.
    return table.copy().assign(
        size=where_several("n_train") + rest,
        rest=rest,
        subject=subject + where_several("precision", "n_train") + epochs,
    )


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Reduce a table to one row per run: its last metrics, and the first epoch at which its labels were fitted.

    Args:
        table: A tidy table, as returned by `load` or `published`.

    Returns:
        The last row of each run with two more columns: ``fit_epoch`` (missing if the labels were never fitted) and
        ``test_error`` = 1 − test_accuracy.

    >>> one = pd.DataFrame({"run_id": "a", "epoch": [0, 1], "train_accuracy": [0.5, 1.0], "test_accuracy": [0.5, 0.75]})
    >>> summarize(one).iloc[0].to_dict()
    {'run_id': 'a', 'epoch': 1, 'train_accuracy': 1.0, 'test_accuracy': 0.75, 'fit_epoch': 1, 'test_error': 0.25}
    """
    last = table.sort_values("epoch", kind="stable").groupby("run_id", sort=False).tail(1).set_index("run_id").copy()
    result = last.assign(fit_epoch=fit_epoch(table), test_error=1 - last["test_accuracy"])
    return result.loc[table["run_id"].unique()].reset_index()


def fit_epoch(table: pd.DataFrame) -> pd.Series:
    """The first epoch at which each run's training accuracy reached `FITTED`.

    Args:
        table: A tidy table, as returned by `load` or `published`.

    Returns:
        The epoch by run_id; missing if the run never reached it.

    >>> fit_epoch(pd.DataFrame({"run_id": "a", "epoch": [0, 1, 2], "train_accuracy": [0.5, 1.0, 1.0]})).to_dict()
    {'a': 1}
    """
    reached = table[table["train_accuracy"] >= FITTED - 1e-9]
    return reached.groupby("run_id")["epoch"].min().reindex(table["run_id"].unique())


def mean_interval(values: Sequence[float] | pd.Series, *, level: float = 0.95) -> tuple[float, float, float, int]:
    """Mean and Student-t confidence interval of values from independent seeds.

    Args:
        values: One value per seed; missing values are ignored.
        level: Confidence level.

    Returns:
        (mean, low, high, n). With fewer than `FEWEST` values, low and high are NaN; without any, the mean is NaN too.

    >>> mean, low, high, n = mean_interval([1.0, 2.0, 3.0])
    >>> round(mean, 3), round(low, 3), round(high, 3), n
    (2.0, -0.484, 4.484, 3)
    >>> mean_interval([5.0, 5.0])
    (5.0, nan, nan, 2)
    """
    clean = np.asarray([value for value in values if not pd.isna(value)], dtype=float)
    n = len(clean)
    if n == 0:
        return math.nan, math.nan, math.nan, 0
    mean = float(clean.mean())
    if n < FEWEST:
        return mean, math.nan, math.nan, n
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * clean.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half, n


def mean_intervals(rows: pd.DataFrame, by: Sequence[str], value: str = "value", *, name: str = "mean") -> pd.DataFrame:
    """Apply `mean_interval` to a column, over the seeds of each group of rows.

    Args:
        rows: One row per group and seed.
        by: Columns that identify the group, at least two.
        value: The column to average.
        name: Name of the column of means.

    Returns:
        The columns `by`, `name`, ``low``, ``high`` and ``seeds``, one row per group in the order of first appearance.

    >>> rows = pd.DataFrame({"data": "digits", "epoch": [1, 1, 1, 0], "value": [2.0, 2.0, 2.0, 5.0]})
    >>> mean_intervals(rows, ["data", "epoch"]).to_dict("list")
    {'data': ['digits', 'digits'], 'epoch': [1, 0], 'mean': [2.0, 5.0], 'low': [2.0, nan], 'high': [2.0, nan],
     'seeds': [3, 1]}
    """
    keys = list(by)
    found = [(*key, *mean_interval(values)) for key, values in rows.groupby(keys, sort=False)[value]]
    return pd.DataFrame(found, columns=pd.Index([*keys, name, "low", "high", "seeds"]))


def overview(table: pd.DataFrame) -> pd.DataFrame:
    """An overview of some runs, one row per network, number of training examples and device.

    Args:
        table: A tidy table, as returned by `load` or `published`.

    Returns:
        Columns ``data``, ``network``, ``n_train``, ``profile``, ``device``, ``runs`` (their number), ``seeds``
        (smallest number of any setting) and ``hours`` (of training, summed over runs).

    >>> one = {"run_id": "a", "group_id": "g", "data": "digits", "network": "mlp", "n_train": 10, "profile": "smoke"}
    >>> one |= {"device": "CPU", "seed": 0, "seconds": 7200, "epoch": [1], "train_accuracy": 1, "test_accuracy": 1}
    >>> overview(pd.DataFrame(one))[["runs", "seeds", "hours"]].to_dict("records")
    [{'runs': 1, 'seeds': 1, 'hours': 2.0}]
    """
    runs = with_sizes(summarize(table))
    runs["network"] += runs["rest"]
    keys = ["data", "network", "n_train", "profile", "device"]
    runs["seeds"] = runs.groupby([*keys, "group_id"], dropna=False)["seed"].transform("nunique")
    grouped = runs.groupby(keys, sort=False, dropna=False)
    counted = grouped.agg(runs=("run_id", "size"), seeds=("seeds", "min"), hours=("seconds", "sum")).reset_index()
    return counted.assign(hours=(counted["hours"] / 3600).round(3))


def one_data_set(table: pd.DataFrame, *, column: str = "network") -> pd.DataFrame:
    """Append sizes to the names of networks, in a table of runs on a single data set.

    The number of training examples is appended if the table has several, the rest of the size where a network has.

    Args:
        table: A tidy table, as returned by `load` or `published`.
        column: The column that names the networks.

    Raises:
        UserError: The table has runs on several data sets.

    >>> runs = pd.DataFrame({"data": ["MNIST"] * 2, "network": ["mlp", "mlp"], "n_train": [1000, 60000]})
    >>> one_data_set(runs)["network"].tolist()
    ['mlp, n = 1,000', 'mlp, n = 60,000']
    """
    names = list(table["data"].unique())
    if len(names) > 1:
        choice = f"table[table['data'] == {names[0]!r}]"
        raise UserError(f"the table has runs on {' and '.join(names)}: choose one data set, for instance {choice}")

    n = table["n_train"].map(", n = {:,}".format) if table["n_train"].nunique() > 1 else ""
    return table.assign(**{column: table[column] + n + with_sizes(table, of=column)["rest"]})
