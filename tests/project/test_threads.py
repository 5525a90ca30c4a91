"""Freed memory stays with the process, unless someone else has decided about it."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from gendyn_lite import threads
from gendyn_lite.threads import CHOSEN

# Megabytes that stay in memory once eight blocks of 24 MB have come and gone.
HELD = """
import os
{first}

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

before = resident()
blocks = [b"x" * (24 << 20) for _ in range(8)]
del blocks
print(resident() - before)
"""
KEEP = "from gendyn_lite.threads import keep_freed_memory"


def ran(code: str, **environment: str) -> str:
    plain = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    return subprocess.check_output([sys.executable, "-c", code], env=plain | environment, text=True).strip()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
@pytest.mark.parametrize(
    ("first", "least", "most"),
    [("", -5, 50), (f"{KEEP}; assert keep_freed_memory()", 180, 250)],
    ids=["by_itself", "kept"],
)
def test_freed_memory_stays_with_the_process(first, least, most):
    assert least <= int(ran(HELD.format(first=first))) <= most


@pytest.mark.parametrize("name", CHOSEN)
def test_who_chose_a_threshold_keeps_it(name):
    value = "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072"
    assert ran(f"{KEEP}; print(keep_freed_memory())", **{name: value}) == "False"


def test_another_c_library_is_left_alone(monkeypatch):
    for name in CHOSEN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda _: object())
    assert threads.keep_freed_memory.__wrapped__() is False
