"""``gendyn run`` executes a chapter, with an estimate before and a record after; ``gendyn sweep`` does many runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, TextIO

from gendyn_lite.chapters import registry
from gendyn_lite.config import RunConfig, check_range, check_type
from gendyn_lite.errors import EXIT_CODES, Failed, UserError, exit_code, unknown_name
from gendyn_lite.results.files import read_json, roots, write_json
from gendyn_lite.results.runs import environment
from gendyn_lite.sweep.cost import Cost, estimated, measured_runs, said, total
from gendyn_lite.sweep.jobs import Job, Outcome, Resources, reserved
from gendyn_lite.sweep.live import Line, Live, Tally
from gendyn_lite.sweep.local import Workers
from gendyn_lite.sweep.on_ray import MOST_CORES, connected, ray_module, share
from gendyn_lite.train.device import device_name

HOUR = 3600.0
SHARE = 0.2  # largest share of a sweep's time that is spent on timing a few steps of runs
ENGINES = ("local", "ray")
MOST_WORKERS, MOST_RETRIES = 1_000, 1_000
LEAST_CORES = 0.001  # finer than Ray can divide a core
# Measured fields of a record: name of the device; wall-clock seconds, and the part of them spent on training runs that
# the next execution will load; peak memory of the chapter's processes, and of tensors on the GPU.
MEASURED = {"device": str, "seconds": float, "training_seconds": float, "peak_bytes": int, "gpu_bytes": int}


def record_path(chapter: str, profile: str, *, out: Path, failed: bool = False) -> Path:
    """The path of the record of a chapter's execution.

    The record of a failure has another name, so that it never replaces that of a success.

    Args:
        chapter: Name of the chapter, or the path of its notebook.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        out: Folder of the executed notebook, or its path (``.ipynb``).
        failed: Whether the execution failed.

    >>> record_path("01_random_labels", "smoke", out=Path("runs")).name
    '01_random_labels.smoke.record.json'
    """
    folder = out.parent if out.suffix == ".ipynb" else out
    return folder / f"{Path(chapter).stem}.{profile}{'.failed' if failed else ''}.record.json"


def read_record(chapter: str, profile: str, *, out: Path) -> dict[str, Any] | None:
    """The measured fields of the record of the last successful execution; None if there is no readable record."""
    try:
        found = read_json(record_path(chapter, profile, out=out))
        return {name: check_type(name, found[name], hint) for name, hint in MEASURED.items()}
    except (OSError, ValueError, LookupError):
        return None


def run_chapter(
    chapter: str, *, profile: str = "smoke", values: Mapping[str, Any] | None = None, out: Path, yes: bool = False
) -> Path:
    """Execute a chapter: check its parameters, print an estimate, run it, and write the notebook and a record.

    The user is asked for confirmation if the estimate exceeds an hour. A record is also written if the chapter fails or
    is interrupted, once its first cell has started.

    Args:
        chapter: Name of the chapter.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Other parameters of the chapter, by name.
        out: Folder of the executed notebook and its record.
        yes: Whether to start without asking, however long it takes.

    Returns:
        Path of the executed notebook.

    Raises:
        UserError: An argument is invalid, or the chapter takes more than an hour and this was not confirmed.
        Failed: A cell raised an error; the cell is named.
    """
    from gendyn_lite.notebooks import checked, execution  # not at the top: a sweep works without Jupyter

    path, changed = checked(chapter, profile=profile, values=values)
    given = {name: value for name, value in changed.items() if name != "profile"}
    device, places, started = device_name(), roots(), datetime.now(UTC).isoformat(timespec="seconds")
    configs = registry.unique(registry.planned(chapter, profile, given))
    found = estimated(configs, device=device, root=places["GENDYN_RUNS"], data_root=places["GENDYN_DATA"])
    before = read_record(chapter, profile, out=out)
    seconds = _seconds(found, before if before and before["device"] == device else None)
    sys.stdout.write(f"estimate: {_estimate(found, seconds, device, before)}\n")
    sys.stdout.flush()
    _consent(path.stem, seconds, yes=yes, stream=sys.stdin)
    code, line = 0, ""
    with Live(path.stem, Line(), expected=seconds) as live:
        try:
            return execution.run(chapter, profile=profile, values=given, out=out, reached=live.reach)
        except BaseException as error:
            code = exit_code(error)
            line = str(error) or EXIT_CODES[code]
            raise
        finally:
            if live.cell:  # at least one cell has started
                trained = _trained([cost.config for cost in found if not cost.complete], places["GENDYN_RUNS"])
                measured = device, round(live.seconds, 1), round(trained, 1), live.peak_bytes, live.gpu_bytes
                record = {"chapter": path.stem, "profile": profile, "parameters": given, "started": started}
                record |= dict(zip(MEASURED, measured, strict=True)) | {"exit": code, "error": line}
                good, failed = (record_path(path.stem, profile, out=out, failed=failed) for failed in (False, True))
                write_json(failed if code else good, record | {"environment": environment()})
                if not code:
                    failed.unlink(missing_ok=True)


def _seconds(found: Sequence[Cost], before: Mapping[str, Any] | None) -> float | None:
    """Estimated seconds of a chapter: of its runs, plus of everything else as last measured; None if unknown."""
    runs = total(found)
    if before is None:
        return runs if found else None
    return None if runs is None else runs + max(0.0, before["seconds"] - before["training_seconds"])


def _estimate(found: Sequence[Cost], seconds: float | None, device: str, before: Mapping[str, Any] | None) -> str:
    """The estimate in one line, for instance ``about 12 minutes on CPU; 21 runs, 18 of them complete; 0.9 GB``."""
    parts = [f"{said(seconds)} on {device}"]
    if found:
        done = sum(cost.complete for cost in found)
        parts.append(f"{len(found)} runs, {done} of them complete")
    gpu = f", {before['gpu_bytes'] / 1e9:.1f} GB of the GPU's" if before and before["gpu_bytes"] else ""
    parts.append(f"{before['peak_bytes'] / 1e9:.1f} GB of memory{gpu}" if before else "memory not measured yet")
    return "; ".join(parts)


def _consent(chapter: str, seconds: float | None, *, yes: bool, stream: TextIO) -> None:
    """Ask for confirmation if a chapter takes more than an hour; without a terminal to ask on, refuse.

    Raises:
        UserError: It was not confirmed.
    """
    if yes or seconds is None or seconds <= HOUR:
        return
    takes = f"{chapter} would take {said(seconds)}"
    if not stream.isatty():
        raise UserError(f"{takes}, more than an hour: add --yes to start, or choose a smaller profile or parameters")
    sys.stdout.write(f"{takes}; you can stop it at any time and continue later. Start? [y/N] ")
    sys.stdout.flush()
    if stream.readline().strip().lower() not in ("y", "yes"):
        raise UserError(f"{takes}: not started, because you did not answer yes")


def _trained(todo: Sequence[RunConfig], root: str) -> float:
    """Seconds of training of the runs that were not complete before the execution and are complete now."""
    wanted = [config.as_dict() for config in todo]
    known = measured_runs((config.experiment for config in todo), root=root)
    return sum(each.seconds for each in known if each.config in wanted)


def check(engine: str, resources: Resources) -> None:
    """Check that a sweep's engine is available and that its options are valid.

    Args:
        engine: ``"local"`` or ``"ray"``.
        resources: Resources of each run.

    Raises:
        UserError: The engine is unknown or not installed, or an option is out of range or belongs to another engine.

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
        ray_module()


