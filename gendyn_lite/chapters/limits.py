"""Bounds of time and of printing for the code of a learner."""

from __future__ import annotations

import _thread
import io
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

SECONDS, AGAIN, MOST_PRINTED = 30.0, 0.05, 10_000


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


def _interrupt() -> None:
    """Interrupt the main thread, also where it sleeps or waits; nothing where interrupts are ignored."""
    if hasattr(signal, "pthread_kill") and callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _end(watcher: threading.Thread, over: threading.Event, ended: threading.Event) -> None:
    """Have no interrupt any more: one that was on its way arrives here, and no later."""
    while True:
        try:
            ended.set()
            while watcher.is_alive():
                watcher.join(AGAIN)
            time.sleep(0)
            return
        except KeyboardInterrupt:
            if not over.is_set():
                raise


@contextmanager
def limited(seconds: float | None = None) -> Iterator[None]:
    """Stop code that runs too long or prints too much. Only the main thread can be stopped.

    It is interrupted again and again, for code that catches every exception.

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
    over, ended, seconds = threading.Event(), threading.Event(), SECONDS if seconds is None else seconds

    def watch() -> None:
        pause = seconds
        while not ended.wait(pause):
            over.set()
            _interrupt()
            pause = AGAIN

    watcher = threading.Thread(target=watch, daemon=True)
    try:
        try:
            if threading.current_thread() is threading.main_thread():
                watcher.start()
            with redirect_stdout(_Bounded(sys.stdout)), redirect_stderr(_Bounded(sys.stderr)):
                yield
        finally:
            _end(watcher, over, ended)
    except KeyboardInterrupt:
        _end(watcher, over, ended)  # it may have come before that was done
        if not over.is_set():
            raise
    if over.is_set():
        raise TimeoutError(f"it ran longer than {seconds:g} seconds: does a loop never end?")
