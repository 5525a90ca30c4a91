"""``gendyn sweep``: the runs of a chapter, or of a grid of its settings, here or on many machines."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import inf
from typing import Any, TextIO

from gendyn_lite import notebooks
from gendyn_lite.chapters import registry
from gendyn_lite.chapters.plan import CELLS, TABLE
from gendyn_lite.config import check_range
from gendyn_lite.errors import Failed, UserError, unknown_name
from gendyn_lite.notebooks.chapters import roots
from gendyn_lite.notebooks.live import clock
from gendyn_lite.sweep.cost import device_name, estimated, said, total
from gendyn_lite.sweep.grid import check_size, expand, read_grid
from gendyn_lite.sweep.jobs import Job, Outcome, make_jobs, reserved, run_here, store_folder
from gendyn_lite.sweep.on_ray import MOST_CORES, Cluster, Resources, ray_module, share

ENGINES = ("local", "ray")
MOST_WORKERS, MOST_RETRIES = 1_000, 1_000
TERMINAL_SECONDS, PLAIN_SECONDS = 1.0, 30.0  # between two tables
MOST_SHOWN = 8  # running runs that a table names
SWEPT = (CELLS, TABLE)  # what a chapter's cells ask for, then what only its published tables show
LEAST_CORES = 0.001  # as finely as Ray shares them out, and more


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
    axes = read_grid(grid)
    _, changed = notebooks.checked(chapter, profile=profile, values=values)
    if notebooks.chapter_path(chapter).stem not in registry.NOTEBOOKS:
        others = [name for name in notebooks.chapters() if name in registry.NOTEBOOKS]
        raise UserError(f"chapter {chapter!r} trains nothing to sweep: take one of {', '.join(others)}")
    given = {name: value for name, value in changed.items() if name != "profile"}
    configs = registry.unique(registry.planned(chapter, profile, given, asked_by=SWEPT))
    if axes:
        configs = expand(_planned(chapter, profile, given, axes) or configs, axes)
    check_size(len(configs))
    return make_jobs(chapter, configs, profile=profile, store=kept, data_root=places["GENDYN_DATA"])


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


def sweep(jobs: Sequence[Job], *, engine: str = "local", resources: Resources | None = None) -> str:
    """Do the runs of a sweep, with a live table; what is complete is loaded, what was interrupted is resumed.

    Args:
        jobs: Of `plan`.
        engine: ``"local"`` (one after another) or ``"ray"``.
        resources: Of Ray.

    Returns:
        How many runs were trained, and how many were complete before.

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
        outcomes, at_once = run_here(jobs), 1.0
        if engine == "ray":
            cluster = stack.enter_context(Cluster(resources or Resources()))
            cluster.check(jobs, token)
            outcomes, at_once = cluster.run(jobs), cluster.at_once
        return _follow(outcomes, Table(jobs, expected, at_once=min(at_once, len(jobs))))


def _follow(outcomes: Iterator[tuple[Outcome | None, dict[str, str]]], table: Table) -> str:
    """Take outcomes as they come, to the end or to one after which all would fail; the numbers of runs in words."""
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
    if failed:
        raise Failed(f"{failed} of {len(table.jobs)} runs failed (see above), the others are complete")
    return f"{len(table.jobs)} runs: {trained} trained, {done - trained} were complete"


def dry_run(jobs: Sequence[Job]) -> None:
    """Write the runs with what each will take on this machine's device; nothing is run."""
    device = device_name()
    found = estimated([job.config for job in jobs], device=device, root=jobs[0].store)
    for job, cost in zip(jobs, found, strict=True):
        state = "complete" if cost.complete else said(cost.seconds)
        sys.stdout.write(f"{job.run_id}  {job.config.experiment}  {job.name}  {state}\n")
    done = sum(cost.complete for cost in found)
    sys.stdout.write(
        f"{len(jobs)} runs, {done} of them complete; the others take {said(total(found))} on {device}, one at a time\n"
    )


