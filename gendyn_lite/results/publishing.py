"""Add finished runs to the published tables, replace or withdraw published ones on request, and verify them."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.results.files import AGAIN, RECORD, Account, changing, json_text, place_of, published_experiments, swap
from gendyn_lite.results.published import (
    ENVIRONMENT,
    SETTINGS,
    Table,
    as_text,
    cells_of,
    check,
    opened,
    published,
    typed,
)
from gendyn_lite.results.runs import read_run, run_folders, runs_root

MOST_BYTES = 1_000_000  # of an experiment's tables, compressed
MANY = 500  # number of runs from which settings that all of them share are written only once
_NOTHING = Table(pd.DataFrame(columns=["run_id"]), pd.DataFrame(columns=["run_id"]), {})
_KEPT = ("colab", "full")  # profiles whose runs are published; smoke runs are demonstrations
# Columns (and the record) that may differ between two executions of the same run; its metrics may not.
_SURROUNDINGS = {RECORD, "seconds", "profile", "data", "device", "resumed_at"}


def publish(
    experiment: str,
    *,
    root: str | Path | None = None,
    replace: Collection[str] = (),
    withdraw: Collection[str] = (),
    to: Path | None = None,
) -> Account:
    """Add the complete runs of an experiment (profiles colab and full) to its published tables.

    ``runs.csv`` has one row per run (provenance and settings), ``curves.csv`` one row per run and epoch (metrics with
    six digits; only the last epoch of runs that stop at a training loss), and ``provenance.json`` the environment of
    each run and a seal over everything. Either all three files are replaced or none is.

    Published rows stay unchanged, whether or not their runs still exist locally. A local run whose metrics or settings
    differ from its published rows is refused, unless `replace` names it. A run that was executed again with the same
    metrics, at another time or on another machine, counts as the published run and changes nothing; the published time
    and machine remain those of the first execution.

    Args:
        experiment: Name of the experiment.
        root: Folder of the runs.
        replace: Ids of published runs whose rows are replaced by those of the local runs.
        withdraw: Ids of published runs to remove. Delete their run folders too, or the next call adds them again.
        to: Folder of the published tables.

    Returns:
        What was added, replaced and withdrawn, and which runs are not complete; and a line on each local run that was
        refused, because it is damaged, holds impossible values or differs from the published one.

    Raises:
        UserError: An id is unknown, there is no run to publish, the tables would exceed 1 MB compressed, or the
            published ones are damaged or were edited.
        Failed: Every local run was refused.

    >>> publish("random_labels", root="no_such_folder")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: no complete colab or full run of 'random_labels' under no_such_folder: ...
    """
    folder, place = place_of(experiment, to), runs_root(root) / experiment
    local, done, refused = _local_runs(place)
    if not local and not withdraw:
        if refused:
            raise Failed(f"{refused[0]} ({len(refused)} refused, none to publish)")
        named = f"{' or '.join(_KEPT)} run of {experiment!r} under {place.parent}"
        raise UserError("; ".join([f"no complete {named}: run it first (gendyn run, make run)", *done]))
    with changing(folder):
        there = experiment in published_experiments(folder=folder.parent)
        then = opened(experiment, folder=folder.parent) if there else _NOTHING
        _check_ids(replace, withdraw, then, local)
        for name in [name for name in local if name in withdraw]:
            del local[name]
        now = {name: run for name, run in local.items() if name in replace or name not in then.records}
        for name in local:
            if name not in now and (found := difference(then, local[name], name)):
                refused.append(f"{found} (--replace {name} takes the local run)")
        done += [f"withdrawn: {_told(then, name)}" for name in withdraw]
        for name in replace:
            done += [f"replaced: {_told(then, name)}", f"by: {_told(now[name], name)}"]
        done += [f"added: {_told(now[name], name)}" for name in now if name not in replace]
        if now or withdraw:
            _write(folder, _merged(then, list(now.values()), withdraw))
    return Account([*done, f"published: {folder}"], refused)


def _local_runs(place: Path) -> tuple[dict[str, Table], list[str], list[str]]:
    """The runs of an experiment's folder that can be published.

    Returns:
        Complete runs by run_id, in the order of their settings; a line on incomplete runs, if there are any; and a line
        on each damaged run.
    """
    runs, incomplete, refused = [], [], []
    for path in run_folders(place):
        try:
            run = read_run(path)
            if not run.whole():
                incomplete.append(path.name)
            elif run.env().get("profile") in _KEPT and run.rows():
                table = as_text(run)
                check(path, table.records, *typed(*table.files().values()), remedy=AGAIN)
                runs.append((json_text(run.config.as_dict()), run.run_id, table))
        except UserError as error:
            refused.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    told = [f"not complete, left out: {', '.join(incomplete)}"] if incomplete else []
    return {name: table for _, name, table in sorted(runs, key=lambda run: run[:2])}, told, refused


def _check_ids(replace: Collection[str], withdraw: Collection[str], then: Table, local: Collection[str]) -> None:
    """Check the ids to replace and to withdraw.

    Raises:
        UserError: A run is not published; is to be replaced but also withdrawn, or is not complete locally; or nothing
            would be left.
    """
    for name in [*replace, *withdraw]:
        if name not in then.records:
            raise UserError(f"run {name!r} is not published, there is nothing to replace or withdraw")
        if name in replace and (name in withdraw or name not in local):
            raise UserError(f"run {name!r} cannot be replaced: it is to be withdrawn, or is not complete locally")
    if then.records and set(withdraw) == set(then.records):
        raise UserError("every published run would be withdrawn: remove the folder of the tables instead")


def _merged(then: Table, now: Sequence[Table], withdraw: Collection[str]) -> Table:
    """Merge published and new rows: a replacement is put where the old run was, other new runs at the end."""
    new = {name: record for table in now for name, record in table.records.items()}
    order = {name: number for number, name in enumerate(dict.fromkeys([*then.runs["run_id"], *new]))}
    frames = []
    for old, *more in ((then.runs, *(each.runs for each in now)), (then.curves, *(each.curves for each in now))):
        both = pd.concat([old[~old["run_id"].isin([*new, *withdraw])], *more]).fillna("")
        frames.append(both.sort_values("run_id", key=lambda names: names.map(order), kind="stable"))
    records = {name: record for name, record in {**then.records, **new}.items() if name not in withdraw}
    return Table(frames[0], frames[1], records)


def _write(folder: Path, table: Table) -> None:
    """Write the published tables.

    Raises:
        UserError: They hold impossible values or are too large.
    """
    check(folder, table.records, *typed(*table.files().values()))
    shared: dict[str, dict[str, Any]] = {}
    if len(table.records) >= MANY:
        table, shared = _without_shared(table)
    texts = table.files()
    size = sum(len(gzip.compress(text.encode())) for text in texts.values())
    if size > MOST_BYTES:
        told = f"the tables of {folder.name!r} would take {size:,} bytes compressed, at most {MOST_BYTES:,}"
        raise UserError(f"{told}: evaluate less often")
    swap(folder, texts, RECORD, {"experiment": folder.name, **shared, "runs": table.records})


def _without_shared(table: Table) -> tuple[Table, dict[str, dict[str, Any]]]:
    """Split off settings that all runs share, and the environment that most of them share, to be written only once.

    `gendyn_lite.results.published.opened` restores them.
    """
    settings = {str(name): texts.iloc[0] for name, texts in table.runs.items() if texts.nunique() == 1}
    usual = _usual([*table.records.values()])
    own = {
        name: {key: value for key, value in one.items() if key not in usual or usual[key] != value}
        for name, one in table.records.items()
    }
    return Table(table.runs.drop(columns=list(settings)), table.curves, own), {SETTINGS: settings, ENVIRONMENT: usual}


def _usual(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries that every record has, with the value that at least half of the records have.

    >>> _usual([{"torch": "2.14", "seconds": 1}, {"torch": "2.14", "seconds": 2}, {"torch": "2.4", "seconds": 3}])
    {'torch': '2.14'}
    """
    found = {}
    for key in (key for key in records[0] if all(key in one for one in records)):
        (text, count), *_ = Counter(json_text(one[key]) for one in records).most_common(1)
        if 2 * count >= len(records):
            found[key] = next(one[key] for one in records if json_text(one[key]) == text)
    return found


