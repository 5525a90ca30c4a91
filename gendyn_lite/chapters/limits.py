"""Limits on the time and the printed output of a learner's code."""

from __future__ import annotations

import _thread
import io
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import _GeneratorContextManager, contextmanager, redirect_stderr, redirect_stdout
from types import FrameType
from typing import TextIO

SECONDS, AGAIN, MOST_PRINTED = 30.0, 0.05, 10_000
EDGES = {_GeneratorContextManager.__enter__.__code__, _GeneratorContextManager.__exit__.__code__}


class _Bounded(io.TextIOBase):
    """A stream that passes text on until too much has been printed."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.left = stream, MOST_PRINTED

    def write(self, text: str) -> int:
        """Print a text."""
        self.left -= len(text)
        if self.left < 0:
            raise RuntimeError(f"it prints more than {MOST_PRINTED:,} characters: take the prints out")
        return self.stream.write(text)

    def flush(self) -> None:
        """Flush the stream behind it."""
        self.stream.flush()


def _interrupt() -> None:
    """Interrupt the main thread even while it sleeps or waits; do nothing if interrupts are ignored."""
    if hasattr(signal, "pthread_kill") and callable(signal.getsignal(signal.SIGINT)):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _at_the_edge(frame: FrameType | None) -> bool:
    """Whether a frame is entering or leaving a `limited` block, where nobody would catch an interrupt."""
    own = limited.__wrapped__.__code__  # type: ignore[attr-defined]
    while frame is not None:
        manager = frame.f_locals.get("self") if frame.f_code in EDGES else None
        if frame.f_code is own or (manager is not None and manager.gen.gi_code is own):
            return True
        frame = frame.f_back
    return False


@contextmanager
def limited(seconds: float | None = None) -> Iterator[None]:
    """Stop code that runs too long or prints too much. Only code in the main thread can be stopped.

    The interrupt is repeated in case the code catches every exception. It never hits code before or after the block.

    Args:
        seconds: How long the code may run (default: 30).

    Raises:
        TimeoutError: The code ran longer.
        RuntimeError: The code printed more than 10,000 characters.

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

    before = signal.getsignal(signal.SIGINT)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if not over.is_set():
            before(number, frame)  # type: ignore[operator, misc]
        elif not ended.is_set() and not _at_the_edge(frame):
            raise KeyboardInterrupt

    watcher = threading.Thread(target=watch, daemon=True)
    watched = threading.current_thread() is threading.main_thread() and callable(before)
    try:
        if watched:
            signal.signal(signal.SIGINT, on_interrupt)
            watcher.start()
        with redirect_stdout(_Bounded(sys.stdout)), redirect_stderr(_Bounded(sys.stderr)):
            yield
    except KeyboardInterrupt:
        if not over.is_set():
            raise
    finally:
        ended.set()
        if watched:
            watcher.join()
            signal.signal(signal.SIGINT, before)  # every interrupt that was sent has arrived by now
    if over.is_set():
        raise TimeoutError(f"it ran longer than {seconds:g} seconds: does a loop never end?")
