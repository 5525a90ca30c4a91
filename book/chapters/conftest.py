"""Chapters tested by nbval find what they find everywhere: the project's data and runs, and no progress bars.

What is no result is left out of the comparison, also where nothing else is set on the command line. If GENDYN_EXECUTED
names a folder, chapters are kept there as they were executed: `make test` renders the book of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gendyn_lite.notebooks.chapters import kernel_environment, notebook_text
from gendyn_lite.notebooks.committed import tidy
from gendyn_lite.results.files import write_text

SANITIZE = Path(__file__).parents[2] / "tests" / "notebooks" / "sanitize.cfg"


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config.option, "nbval_sanitize_with"):  # nbval is installed
        config.option.nbval_sanitize_with = config.option.nbval_sanitize_with or str(SANITIZE)


added: set[str] = set()  # to the environment, while a chapter is tested


@pytest.hookimpl(tryfirst=True)  # the first cell of a chapter starts its kernel
def pytest_runtest_setup() -> None:
    for name, value in kernel_environment().items():
        if name not in os.environ:
            os.environ[name] = value
            added.add(name)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: Any, nextitem: pytest.Item | None) -> None:
    """After the last cell of a chapter, keep it if all its cells ran, and take back what the first one brought."""
    chapter, folder = item.parent, os.environ.get("GENDYN_EXECUTED")
    item.cell.outputs = item.test_outputs or []
    raised = any(output.output_type == "error" for output in item.cell.outputs)
    chapter.whole = getattr(chapter, "whole", True) and item.test_outputs is not None and not raised
    if nextitem is not None and nextitem.parent is chapter:
        return
    if folder and chapter.whole:
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_text(Path(folder) / chapter.path.name, notebook_text(tidy(chapter.nb)))
    while added:
        os.environ.pop(added.pop(), None)
