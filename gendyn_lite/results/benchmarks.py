"""The published speed of this library beside its peers: small tables under book/results/performance."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gendyn_lite.config import check_name
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.published import published_root
from gendyn_lite.results.runs import environment, json_text, read_file, read_json
from gendyn_lite.results.sealed import RESTORE, changing, seal, standing, swap_in

COLUMNS = ("case", "device", "unit", "ours", "peer", "theirs", "ratio")


def publish_benchmark(
    name: str, rows: Iterable[Mapping[str, Any]], *, goals: Mapping[str, float], to: Path | None = None, **env: Any
) -> Path:
    """Write one benchmark's table with its provenance, sealed; both files are replaced, or none.

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
        UserError: The name is none, there are no rows, or a speed is no positive number.
    """
    check_name("benchmark", name)
    table = pd.DataFrame(list(rows), columns=list(COLUMNS[:-1]))
    speeds = table[["ours", "theirs"]].astype(float)
    if table.empty or not (speeds > 0).all(axis=None):
        raise UserError(f"the benchmark {name!r} has no rows, or a speed that is not above 0: nothing was published")
    table = table.assign(ratio=speeds["ours"] / speeds["theirs"])
    record = {"benchmark": name, "goals": dict(goals), "env": environment(**env)}
    text = table.to_csv(index=False, float_format="%.4g")
    folder = (to or published_root()) / "performance"
    with changing(folder):
        sealed = {**record, "seal": seal(record, text.encode())}
        swap_in(folder, {f"{name}.csv": text, f"{name}.json": json_text(sealed)})
    return folder / f"{name}.csv"


def benchmark_names(*, folder: Path | None = None) -> list[str]:
    """Names of the published benchmarks."""
    return sorted(path.stem for path in standing((folder or published_root()) / "performance").glob("*.csv"))


def benchmark(name: str, *, folder: Path | None = None) -> pd.DataFrame:
    """A published benchmark: a row for each case and peer, with the goal for that peer (NaN where there is none).

    Raises:
        UserError: It is not published, or was edited by hand.
    """
    root = folder or published_root()
    if name not in benchmark_names(folder=root):
        raise unknown_name("benchmark", name, benchmark_names(folder=root))
    record, text = _sealed(name, root)
    table = pd.read_csv(io.BytesIO(text))
    goals = record["goals"]
    return table.assign(goal=table["peer"].map(goals).fillna(table["case"].map(goals)).astype(float))


def benchmark_record(name: str, *, folder: Path | None = None) -> dict[str, Any]:
    """What was recorded beside a published benchmark: goals, versions, commit, threads."""
    return _sealed(name, folder or published_root())[0]


def _sealed(name: str, root: Path) -> tuple[dict[str, Any], bytes]:
    """The record and the table of a benchmark, as they were published."""
    check_name("benchmark", name)
    path = standing(root / "performance") / f"{name}.csv"
    text = read_file(path, remedy=RESTORE)
    record = read_json(path.with_suffix(".json"), remedy=RESTORE)
    if record.get("benchmark") != name or record.get("seal") != seal(record, text):
        raise UserError(f"{path} is not the table that was published (its seal differs): {RESTORE}")
    return record, text


def benchmark_line(name: str, *, folder: Path | None = None) -> str:
    """Where a benchmark's numbers come from, in a line for its caption."""
    env = benchmark_record(name, folder=folder)["env"]
    versions = f"torch {env['versions']['torch']}"
    return f"{env['command']}; {env['machine']}; {versions}; commit `{env['commit']}`"
