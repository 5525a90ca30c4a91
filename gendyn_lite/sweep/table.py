"""The live table of a sweep: done, running, failed, waiting, and the time that is left."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from gendyn_lite.notebooks.live import clock
from gendyn_lite.sweep.jobs import Job, Outcome

TERMINAL_SECONDS, PLAIN_SECONDS = 1.0, 30.0
MOST_SHOWN = 8


class Table:
    """Counts outcomes and says so: in place on a terminal, in plain lines at intervals elsewhere.

    Args:
        jobs: The runs.
        expected: For each key of a run the seconds that it should take, or None.
        at_once: How many runs there can be at once.
        stream: Where to write (default: stderr).
        seconds: Seconds between two tables (default: 1 on a terminal, else 30).
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        expected: Mapping[str, float | None],
        *,
        at_once: float = 1,
        stream: TextIO | None = None,
        seconds: float | None = None,
    ) -> None:
        self.jobs = {job.run_id: job for job in jobs}
        self.expected, self.at_once = expected, max(1.0, at_once)
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.every = seconds or (TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS)
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
        begun = [(run_id, where) for run_id, where in running.items() if run_id not in self.outcomes]
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
        parts = [f"{done} done", f"{running} running", f"{failed} failed", f"{waiting} waiting"]
        left = self.left()
        parts.append(f"{clock(time.monotonic() - self.started)} elapsed")
        return " · ".join(parts + ([f"about {clock(left)} left"] if left is not None else []))

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
            total = sum(each for each in foreseen if each)
            scale = taken / total if total else 1.0
            return scale * sum(each for each in rest if each) / self.at_once
        return taken / len(trained) * len(rest) / self.at_once if trained else None

    def _table(self) -> list[str]:
        """The counts, and the runs that are running."""
        names = ("done", "failed", "running", "waiting", "elapsed", "left")
        left = self.left()
        times = (
            clock(time.monotonic() - self.started),
            "" if not sum(self.counts()[2:]) else "?" if left is None else f"~{clock(left)}",
        )
        row = (*map(str, self.counts()), *times)
        shown = [
            f"  {self.jobs[run_id].name} ({where})" for run_id, where in self.running.items() if run_id in self.jobs
        ]
        more = [f"  and {len(shown) - MOST_SHOWN} more"] if len(shown) > MOST_SHOWN else []
        lines = ["".join(f"{name:>9}" for name in names), "".join(f"{text:>9}" for text in row)]
        return lines + [text[:100] for text in shown[:MOST_SHOWN] + more]

    def _wipe(self) -> None:
        """Take the last table off a terminal."""
        if self._lines:
            self.stream.write(f"\033[{self._lines}F\033[J")
            self._lines = 0
