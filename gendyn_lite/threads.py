"""Settings of the process that make training faster: the number of threads, and keeping freed memory."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

KEPT_BYTES = 1 << 30  # largest amount of freed memory that the process keeps
LARGEST_KEPT = 32 << 20  # the largest block that glibc can be told to keep
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # environment variables of glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # constants of glibc's malloc.h


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within the block, torch uses `count` threads; afterwards as many as before.

    >>> with threads(1):
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def keep_freed_memory() -> bool:
    """Make glibc keep freed memory for the next training step instead of returning it to the operating system.

    Every step frees its activations. Getting fresh memory pages for the next one costs up to a quarter of the training
    time of a convolutional network on a CPU. Results do not change. The setting is for the whole process; it is not
    made if the user has set thresholds by glibc's environment variables, or with another C library.

    Returns:
        Whether the setting was made.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, MALLOC_TRIM_THRESHOLD_="131072"):  # set by the user
    ...     keep_freed_memory.__wrapped__()  # without the cache
    False
    """
    if any(name in os.environ for name in CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # In this order, because setting either of them ends glibc's own adjustment of both.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
