"""Read and check the published tables, convert runs to the text that is published, and say where numbers come from."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pandas as pd

from gendyn_lite.config import ADDED_LATER, RunConfig, shown
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.files import CURVES, RECORD, RESTORE, RUNS, place_of, published_experiments, standing, unsealed
from gendyn_lite.results.runs import Run
from gendyn_lite.results.tables import PROVENANCE, labels, with_sizes

METRICS = ("epoch", "step", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
# Accuracies are fractions; epochs, steps, losses (nats) and seconds have no upper bound.
RANGES = {name: (0, 1 if name.endswith("accuracy") else math.inf) for name in METRICS}
_FIELDS = fields(RunConfig)
# Columns that stay text, even if their values look like numbers.
TEXT = {*PROVENANCE, "network", "model_options", "milestones", "resumed_at"} | {
    item.name for item in _FIELDS if item.type == "str"
}
# Settings that were added after runs had been published, with their defaults. They are published only if they differ
# from the default, so a missing value is the default, in tables of earlier versions too.
LATER: dict[str, Any] = {item.name: item.default for item in _FIELDS if item.name in ADDED_LATER}
# Characters that may start a formula in a spreadsheet. An apostrophe is put before text that starts with one of them,
# and before text that starts with an apostrophe itself.
FORMULA = ("=", "+", "-", "@", "\t", "\n", "'")
MOST_NAMED = 8  # number of networks and sizes up to which each is named
SETTINGS, ENVIRONMENT = "settings", "environment"  # keys of the record for what many runs share, written only once


class Table(NamedTuple):
    """A published experiment with all values as text.

    Attributes:
        runs: One row per run: provenance and settings.
        curves: One row per run and evaluated epoch: metrics.
        records: The env.json of each run, by run_id.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    records: dict[str, Any]

    def files(self) -> dict[str, str]:
        """The text of runs.csv and curves.csv, by file name."""
        return {RUNS: self.runs.to_csv(index=False), CURVES: self.curves.to_csv(index=False)}


def published(experiment: str, *, folder: Path | None = None) -> pd.DataFrame:
    """Read the published tables of an experiment in the same tidy form as `load`.

    Args:
        experiment: Name of the experiment.
        folder: Folder of the published tables (default: those of the book).

    Returns:
        One row per run and evaluated epoch.

    Raises:
        UserError: Nothing is published under that name; or a file is damaged, was edited by hand, repeats a row or
            holds a value out of range.

    >>> sorted(published("random_labels")["data"].unique())
    ['CIFAR-10 (JPEG q75)', 'MNIST']
    """
    here = place_of(experiment, folder)
    record, tables = _sealed(here)
    runs, curves = typed(*tables)
    check(here, record["runs"], runs, curves)
    records = [record["runs"][name] for name in runs["run_id"]]
    runs["trained_together"] = [each.get("trained_together", 1) for each in records]
    runs["criteria"] = [each.get("criteria", "") for each in records]  # criteria of claims on record before the run
    return curves.merge(runs, on="run_id", how="left", validate="many_to_one")


def _sealed(here: Path) -> tuple[dict[str, Any], list[str]]:
    """The record of a published experiment, and the texts of runs.csv and curves.csv, once their seal is verified.

    What is written once for many runs is restored in every row and every run's record.
    """
    known = published_experiments(folder=here.parent)
    if here.name not in known:
        raise unknown_name("published experiment", here.name, known)
    place = standing(here)
    record, *tables = (place / name for name in (RECORD, RUNS, CURVES))
    found, texts = unsealed(place, record, *tables, holds="runs", experiment=here.name)
    runs, curves = (text.decode() for text in texts)
    if shared := found.get(SETTINGS):
        runs = _as_written(runs).assign(**shared).to_csv(index=False)
    together = found.get(ENVIRONMENT, {})
    return found | {"runs": {name: {**together, **own} for name, own in found["runs"].items()}}, [runs, curves]


def opened(experiment: str, *, folder: Path | None = None) -> Table:
    """Read a published experiment with all values as text."""
    record, texts = _sealed(place_of(experiment, folder))
    runs, curves = map(_as_written, texts)
    return Table(runs, curves, record["runs"])


