"""The import contracts of pyproject.toml hold, and a broken one would be seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.book.trial import ROOT

LINT = "from importlinter.cli import lint_imports_command as lint; lint()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over the packages of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of both packages and their contracts."""
    for package in ("gendyn_lite", "data_scripts"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_the_contracts_hold(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        pytest.param("charts/figure.py", "import torch", "needs no torch", id="torch-in-charts"),
        pytest.param("claims/record.py", "import gendyn_lite.models", "needs no torch", id="torch-by-a-detour"),
        pytest.param("book.py", "def late():\n    import torchvision", "needs no torch", id="late-import"),
        # These two stand on one layer: both contracts say so.
        pytest.param("train/step.py", "import gendyn_lite.measures", "do not know|one way", id="train-knows-measures"),
        pytest.param("data/loading.py", "import urllib.request", "touches the network", id="network"),
    ],
)
def test_a_planted_import_breaks_its_contract(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "gendyn_lite" / module
    path.write_text(f"{path.read_text()}\n\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if "BROKEN" in line]
    expected = contract.split("|")
    assert len(broken) == len(expected)
    assert all(words in line for words, line in zip(expected, broken, strict=True))
