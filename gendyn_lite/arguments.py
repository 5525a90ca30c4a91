"""Shared parts of the command line: errors as one line and an exit code, and parsing of NAME=VALUE pairs and times."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from gendyn_lite.errors import Failed, UserError, exit_code


def answered(command: Callable[[], int]) -> int:
    """Execute a command; an error becomes one line on stderr. SIGTERM interrupts the command like Ctrl-C.

    Args:
        command: Returns an exit code or raises an error.

    Returns:
        The exit code, one of `gendyn_lite.errors.EXIT_CODES`.

    >>> answered(lambda: 0)
    0
    """
    try:
        _open_streams()
        with _terminable():
            code = command()
            sys.stdout.flush()
        return code
    except (UserError, Failed, OSError, MemoryError, KeyboardInterrupt) as error:
        exec("")  # without it, CPython exits by SIGINT after all if the signal interrupted code inside another exec()
        try:
            sys.stdout.flush()
        except OSError:  # drop the rest of the output, or Python would try again at exit and print a warning
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # raised if the reader ends early: `gendyn results show | head`
            said = "".join(each if each.isprintable() else repr(each)[1:-1] for each in _line(error))  # one line
            print(f"gendyn: {said}", file=sys.stderr)
        return exit_code(error)


def _line(error: BaseException) -> str:
    """The message of a command about an error."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; what is complete is kept, run the same command again to continue"
    if isinstance(error, OSError):
        return f"error: {str(error.filename or 'input/output')[:500]}: {error.strerror or error}"
    return f"error: {'out of memory' if isinstance(error, MemoryError) else error}"


def _open_streams() -> None:
    """Open standard streams that the caller has closed, and let stdout escape characters that it cannot encode."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, for instance by `<&-`
            descriptor = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, that of the closed stream
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w"))
    with contextlib.suppress(AttributeError):  # raised if stdout is a stream in memory
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Within the block, SIGTERM raises KeyboardInterrupt, like Ctrl-C."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Parse the NAME=VALUE pairs of the command line; the path in ``folder:PATH`` is made absolute.

    Args:
        texts: The arguments of ``-p``.

    Returns:
        Values by name, as text; they are later converted to the types of the chapter's parameters.

    Raises:
        UserError: A text is not NAME=VALUE, or a name is given twice.

    >>> pairs(["epochs=3", "epochs=5"])
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: -p epochs is given twice: '3' and '5'
    """
    found: dict[str, str] = {}
    for name, value in map(pair, texts):
        if name in found:
            raise UserError(f"-p {name} is given twice: {found[name]!r} and {value!r}")
        kind, folder, path = value.partition("folder:")
        found[name] = f"folder:{Path(path).expanduser().absolute()}" if folder and not kind else value
    return found


def pair(text: str) -> tuple[str, str]:
    """Parse one NAME=VALUE of the command line; the value stays text.

    Raises:
        UserError: It has another form.

    >>> pair("dataset=mnist")
    ('dataset', 'mnist')
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise UserError(f"-p {text!r} is not NAME=VALUE, for instance -p dataset=mnist")
    return name, value


def answer_one_run(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, train_one: Callable[[argparse.Namespace, dict], str]
) -> int:
    """Execute a command that trains a single run outside of the book, for instance on ImageNet.

    Args:
        parser: A parser with the command's own options; ``--seed`` and ``-p FIELD=VALUE`` are added to it.
        argv: The arguments (default: those of the process).
        train_one: Trains the run, given the parsed options and the fields of `RunConfig` that they change; returns a
            message to print.

    Returns:
        The exit code.
    """
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-p", dest="values", action="append", default=[], metavar="FIELD=VALUE", help="of RunConfig")
    given = parser.parse_args(argv)

    def run_one() -> int:
        print(train_one(given, {name: value(text) for name, text in map(pair, given.values)}))
        return 0

    return answered(run_one)


def value(text: str) -> Any:
    """The JSON value that a text stands for (a number, true, a list, …), else the text itself.

    >>> value("3"), value("[1, 2]"), value("mnist")
    (3, [1, 2], 'mnist')
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def seconds_of(text: str) -> float:
    """Convert a duration such as ``8m``, ``90s`` or ``1.5h`` to seconds.

    Raises:
        UserError: It is not a duration, or is 0.

    >>> seconds_of("8m")
    480.0
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh])", text.strip())
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not seconds:
        raise UserError(f"--for {text!r} is not a time above 0: expected one such as 8m, 90s or 1.5h")
    return seconds
