"""Errors that the command line reports in one line without a traceback, their exit codes, and checks of names."""

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
    1: "a cell or a run failed, or the machine did (disk, permissions)",
    2: "invalid arguments or data",
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
    errno.ELOOP: "its symbolic links form a loop",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # of an experiment or a benchmark, which names a folder or file
# Errors that are mistakes in a path, so that no machine could use it.
MISTAKES = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)


class UserError(ValueError):
    """Invalid input. The message says in one line what was wrong, what was expected and what to do; exit code 2."""


class Failed(RuntimeError):  # noqa: N818 (reads as what it says)
    """The input was valid, but the work failed, as when a cell raises an error. A one-line message; exit code 1."""


def exit_code(error: BaseException) -> int:
    """The exit code of a command that ended with an error: see `EXIT_CODES`.

    >>> exit_code(UserError("q is 2")), exit_code(Failed("cell [3]")), exit_code(KeyboardInterrupt())
    (2, 1, 130)
    """
    return 2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> UserError:
    """Make an error for a name that does not exist, with the nearest match and all valid names.

    Args:
        kind: What the name should name, for instance ``"dataset"``.
        name: The name that was given.
        valid: The valid names.

    Returns:
        The error; the caller raises it.

    >>> str(unknown_name("dataset", "minst", ["digits", "mnist"]))
    "unknown dataset 'minst': did you mean 'mnist'? Valid: digits, mnist"
    """
    names = list(valid)
    near = get_close_matches(str(name), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"unknown {kind} {name!r}: {hint}Valid: {', '.join(names)}")


def shown(value: object) -> str:
    """A value as text for a message, cut to at most 59 characters.

    >>> shown("a" * 100), shown(10**9999)
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…", 'a very large int')
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python refuses to print integers of more than 4,300 digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:58]}…"


def first_line(error: BaseException) -> str:
    """The first line of another library's error message, or the error's type if it has no message.

    >>> first_line(KeyError("a")), first_line(EOFError())
    ("'a'", 'EOFError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def is_text(value: str) -> bool:
    """Whether a text is valid Unicode without NUL, so that it can be written to files and used in paths."""
    return "\0" not in value and value.encode(errors="ignore").decode() == value


def check_name(kind: str, name: object) -> None:
    """Check that a name is plain enough for a folder or file.

    Raises:
        UserError: It has other characters than letters, digits, ``_`` and ``-``, or more than 64.

    >>> check_name("experiment", "../x")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: experiment is '../x', expected up to 64 letters, digits, '_' or '-', such as 'my_runs'
    """
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise UserError(f"{kind} is {shown(name)}, expected up to 64 letters, digits, '_' or '-', such as 'my_runs'")


def named_path(text: str | os.PathLike[str], *, what: str) -> Path:
    """Convert text from the user to a path.

    Args:
        text: The text.
        what: Name of the argument, for the message.

    Raises:
        UserError: It is empty, contains a NUL character, or is not valid Unicode.

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
    """Within the block, turn operating-system errors into one line with the path and the reason.

    Raises:
        Failed: The disk is full, permission is denied, or another problem of the machine.
        UserError: The path itself is invalid, for instance too long, or a file is where a folder should be.

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
