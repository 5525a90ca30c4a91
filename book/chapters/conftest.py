"""Chapters tested by nbval find what they find everywhere: the project's data and runs, and no progress bars."""

from __future__ import annotations

import os

import pytest

from gendyn_lite.notebooks.chapters import kernel_environment


@pytest.hookimpl(tryfirst=True)  # the first cell of a chapter starts its kernel
def pytest_runtest_setup() -> None:
    for name, value in kernel_environment().items():
        os.environ.setdefault(name, value)
