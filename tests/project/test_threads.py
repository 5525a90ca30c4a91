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
KEEP = "from gendyn_lite.threads import keep_freed_memory; assert keep_freed_memory()"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
@pytest.mark.parametrize(
    ("first", "least", "most"),
    [("", -5, 50), (KEEP, 180, 250)],
    ids=["by_itself", "kept"],
)
def test_freed_memory_stays_with_the_process(first, least, most):
    plain = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    done = subprocess.check_output([sys.executable, "-c", HELD.format(first=first)], env=plain, text=True)
    assert least <= int(done) <= most


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(threads.os, "environ", {})
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda _: object())
    assert threads.keep_freed_memory.__wrapped__() is False
