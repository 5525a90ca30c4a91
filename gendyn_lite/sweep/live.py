"""The progress line of a chapter or a sweep: updated in place on a terminal, printed at intervals elsewhere."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import psutil

from gendyn_lite.sweep.jobs import Outcome
from gendyn_lite.train.history import VARIABLE, in_words

TERMINAL_SECONDS, PLAIN_SECONDS = 0.5, 30.0  # between two updates of a line, on a terminal and elsewhere


class Line:
    """A status line that is updated in place on a terminal, and printed anew at intervals elsewhere.

    Args:
        stream: Where to write (default: stderr, so that stdout has results only).
        seconds: Seconds between two updates (default: 0.5 on a terminal, else 30).
    """

    def __init__(self, stream: TextIO | None = None, seconds: float | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.every = seconds or (TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS)
        self._due = time.monotonic() + self.every

    def say(self, text: str) -> None:
        """Update the line, unless the last update was too recent."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self.every
            columns = shutil.get_terminal_size().columns - 1
            self._write(f"\r\033[K{text[:columns]}" if self.terminal else f"{text}\n")

    def keep(self, text: str) -> None:
        """Print a line that is not overwritten."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Erase the line from a terminal."""
        if self.terminal:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


class Live:
    """Shows which cell of a chapter is running, how far its training is, the elapsed and remaining time, and memory.

    Use it as ``with Live("01_random_labels", Line()) as live: notebooks.run(..., reached=live.reach)``.

    Args:
        chapter: Name to show.
        line: The line to update.
        expected: Estimated seconds of the whole chapter, or None.

    Attributes:
        cell: Number of the code cell that is running, from 1; 0 before the first.
        cells: Number of code cells.
        peak_bytes: Largest memory of the kernel and its child processes so far.
        gpu_bytes: Largest memory of tensors on the GPU so far.
    """

    def __init__(self, chapter: str, line: Line, *, expected: float | None = None) -> None:
        self.chapter, self.shown, self.expected = chapter, line, expected
        self.cell, self.cells, self.peak_bytes, self.gpu_bytes = 0, 0, 0, 0
        self.started = time.monotonic()
        self._stop = threading.Event()

    def __enter__(self) -> Live:
        """Start updating the line."""
        self._folder = tempfile.TemporaryDirectory(prefix="gendyn-")
        self.file = Path(self._folder.name) / "progress.json"
        os.environ[VARIABLE] = str(self.file)  # the kernel, started from here, inherits it
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop updating the line, and erase it from a terminal."""
        os.environ.pop(VARIABLE, None)
        self._stop.set()
        self._thread.join()
        self.shown.clear()
        self._folder.cleanup()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def reach(self, cell: int, cells: int) -> None:
        """Note that code cell number `cell` (from 1) of `cells` starts."""
        self.cell, self.cells = cell, cells

    def line(self) -> str:
        """The current text of the line."""
        parts = [f"{self.chapter}: cell {self.cell} of {self.cells}", *map(in_words, self._bars()[:2])]
        parts.append(f"{clock(self.seconds)} elapsed")
        if self.expected is not None and self.expected > self.seconds:
            parts.append(f"about {clock(self.expected - self.seconds)} left")
        if self.peak_bytes:
            parts.append(f"{self.peak_bytes / 1e9:.1f} GB")
        return " · ".join(parts)

    def _bars(self) -> list[dict[str, Any]]:
        """The states of the progress bars in the kernel, outermost first."""
        try:
            found = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return []
        self.gpu_bytes = max(self.gpu_bytes, found["gpu_bytes"])
        return found["bars"]

    def _tick(self) -> None:
        """Measure and update the line until the end of the block."""
        while not self._stop.wait(min(self.shown.every, TERMINAL_SECONDS)):
            self.peak_bytes = max(self.peak_bytes, _bytes_of_children())
            line = self.line()  # also updates gpu_bytes
            if self.cells:
                self.shown.say(line)


def clock(seconds: float) -> str:
    """A duration as a clock shows it.

    >>> clock(65), clock(3725)
    ('1:05', '1:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _bytes_of_children() -> int:
    """Memory of the kernel and of the processes that it has started, in bytes."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


class Tally:
    """Counts the finished runs of a sweep and estimates the remaining time.

    Args:
        expected: Estimated seconds of each run, or None, by run_id.
        at_once: Returns how many runs can currently be executed at once.

    Attributes:
        outcomes: Outcomes so far, by run_id.
    """

    def __init__(self, expected: Mapping[str, float | None], at_once: Callable[[], float] = lambda: 1) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.at_once, self.started = at_once, time.monotonic()
        self._known = None not in expected.values()
        self._weights = {run_id: seconds if self._known else 1.0 for run_id, seconds in expected.items()}

    @property
    def failed(self) -> int:
        """Number of runs that failed."""
        return sum(bool(outcome.error) for outcome in self.outcomes.values())

    def line(self) -> str:
        """Counts and times in one line."""
        done, elapsed, left = len(self.outcomes) - self.failed, clock(time.monotonic() - self.started), self.left()
        rest = "" if left is None else f" · about {clock(left)} left"
        many = f" · {self.at_once():g} at once" if self.at_once() > 1 else ""
        return f"{done} of {len(self._weights)} runs done · {self.failed} failed · {elapsed} elapsed{many}{rest}"

    def left(self) -> float | None:
        """Estimated remaining seconds, corrected by how long the finished runs took; None if unknown."""
        rest = sum(self._weights[run_id] or 0.0 for run_id in self._weights.keys() - self.outcomes.keys())
        trained = [outcome for outcome in self.outcomes.values() if outcome.trained and not outcome.error]
        foreseen = sum(self._weights[outcome.run_id] or 0.0 for outcome in trained)
        if not rest or not (foreseen or self._known):
            return None
        pace = sum(outcome.seconds for outcome in trained) / foreseen if foreseen else 1.0
        return pace * rest / self.at_once()
