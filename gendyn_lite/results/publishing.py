"""Adds finished runs to the published tables; replaces or withdraws published ones where told to, and only then."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import NamedTuple

import pandas as pd

from gendyn_lite.errors import Failed, UserError, unknown_name
from gendyn_lite.results.published import (
    CURVES,
    LATER,
    METRICS,
    RECORD,
    RUNS,
    TEXT,
    Table,
    cell,
    check,
    check_rows,
    opened,
    place_of,
    published_experiments,
    typed,
)
from gendyn_lite.results.runs import Run, json_text, read_run, runs_root
from gendyn_lite.results.sealed import changing, seal, swap_in
from gendyn_lite.results.tables import labels

MOST_BYTES = 1_000_000
PROFILES = ("smoke", "colab", "full")
# These may differ where a run was executed twice. Its metrics may not.
_SURROUNDINGS = {RECORD, "seconds", "profile", "data", "device", "resumed_at"}


class Publication(NamedTuple):
    """What `publish` did.

    Attributes:
        folder: Folder of the tables.
        done: What was added, replaced, withdrawn or is not complete, a line each.
        refused: Runs at hand that were not published (damaged, impossible or other than the published), a line each.
    """

    folder: Path
    done: list[str]
    refused: list[str]


def publish(
    experiment: str,
    *,
    root: str | Path | None = None,
    profiles: Sequence[str] = ("colab", "full"),
    replace: Collection[str] = (),
    withdraw: Collection[str] = (),
    to: Path | None = None,
) -> Publication:
    """Add the complete runs of an experiment to its published tables.

    ``runs.csv`` has a row per run (provenance and settings), ``curves.csv`` a row per run and epoch (metrics, six
    digits), ``provenance.json`` the environment of each run and a seal over everything. All are replaced, or none.

    What is published stays as it is, whether its runs are at hand or not. A run at hand with other metrics or settings
    than its published rows is refused until `replace` names it. The metrics decide: a run that was executed again with
    the same ones, in another time or on another machine, is the published run and changes nothing; time and machine on
    record stay those of the first execution.

    Args:
        experiment: Name of the experiment.
        root: Folder of the runs.
        profiles: Which profiles' runs to publish; smoke runs are demonstrations and are left out unless named.
        replace: Ids of published runs whose rows are to become those of the runs at hand.
        withdraw: Ids of published runs to drop. Remove their folders too: whatever is at hand is added the next time.
        to: Folder of the published tables.

    Raises:
        UserError: An unknown profile or id, no run to publish, tables of more than 1 MB, or published ones that are
            damaged or were edited.
        Failed: None of the runs at hand can be published.
    """
    for profile in profiles:
        if profile not in PROFILES:
            raise unknown_name("profile", profile, PROFILES)
    folder, place = place_of(experiment, to), runs_root(root) / experiment
    at_hand, done, refused = _at_hand(place, profiles)
    if not at_hand and not withdraw:
        if refused:
            raise Failed(f"{refused[0]} ({len(refused)} refused, none to publish)")
        named = f"{' or '.join(profiles)} run of {experiment!r} under {place.parent}"
        raise UserError("; ".join([f"no complete {named}: run it first (gendyn run, make run)", *done]))
    with changing(folder):
        there = experiment in published_experiments(folder=folder.parent)
        then = opened(experiment, folder=folder.parent) if there else as_text([])
        _check_ids(replace, withdraw, then, at_hand)
        for name in [name for name in at_hand if name in withdraw]:
            del at_hand[name]
        now = as_text([run for name, run in at_hand.items() if name in replace or name not in then.records])
        for name in [name for name in at_hand if name not in now.records]:
            found = difference(then, as_text([at_hand[name]]), name)
            if found:
                refused.append(f"{found} (--replace {name} takes the run at hand)")
        done += [f"withdrawn: {_told(then, name)}" for name in withdraw]
        done += [f"{what}: {_told(of, name)}" for name in replace for what, of in (("replaced", then), ("by", now))]
        done += [f"added: {_told(now, name)}" for name in now.records if name not in replace]
        if now.records or withdraw:
            swap_in(folder, _files(folder, _merged(then, now, withdraw)))
    return Publication(folder, done, refused)


def _at_hand(place: Path, profiles: Sequence[str]) -> tuple[dict[str, Run], list[str], list[str]]:
    """The complete runs in a folder by their settings; a line on incomplete ones, and one on each damaged one."""
    runs, incomplete, damaged = [], [], []
    for path in sorted({path.parent for name in ("*.json", "metrics.jsonl") for path in place.glob(f"*/{name}")}):
        try:
            run = read_run(path)
            if not run.whole():
                incomplete.append(path.name)
            elif run.env().get("profile") in profiles and run.rows():
                _check_run(run)
                runs.append(run)
        except UserError as error:
            damaged.append(str(error))
    told = [f"not complete, left out: {', '.join(incomplete)}"] if incomplete else []
    return {run.run_id: run for run in sorted(runs, key=lambda run: json_text(run.config.as_dict()))}, told, damaged


def _check_run(run: Run) -> None:
    """Refuse a run with what no table may hold, so that the others are published."""
    check_rows(run.path / "metrics.jsonl", run.rows(), [*labels(run), "resumed_at"])
    try:
        as_text([run])
    except UserError as error:
        raise UserError(f"{run.path}: {error}") from None


def _check_ids(replace: Collection[str], withdraw: Collection[str], then: Table, at_hand: Collection[str]) -> None:
    """Refuse to replace or withdraw what is not published, to replace by what is not at hand, and to do both."""
    for name in [*replace, *withdraw]:
        if name not in then.records:
            raise UserError(f"run {name!r} is not published, there is nothing to replace or withdraw")
        if name in replace and (name in withdraw or name not in at_hand):
            raise UserError(f"run {name!r} cannot be replaced: it is to be withdrawn, or does not lie complete at hand")
    if then.records and set(withdraw) == set(then.records):
        raise UserError("every published run would be withdrawn: remove the folder of the tables instead")


def as_text(runs: Sequence[Run]) -> Table:
    """Some complete runs as they are published: no place of this machine, and no text that a spreadsheet would run."""
    settings, curves = [], []
    for run in runs:
        own = labels(run)
        if own["dataset"].startswith("folder:"):
            own["dataset"] = f"folder:{PurePath(own['dataset'].removeprefix('folder:')).name}"
        later = {name for name in LATER if getattr(run.config, name) == LATER[name]}  # in the key neither
        left_out = {*later, *METRICS, "trained_together"}  # which stands in the run's record
        settings.append({name: cell(own[name]) for name in own if name not in left_out})
        curves += [{"run_id": run.run_id, **{name: cell(row[name], ".6g") for name in row}} for row in run.rows()]
    tables = [pd.DataFrame(rows, columns=None if rows else ["run_id"]).fillna("") for rows in (settings, curves)]
    return Table(tables[0], tables[1], {run.run_id: run.env() for run in runs})


def _merged(then: Table, now: Table, withdraw: Collection[str]) -> Table:
    """The published rows in their order; new ones in the place of those that they replace, or behind them."""
    order = {name: number for number, name in enumerate(dict.fromkeys([*then.runs["run_id"], *now.runs["run_id"]]))}
    frames = []
    for old, new in ((then.runs, now.runs), (then.curves, now.curves)):
        kept = old[~old["run_id"].isin([*now.records, *withdraw])]
        both = pd.concat([kept, new]).fillna("")
        frames.append(both.sort_values("run_id", key=lambda names: names.map(order), kind="stable"))
    records = {name: record for name, record in {**then.records, **now.records}.items() if name not in withdraw}
    return Table(frames[0], frames[1], records)


def _files(folder: Path, table: Table) -> dict[str, str]:
    """The files of a table with their seal, of the size and with the values that they may have."""
    texts = {RUNS: table.runs.to_csv(index=False), CURVES: table.curves.to_csv(index=False)}
    tables = [text.encode() for text in texts.values()]
    size = sum(map(len, tables))
    if size > MOST_BYTES:
        raise UserError(
            f"the tables of {folder.name!r} would take {size:,} bytes, at most {MOST_BYTES:,}: evaluate less often"
        )
    record = {"experiment": folder.name, "runs": table.records}
    check(folder, record, *typed(*tables))
    return {**texts, RECORD: json_text({**record, "seal": seal(record, *tables)})}


def _told(table: Table, name: str) -> str:
    """A run in a line: its last metrics, its commit, and whether it was resumed."""
    run = table.runs[table.runs["run_id"] == name].iloc[0]
    last = table.curves[table.curves["run_id"] == name].iloc[-1]
    steps = table.records[name].get("resumed_at")
    resumed = "not recorded whether resumed" if steps is None else f"resumed at {steps}" if steps else "not resumed"
    return (
        f"{name} ({run['network']}, {run['data']}), {last['epoch']} epochs: train accuracy {last['train_accuracy']}, "
        f"loss {last['train_loss']}; test accuracy {last['test_accuracy']}, loss {last['test_loss']}; "
        f"commit {table.records[name].get('commit')}, {resumed}"
    )


def difference(then: Table, now: Table, name: str) -> str | None:
    """What the published rows of a run say otherwise than its folder, in words; None where they agree.

    Where seconds differ, the run was executed twice: then only metrics and settings have to agree, else everything.
    """
    one, other = _cells(then, name), _cells(now, name)
    wrong = [cell for cell in {**one, **other} if one.get(cell, "") != other.get(cell, "")]
    if any(column == "seconds" for _, _, column in wrong):
        wrong = [cell for cell in wrong if not {cell[0], cell[2]} & _SURROUNDINGS]
    if not wrong:
        return None
    file, epoch, column = wrong[0]
    told = f"{column} of run {name}{f' at epoch {epoch}' if epoch else ''}"
    return f"{file}: {told} is {one.get(wrong[0], '')!r}, its run says {other.get(wrong[0], '')!r}"


def _cells(table: Table, name: str) -> dict[tuple[str, str, str], str]:
    """Every cell of a run by file, epoch and column; numbers are the same however they are written."""
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
