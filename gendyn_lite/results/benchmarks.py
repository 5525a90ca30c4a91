"""Published benchmarks with their provenance, and an overview of everything that is published."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gendyn_lite.errors import UserError, check_name, unknown_name
from gendyn_lite.results.files import changing, published_experiments, published_root, standing, swap, unsealed
from gendyn_lite.results.published import published
from gendyn_lite.results.runs import environment
from gendyn_lite.results.tables import summarize

COLUMNS = ["case", "device", "unit", "ours", "peer", "theirs"]  # of a benchmark's table; `ratio` is added


def publish_benchmark(
    name: str, rows: Iterable[Mapping[str, Any]], *, goals: Mapping[str, float], to: Path | None = None, **env: Any
) -> Path:
    """Write a benchmark's table and its sealed provenance record; either both files are replaced or neither is.

    Args:
        name: What was measured, for instance ``"training"``.
        rows: One row per case and peer: ``case``, ``device``, ``unit`` (of the speeds; larger is better), ``ours``,
            ``peer``, ``theirs``. The ratio ours / theirs is added.
        goals: The ratio that we aim for at least, by peer or by case; a case's goal holds for all its peers.
        to: Folder of the published tables.
        **env: Further entries of the record, such as threads, rounds and the command.

    Returns:
        Path of the table.

    Raises:
        UserError: The name is invalid, there are no rows, or a speed is not a positive number.
    """
    check_name("benchmark", name)
    table = pd.DataFrame(list(rows), columns=pd.Index(COLUMNS))
    speeds = table[["ours", "theirs"]].astype(float)
    if table.empty or not (speeds > 0).all(axis=None):
        raise UserError(f"the benchmark {name!r} has no rows, or a speed that is not above 0: nothing was published")
    table = table.assign(ratio=speeds["ours"] / speeds["theirs"])
    record = {"benchmark": name, "goals": dict(goals), "env": environment(**env)}
    text = table.to_csv(index=False, float_format="%.4g")
    folder = (to or published_root()) / "performance"
    with changing(folder):
        swap(folder, {f"{name}.csv": text}, f"{name}.json", record)
    return folder / f"{name}.csv"


def benchmark_names(*, folder: Path | None = None) -> list[str]:
    """Names of the published benchmarks, sorted.

    Args:
        folder: Folder of the published tables (default: those of the book).

    Returns:
        The names, for `benchmark`.

    >>> "training" in benchmark_names()
    True
    """
    return sorted(path.stem for path in standing((folder or published_root()) / "performance").glob("*.csv"))


def benchmark(name: str, *, folder: Path | None = None) -> pd.DataFrame:
    """A published benchmark.

    Args:
        name: One of `benchmark_names`.
        folder: Folder of the published tables.

    Returns:
        One row per case and peer, with the ratio of speeds ours / theirs and the goal for it (NaN if there is none).

    Raises:
        UserError: It is not published, or was edited by hand.

    >>> min(benchmark("training")["ratio"]) > 0
    True
    """
    record, text = _sealed_benchmark(name, folder or published_root())
    table, goals = pd.read_csv(io.BytesIO(text)), record["goals"]
    return table.assign(goal=table["peer"].map(goals).fillna(table["case"].map(goals)).astype(float))


def _sealed_benchmark(name: str, root: Path) -> tuple[dict[str, Any], bytes]:
    """The record and the table of a benchmark, once their seal is verified."""
    if name not in benchmark_names(folder=root):
        raise unknown_name("benchmark", name, benchmark_names(folder=root))
    path = standing(root / "performance") / f"{name}.csv"
    record, (text,) = unsealed(path, path.with_suffix(".json"), path, holds="goals", benchmark=name)
    return record, text


def benchmark_line(name: str, *, folder: Path | None = None) -> str:
    """The provenance of a benchmark in one line, for its caption.

    Args:
        name: One of `benchmark_names`.
        folder: Folder of the published tables (default: those of the book).

    Returns:
        Command, machine, torch version and commit.

    Raises:
        UserError: It is not published, or was edited by hand.

    >>> benchmark_line("training").startswith("python tests/benchmarks/train.py")
    True
    """
    env = _sealed_benchmark(name, folder or published_root())[0]["env"]
    return f"{env['command']}; {env['machine']}; torch {env['versions']['torch']}; commit `{env['commit']}`"


STATUS = ["experiment", "data", "profile", "device", "networks", "examples", "runs", "seeds", "rows", "hours"]
SHOWN = 3  # number of networks up to which a row of `status` names them


def status() -> pd.DataFrame:
    """An overview of all published runs, one row per experiment, data set, profile and device.

    Returns:
        Columns ``experiment``, ``data``, ``profile``, ``device``, ``networks`` (names, or their number), ``examples``
        (training examples, from smallest to largest), ``runs`` (their number), ``seeds`` (smallest number of any
        setting), ``rows`` (of the published table) and ``hours`` (of training, summed over runs).


    Raises:
        UserError: A table was edited by hand.

    >>> set(status()["experiment"]) == set(published_experiments())
    True
    """
    found = []
    for name in published_experiments():
        for keys, rows in published(name).groupby(["data", "profile", "device"], sort=False):
            runs = summarize(rows)
            networks, n_train = runs["network"].unique(), runs["n_train"].astype(int)
            named = ", ".join(networks) if len(networks) <= SHOWN else f"{len(networks)} networks"
            examples = " to ".join(f"{count:,}" for count in sorted({n_train.min(), n_train.max()}))
            seeds = int(runs.groupby("group_id")["seed"].nunique().min())
            hours = round(float(runs["seconds"].sum()) / 3600, 2)
            found.append((name, *keys, named, examples, len(runs), seeds, len(rows), hours))
    return pd.DataFrame(found, columns=pd.Index(STATUS))