def sweep(
    jobs: Sequence[Job], *, engine: str = "local", resources: Resources | None = None, seconds: float = inf
) -> str:
    """Execute the runs of a sweep with a progress line; complete runs are skipped and interrupted ones resumed.

    Args:
        jobs: The runs, as returned by `gendyn_lite.sweep.grid.plan`.
        engine: ``"local"`` (as many processes of this machine at once as turn out to be fastest) or ``"ray"``.
        resources: Resources of each run.
        seconds: With the local engine, the time limit, within which as many runs as possible are done, in their order.

    Returns:
        A summary: how many runs were trained, were complete before, and remain, and how long the remaining ones take.

    Raises:
        UserError: Ray is not installed, its cluster cannot be reached or lacks resources, another sweep uses the store,
            or no run would finish within the time limit.
        Failed: The run store cannot be written to, or some runs failed; completed runs are kept.
        KeyboardInterrupt: The sweep was interrupted and can be resumed.
    """
    resources = resources or Resources()
    check(engine, resources)
    store, started = jobs[0].store, time.monotonic()
    with ExitStack() as stack:
        token = stack.enter_context(reserved(store))
        device, data_root = device_name(), jobs[0].data_root
        configs = [job.config for job in jobs]
        trial = SHARE * seconds if seconds < inf else 0.0
        found = estimated(configs, device=device, root=store, data_root=data_root, trial=trial)
        expected = {job.run_id: cost.seconds for job, cost in zip(jobs, found, strict=True)}
        if engine == "local":
            before = [Outcome(job.run_id, 0.0, False) for job, cost in zip(jobs, found, strict=True) if cost.complete]
            todo = [job for job, cost in zip(jobs, found, strict=True) if not cost.complete]
            workers = Workers(todo, expected, resources, seconds=started + seconds - time.monotonic())
            outcomes = stack.enter_context(closing(workers.run()))
            return _follow(chain(before, outcomes), jobs, Tally(expected, lambda: workers.limit))
        cluster = stack.enter_context(connected(resources))
        cluster.check(jobs, token)
        outcomes = stack.enter_context(closing(cluster.run(jobs)))
        return _follow(outcomes, jobs, Tally(expected, lambda: min(cluster.at_once, len(jobs))))


