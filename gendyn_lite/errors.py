"""The one kind of error that a user caused and can mend: one clear line, no traceback needed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """What was wrong, what was expected, what to do: in one line. The command line prints it and exits with 2."""


class Failed(RuntimeError):  # noqa: N818 (reads as what it says)
    """Work that stopped though what was asked for was right: a cell raised, a page did not build. One line; exit 1."""


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
