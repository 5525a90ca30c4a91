"""The small tables that the book shows, under book/results/: finished runs with their provenance, and benchmarks."""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from gendyn_lite.config import ADDED_LATER, LARGEST, NAME, RunConfig, check_name, shown
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.runs import environment, json_text, read_file, read_json
from gendyn_lite.results.sealed import RESTORE, changing, seal, standing, swap_in
from gendyn_lite.results.tables import PROVENANCE

RUNS, CURVES, RECORD = "runs.csv", "curves.csv", "provenance.json"
METRICS = ("epoch", "step", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
# Accuracies are fractions; epochs, steps, nats and seconds of training have no upper bound.
RANGES = {name: (0, 1 if name.endswith("accuracy") else math.inf) for name in METRICS}
_FIELDS = fields(RunConfig)
# Columns that are text, whatever a CSV reader would take them for.
TEXT = {*PROVENANCE, "network", "model_options", "milestones", "resumed_at"} | {
    item.name for item in _FIELDS if item.type == "str"
}
# Settings that came later: rows that do not name them, of runs from before as of runs from after, are at the default.
LATER: dict[str, Any] = {item.name: item.default for item in _FIELDS if item.name in ADDED_LATER}
# How a spreadsheet's formula begins. Text that does is published behind an apostrophe, as is text that begins with one.
FORMULA = ("=", "+", "-", "@", "\t", "\n", "'")
_PACKAGE = Path(__file__).resolve().parents[1]


class Table(NamedTuple):
    """A published table as text: a row per run, a row per run and epoch, and the record of each run."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    records: dict[str, Any]


def published_root() -> Path:
    """Folder of the published tables: book/results of the checkout, or the copy inside an installed package."""
    shipped = _PACKAGE / "published"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "book" / "results"


def published_experiments(*, folder: Path | None = None) -> list[str]:
    """Names of the experiments with published tables."""
    root = folder or published_root()
    found = {path.parent.name for name in (RUNS, CURVES, RECORD) for path in root.glob(f"*/{name}")}
    aside = {name[1:-4] for name in found if name.startswith(".") and name.endswith(".old")}  # see `sealed.standing`
    return sorted(aside | {name for name in found if NAME.fullmatch(name)})


def place_of(experiment: str, root: Path | None) -> Path:
    """The folder of a published experiment."""
    check_name("experiment", experiment)
    if experiment == "performance":
        raise UserError("experiment 'performance': this name is taken by the benchmarks, choose another one")
    return (root or published_root()).resolve() / experiment


def published(experiment: str, *, folder: Path | None = None) -> pd.DataFrame:
    """The published tables of an experiment in the same tidy form as `load`.

    Raises:
        UserError: Nothing is published under that name, or a table is not the one that was published.
    """
    here = place_of(experiment, folder)
    record, *tables = _sealed(here)
    runs, curves = typed(*tables)
    check(here, record, runs, curves)
    runs["trained_together"] = [record["runs"][name].get("trained_together", 1) for name in runs["run_id"]]
    return curves.merge(runs, on="run_id", how="left", validate="many_to_one")


def _sealed(here: Path) -> tuple[dict[str, Any], bytes, bytes]:
    """The record, runs.csv and curves.csv of a published experiment, as they were published."""
    known = published_experiments(folder=here.parent)
    if here.name not in known:
        raise unknown_name("published experiment", here.name, known)
    place = standing(here)
    record = read_json(place / RECORD, remedy=RESTORE)
    runs, curves = (read_file(place / name, remedy=RESTORE) for name in (RUNS, CURVES))
    whole = record.get("experiment") == here.name and isinstance(record.get("runs"), dict)
    if not whole or record.get("seal") != seal(record, runs, curves):
        raise UserError(f"{place} is not the table that was published (its seal differs): {RESTORE}")
    return record, runs, curves


def opened(experiment: str, *, folder: Path | None = None) -> Table:
    """A published experiment as text."""
    record, *files = _sealed(place_of(experiment, folder))
    runs, curves = (pd.read_csv(io.BytesIO(each), dtype=str, keep_default_na=False) for each in files)
    return Table(runs, curves, record["runs"])


def typed(runs: bytes, curves: bytes) -> tuple[pd.DataFrame, pd.DataFrame]:
    """runs.csv and curves.csv, text as text, with all settings that came later."""
    options: Any = {"dtype": dict.fromkeys(TEXT, str), "keep_default_na": False, "na_values": [""]}
    settings, rows = (pd.read_csv(io.BytesIO(each), **options) for each in (runs, curves))
    defaults = {name: math.nan if value is None else value for name, value in LATER.items()}
    settings = settings.fillna(dict.fromkeys(TEXT, "") | defaults)
    settings = settings.assign(**{name: defaults[name] for name in defaults if name not in settings})
    return _unquoted(settings), _unquoted(rows)


def cell(value: Any, style: str = "") -> str:
    """A value as text, floats in a style; text that a spreadsheet would take for a formula has an apostrophe before it.

    >>> cell(0.123456789, ".6g"), cell(0.123456789), cell(float("nan")), cell("=1+1")
    ('0.123457', '0.123456789', '', "'=1+1")
    """
    if isinstance(value, float):
        return "" if math.isnan(value) else format(value, style)
    if isinstance(value, str) and "\r" in value:
        raise UserError(f"{shown(value)} cannot be published: it holds a carriage return, which tables do not keep")
    return "" if value is None else f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else str(value)


def _unquoted(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the apostrophes before texts that begin like formulas."""
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    quoted = [name for name in texts if table[name].map(str).str.startswith("'").any()]
    return table.assign(**{str(name): table[name].str.removeprefix("'") for name in quoted})


def provenance(experiment: str, *, folder: Path | None = None) -> dict[str, Any]:
    """The environment of each published run: versions, device, commit, seconds, where it was resumed."""
    return _sealed(place_of(experiment, folder))[0]


def verify(experiment: str, *, folder: Path | None = None) -> None:
    """Check that the published tables are the ones that were written, and hold no impossible value.

    Raises:
        UserError: A table or its provenance was edited by hand or is damaged, repeats a row or holds a value out of
            range.
    """
    published(experiment, folder=folder)


def check(here: Path, record: dict[str, Any], runs: pd.DataFrame, curves: pd.DataFrame) -> None:
    """Refuse tables of other runs than their record's, without a column that they need, or with impossible values."""
    needed = {*PROVENANCE, "network", "seed", "n_train"}
    missing = sorted(needed - set(runs)) + sorted({"run_id", *METRICS} - set(curves))
    if missing:
        raise UserError(f"{here}: the columns {', '.join(missing)} are missing: {RESTORE}")
    if set(runs["run_id"]) != set(record["runs"]) or set(curves["run_id"]) != set(record["runs"]):
        raise UserError(f"{here}: runs.csv, curves.csv and provenance.json name different runs: {RESTORE}")
    if curves.duplicated(["run_id", "epoch"]).any() or runs["run_id"].duplicated().any():
        raise UserError(f"{here}: a run or an epoch is duplicated: {RESTORE}")
    check_names(here, runs, ())
    check_names(here, curves, [*map(str, runs), "trained_together"])
    if not pd.api.types.is_integer_dtype(curves["epoch"]):
        raise UserError(f"{here / CURVES}: an epoch is no whole number: {RESTORE}")
    for name, (low, high) in RANGES.items():
        wrong = curves[name].notna() & ~pd.to_numeric(curves[name], errors="coerce").between(low, high)
        if wrong.any():
            value, run = curves.loc[wrong, [name, "run_id"]].iloc[0]
            raise UserError(f"{here / CURVES}: {name} of run {run} is {value}, expected {low:g} to {high:g}")


def check_names(here: Path, names: Iterable[object], settings: Collection[str]) -> None:
    """Refuse columns whose names are not plain words, and metrics that are called as a setting is."""
    for name in map(str, names):
        if name.startswith(FORMULA):
            raise UserError(f"{here}: the column {name!r} begins like a formula of a spreadsheet: rename its probe")
        if not (name.isprintable() and name.strip()):
            raise UserError(f"{here}: the column {shown(name)} is not a word in one line: rename its probe")
        if name in settings and name not in {"run_id", *METRICS}:
            raise UserError(f"{here}: the metric {name!r} is called as a setting of the run is: rename its probe")


def check_rows(path: Path, rows: Sequence[Mapping[str, Any]], settings: Collection[str]) -> None:
    """Refuse rows of a run that cannot be published: a metric missing or impossible, an epoch twice, a strange name.

    Args:
        path: The file they were read from.
        rows: A row per epoch.
        settings: What the run's other columns are called.
    """
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        check_names(path, row, settings)
        if "run_id" in row or not set(METRICS) <= set(row):
            raise UserError(f"{where} has the keys {shown(sorted(row))}, expected {', '.join(METRICS)}, and no run_id")
        for name, (low, high) in RANGES.items():
            value, whole = row[name], name in ("epoch", "step")
            known = (type(value) is int and value <= LARGEST) or (type(value) is float and not whole)
            if not known or not (math.isnan(value) or low <= value <= high):
                kind = "a whole number" if whole else "a number"
                raise UserError(f"{where}: {name} is {shown(value)}, expected {kind} of {low:g} to {high:g}")
    if len({row["epoch"] for row in rows}) < len(rows):
        raise UserError(f"{path}: an epoch is duplicated")


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
    record, text = _sealed_benchmark(name, root)
    table = pd.read_csv(io.BytesIO(text))
    goals = record["goals"]
    return table.assign(goal=table["peer"].map(goals).fillna(table["case"].map(goals)).astype(float))


def _sealed_benchmark(name: str, root: Path) -> tuple[dict[str, Any], bytes]:
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
    env = _sealed_benchmark(name, folder or published_root())[0]["env"]
    return f"{env['command']}; {env['machine']}; torch {env['versions']['torch']}; commit `{env['commit']}`"
