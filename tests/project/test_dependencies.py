"""One dependency list: the others follow it, and pins are of the book's toolchain only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

from tests.book.trial import ROOT
from tests.project import canary, oldest

OLDEST = os.environ.get("GENDYN_OLDEST") == "1"  # `make test-oldest`

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What the book, its notebooks and its charts are made with; Colab's own torch, NumPy and pandas are never pinned.
TOOLCHAIN = re.compile("jupyter|sphinx|myst|docutils|altair|vl-convert|ipywidgets|papermill|nbval|nbclient")


def name(requirement: str) -> str:
    """The normalized name of a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[ ;]", requirement)[0]).lower()


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    return {name(line): line.split("==")[1] for line in lines}


def test_conda_installs_what_pyproject_lists() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, installed = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert (python, pip) == (f"python{PROJECT['requires-python']}", "pip")
    assert installed == {"pip": ["-c constraints.txt", "-e .[book,test]"]}
    assert {"book", "test"} <= set(PROJECT["optional-dependencies"])


def test_the_books_toolchain_is_pinned_and_only_that() -> None:
    assert [pinned for pinned in pins() if not TOOLCHAIN.search(pinned)] == []
    assert not {"torch", "torchvision", "numpy", "pandas", "scipy", "scikit-learn"} & set(pins())
    assert {name(wanted) for wanted in PROJECT["optional-dependencies"]["book"]} <= set(pins())
    for wanted in PROJECT["dependencies"]:  # the library asks for lower bounds only
        assert re.fullmatch(r"[\w.-]+(\[[\w,]+\])?>=[\d.]+", wanted)


@pytest.mark.skipif(OLDEST, reason="the oldest versions are installed, not the pinned ones")
def test_the_tests_run_with_the_pinned_versions() -> None:
    assert {pinned: version(pinned) for pinned in pins()} == pins()


@pytest.mark.skipif(not OLDEST, reason="the oldest versions are not installed: make test-oldest")
def test_the_tests_run_with_the_lower_bounds() -> None:
    found = {wanted: Version(version(wanted).split("+")[0]) for wanted in oldest.bounds()}
    assert found == {wanted: Version(bound) for wanted, bound in oldest.bounds().items()}


def test_everything_that_is_tested_has_a_lower_bound() -> None:
    extras = PROJECT["optional-dependencies"]
    tested = [*PROJECT["dependencies"], *extras["book"], *extras["test"]]
    assert set(map(name, tested)) == set(map(name, oldest.bounds()))


def test_the_canary_takes_no_pin_and_no_torch() -> None:
    wanted = canary.wanted()
    assert {"sphinx", "myst-nb", "sphinx-exercise", "altair"} <= set(wanted)
    assert not {"torch", "torchvision", "jupyter-book"} & set(wanted)
    assert [one for one in wanted if not re.fullmatch(r"[\w.-]+", one)] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation unpacks, built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def files(folder: Path, *patterns: str) -> set[str]:
    return {str(path.relative_to(folder)) for pattern in patterns for path in folder.rglob(pattern)}


def test_the_wheel_carries_the_whole_package_and_every_published_table(wheel: Path) -> None:
    package = files(ROOT / "gendyn_lite", "*.py", "*.js", "*.css", "*.html", "*.sh", "*.yaml", "py.typed")
    assert {"py.typed", "charts/figure.js", "charts/figure.css"} <= package
    assert package <= files(wheel / "gendyn_lite", "*")
    tables = files(ROOT / "book" / "results", "*.csv", "*.json")
    assert tables == files(wheel / "gendyn_lite" / "published", "*.csv", "*.json") != set()


def test_what_is_installed_finds_its_tables_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    code = "from gendyn_lite import results; print(results.__file__, len(results.published('random_labels')))"
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    told = subprocess.check_output([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True)
    place, rows = told.split()
    assert Path(place).is_relative_to(wheel)
    assert int(rows) > 0


def test_what_is_cited_is_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"]["text"])
    assert citation["title"].startswith(PROJECT["name"])
