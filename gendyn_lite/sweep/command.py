"""``gendyn sweep``: the runs of a chapter, or of a grid of its settings, here or on many machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import inf
from typing import Any, NamedTuple

from gendyn_lite import notebooks
from gendyn_lite.chapters import registry
from gendyn_lite.chapters.plan import CELLS, TABLE
from gendyn_lite.config import check_range
from gendyn_lite.errors import Failed, UserError, unknown_name
from gendyn_lite.notebooks.chapters import roots
from gendyn_lite.sweep import grid as grids
from gendyn_lite.sweep.cost import Cost
from gendyn_lite.sweep.estimate import device_name, estimated, said, total
from gendyn_lite.sweep.jobs import Job, Outcome, make_jobs
from gendyn_lite.sweep.local import run_here
from gendyn_lite.sweep.nodes import MOST_CORES, share
from gendyn_lite.sweep.on_ray import Cluster, Resources, ray_module
from gendyn_lite.sweep.store import reserved, store_folder
from gendyn_lite.sweep.table import Table

ENGINES = ("local", "ray")
MOST_WORKERS, MOST_RETRIES = 1_000, 1_000
SWEPT = (CELLS, TABLE)  # what a chapter's cells ask for, then what only its published tables show
LEAST_CORES = 0.001  # as finely as Ray shares them out, and more


class Summary(NamedTuple):
    """What became of a sweep: numbers of runs."""

    runs: int
    trained: int
    complete: int
    failed: int


def plan(
    chapter: str,
    *,
    profile: str = "smoke",
    values: Mapping[str, Any] | None = None,
    grid: Sequence[str] = (),
    store: str = "",
) -> list[Job]:
    """The runs of a sweep; nothing is written.

    Args:
        chapter: Name of the chapter.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``: whose settings the runs take.
        values: Parameters of the chapter, as for `gendyn run`.
        grid: See `gendyn_lite.sweep.grid.read_grid`; without one all runs of the chapter.
        store: Folder of the runs (default: the variable GENDYN_RUNS, else ``runs`` beside the book).

    Raises:
        UserError: Anything in it is wrong, or there are more than 2,000 runs.
    """
    places = roots()
    kept = store_folder(store or places["GENDYN_RUNS"])
    axes = grids.read_grid(grid)
    _, changed = notebooks.checked(chapter, profile=profile, values=values)
    _check_trains(chapter)
    given = {name: value for name, value in changed.items() if name != "profile"}
    configs = registry.unique(registry.planned(chapter, profile, given, asked_by=SWEPT))
    if axes:
        configs = grids.expand(_planned(chapter, profile, given, axes) or configs, axes)
    grids.check_size(len(configs))
    return make_jobs(chapter, configs, profile=profile, store=kept, data_root=places["GENDYN_DATA"])


def _check_trains(chapter: str) -> None:
    """Refuse a chapter that trains nothing.

    Raises:
        UserError: There is no such chapter, or it trains nothing.
    """
    if notebooks.chapter_path(chapter).stem not in registry.NOTEBOOKS:
        others = [name for name in notebooks.chapters() if name in registry.NOTEBOOKS]
        raise UserError(f"chapter {chapter!r} trains nothing to sweep: take one of {', '.join(others)}")


def _planned(chapter: str, profile: str, given: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The chapter's runs on each data set of the grid, whose settings may differ; none without a data set there."""
    if "dataset" not in notebooks.parameters(notebooks.chapter_path(chapter)):
        return []
    return [
        config
        for dataset in axes.get("dataset", ())
        for config in registry.planned(chapter, profile, {**given, "dataset": dataset}, asked_by=SWEPT)
    ]


def check(engine: str, resources: Resources) -> None:
    """Refuse an engine that does not exist or is not installed, and what no machine could give.

    Raises:
        UserError: In one line.

    >>> check("dask", Resources())
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: unknown engine 'dask': Valid: local, ray
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if engine == "local" and (resources.address or resources.gpus is not None):
        raise UserError("--address and --gpus-per-run are for a cluster: add --engine ray")
    check_range("--workers", resources.workers, 0, MOST_WORKERS, True)
    check_range("--retries", resources.retries, 0, MOST_RETRIES, True)
    check_range("--cpus-per-run", resources.cpus, LEAST_CORES, MOST_CORES, True)
    share(resources.gpus, inf)
    if engine == "ray":
        ray_module(resources.address)


def sweep(jobs: Sequence[Job], *, engine: str = "local", resources: Resources | None = None) -> Summary:
    """Do the runs of a sweep, with a live table; what is complete is loaded, what was interrupted is resumed.

    Args:
        jobs: Of `plan`.
        engine: ``"local"`` (one after another) or ``"ray"``.
        resources: Of Ray.

    Raises:
        UserError: Ray is not installed or has too little, no cluster is at the address, or another sweep is at work.
        Failed: The run store refuses to be written to, or runs failed; the others are complete.
        KeyboardInterrupt: Interrupted: everything can be resumed.
    """
    check(engine, resources or Resources())
    store = jobs[0].store
    with ExitStack() as stack:
        token = stack.enter_context(reserved(store))
        found = estimated([job.config for job in jobs], device=device_name(), root=store, trial=False)
        expected = {job.run_id: cost.seconds for job, cost in zip(jobs, found, strict=True)}
        if engine == "local":
            outcomes, at_once = run_here(jobs), 1.0
        else:
            cluster = stack.enter_context(Cluster(resources or Resources()))
            cluster.check(jobs, token)
            outcomes, at_once = cluster.run(jobs), cluster.at_once
        return _follow(outcomes, Table(jobs, expected, at_once=min(at_once, len(jobs))))


def _follow(outcomes: Iterator[tuple[Outcome | None, dict[str, str]]], table: Table) -> Summary:
    """Take outcomes as they come, to the end or to one after which all would fail."""
    try:
        for outcome, running in outcomes:
            if outcome is not None:
                table.add(outcome)
            table.show(running)
            if outcome is not None and outcome.fatal:
                raise Failed(f"the sweep stopped: {outcome.error}; what is complete is kept, run it again to go on")
    finally:
        outcomes.close()  # type: ignore[attr-defined]  # both engines are generators
        table.show({}, now=True)
    done, failed, _, _ = table.counts()
    trained = sum(outcome.trained for outcome in table.outcomes.values())
    summary = Summary(len(table.jobs), trained, done - trained, failed)
    if failed:
        raise Failed(f"{failed} of {summary.runs} runs failed (see above), the others are complete")
    return summary


def dry_run(jobs: Sequence[Job]) -> None:
    """Write the runs with what each will take on this machine's device; nothing is run."""
    device = device_name()
    found = estimated([job.config for job in jobs], device=device, root=jobs[0].store)
    for job, cost in zip(jobs, found, strict=True):
        sys.stdout.write(f"{job.run_id}  {job.config.experiment}  {job.name}  {_state(cost)}\n")
    done = sum(cost.complete for cost in found)
    sys.stdout.write(
        f"{len(jobs)} runs, {done} of them complete; the others take {said(total(found))} on {device}, one at a time\n"
    )


def _state(cost: Cost) -> str:
    return "complete" if cost.complete else said(cost.seconds)
