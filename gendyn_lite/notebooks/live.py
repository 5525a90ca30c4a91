"""What a running chapter says of itself, and the record kept beside it: what was asked for, where, how long it took."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO, get_type_hints

from jupyter_core.paths import jupyter_runtime_dir

from gendyn_lite.config import check_type
from gendyn_lite.errors import EXIT_CODES, exit_code
from gendyn_lite.notebooks import execution
from gendyn_lite.notebooks.chapters import remove_if_dead
from gendyn_lite.results.runs import environment, write_json

VARIABLE = "GENDYN_PROGRESS"  # where training in the kernel says how far it is, see train/progress.py
TERMINAL_SECONDS, PLAIN_SECONDS = 0.5, 30.0


class Live:
    """Which cell of how many runs, how far its training is, the time that passed and is left, and the memory taken.

    Use it as ``with Live("01_random_labels") as live: notebooks.run(..., live=live)``.

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
        """Begin to say."""
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

    def reach(self, cell: Any) -> None:
        """A cell begins."""
        self.cell += cell.cell_type == "code"

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
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def _bar(bar: dict[str, Any]) -> str:
    """One count, for instance ``mlp_1x512 340 of 1600 steps (epoch 17, test 0.912)``."""
    text = f"{bar['label']} {bar['done']} of {bar['steps']} {bar['unit']}s"
    return f"{text} (epoch {bar['epoch']}, test {bar['test']})" if "test" in bar else text


def _bytes_of_children() -> int:
    """Memory of the processes that this one started: the kernel, and what it started."""
    import psutil

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


class Record(NamedTuple):
    """One execution of a chapter.

    Attributes:
        chapter: Its name.
        profile: Size of its runs.
        parameters: Those that differ from the chapter's own.
        device: Name of the GPU, or ``"CPU"``.
        seconds: Wall-clock time.
        training_seconds: The part of it that went into runs that were trained, and are now loaded.
        peak_bytes: Most memory that its processes took together.
        gpu_bytes: Most GPU memory that tensors took.
        exit: Exit code, see `gendyn_lite.errors.EXIT_CODES`.
        error: The line that was printed, which names the failed cell; empty where all went well.
        started: Time of day, UTC.
        environment: Versions and commit.
    """

    chapter: str
    profile: str
    parameters: dict[str, Any]
    device: str
    seconds: float
    training_seconds: float
    peak_bytes: int
    gpu_bytes: int
    exit: int
    error: str
    started: str
    environment: dict[str, Any]


def record_path(chapter: str, profile: str, *, out: Path, failed: bool = False) -> Path:
    """Where the record of a chapter at a size lies; one of a failure never replaces one of a success.

    >>> record_path("01_random_labels", "smoke", out=Path("runs")).name
    '01_random_labels.smoke.record.json'
    """
    folder = out.parent if out.suffix == ".ipynb" else out
    return folder / f"{Path(chapter).stem}.{profile}{'.failed' if failed else ''}.record.json"


def read_record(chapter: str, profile: str, *, out: Path) -> Record | None:
    """The record of the last execution that went well, or None if there is none, or it cannot be read."""
    try:
        found = json.loads(record_path(chapter, profile, out=out).read_text(encoding="utf-8"))
        hints = get_type_hints(Record)
        return Record(**{name: check_type(name, value, hints[name]) for name, value in found.items()})
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return None


def run_recorded(
    chapter: str,
    *,
    profile: str,
    values: Mapping[str, Any],
    out: Path,
    live: Live,
    device: str = "CPU",
    trained: Callable[[], float] = lambda: 0.0,
) -> Path:
    """`run` a chapter, and keep its record also if it fails or is interrupted.

    Args:
        chapter: Its name.
        profile: Size of its runs.
        values: Other parameters.
        out: Folder of the executed notebook and its record.
        live: Says meanwhile how far it is.
        device: Recorded.
        trained: Gives the seconds of training that the execution cost, afterwards.

    Returns:
        The executed notebook.

    Raises:
        UserError: As `run`; nothing is kept where nothing has run.
        Failed: A cell raised.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    code, line = 0, ""
    try:
        return execution.run(chapter, profile=profile, values=values, out=out, live=live)
    except BaseException as error:
        code = exit_code(error)
        line = str(error) or EXIT_CODES[code]
        raise
    finally:
        if live.cell:  # something has run
            measured = (device, round(live.seconds, 1), round(trained(), 1), live.peak_bytes, live.gpu_bytes)
            record = Record(Path(chapter).stem, profile, dict(values), *measured, code, line, started, environment())
            write_json(record_path(chapter, profile, out=out, failed=code != 0), record._asdict())
            if code == 0:
                record_path(chapter, profile, out=out, failed=True).unlink(missing_ok=True)
