"""The record kept beside an executed chapter: what was asked for, where, how long it took, how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from gendyn_lite.config import check_type
from gendyn_lite.errors import EXIT_CODES, exit_code
from gendyn_lite.notebooks import execution
from gendyn_lite.notebooks.live import Live
from gendyn_lite.results.runs import environment, write_json


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
