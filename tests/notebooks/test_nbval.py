"""Strict nbval catches a wrong number; what it lets through, the guard catches. Each fault is planted and seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from gendyn_lite import notebooks
from gendyn_lite.errors import UserError
from tests.book import trial

SANITIZE = Path(__file__).with_name("sanitize.cfg")


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """A small executed notebook, in a folder that is no part of this project's configuration."""
    path = tmp_path / "chapter.ipynb"
    sources = ("print(f'accuracy {0.98765:.3f}')", "print(object())\nprint('took 1.23 s')", "2 + 2")
    live = trial.cell("import ipywidgets\nipywidgets.IntSlider()", "live-only", "nbval-ignore-output")
    nbformat.write(trial.small(*sources, live), path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return notebooks.refresh(path)


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    """Strict nbval as `make test` calls it."""
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-p", "no:cacheprovider"]
    command += ["--nbval-sanitize-with", str(SANITIZE), str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent, check=False, env={**os.environ})


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_true_notebook_passes(executed: Path) -> None:
    done = nbval(executed)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
    notebooks.check_executed(executed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("accuracy 0.988", "accuracy 0.998", id="printed"),
        pytest.param('"text/plain": [\n       "4"', '"text/plain": [\n       "5"', id="result"),
    ],
)
def test_a_wrong_number_in_a_committed_output_fails(executed: Path, old: str, new: str) -> None:
    if old not in executed.read_text():  # indentation is nbformat's business
        old, new = '"4"', '"5"'
    edit(executed, old, new)
    notebooks.check_executed(executed)  # it looks executed: only execution can tell
    done = nbval(executed)
    assert done.returncode == 1
    assert "1 failed" in done.stdout


def test_a_stripped_notebook_passes_nbval_and_fails_the_guard(executed: Path) -> None:
    chapter = nbformat.read(executed, as_version=4)
    for cell in chapter.cells:
        cell.execution_count, cell.outputs = None, []
    chapter.cells[1].source = "print('accuracy 0.1')"
    nbformat.write(chapter, executed)
    assert nbval(executed).returncode == 0  # which is why the guard exists
    with pytest.raises(UserError, match="not executed in order"):
        notebooks.check_executed(executed)
