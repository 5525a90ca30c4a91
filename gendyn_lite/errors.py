"""Errors that end in one clear line without a traceback, and the exit code of each."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

EXIT_CODES = {
    0: "done",
    1: "a cell or a run failed, or the machine refused (disk, permission)",
    2: "a mistake in what was asked for",
    130: "interrupted",
}


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