def _told(table: Table, name: str) -> str:
    """A line about a run: its last metrics, its commit, and whether it was resumed."""
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
    """Compare the published rows of a run with its folder.

    If the seconds differ, the run was executed twice, and only metrics and settings are compared; else everything is.

    Args:
        then: The published experiment.
        now: The run in its folder.
        name: The run's id.

    Returns:
        The first difference in words, or None if there is none.
    """
    one, other = cells_of(then, name), cells_of(now, name)
    wrong = [cell for cell in {**one, **other} if one.get(cell, "") != other.get(cell, "")]
    if any(column == "seconds" for _, _, column in wrong):
        wrong = [cell for cell in wrong if not {cell[0], cell[2]} & _SURROUNDINGS]
    if not wrong:
        return None
    file, epoch, column = wrong[0]
    told = f"{column} of run {name}{f' at epoch {epoch}' if epoch else ''}"
    return f"{file}: {told} is {one.get(wrong[0], '')!r}, its run says {other.get(wrong[0], '')!r}"


def verify_experiment(experiment: str, *, root: str | Path | None = None, folder: Path | None = None) -> str:
    """Verify the seal of a published experiment, and compare its rows with the local runs.

    Args:
        experiment: Name of the experiment.
        root: Folder of the runs.
        folder: Folder of the published tables.

    Returns:
        A line with the numbers of published runs and rows, and of local runs that reproduce them digit for digit
        (except seconds and machine, if a run was executed again).

    Raises:
        UserError: As for `gendyn_lite.results.published`; or a local run differs from its published rows; it is named.

    >>> verify_experiment("path_unseen", root="no_such_folder")
    'path_unseen: 5 runs, 65 rows, as published; 0 of 5 runs are available locally and reproduce the rows'
    """
    table = published(experiment, folder=folder)  # verifies the seal

    then = opened(experiment, folder=folder)
    paths = (runs_root(root) / experiment / run_id for run_id in sorted(then.records))
    runs = [run for run in (read_run(path) for path in paths if path.exists()) if run.whole()]
    for run in runs:
        if found := difference(then, as_text(run), run.run_id):
            raise UserError(f"{place_of(experiment, folder)}: {found}: publish it again with --replace")
    again = f"{len(runs)} of {len(then.records)} runs are available locally and reproduce the rows"
    return f"{experiment}: {len(then.records)} runs, {len(table)} rows, as published; {again}"