def _as_written(text: str) -> pd.DataFrame:
    """A CSV table with every cell as text."""
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def typed(*texts: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Parse runs.csv and curves.csv; settings that were added later get their defaults where they are missing."""
    settings, rows = map(_typed, texts)
    defaults = {name: math.nan if value is None else value for name, value in LATER.items()}
    settings = settings.fillna(dict.fromkeys(TEXT, "") | defaults)
    settings = settings.assign(**{name: defaults[name] for name in defaults if name not in settings})
    return _unquoted(settings), _unquoted(rows)


def _typed(text: str) -> pd.DataFrame:
    """Parse a CSV table; digits that cannot be a number, as "0110" (the classes of a map), stay text."""
    plain = _as_written(text)
    digits = [str(name) for name in plain if plain[name].str.match(r"0\d|\d{17}").any()]
    kinds = dict.fromkeys([*TEXT, *digits], str)
    return pd.read_csv(io.StringIO(text), dtype=kinds, keep_default_na=False, na_values=[""])  # type: ignore[arg-type]


def cell(value: Any, style: str = "") -> str:
    """A value as the text of a cell: floats formatted by `style`, and an apostrophe before what looks like a formula.

    >>> cell(0.123456789, ".6g"), cell(0.123456789), cell(float("nan")), cell("=1+1")
    ('0.123457', '0.123456789', '', "'=1+1")
    """
    if isinstance(value, float):
        return "" if math.isnan(value) else format(value, style)
    if isinstance(value, str) and "\r" in value:
        raise UserError(f"{shown(value)} cannot be published: tables cannot hold its carriage return")
    return "" if value is None else f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else str(value)


def _metric(value: Any) -> str:
    """A metric as the text of a cell, with six digits; a string of digits gets an apostrophe, so that it stays text.

    >>> _metric(0.123456789), _metric("0110")
    ('0.123457', "'0110")
    """
    return f"'{value}" if isinstance(value, str) and value.isdigit() else cell(value, ".6g")


def _unquoted(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the apostrophes that `cell` and `_metric` put before text."""
    texts = [name for name in table if not pd.api.types.is_numeric_dtype(table[name])]
    quoted = [name for name in texts if table[name].map(str).str.startswith("'").any()]
    return table.assign(**{str(name): table[name].str.removeprefix("'") for name in quoted})


def as_text(run: Run) -> Table:
    """A complete run as text to publish, without paths of this machine and without text that looks like a formula."""
    own = labels(run)
    if own["dataset"].startswith("folder:"):
        own["dataset"] = f"folder:{PurePath(own['dataset'].removeprefix('folder:')).name}"
    later = {name for name in LATER if getattr(run.config, name) == LATER[name]}  # not part of the run's key either
    left_out = {*later, *METRICS, "trained_together"}  # the last one is in the run's record
    settings = {name: cell(own[name]) for name in own if name not in left_out}
    rows = run.rows() if run.config.stop_at_loss is None else run.rows()[-1:]  # runs to a given loss: only their end
    curves = [{"run_id": run.run_id, **{name: _metric(row[name]) for name in row}} for row in rows]
    return Table(pd.DataFrame([settings]), pd.DataFrame(curves).fillna(""), {run.run_id: run.env()})


def cells_of(table: Table, name: str) -> dict[tuple[str, str, str], str]:
    """All cells of a run, by file, epoch and column; numbers are normalized, so that equal ones have equal text."""
    cells = {(RUNS, "", column): cell(value) for column, value in LATER.items()}
    for file, frame in ((RUNS, table.runs), (CURVES, table.curves)):
        for row in frame[frame["run_id"] == name].to_dict("records"):
            where = file, row.get("epoch", "")
            cells |= {(*where, str(column)): text.removeprefix("'") for column, text in row.items() if text}
    for (file, epoch, column), text in cells.items():
        if column not in TEXT:
            with suppress(ValueError):
                cells[file, epoch, column] = format(float(text), ".6g" if file == CURVES else "")
    record = {(RECORD, "", column): json.dumps(value, sort_keys=True) for column, value in table.records[name].items()}
    return cells | record


def check(
    here: Path, names: Collection[str], runs: pd.DataFrame, curves: pd.DataFrame, *, remedy: str = RESTORE
) -> None:
    """Check that tables and record are about the same runs, have all columns, and hold only possible values.

    Args:
        here: The folder to name in an error.
        names: Ids of the runs in the record.
        runs: One row per run.
        curves: One row per run and epoch.
        remedy: What to do; the end of the error message.

    Raises:
        UserError: A column is missing or has an invalid name, a row is duplicated, or a value is out of range.
    """
    needed = {*PROVENANCE, "network", "seed", "n_train"}
    missing = sorted(needed - set(runs)) + sorted({"run_id", *METRICS} - set(curves))
    if missing:
        raise UserError(f"{here}: the columns {', '.join(missing)} are missing: {remedy}")
    if set(runs["run_id"]) != set(names) or set(curves["run_id"]) != set(names):
        raise UserError(f"{here}: runs.csv, curves.csv and provenance.json name different runs: {remedy}")
    if curves.duplicated(["run_id", "epoch"]).any() or runs["run_id"].duplicated().any():
        raise UserError(f"{here}: a run or an epoch is duplicated: {remedy}")
    settings = {*runs, "trained_together", "criteria", "resumed_at"} - {"run_id", *METRICS}
    for name in map(str, [*runs, *curves]):
        if name.startswith(FORMULA):
            raise UserError(f"{here}: the column {name!r} starts like a spreadsheet formula: rename its probe")
        if not (name.isprintable() and name.strip()):
            raise UserError(f"{here}: the column name {shown(name)} is not one line of text: rename its probe")
        if name in settings and name in curves:
            raise UserError(f"{here}: the metric {name!r} has the name of a setting of the run: rename its probe")
    for name, (low, high) in RANGES.items():
        if name in ("epoch", "step") and not _whole(curves[name], parts=name == "epoch"):
            raise UserError(f"{here}: {name} is not always a whole number: {remedy}")
        wrong = curves[name].notna() & ~pd.to_numeric(curves[name], errors="coerce").between(low, high)
        if wrong.any():
            value, run = curves.loc[wrong, [name, "run_id"]].iloc[0]
            raise UserError(f"{here}: {name} of run {run} is {value}, expected {low:g} to {high:g}")


def _whole(values: pd.Series, *, parts: bool) -> bool:
    """Whether all values are whole numbers; with `parts`, fractions of the first epoch (0 to 1) are allowed too."""

    if not (parts and pd.api.types.is_float_dtype(values)):
        return pd.api.types.is_integer_dtype(values)
    early = values.between(0, 1, inclusive="neither")
    return bool(early.any() and (values[~early] % 1 == 0).all())


def _count(number: int, noun: str) -> str:
    """A number and its noun, in the plural unless the number is one."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _spans(numbers: Iterable[int]) -> str:
    """Whole numbers in words; three or more consecutive ones become a range.

    >>> _spans([0, 1, 2, 10, 14, 13])
    '0 to 2, 10, 13, 14'
    """
    spans: list[list[int]] = []
    for number in sorted(set(map(int, numbers))):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]} to {span[-1]}" if len(span) > 2 else ", ".join(map(str, span)) for span in spans)


def _epochs(table: pd.DataFrame) -> str:
    """How many epochs some runs trained for, in words; empty if none has more than one, as without training."""
    last = table.groupby("run_id")["epoch"].max() if "epoch" in table else pd.Series([0])
    if last.max() <= 1:
        return ""
    few = [f"{epoch:g}" for epoch in sorted(set(last))]
    return f", {' or '.join(few) if len(few) < 4 else f'{few[0]} to {few[-1]}'} epochs"


def provenance_line(table: pd.DataFrame) -> str:
    """Say where the numbers of a figure come from: data, networks, runs, seeds, epochs, profile, device and groups.

    The line ends the caption of a figure. Runs of profile smoke are called a demonstration of the method, not evidence.

    Args:
        table: A tidy table, as returned by `load` or `published`.

    Returns:
        The line, in Markdown.

    >>> one = {"run_id": ["a"], "group_id": "0123456789", "data": "digits", "network": "mlp", "n_train": 10}
    >>> provenance_line(pd.DataFrame(one | {"profile": "smoke", "device": "CPU", "seed": 0}))
    'digits; mlp (n = 10); 1 run, 1 seed (0); profile smoke: method demo, not evidence; CPU; groups `01234567`.'
    """
    runs = with_sizes(table.drop_duplicates("run_id"))
    sizes = sorted(set(zip(runs["network"], runs["n_train"], runs["rest"], strict=True)))
    networks = ", ".join(f"{name} (n = {n:,}{more})" for name, n, more in sizes)
    if len(sizes) > MOST_NAMED:
        counts_of = " and ".join(f"n = {n:,}" for n in sorted({n for _, n, _ in sizes}))
        networks = f"{len({name for name, *_ in sizes})} networks ({counts_of})"
    data, devices, profiles = (" and ".join(sorted(set(map(str, runs[of])))) for of in ("data", "device", "profile"))
    demo = ": method demo, not evidence" if profiles == "smoke" else ""
    groups = sorted(set(runs["group_id"]))
    shown = ", ".join(f"`{group[:8]}`" for group in groups[:3]) + (" …" if len(groups) > 3 else "")
    seeds = runs.groupby("group_id")["seed"].nunique()  # settings may have different numbers of seeds

    fewest = f"{seeds.min()} to " if seeds.min() < seeds.max() else ""
    seeds_named = f"{fewest}{_count(seeds.max(), 'seed')} ({_spans(runs['seed'])})"
    counts = f"{_count(len(runs), 'run')}, {seeds_named}{_epochs(table)}"
    return f"{data}; {networks}; {counts}; profile {profiles}{demo}; {devices}; groups {shown}."
