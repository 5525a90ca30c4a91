"""How this process computes: on a chosen number of threads, and with freed memory kept for what comes next."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

KEPT_BYTES = 1 << 30  # of freed memory, at most, that the process keeps
LARGEST_KEPT = 32 << 20  # the largest block that glibc can be told to keep
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # glibc's own variables
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of its malloc.h


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Arithmetic on that many threads, afterwards on as many as before.

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
    """Have glibc keep freed memory for the next step, instead of giving it back to the system.

    A training step frees its activations; the fresh pages that the next one gets instead cost up to a quarter of a
    convolutional network's time on a CPU. It changes no number. It holds for the whole process, so whoever chose
    thresholds by glibc's own environment variables keeps theirs; another C library is left alone.

    Returns:
        Whether glibc does so now.

    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, MALLOC_TRIM_THRESHOLD_="131072"):  # chosen by the user
    ...     keep_freed_memory.__wrapped__()  # what the first call does
    False
    """
    if any(name in os.environ for name in CHOSEN):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    # In this order: to set one ends glibc's own adjustment of both.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES))
