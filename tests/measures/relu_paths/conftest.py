"""Small tensors on one thread: two that wait for each other are slower, and much slower on a busy machine."""

from __future__ import annotations

import pytest

from gendyn_lite.threads import threads


@pytest.fixture(autouse=True)
def one_thread():
    with threads(1):
        yield
