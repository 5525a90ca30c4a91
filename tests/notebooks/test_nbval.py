"""Strict nbval catches a wrong number; what it lets through, the guard catches. Each fault is planted and seen."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gendyn_lite import notebooks
from tests.book import trial

SANITIZE = Path(__file__).with_name("sanitize.cfg")


CHART = """import altair as alt
from gendyn_lite import charts
chart = alt.Chart(alt.Data(values=[{"x": 0.4321}])).mark_point().encode(x="x:Q")
charts.show(chart.properties(title="Speed", description="One dot."), caption="2 runs")"""
TABLE = """from gendyn_lite.charts import tables
tables.plain_table(["case", "speed"], [["loop", 12.5]], caption="2 runs")"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small executed notebook, in which each cell stands twice."""
    sources = ("print(f'accuracy {0.98765:.3f}')", "print(object())\nprint('took 1.23 s')", "2 + 2", CHART, TABLE)
    live = trial.cell("import ipywidgets\nipywidgets.IntSlider()", "live-only", "nbval-ignore-output")
    path = trial.chapter_of(tmp_path_factory.mktemp("made"), *sources, *sources, live)
    return notebooks.refresh(path).read_bytes()


@pytest.fixture
def executed(made: bytes, tmp_path: Path) -> Path:
    """That notebook, in a folder that is no part of this project's configuration."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = tmp_path / "chapter.ipynb"
    path.write_bytes(made)
    return path


def nbval(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Strict nbval as `make test` calls it."""
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-p", "no:cacheprovider"]
    command += [*(options or ("--nbval-sanitize-with", str(SANITIZE))), str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=path.parent, check=False, env={**os.environ})


def edit(path: Path, old: str, new: str) -> None:
    """The first of the two cells that have it."""
    text = path.read_text()
    assert text.count(old) >= 2
    path.write_text(text.replace(old, new, 1))


def test_a_chapter_tested_alone_finds_what_every_kernel_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    source = trial.ROOT / "book" / "chapters" / "conftest.py"
    specification = importlib.util.spec_from_file_location("conftest_of_chapters", source)
    assert specification and specification.loader
    conftest = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(conftest)
    monkeypatch.setattr(os, "environ", {"GENDYN_RUNS": "mine"})
    conftest.pytest_runtest_setup()
    assert os.environ["TQDM_DISABLE"] == "1"
    assert (os.environ["GENDYN_RUNS"], os.environ["GENDYN_DATA"]) == ("mine", str(trial.ROOT / "datasets"))


def test_a_chapter_tested_alone_may_have_been_drawn_by_an_older_script_and_is_kept_as_it_was_executed(
    executed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(executed, 'data-gendyn=\\"live\\">', 'data-gendyn=\\"live\\">older();')
    folder, beside = executed.parent / "book" / "chapters", executed.parent / "tests" / "notebooks"
    folder.mkdir(parents=True)
    beside.mkdir(parents=True)
    for source, place in ((trial.ROOT / "book/chapters/conftest.py", folder), (executed, folder), (SANITIZE, beside)):
        shutil.copy(source, place)
    monkeypatch.setenv("GENDYN_EXECUTED", str(executed.parent / "kept"))
    done = nbval(folder / "chapter.ipynb", "--nbval-cell-timeout=600")
    assert done.returncode == 0, done.stdout
    (kept,) = (executed.parent / "kept").iterdir()
    notebooks.check_executed(kept)
    assert "older()" in executed.read_text() and "older()" not in kept.read_text()


def test_wrong_numbers_in_committed_outputs_fail_and_the_true_ones_of_the_same_cells_pass(executed: Path) -> None:
    edit(executed, "accuracy 0.988", "accuracy 0.998")
    edit(executed, '"4"', '"5"')
    edit(executed, '\\"x\\":0.4321', '\\"x\\":0.5321')
    edit(executed, ">12.5<", ">13.5<")
    notebooks.check_executed(executed)  # it looks executed: only execution can tell
    done = nbval(executed)
    assert done.returncode == 1
    assert "4 failed, 8 passed" in done.stdout
