"""The published speed of this library beside its peers: small tables under book/results/performance."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.published import published_root
from gendyn_lite.results.runs import environment, file_sha256, write_json

COLUMNS = ("case", "device", "unit", "ours", "peer", "theirs", "ratio")


def publish_benchmark(
    name: str, rows: Iterable[Mapping[str, Any]], *, goals: Mapping[str, float], to: Path | None = None, **env: Any
) -> Path:
    """Write one benchmark's table with its provenance; both files are replaced, or none.

    Args:
        name: What was measured, for instance ``"training"``.
        rows: One row for each case and peer: `case`, `device`, `unit` (the unit of speed, larger is better), `ours`,
            `peer`, `theirs`. The ratio ours / theirs is added.
        goals: Peer, or case, → the least ratio that we set out for; a case's holds for each of its peers.
        to: Folder of the published tables.
        **env: What else is recorded (threads, rounds, the command).

    Returns:
        The table's path.

    Raises:
        UserError: No rows, or a speed that is no positive number.
    """
    table = pd.DataFrame(list(rows), columns=list(COLUMNS[:-1]))
    speeds = table[["ours", "theirs"]].astype(float)
    if table.empty or not (speeds > 0).all(axis=None):
        raise UserError(f"the benchmark {name!r} has no rows, or a speed that is not above 0: nothing was published")
    table = table.assign(ratio=speeds["ours"] / speeds["theirs"])
    folder = (to or published_root()) / "performance"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.csv"
    aside = path.with_suffix(".tmp")
    table.to_csv(aside, index=False, float_format="%.4g")
    os.replace(aside, path)
    write_json(
        path.with_suffix(".json"), {"sha256": file_sha256(path), "goals": dict(goals), "env": environment(**env)}
    )
    return path


def benchmark_names(*, folder: Path | None = None) -> list[str]:
    """Names of the published benchmarks."""
    return sorted(path.stem for path in ((folder or published_root()) / "performance").glob("*.csv"))


def benchmark(name: str, *, folder: Path | None = None) -> pd.DataFrame:
    """A published benchmark: a row for each case and peer, with the goal for that peer (NaN where there is none).

    Raises:
        UserError: It is not published, or was edited by hand.
    """
    root = folder or published_root()
    if name not in benchmark_names(folder=root):
        raise unknown_name("benchmark", name, benchmark_names(folder=root))
    path = root / "performance" / f"{name}.csv"
    record = benchmark_record(name, folder=root)
    if file_sha256(path) != record["sha256"]:
        raise UserError(f"{path} is not the table that was published (its hash differs): publish it again")
    table = pd.read_csv(path)
    goals = record["goals"]
    return table.assign(goal=table["peer"].map(goals).fillna(table["case"].map(goals)).astype(float))


def benchmark_record(name: str, *, folder: Path | None = None) -> dict[str, Any]:
    """What was recorded beside a published benchmark: goals, versions, commit, threads."""
    return json.loads(((folder or published_root()) / "performance" / f"{name}.json").read_text())


def benchmark_line(name: str, *, folder: Path | None = None) -> str:
    """Where a benchmark's numbers come from, in a line for its caption."""
    env = benchmark_record(name, folder=folder)["env"]
    versions = f"torch {env['versions']['torch']}"
    return f"{env['command']}; {env['machine']}; {versions}; commit `{env['commit']}`"
