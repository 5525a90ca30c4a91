"""What a chapter or a sweep says while it runs: in its place on a terminal, in plain lines at intervals elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import psutil
from jupyter_core.paths import jupyter_runtime_dir

from gendyn_lite.results.files import remove_if_dead
from gendyn_lite.sweep.jobs import Job, Outcome

VARIABLE = "GENDYN_PROGRESS"  # where training in the kernel says how far it is, see train/history.py
TERMINAL_SECONDS, PLAIN_SECONDS = 0.5, 30.0  # between two lines or tables
MOST_SHOWN = 8  # running runs that a table names
Expected = Mapping[str, float | None]  # seconds of each run by its key, None where unknown


class Live:
    """Says which cell of a chapter is running, how far its training is, the time elapsed and left, and the memory.

    Use it as ``with Live("01_random_labels") as live: notebooks.run(..., reached=live.reach)``.

    Args:
        chapter: Name to show.
        stream: Where to write (default: stderr, so that stdout holds results only).
        expected: Seconds that it should take, where known.
        seconds: Seconds between two lines (default: 0.5 on a terminal, else 30).
    """

    def __init__(
        self, chapter: str, *, stream: TextIO | None = None, expected: float | None = None, seconds: float | None = None
    ) -> None:
        self.chapter, self.expected = chapter, expected
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.every = seconds or (TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS)
        self.cell, self.cells, self.peak_bytes, self.gpu_bytes = 0, 0, 0, 0
        self.started = time.monotonic()
        self._stop = threading.Event()

    def __enter__(self) -> Live:
        """Start to say."""
        self.file = _progress_file()
        os.environ[VARIABLE] = str(self.file)  # the kernel, started from here, inherits it
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Say no more, and leave an empty line on a terminal."""
        os.environ.pop(VARIABLE, None)
        self._stop.set()
        self._thread.join()
        if self.terminal:
            self.stream.write("\r\033[K")
            self.stream.flush()
        for left in self.file.parent.glob(f"{self.file.name}*"):
            left.unlink(missing_ok=True)

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started

    def reach(self, cell: int, cells: int) -> None:
        """A code cell starts (the first is 1), of so many."""
        self.cell, self.cells = cell, cells

    def line(self) -> str:
        """Where it stands now."""
        parts = [f"{self.chapter}: cell {self.cell} of {self.cells}", *map(_bar, self._bars()[:2])]
        parts.append(f"{clock(self.seconds)} elapsed")
        if self.expected is not None and self.expected > self.seconds:
            parts.append(f"about {clock(self.expected - self.seconds)} left")
        if self.peak_bytes:
            parts.append(f"{self.peak_bytes / 1e9:.1f} GB")
        return " · ".join(parts)

    def _bars(self) -> list[dict[str, Any]]:
        """The counts that training in the kernel shows, outermost first."""
        try:
            found = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return []
        self.gpu_bytes = max(self.gpu_bytes, found["gpu_bytes"])
        return found["bars"]

    def _tick(self) -> None:
        due = self.started + self.every
        while not self._stop.wait(min(self.every, TERMINAL_SECONDS)):
            self.peak_bytes = max(self.peak_bytes, _bytes_of_children())
            self._bars()
            if time.monotonic() < due or not self.cells:
                continue
            due = time.monotonic() + self.every
            self.stream.write(f"\r\033[K{self.line()[: _width()]}" if self.terminal else f"{self.line()}\n")
            self.stream.flush()


def _progress_file() -> Path:
    """A file of this process beside Jupyter's own of running kernels; those of processes that were killed go."""
    folder = Path(jupyter_runtime_dir()) / "gendyn-progress"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in folder.iterdir():
        remove_if_dead(left, left.name.partition(".")[0])
    return folder / f"{os.getpid()}.json"


def clock(seconds: float) -> str:
    """A duration that counts up or down.

    >>> clock(65), clock(3725)
    ('1:05', '1:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _bar(bar: dict[str, Any]) -> str:
    """One count, for instance ``mlp_1x512 340 of 1600 steps (epoch 17, test 0.912)``."""
    text = f"{bar['label']} {bar['done']} of {bar['steps']} {bar['unit']}s"
    return f"{text} (epoch {bar['epoch']}, test {bar['test']})" if "test" in bar else text


def _bytes_of_children() -> int:
    """Memory of the processes that this one started: the kernel, and what it started."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _width() -> int:
    """Columns of the terminal, less one."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns - 1
    except (OSError, ValueError):
        return 79


class Table:
    """Counts outcomes and says so: in place on a terminal, in plain lines at intervals elsewhere.

    Args:
        jobs: The runs.
        expected: For each key of a run the seconds that it should take, or None.
        at_once: How many runs there can be at once.
        stream: Where to write (default: stderr).
    """

    def __init__(
        self, jobs: Sequence[Job], expected: Expected, *, at_once: float = 1, stream: TextIO | None = None
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
        """A run has ended; a failure is reported at once."""
        self.outcomes[outcome.run_id] = outcome
        if outcome.error:
            self._wipe()
            job = self.jobs[outcome.run_id]
            self.stream.write(f"failed: {job.name} ({outcome.run_id}, {outcome.where}): {outcome.error}\n")

    def show(self, running: Mapping[str, str], *, now: bool = False) -> None:
        """Say where the sweep stands, if it is time.

        Args:
            running: For each key of a run that was started the machine that it is on, the last ones last. More than can
                be at once are of workers that died.
            now: Whether it is time in any case.
        """
        started = [each for each in running.items() if each[0] in self.jobs and each[0] not in self.outcomes]
        self.running = dict(started[-int(self.at_once) :])
        if not now and time.monotonic() - self._shown < self.every:
            return
        self._shown = time.monotonic()
        self._wipe()
        lines = self._rows()
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
        rest = [self.expected.get(run_id) for run_id in self.jobs if run_id not in self.outcomes]
        trained = [outcome for outcome in self.outcomes.values() if outcome.trained and not outcome.error]
        taken = sum(outcome.seconds for outcome in trained)
        foreseen = [self.expected.get(outcome.run_id) for outcome in trained]
        if rest and None not in rest and None not in foreseen:
            total = sum(filter(None, foreseen))
            return (taken / total if total else 1.0) * sum(filter(None, rest)) / self.at_once
        return taken / len(trained) * len(rest) / self.at_once if rest and trained else None

    def _rows(self) -> list[str]:
        """The counts; on a terminal the runs that are running too."""
        shown = [f"  {self.jobs[run_id].name} ({where})" for run_id, where in self.running.items()]
        if len(shown) > MOST_SHOWN:
            shown[MOST_SHOWN:] = [f"  and {len(shown) - MOST_SHOWN} more"]
        return [self.line(), *(text[:100] for text in shown if self.terminal)]

    def _wipe(self) -> None:
        """Take the last table off a terminal."""
        if self._lines:
            self.stream.write(f"\033[{self._lines}F\033[J")
            self._lines = 0
