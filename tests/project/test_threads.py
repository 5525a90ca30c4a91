"""Freed memory stays with the process, unless someone else has decided about it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from gendyn_lite import threads
from gendyn_lite.threads import CHOSEN

# Bytes that glibc holds for the process, used or not, once eight blocks of 24 MB have come and gone.
HELD = """
import ctypes

class State(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes, libc.mallinfo2.restype = ctypes.c_void_p, [ctypes.c_void_p], State
{first}
blocks = [libc.malloc(24 << 20) for _ in range(8)]
for block in blocks:
    libc.free(block)
print(libc.mallinfo2().arena)
"""
KEEP = "from gendyn_lite.threads import keep_freed_memory"
MEGABYTE = 1 << 20


def ran(code: str, **environment: str) -> str:
    plain = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    return subprocess.check_output([sys.executable, "-c", code], env=plain | environment, text=True).strip()


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33"
)
@pytest.mark.parametrize(
    ("first", "least", "most"),
    [("", 0, 100), (f"{KEEP}; assert keep_freed_memory()", 192, 1000)],
    ids=["by_itself", "kept"],
)
def test_freed_memory_stays_with_the_process(first, least, most):
    assert least * MEGABYTE <= int(ran(HELD.format(first=first))) <= most * MEGABYTE


@pytest.mark.parametrize("name", CHOSEN)
def test_who_chose_a_threshold_keeps_it(name):
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert ran(f"{KEEP}; print(keep_freed_memory())", **{name: value}) == "False"


def test_another_c_library_is_left_alone(monkeypatch):
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda _: object())
    assert threads.keep_freed_memory.__wrapped__() is False
