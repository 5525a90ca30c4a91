"""Where the runs of a sweep are kept: a folder that every machine sees, for one sweep at a time."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from gendyn_lite.errors import Failed, UserError

PROBE_BYTES = 2**20
LOCK = ".sweep.lock"
_TOKEN = re.compile(r"\.sweep\.[0-9a-f]{32}")


def store_folder(place: str) -> str:
    """The folder that ``--store`` names, from the root of the file system.

    Raises:
        UserError: It is a URL or a file, or lies in a file.

    >>> store_folder("s3://bucket/runs")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: --store 's3://bucket/runs' is not a folder: name one that every machine sees
    """
    whole = "://" not in place and "\0" not in place and Path(place).resolve()
    if not whole or not next(path for path in (whole, *whole.parents) if path.exists()).is_dir():
        raise UserError(f"--store {place!r} is not a folder: name one that every machine sees")
    return str(whole)


@contextmanager
def reserved(place: str) -> Iterator[str]:
    """A store for one sweep alone, after a test that it can be written to.

    Yields:
        The name of a file that meanwhile lies in the store, by which other machines know it.

    Raises:
        UserError: Another sweep is at work on it.
        Failed: It cannot be written to, or is full.
    """
    folder = Path(place)
    lock, token = FileLock(folder / LOCK, timeout=0), folder / f".sweep.{uuid.uuid4().hex}"
    try:
        with _refusals(place):
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            for left in folder.glob(".sweep.*"):
                if _TOKEN.fullmatch(left.name):  # of a sweep that was killed: nobody else is at work
                    left.unlink()
            _probe(token)
        yield token.name
    finally:
        if lock.is_locked:
            with suppress(OSError):  # who opened the lock and does not have it yet is refused: nobody waits for it
                token.unlink(missing_ok=True)
                (folder / LOCK).unlink()
            lock.release()


def _probe(token: Path) -> None:
    """Write a megabyte, on disk, and keep the empty file."""
    with token.open("wb") as file:
        file.write(os.urandom(PROBE_BYTES))
        file.flush()
        os.fsync(file.fileno())
        file.truncate(0)


@contextmanager
def _refusals(place: str) -> Iterator[None]:
    """What the place refuses, in one line."""
    try:
        yield
    except Timeout:
        raise UserError(f"another sweep is at work on the run store {place}: wait for it, or stop it") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise Failed(f"the run store {place} cannot be written to: {reason}; nothing was begun") from None
