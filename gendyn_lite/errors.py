"""Errors that end in one clear line without a traceback, and the exit code of each."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

EXIT_CODES = {
    0: "done",
    1: "a cell or a run failed, or the machine refused (disk, permission)",
    2: "a mistake in what was asked for",
    130: "interrupted",
}

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
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # names become folders: of an experiment, of a benchmark
# What was asked for can be nowhere, however willing the machine is.
MISTAKES = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


class UserError(ValueError):
    """What was wrong, what was expected, what to do: in one line. The command line prints it and exits with 2."""


class Failed(RuntimeError):  # noqa: N818 (reads as what it says)
    """Work that stopped though what was asked for was right: a cell raised, a page did not build. One line; exit 1."""


def exit_code(error: BaseException) -> int:
    """The exit code of a command that ended with an error, the same everywhere: see `EXIT_CODES`.

    >>> exit_code(UserError("q is 2")), exit_code(Failed("cell [3]")), exit_code(KeyboardInterrupt())
    (2, 1, 130)
    """
    return 2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """An error for a name that does not exist, with the valid ones and the nearest match.

    Args:
        kind: What the name should have named, for instance ``"dataset"``.
        name: The name as it was given.
        valid: The names that exist.

    Returns:
        The error, to be raised by the caller.

    >>> str(unknown_name("dataset", "minst", ["digits", "mnist"]))
    "unknown dataset 'minst': did you mean 'mnist'? Valid: digits, mnist"
    """
    names = list(valid)
    near = get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}: {hint}Valid: {', '.join(names)}")


def shown(value: object) -> str:
    """A value for a message, in a line of bearable length.

    >>> shown("a" * 100), shown(10**9999)
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…", 'a very large int')
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python prints no whole number of more than 4,300 digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:58]}…"


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, in a line.

    >>> first_line(KeyError("a")), first_line(EOFError())
    ("'a'", 'EOFError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_text(value: str) -> bool:
    """Whether a text can be kept everywhere: it is valid Unicode, without NUL."""
    return "\0" not in value and value.encode(errors="ignore").decode() == value


def check_name(kind: str, name: object) -> None:
    """Refuse what is no plain name: it becomes a folder or a file.

    >>> check_name("experiment", "../x")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: experiment is '../x', expected up to 64 letters, digits, '_' or '-', such as 'my_runs'
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise UserError(f"{kind} is {shown(name)}, expected up to 64 letters, digits, '_' or '-', such as 'my_runs'")


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
    if not isinstance(path, str) or not path or not is_text(path):
        raise UserError(f"{what} is {path!r}, expected the path of a file or folder")
    return Path(path)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn trouble with the disk into one line with the path and the reason.

    Raises:
        Failed: The machine refused: the disk is full, permission is denied and the like.
        UserError: No machine could: a file is where a folder should be, or the name is too long.

    >>> with disk_errors(Path("data")):
    ...     raise OSError(errno.EROFS, "Read-only file system")
    Traceback (most recent call last):
    gendyn_lite.errors.Failed: cannot use data: the file system is read-only: choose another folder with --root or ...
    """
    try:
        yield
    except OSError as error:
        code, where = error.errno or 0, error.filename or path
        kind = UserError if code in MISTAKES else Failed
        raise kind(f"cannot use {where}: {REASONS.get(code, error.strerror or str(error))}") from error
