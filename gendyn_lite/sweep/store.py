"""Where the runs of a sweep are kept: a folder that every machine sees, or a place that fsspec knows, by its URL."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.results.runs import COMPLETE
from gendyn_lite.sweep.mirror import Mirror

PUSH_SECONDS = 30.0  # between two copies of a run in progress to a URL
PROBE_BYTES = 2**20
LOCK = ".sweep.lock"


def is_url(place: str) -> bool:
    """Whether a store is a URL rather than a folder.

    >>> is_url("s3://bucket/runs"), is_url("runs")
    (True, False)
    """
    return "://" in place


def scratch(place: str) -> Path:
    """The folder of this machine that holds what is in progress of a store at a URL."""
    user = os.environ.get("USER", "user")
    name = f"gendyn-{user}-{hashlib.sha256(place.encode()).hexdigest()[:12]}"
    return Path(tempfile.gettempdir()) / name


@contextmanager
def at_work(place: str, experiment: str, run_id: str) -> Iterator[Path]:
    """The folder of runs in which a worker does one of a store's runs.

    For a URL that is a folder of this machine: what the store has of the run is fetched before; what is done is copied
    there every half minute, and at the end whatever the end was.

    Args:
        place: The store.
        experiment: The run's experiment.
        run_id: The run's key.
    """
    if not is_url(place):
        yield Path(place)
        return
    root = scratch(place)
    mirror = Mirror(place, root, f"{experiment}/{run_id}")
    mirror.fetch()
    stop = threading.Event()

    def copy() -> None:
        while not stop.wait(PUSH_SECONDS):
            with suppress(OSError):  # the last copy, below, says what is wrong
                mirror.push()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    try:
        yield root
    finally:
        stop.set()
        thread.join()
        mirror.push()


def collect(place: str, experiment: str, run_id: str, *, root: Path) -> None:
    """Copy a complete run of a store at a URL to the runs of this machine, without its checkpoints."""
    if is_url(place) and not (root / experiment / run_id / COMPLETE).is_file():
        Mirror(place, root, f"{experiment}/{run_id}").fetch(checkpoints=False)


@contextmanager
def reserved(place: str) -> Iterator[str]:
    """A store for one sweep alone, after a test that it can be written to.

    Yields:
        The name of a file that meanwhile lies in a store that is a folder.

    Raises:
        UserError: Another sweep is at work on it, or it is no place where runs can be.
        Failed: It cannot be written to, or is full.
    """
    if is_url(place):
        with _refusals(place):
            mirror = Mirror(place, scratch(place), "")
            mirror.probe(os.urandom(1024))
            mirror.reserve(uuid.uuid4().hex)
        try:
            yield ""
        finally:
            mirror.release()
        return
    folder = Path(place)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the run store {place} is a file, expected a folder or a URL")
    with _refusals(place):
        folder.mkdir(parents=True, exist_ok=True)
        _probe(folder)
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(f"another sweep is at work on the run store {place}: wait for it, or stop it") from None
    token = folder / f".sweep.{uuid.uuid4().hex}"
    try:
        token.touch()
        yield token.name
    finally:
        token.unlink(missing_ok=True)
        lock.release()


def _probe(folder: Path) -> None:
    """Write a megabyte, on disk, and remove it."""
    probe = folder / f".probe.{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(os.urandom(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def _refusals(place: str) -> Iterator[None]:
    """What the place refuses, in one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise Failed(f"the run store {place} cannot be written to: {reason}; nothing was begun") from None
    except (ImportError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"the run store {place} cannot be opened: {' '.join(str(error).split())}") from None
