"""What a chapter or a sweep says while it runs: in its place on a terminal, in plain lines at intervals elsewhere."""

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

TERMINAL_SECONDS, PLAIN_SECONDS = 0.5, 30.0  # between two versions of a line


class Line:
    """A line that changes in its place on a terminal; elsewhere a new one at intervals.

    Args:
        stream: Where to write (default: stderr, so that stdout holds results only).
        seconds: Seconds between two versions (default: 0.5 on a terminal, else 30).
    """

    def __init__(self, stream: TextIO | None = None, seconds: float | None = None) -> None:
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.every = seconds or (TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS)
        self._due = time.monotonic() + self.every

    def say(self, text: str) -> None:
        """Show a version of the line, if it is time."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self.every
            columns = shutil.get_terminal_size().columns - 1
            self._write(f"\r\033[K{text[:columns]}" if self.terminal else f"{text}\n")

    def keep(self, text: str) -> None:
        """Show a line that stays."""
        self.clear()
        self._write(f"{text}\n")

    def clear(self) -> None:
        """Take the line off a terminal."""
        if self.terminal:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


class Live:
    """Says which cell of a chapter is running, how far its training is, the time elapsed and left, and the memory.

    Use it as ``with Live("01_random_labels") as live: notebooks.run(..., reached=live.reach)``.

    Args:
        chapter: Name to show.
        line: Where to say it.
        expected: Seconds that it should take, where known.
    """

    def __init__(self, chapter: str, line: Line, *, expected: float | None = None) -> None:
        self.chapter, self.shown, self.expected = chapter, line, expected
        self.cell, self.cells, self.peak_bytes, self.gpu_bytes = 0, 0, 0, 0
        self.started = time.monotonic()
        self._stop = threading.Event()

    def __enter__(self) -> Live:
        """Start to say."""
        self._folder = tempfile.TemporaryDirectory(prefix="gendyn-")
        self.file = Path(self._folder.name) / "progress.json"
        os.environ[VARIABLE] = str(self.file)  # the kernel, started from here, inherits it
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Say no more, and leave an empty line on a terminal."""
        os.environ.pop(VARIABLE, None)
        self._stop.set()
        self._thread.join()
        self.shown.clear()
        self._folder.cleanup()

    @property
    def seconds(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.started

    def reach(self, cell: int, cells: int) -> None:
        """A code cell starts (the first is 1), of so many."""
        self.cell, self.cells = cell, cells

    def line(self) -> str:
        """Where it stands now."""
        parts = [f"{self.chapter}: cell {self.cell} of {self.cells}", *map(in_words, self._bars()[:2])]
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
        while not self._stop.wait(min(self.shown.every, TERMINAL_SECONDS)):
            self.peak_bytes = max(self.peak_bytes, _bytes_of_children())
            line = self.line()  # which looks at the GPU's memory too
            if self.cells:
                self.shown.say(line)


def clock(seconds: float) -> str:
    """A duration that counts up or down.

    >>> clock(65), clock(3725)
    ('1:05', '1:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _bytes_of_children() -> int:
    """Memory of the processes that this one started: the kernel, and what it started."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


class Tally:
    """What became of the runs of a sweep, and the time that the others will take.

    Args:
        expected: For each key of a run the seconds that it should take, or None.
        at_once: Gives how many runs there can be at once at present.
    """

    def __init__(self, expected: Mapping[str, float | None], at_once: Callable[[], float] = lambda: 1) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.at_once, self.started = at_once, time.monotonic()
        self._known = None not in expected.values()
        self._weights = {run_id: seconds if self._known else 1.0 for run_id, seconds in expected.items()}

    @property
    def failed(self) -> int:
        """Runs that failed."""
        return sum(bool(outcome.error) for outcome in self.outcomes.values())

    def line(self) -> str:
        """The counts and times in one line."""
        done, elapsed, left = len(self.outcomes) - self.failed, clock(time.monotonic() - self.started), self.left()
        rest = "" if left is None else f" · about {clock(left)} left"
        many = f" · {self.at_once():g} at once" if self.at_once() > 1 else ""
        return f"{done} of {len(self._weights)} runs done · {self.failed} failed · {elapsed} elapsed{many}{rest}"

    def left(self) -> float | None:
        """Seconds left: what was expected of the rest, corrected by how long the runs of this sweep really take."""
        rest = sum(self._weights[run_id] or 0.0 for run_id in self._weights.keys() - self.outcomes.keys())
        trained = [outcome for outcome in self.outcomes.values() if outcome.trained and not outcome.error]
        foreseen = sum(self._weights[outcome.run_id] or 0.0 for outcome in trained)
        if not rest or not (foreseen or self._known):
            return None
        pace = sum(outcome.seconds for outcome in trained) / foreseen if foreseen else 1.0
        return pace * rest / self.at_once()
