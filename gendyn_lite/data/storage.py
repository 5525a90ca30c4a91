"""Files that are whole or absent: write aside, then rename; one writer at a time; disk trouble in one clear line."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from gendyn_lite.errors import UserError

REASONS = {
    errno.ENOSPC: "the disk is full: free some space or choose another folder with --root",
    errno.EDQUOT: "the disk quota is used up: free some space or choose another folder with --root",
    errno.EACCES: "permission denied: choose a folder of your own with --root or GENDYN_DATA",
    errno.EPERM: "permission denied: choose a folder of your own with --root or GENDYN_DATA",
    errno.EROFS: "the file system is read-only: choose another folder with --root or GENDYN_DATA",
    errno.ENOTDIR: "a file is where a folder should be",
    errno.EEXIST: "a file is where a folder should be",
}


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn trouble with the disk into a `UserError` with the path and the reason."""
    try:
        yield
    except OSError as error:
        reason = REASONS.get(error.errno or 0, error.strerror or str(error))
        raise UserError(f"cannot use {error.filename or path}: {reason}") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path` alone among processes. The system frees the lock of a process that died, so none can be stale."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            sys.stderr.write(f"another process holds {path}: waiting for it\n")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def lock_of(folder: Path) -> Path:
    """The lock file that guards a folder: it lies beside it."""
    return folder.parent / f".{folder.name}.lock"


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new empty folder that takes the place of `folder` when the block ends, and vanishes if it fails.

    To be used by one process at a time, under `lock_of(folder)`; what a killed one left aside is removed by the next.
    """
    folder = folder.absolute()
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{_literal(folder.name)}.aside-*"):
            shutil.rmtree(left)
        aside = folder.parent / f".{folder.name}.aside-new-{os.getpid()}"
        aside.mkdir()
        try:
            yield aside
            if folder.exists():
                folder.rename(folder.parent / f".{folder.name}.aside-old-{os.getpid()}")
            aside.rename(folder)
        finally:
            for left in folder.parent.glob(f".{_literal(folder.name)}.aside-*"):
                shutil.rmtree(left, ignore_errors=True)


def _literal(name: str) -> str:
    """A name in which no character is a wildcard of `glob`."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)
