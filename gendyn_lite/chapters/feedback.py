"""How a checker answers: one line that says it is right, or the first thing that is wrong."""

from __future__ import annotations

from collections.abc import Callable


class NotYetError(Exception):
    """The first thing that is wrong with an answer, in words for the learner."""


def report(name: str, check: Callable[[], None]) -> bool:
    """Run a check and print one line: what is right, or the first thing that is wrong.

    Args:
        name: Name of the exercise.
        check: Raises `NotYetError` at the first thing that is wrong. Any other exception is the learner's code failing.

    Returns:
        Whether the answer is right.

    >>> def wrong(): raise NotYetError("2 labels changed, expected 0")
    >>> report("corruption", wrong)
    Not yet (corruption): 2 labels changed, expected 0
    False
    """
    try:
        check()
    except NotYetError as problem:
        print(f"Not yet ({name}): {problem}")  # noqa: T201 (this is what a checker is for)
        return False
    except NotImplementedError:
        print(f"Not yet ({name}): your turn")  # noqa: T201
        return False
    except Exception as problem:
        print(f"Not yet ({name}): your code stopped with {type(problem).__name__}: {problem}")  # noqa: T201
        return False
    print(f"Right ({name}).")  # noqa: T201
    return True


def expect(condition: bool, problem: str) -> None:
    """Raise `NotYetError` with the problem unless the condition holds."""
    if not condition:
        raise NotYetError(problem)
