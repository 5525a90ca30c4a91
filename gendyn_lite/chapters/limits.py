"""Bounds of time and of printing for the code of a learner."""

from __future__ import annotations

import _thread
import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

SECONDS, MOST_PRINTED = 30.0, 10_000


class _Bounded(io.TextIOBase):
    """Passes on what is printed until it is too much."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.left = stream, MOST_PRINTED

    def write(self, text: str) -> int:
        """Print a text."""
        self.left -= len(text)
        if self.left < 0:
            raise RuntimeError(f"it prints more than {MOST_PRINTED:,} characters: take the prints out")
        return self.stream.write(text)

    def flush(self) -> None:
        """Pass on what waits."""
        self.stream.flush()


@contextmanager
def limited(seconds: float | None = None) -> Iterator[None]:
    """Stop code that runs too long or prints too much. Only the main thread can be stopped.

    Args:
        seconds: How long it may run (default: 30).

    Raises:
        TimeoutError: It ran longer.
        RuntimeError: It printed more than 10,000 characters.

    >>> with limited(0.01):
    ...     while True:
    ...         pass
    Traceback (most recent call last):
    TimeoutError: it ran longer than 0.01 seconds: does a loop never end?
    """
    over, seconds = threading.Event(), SECONDS if seconds is None else seconds

    def stop() -> None:
        over.set()
        _thread.interrupt_main()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    if threading.current_thread() is threading.main_thread():
        timer.start()
    try:
        with redirect_stdout(_Bounded(sys.stdout)):
            yield
    except KeyboardInterrupt:
        if not over.is_set():
            raise
        raise TimeoutError(f"it ran longer than {seconds:g} seconds: does a loop never end?") from None
    finally:
        timer.cancel()
