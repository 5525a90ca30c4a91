"""The process is really killed, at random moments and inside checkpoint writes; the end is the same to the bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20
SCRIPT = Path(__file__).with_name("killing.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL test: needs os.fork (not on Windows)")
def test_killed_at_random_moments_and_in_writes_it_ends_the_same_to_the_bit(tmp_path):
    command = [sys.executable, str(SCRIPT), str(tmp_path), str(KILLS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["random"] >= KILLS
    assert found["in a write"] >= KILLS
    assert found["half-written files"] >= KILLS // 3
    assert found["resumed in the middle"] >= KILLS
    assert found["ends"] >= 1
    assert found["equal"] == found["ends"]
