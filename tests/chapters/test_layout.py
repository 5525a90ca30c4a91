"""Every chapter is a folder with the same names in it, in the one list, and judging it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gendyn_lite import chapters, notebooks
from gendyn_lite.chapters import registry

NAMES = {"__init__", "runs", "probes", "tables", "claims", "charts", "demo", "explorer", "exercises"}
OWN = {"random_labels": {"imagenet"}}
FOLDERS = sorted(path.parent for path in Path(chapters.__path__[0]).glob("*/__init__.py"))


def test_the_list_names_every_folder_and_every_notebook():
    assert sorted(chapter.name for chapter in registry.CHAPTERS) == [folder.name for folder in FOLDERS]
    assert {chapter.notebook for chapter in registry.CHAPTERS} <= set(notebooks.chapters())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_same_file_names_in_each(folder):
    """A large file may be several, ``charts.py`` and ``charts_layers.py``."""
    stems = {path.stem if path.stem == "__init__" else path.stem.split("_")[0] for path in folder.glob("*.py")}
    assert stems <= NAMES | OWN.get(folder.name, set())
    assert {"runs", "claims", "charts"} <= stems


def test_claims_are_judged_without_torch():
    code = "from gendyn_lite.chapters import what_holds; what_holds.all_claims(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