def _follow(outcomes: Iterable[Outcome | None], jobs: Sequence[Job], tally: Tally) -> str:
    """Report outcomes as they arrive, up to the last or to a fatal one; returns a summary.

    Raises:
        Failed: A run failed, or every further run would.
    """
    names, line = {job.run_id: job.name for job in jobs}, Line()
    try:
        for outcome in outcomes:
            if outcome:
                tally.outcomes[outcome.run_id] = outcome
            if outcome and outcome.error:
                line.keep(f"failed: {names[outcome.run_id]} ({outcome.run_id}, {outcome.where}): {outcome.error}")
            if outcome and outcome.fatal:
                raise Failed(f"the sweep stopped: {outcome.error}; complete runs are kept, run it again to continue")
            line.say(tally.line())
    finally:
        line.keep(tally.line())
    if tally.failed:
        others = "the others are complete" if len(tally.outcomes) == len(jobs) else "others remain"
        raise Failed(f"{tally.failed} of {len(jobs)} runs failed (see above), {others}")
    trained, done = sum(outcome.trained for outcome in tally.outcomes.values()), len(tally.outcomes)
    rest = f", {len(jobs) - done} remain ({said(tally.left())})" if done < len(jobs) else ""
    return f"{len(jobs)} runs: {trained} trained, {done - trained} were complete{rest}"


def dry_run(jobs: Sequence[Job]) -> None:
    """List the runs of a sweep, and how long each will take on this machine's device, without running any.

    Args:
        jobs: The runs, as returned by `gendyn_lite.sweep.grid.plan`.
    """
    device = device_name()
    found = estimated([job.config for job in jobs], device=device, root=jobs[0].store)
    for job, cost in zip(jobs, found, strict=True):
        state = "complete" if cost.complete else said(cost.seconds)
        sys.stdout.write(f"{job.run_id}  {job.config.experiment}  {job.name}  {state}\n")
    done, rest = sum(cost.complete for cost in found), f"{said(total(found))} on {device}, one at a time"
    sys.stdout.write(f"{len(jobs)} runs, {done} of them complete; the others take {rest}\n")
