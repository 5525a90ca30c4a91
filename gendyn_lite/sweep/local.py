"""The runs of a sweep on this machine: as many at once as turn out to be fastest, for a time or to the end."""

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

TICK = 0.5  # seconds between two looks at how far the runs are
WINDOW = 12.0  # seconds over which the speed of so many at once is measured
GAIN = 1.1  # of one more at once, below which it is not worth its memory
MOST_ON_GPU = 6
LEAST = 45.0  # seconds in which a run is begun that will not end in them: one checkpoint is written, and more


@dataclass
class Worker:
    """A process that does one run after another.

    Attributes:
        process: The process.
        pipe: Takes runs to it and outcomes back.
        file: Where its training says how far it is.
        job: The run that it is at.
        share: How much of that was done at the last look.
        warm: Whether it has begun to train, ever: to start a process takes seconds.
    """

    process: Any
    pipe: Connection
    file: Path
    job: Job | None = None
    share: float = 0.0
    warm: bool = False

    def advance(self) -> float:
        """The share of its run that was done since the last look."""
        try:
            bar = json.loads(self.file.read_text())["bars"][0]
            now = bar["done"] / bar["steps"]
        except (OSError, ValueError, LookupError, ZeroDivisionError):
            return 0.0
        before, self.share, self.warm = self.share, now, True
        return max(0.0, now - before)


class Workers:
    """The runs of a sweep, done by processes of this machine.

    Args:
        jobs: The runs, in the order in which they are wanted.
        expected: Seconds that each should take alone, by its key; None where that is not known.
        wanted: Its `workers` and `retries`; by default at most as many at once as there are cores, six on a GPU.
        seconds: Time in which to do as many as possible.

    Attributes:
        limit: How many are done at once at present. One more is tried as long as that made the whole faster.

    Raises:
        UserError: None of the runs would end in the time, and none has begun that a part of would take further.
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
        self._pace: dict[str, float] = {}  # by experiment: what a run took, by what was expected
        self._speeds: dict[int, float] = {}  # by how many at once: expected seconds done in a second
        self._done, self._window = 0.0, (time.monotonic(), 0.0)
        shortest = min(self._rest.values(), default=0.0)
        if jobs and seconds < shortest and (seconds < LEAST or not any(map(begun, jobs))):
            told = f"--for leaves {said(max(0.0, seconds))}, and the shortest of the runs takes {said(shortest)}"
            raise UserError(f"{told}: nothing was started, take more time")

    def run(self) -> Generator[Outcome | None, None, None]:
        """Outcomes as they come, None at every look between; what is not done in time can be resumed."""
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
        return [worker for worker in self._workers if worker.job]

    def _start(self, folder: Path) -> bool:
        """Give runs to as many workers as there should be at present; whether any was given."""
        started = False
        while len(self._busy()) < self.limit and (job := self._next()):
            idle = [worker for worker in self._workers if not worker.job and worker.process.is_alive()]
            worker = idle[0] if idle else self._new(folder)
            worker.job, worker.share, started = job, begun(job), True
            worker.file.unlink(missing_ok=True)
            worker.pipe.send(job)
        return started

    def _new(self, folder: Path) -> Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        file = folder / f"{next(self._numbers)}.json"
        process = context.Process(target=serve, args=(theirs, str(file)), daemon=True)
        process.start()
        theirs.close()
        self._workers.append(Worker(process, ours, file))
        return self._workers[-1]

    def _next(self) -> Job | None:
        """The next run that will end in time, else the next one at all if there is time for a part of it."""
        left = self._deadline - time.monotonic()
        chosen = next((job for job in self._waiting if self._needs(job) <= left), None)
        if chosen is None and self._waiting and left >= LEAST:
            chosen = self._waiting[0]
        if chosen:
            self._waiting.remove(chosen)
        return chosen

    def _remaining(self, job: Job) -> float:
        """Seconds that a run should still take alone."""
        return (self._expected[job.run_id] or 0.0) * (1 - begun(job))

    def _needs(self, job: Job) -> float:
        """Seconds that the rest of a run takes beside as many others as there are at present."""
        return self._rest[job.run_id] * self._pace.get(job.config.experiment, 1.0) * self._slower()

    def _slower(self) -> float:
        """How many times as long as alone a run takes beside as many others as there are at present."""
        alone = self._speeds.get(1, 1.0)
        return self.limit * alone / self._speeds.get(self.limit, alone)

    def _outcome(self, worker: Worker) -> Outcome | None:
        """What became of a worker's run; None if it is to begin again, as its process died or memory lacked."""
        job, worker.job = worker.job, None
        assert job is not None
        others = len(self._busy())
        try:
            outcome: Outcome = worker.pipe.recv()
        except (EOFError, OSError):  # it is dead
            self._end(worker)
            if self._retries[job.run_id]:
                self._retries[job.run_id] -= 1
                self._rest[job.run_id] = self._remaining(job)
                self._waiting.insert(0, job)
                return None
            code = worker.process.exitcode
            killed = " (was the memory exhausted?)" if code == -signal.SIGKILL else ""
            return Outcome(job.run_id, 0.0, False, f"its process died with exit code {code}{killed}")
        if "out of memory" in outcome.error and others:  # of which its process keeps a part
            self._end(worker)
            self._waiting.insert(0, job)
            self._most = self.limit = others
            return None
        rest = self._rest[job.run_id]
        if rest and outcome.trained and not outcome.error and self.limit in (1, *self._speeds):
            self._pace[job.config.experiment] = outcome.seconds / (rest * self._slower())
        return outcome

    def _end(self, worker: Worker) -> None:
        """Have no more of a worker, dead or alive."""
        self._workers.remove(worker)
        worker.process.kill()
        worker.process.join()

    def _look(self) -> None:
        """Measure the speed of so many at once; try one more, or go back to the fastest number."""
        busy = self._busy()
        for worker in busy:
            assert worker.job is not None
            self._done += worker.advance() * (self._expected[worker.job.run_id] or 1.0)
        now, (since, before) = time.monotonic(), self._window
        if self.limit in self._speeds or len(busy) < self.limit or not all(worker.warm for worker in busy):
            self._window = now, self._done  # it is known, or they are not as many at work
        elif now - since >= WINDOW and self._done > before:  # else they are all being evaluated
            self._speeds[self.limit] = (self._done - before) / (now - since)
            self._window = now, self._done
            faster = self.limit == 1 or self._speeds[self.limit] > GAIN * self._speeds[self.limit - 1]
            self.limit += (1 if self.limit < self._most else 0) if faster else -1


def serve(pipe: Connection, file: str) -> None:
    """Do the runs that come, one after another. The process ends with the one that started it, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep itself is interrupted, and stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ[VARIABLE] = file
    with suppress(EOFError):
        while True:
            pipe.send(work(pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
