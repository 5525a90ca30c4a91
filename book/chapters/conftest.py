"""Chapters tested by nbval find what they find everywhere: the project's data and runs, and no progress bars.

What is no result is left out of the comparison, also where nothing else is set on the command line.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gendyn_lite.notebooks.chapters import kernel_environment

SANITIZE = Path(__file__).parents[2] / "tests" / "notebooks" / "sanitize.cfg"


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "nbval_sanitize_with"):  # nbval is installed
        config.option.nbval_sanitize_with = config.option.nbval_sanitize_with or str(SANITIZE)


@pytest.hookimpl(tryfirst=True)  # the first cell of a chapter starts its kernel
def pytest_runtest_setup() -> None:
    for name, value in kernel_environment().items():
        os.environ.setdefault(name, value)
