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

from gendyn_lite.errors import Failed, UserError

SPACE = "free some space or choose another folder with --root"
DENIED = "permission denied: choose a folder of your own (--root or GENDYN_DATA), or change its permissions"
REASONS = {
    errno.ENOSPC: f"the disk is full: {SPACE}",
    errno.EDQUOT: f"the disk quota is used up: {SPACE}",
    **dict.fromkeys((errno.EACCES, errno.EPERM), DENIED),
    errno.EROFS: "the file system is read-only: choose another folder with --root or GENDYN_DATA",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is where a folder should be"),
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "its links lead in a circle",
}
# What was asked for can be nowhere, however willing the machine is.
MISTAKES = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


def named_path(text: str | os.PathLike[str], *, what: str) -> Path:
    """The path that somebody gave, once it is one.

    Args:
        text: What was given.
        what: What it is called, for the message.

    Raises:
        UserError: It is empty, holds a NUL, or is not valid Unicode.

    >>> named_path("", what="--root")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: --root is '', expected the path of a file or folder
    """
    path = os.fspath(text) if isinstance(text, os.PathLike) else text
    if not isinstance(path, str) or not path or "\0" in path or path.encode(errors="ignore").decode() != path:
        raise UserError(f"{what} is {path!r}, expected the path of a file or folder")
    return Path(path)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn trouble with the disk into one line with the path and the reason.

    Raises:
        Failed: The machine refused: the disk is full, permission is denied and the like.
        UserError: No machine could: a file is where a folder should be, or the name is too long.
    """
    try:
        yield
    except OSError as error:
        code, where = error.errno or 0, error.filename or path
        kind = UserError if code in MISTAKES else Failed
        raise kind(f"cannot use {where}: {REASONS.get(code, error.strerror or str(error))}") from error


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

    To be used by one process at a time, under `lock_of(folder)`. What a killed one left aside is removed by the next,
    and what it had moved out of the way is put back first: at any instant there is one whole copy (see `interrupted`).

    Raises:
        UserError: Something has appeared at `folder` meanwhile: it is left as it is.
    """
    folder = folder.absolute()
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _tidy(folder)
        new = _aside(folder, f"new-{os.getpid()}")
        was_there = folder.exists()
        new.mkdir()
        try:
            yield new
            if folder.exists():
                if not was_there:
                    raise UserError(f"{folder} has appeared meanwhile: it is left as it is; move it away and try again")
                folder.rename(_aside(folder, f"old-{os.getpid()}"))
            new.rename(folder)
        finally:
            _tidy(folder)


def interrupted(folder: Path) -> Path | None:
    """The whole earlier copy of a folder, if a process was killed just when it had moved it out of the new one's way.

    Only between those two renames are there both an old and a new folder aside, and none in place.
    """
    if folder.exists() or not _asides(folder, "new-"):
        return None
    return next(iter(_asides(folder, "old-")), None)


def _tidy(folder: Path) -> None:
    """Put the earlier copy back if the new one did not take its place, then remove what is left aside."""
    if old := interrupted(folder):
        old.rename(folder)
    for left in _asides(folder, ""):
        shutil.rmtree(left, ignore_errors=True)


def _aside(folder: Path, kind: str) -> Path:
    return folder.parent / f".{folder.name}.aside-{kind}"


def _asides(folder: Path, kind: str) -> list[Path]:
    """The folders that lie aside; never a file or a link, which we do not make."""
    literal = "".join(f"[{char}]" if char in "*?[" else char for char in folder.name)
    found = sorted(folder.parent.glob(f".{literal}.aside-{kind}*"))
    return [path for path in found if path.is_dir() and not path.is_symlink()]
