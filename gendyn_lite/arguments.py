"""How a command answers: one line on stderr, an exit code; and the NAME=VALUE pairs and times that it is given."""

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
    """Do a command, and say what goes wrong in one line on stderr. SIGTERM interrupts it as Ctrl-C does.

    Args:
        command: Gives an exit code, or raises.

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
        exec("")  # else CPython dies of the SIGINT after all, at exit, if it hit code within another exec()
        try:
            sys.stdout.flush()
        except OSError:  # what was not taken is dropped, so that Python does not try again, and complain, at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader who has had enough, as in `gendyn results show | head`
            said = "".join(each if each.isprintable() else repr(each)[1:-1] for each in _line(error))  # one line
            print(f"gendyn: {said}", file=sys.stderr)
        return exit_code(error)


def _line(error: BaseException) -> str:
    """What a command says of an error."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; what is complete is kept, run the same command again to go on"
    if isinstance(error, OSError):
        return f"error: {str(error.filename or 'input/output')[:500]}: {error.strerror or error}"
    return f"error: {'the memory does not suffice' if isinstance(error, MemoryError) else error}"


def _open_streams() -> None:
    """Let every standard stream be there, and take what its encoding has no letter for."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as by `<&-`
            descriptor = os.open(os.devnull, os.O_RDWR)  # which takes its number
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w"))
    with contextlib.suppress(AttributeError):  # a stream in memory
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM interrupts a command as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # which alone hears signals
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Every NAME=VALUE of the command line; a folder of images is looked for where it was typed.

    Args:
        texts: The words after each ``-p``.

    Returns:
        Values by name; they stay text, the chapter's parameter gives them their type.

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
    """A NAME=VALUE of the command line; the value stays text, the chapter's parameter gives it its type.

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
    """Answer a command that does one run outside the book, as of an ImageNet.

    Args:
        parser: The command's own options; ``--seed`` and ``-p FIELD=VALUE`` are added.
        argv: What was typed.
        train_one: Does the run, given the options and the fields of `RunConfig` that they change; says what came out.

    Returns:
        Its exit code.
    """
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-p", dest="values", action="append", default=[], metavar="FIELD=VALUE", help="of RunConfig")
    given = parser.parse_args(argv)

    def run_one() -> int:
        print(train_one(given, {name: value(text) for name, text in map(pair, given.values)}))
        return 0

    return answered(run_one)


def value(text: str) -> Any:
    """A number, a truth value or a list where the text is one in JSON, else the text.

    >>> value("3"), value("[1, 2]"), value("mnist")
    (3, [1, 2], 'mnist')
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def seconds_of(text: str) -> float:
    """The time that a text such as ``8m``, ``90s`` or ``1.5h`` says, in seconds.

    Raises:
        UserError: It says none, or none above 0.

    >>> seconds_of("8m")
    480.0
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smh])", text.strip())
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not seconds:
        raise UserError(f"--for {text!r} is not a time above 0: expected one such as 8m, 90s or 1.5h")
    return seconds
