"""The local engine of a sweep: worker processes on this machine, as many at once as turn out to be fastest."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from math import inf
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from gendyn_lite.errors import UserError
from gendyn_lite.sweep.cost import said
from gendyn_lite.sweep.jobs import Job, Outcome, Resources, begun, work
from gendyn_lite.train.device import choose_device
from gendyn_lite.train.history import VARIABLE

TICK = 0.5  # seconds between two checks of the runs' progress
WINDOW = 12.0  # seconds over which the speed of a number of simultaneous runs is measured
GAIN = 1.1  # least speed-up by one more simultaneous run; a smaller one is not worth the memory
MOST_ON_GPU = 6  # largest number of simultaneous runs on a GPU by default
LEAST = 45.0  # a run that cannot finish in time is started only if this many seconds are left: enough for a checkpoint


@dataclass
class Worker:
    """A process that executes one run after another.

    Attributes:
        process: The process.
        pipe: Connection that jobs are sent and outcomes received through.
        file: The file that its training writes its progress to.
        job: The current run, or None if the worker is idle.
        share: Fraction of the current run that was finished at the last check.
        warm: Whether it has ever trained a step. Starting a process takes seconds, in which no speed can be measured.
    """

    process: Any
    pipe: Connection
    file: Path
    job: Job | None = None
    share: float = 0.0
    warm: bool = False

    def advance(self) -> float:
        """Read the progress file; returns the fraction of the run that was finished since the last check."""
        try:
            bar = json.loads(self.file.read_text())["bars"][0]
            now = bar["done"] / bar["steps"]
        except (OSError, ValueError, LookupError, ZeroDivisionError):
            return 0.0
        before, self.share, self.warm = self.share, now, True
        return max(0.0, now - before)


class Workers:
    """Executes the runs of a sweep by worker processes on this machine.

    The number of simultaneous runs starts at one and grows as long as one more makes the whole sweep faster.

    Args:
        jobs: The runs, the most wanted first.
        expected: Estimated seconds of each run on its own, by run_id; None if unknown.
        wanted: Its `workers` and `retries` are used. Without `workers`, at most one run per core, or six on a GPU.
        seconds: Time limit, within which as many runs as possible are done.

    Attributes:
        limit: The current number of simultaneous runs.

    Raises:
        UserError: No run would finish within the time limit, and none that was interrupted could be continued.
    """

    def __init__(
        self, jobs: Sequence[Job], expected: Mapping[str, float | None], wanted: Resources, *, seconds: float = inf
    ) -> None:
        self.limit, self._deadline = 1, time.monotonic() + seconds
        self._most = wanted.workers or (MOST_ON_GPU if choose_device(None).type == "cuda" else os.cpu_count() or 1)
        self._retries = {job.run_id: wanted.retries for job in jobs}
        self._waiting, self._expected = list(jobs), expected
        self._rest = {job.run_id: self._remaining(job) for job in jobs}
        self._workers: list[Worker] = []
        self._numbers = count()
        self._pace: dict[str, float] = {}  # experiment → measured over estimated seconds of its last run
        self._speeds: dict[int, float] = {}  # simultaneous runs → estimated seconds of work finished per second
        self._done, self._window = 0.0, (time.monotonic(), 0.0)
        shortest = min(self._rest.values(), default=0.0)
        if jobs and seconds < shortest and (seconds < LEAST or not any(map(begun, jobs))):
            told = f"--for leaves {said(max(0.0, seconds))}, and the shortest of the runs takes {said(shortest)}"
            raise UserError(f"{told}: nothing was started; give it more time")

    def run(self) -> Generator[Outcome | None, None, None]:
        """Execute the runs until all are done or the time is over; those not finished can be resumed later.

        Yields:
            Outcomes as they arrive, and None after every check of the progress.
        """
        with tempfile.TemporaryDirectory(prefix="gendyn-") as folder:
            try:
                while time.monotonic() < self._deadline and (self._start(Path(folder)) or self._busy()):
                    self._look()
                    by_pipe = {worker.pipe: worker for worker in self._busy()}
                    for pipe in wait(list(by_pipe), min(TICK, max(0.0, self._deadline - time.monotonic()))):
                        yield self._outcome(by_pipe[pipe])  # type: ignore[index]
                    yield None
            finally:
                for worker in list(self._workers):
                    self._end(worker)

    def _busy(self) -> list[Worker]:
        """The workers that have a run."""
        return [worker for worker in self._workers if worker.job]

    def _start(self, folder: Path) -> bool:
        """Send runs to workers until `limit` of them are busy; returns whether any run was sent."""
        started = False
        while len(self._busy()) < self.limit and (job := self._next()):
            idle = [worker for worker in self._workers if not worker.job and worker.process.is_alive()]
            worker = idle[0] if idle else self._new(folder)
            worker.job, worker.share, started = job, begun(job), True
            worker.file.unlink(missing_ok=True)
            worker.pipe.send(job)
        return started

    def _new(self, folder: Path) -> Worker:
        """Start a worker process, whose progress file is in `folder`."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        file = folder / f"{next(self._numbers)}.json"
        process = context.Process(target=serve, args=(theirs, str(file)), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(Worker(process, ours, file))
        return self._workers[-1]

    def _next(self) -> Job | None:
        """Take the next run that will finish in time; if none will, the next one, if there is time for part of it."""
        left = self._deadline - time.monotonic()
        chosen = next((job for job in self._waiting if self._needs(job) <= left), None)
        if chosen is None and self._waiting and left >= LEAST:
            chosen = self._waiting[0]
        if chosen:
            self._waiting.remove(chosen)
        return chosen

    def _remaining(self, job: Job) -> float:
        """Estimated remaining seconds of a run on its own; 0 if unknown."""
        return (self._expected[job.run_id] or 0.0) * (1 - begun(job))

    def _needs(self, job: Job) -> float:
        """Estimated remaining seconds of a run at the current number of simultaneous runs."""
        return self._rest[job.run_id] * self._pace.get(job.config.experiment, 1.0) * self._slower()

    def _slower(self) -> float:
        """The factor by which the current number of simultaneous runs makes each of them slower than on its own."""
        alone = self._speeds.get(1, 1.0)
        return self.limit * alone / self._speeds.get(self.limit, alone)

    def _outcome(self, worker: Worker) -> Outcome | None:
        """Receive the outcome of a worker's run; None if the run was put back, after a crash or a lack of memory."""
        job, worker.job = worker.job, None
        assert job is not None
        others = len(self._busy())
        try:
            outcome: Outcome = worker.pipe.recv()
        except (EOFError, OSError):  # the process has died
            self._end(worker)
            if self._retries[job.run_id]:
                self._retries[job.run_id] -= 1
                self._rest[job.run_id] = self._remaining(job)
                self._waiting.insert(0, job)
                return None
            code = worker.process.exitcode
            killed = " (out of memory?)" if code == -signal.SIGKILL else ""
            return Outcome(job.run_id, 0.0, False, f"its process died with exit code {code}{killed}")
        if "out of memory" in outcome.error and others:  # end the process, which would keep part of the memory
            self._end(worker)
            self._waiting.insert(0, job)
            self._most = self.limit = others
            return None
        rest = self._rest[job.run_id]
        if rest and outcome.trained and not outcome.error and self.limit in (1, *self._speeds):
            self._pace[job.config.experiment] = outcome.seconds / (rest * self._slower())
        return outcome

    def _end(self, worker: Worker) -> None:
        """Kill a worker's process, unless it is dead already, and forget the worker."""
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()

    def _look(self) -> None:
        """Measure the speed at the current number of simultaneous runs; then try one more, or go back to one fewer."""
        busy = self._busy()
        for worker in busy:
            assert worker.job is not None
            self._done += worker.advance() * (self._expected[worker.job.run_id] or 1.0)
        now, (since, before) = time.monotonic(), self._window
        if self.limit in self._speeds or len(busy) < self.limit or not all(worker.warm for worker in busy):
            self._window = now, self._done  # the speed is known, or cannot be measured yet
        elif now - since >= WINDOW and self._done > before:  # no progress: all runs are being evaluated
            self._speeds[self.limit] = (self._done - before) / (now - since)
            self._window = now, self._done
            faster = self.limit == 1 or self._speeds[self.limit] > GAIN * self._speeds[self.limit - 1]
            self.limit += (1 if self.limit < self._most else 0) if faster else -1


def serve(pipe: Connection, file: str) -> None:
    """Be a worker: execute the runs that arrive through the pipe, and exit when the parent process ends in any way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent process kills its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ[VARIABLE] = file
    with suppress(EOFError):
        while True:
            pipe.send(work(pipe.recv()))


def _end_with_parent() -> None:
    """Wait for the parent process to end, then end this one."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