class Table:
    """Counts outcomes and says so: in place on a terminal, in plain lines at intervals elsewhere.

    Args:
        jobs: The runs.
        expected: For each key of a run the seconds that it should take, or None.
        at_once: How many runs there can be at once.
        stream: Where to write (default: stderr).
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        expected: Mapping[str, float | None],
        *,
        at_once: float = 1,
        stream: TextIO | None = None,
    ) -> None:
        self.jobs = {job.run_id: job for job in jobs}
        self.expected, self.at_once = expected, max(1.0, at_once)
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.every = TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS
        self.outcomes: dict[str, Outcome] = {}
        self.running: dict[str, str] = {}
        self.started = self._shown = time.monotonic()
        self._lines = 0

    def add(self, outcome: Outcome) -> None:
        """A run has ended; a failure is said at once."""
        self.outcomes[outcome.run_id] = outcome
        if outcome.error:
            self._wipe()
            job = self.jobs[outcome.run_id]
            self.stream.write(f"failed: {job.name} ({outcome.run_id}, {outcome.where}): {outcome.error}\n")

    def show(self, running: Mapping[str, str], *, now: bool = False) -> None:
        """Say where the sweep stands, if it is time.

        Args:
            running: For each key of a run that was begun the machine that it is on, the last ones last. More than can
                be at once are of workers that died.
            now: Whether it is time in any case.
        """
        begun = [each for each in running.items() if each[0] in self.jobs and each[0] not in self.outcomes]
        self.running = dict(begun[-int(self.at_once) :])
        if not now and time.monotonic() - self._shown < self.every:
            return
        self._shown = time.monotonic()
        self._wipe()
        lines = self._table() if self.terminal else [self.line()]
        self.stream.write("".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._lines = len(lines) if self.terminal else 0

    def line(self) -> str:
        """The counts and times in one line."""
        done, failed, running, waiting = self.counts()
        elapsed, left = clock(time.monotonic() - self.started), self.left()
        rest = "" if left is None else f" · about {clock(left)} left"
        return f"{done} done · {running} running · {failed} failed · {waiting} waiting · {elapsed} elapsed{rest}"

    def counts(self) -> tuple[int, int, int, int]:
        """Runs that are done, failed, running and waiting."""
        failed = sum(bool(outcome.error) for outcome in self.outcomes.values())
        running = len(self.running)
        return len(self.outcomes) - failed, failed, running, len(self.jobs) - len(self.outcomes) - running

    def left(self) -> float | None:
        """Seconds left: what was expected of the rest, corrected by how long the runs of this sweep really take."""
        trained = [outcome for outcome in self.outcomes.values() if outcome.trained and not outcome.error]
        if len(self.outcomes) == len(self.jobs):
            return None
        rest = [self.expected.get(run_id) for run_id in self.jobs if run_id not in self.outcomes]
        taken = sum(outcome.seconds for outcome in trained)
        foreseen = [self.expected.get(outcome.run_id) for outcome in trained]
        if None not in rest and None not in foreseen:
            total = sum(filter(None, foreseen))
            scale = taken / total if total else 1.0
            return scale * sum(filter(None, rest)) / self.at_once
        return taken / len(trained) * len(rest) / self.at_once if trained else None

    def _table(self) -> list[str]:
        """The counts, and the runs that are running."""
        names = ("done", "failed", "running", "waiting", "elapsed", "left")
        counts, left = self.counts(), self.left()
        rest = "" if not sum(counts[2:]) else "?" if left is None else f"~{clock(left)}"
        row = (*counts, clock(time.monotonic() - self.started), rest)
        shown = [f"  {self.jobs[run_id].name} ({where})" for run_id, where in self.running.items()]
        if len(shown) > MOST_SHOWN:
            shown[MOST_SHOWN:] = [f"  and {len(shown) - MOST_SHOWN} more"]
        return ["".join(f"{text:>9}" for text in line) for line in (names, row)] + [text[:100] for text in shown]

    def _wipe(self) -> None:
        """Take the last table off a terminal."""
        if self._lines:
            self.stream.write(f"\033[{self._lines}F\033[J")
            self._lines = 0
