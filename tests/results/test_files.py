"""Files are written whole or not at all, and nothing of a killed process stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gendyn_lite.results.files import write_text


def dead_process() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chapter.ipynb"
    path.write_text("old")

    def interrupt(aside: Path, _: Path) -> None:
        assert aside.read_text() == "new"
        assert aside.suffix != ".ipynb"  # which nbval would collect
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_what_a_killed_process_left_goes_and_files_of_others_stay(tmp_path: Path) -> None:
    path, dead = tmp_path / "chapter[1].ipynb", dead_process()
    kept = [f".chapter[1].ipynb.{os.getppid()}.gendyn-partial", f"chapter[1].{dead}.partial.ipynb", "chapter[1].tmp"]
    for name in (*kept, f".chapter[1].ipynb.{dead}.gendyn-partial"):
        (tmp_path / name).write_text("mine")
    write_text(path, "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, path.name])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "chapter.ipynb").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "chapter.ipynb", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["chapter.ipynb"]
