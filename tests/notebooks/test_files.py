"""Files are written whole or not at all, and nothing of a killed process stays."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from gendyn_lite import notebooks
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import write_whole
from gendyn_lite.notebooks.live import record_path


@pytest.fixture
def dead() -> int:
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
        write_whole(path, "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_what_a_killed_process_left_goes_and_files_of_others_stay(tmp_path: Path, dead: int) -> None:
    path = tmp_path / "chapter[1].ipynb"
    kept = [f".chapter[1].ipynb.{os.getppid()}.gendyn-partial", f"chapter[1].{dead}.partial.ipynb", "chapter[1].tmp"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / f".chapter[1].ipynb.{dead}.gendyn-partial").write_text("left")
    write_whole(path, "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, path.name])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "chapter.ipynb").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "chapter.ipynb", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["chapter.ipynb"]


def test_progress_files_of_killed_processes_go(tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "gendyn-progress"
    folder.mkdir()
    for name in (f"{dead}.json", f"{dead}.json.{dead}", f"{os.getppid()}.json", "notes.txt"):
        (folder / name).write_text("{}")
    with notebooks.Live("chapter") as live:
        live.file.write_text("{}")
        assert live.file.parent == folder
        assert sorted(file.name for file in folder.iterdir()) == sorted(
            [f"{os.getpid()}.json", f"{os.getppid()}.json", "notes.txt"]
        )
    assert not live.file.exists()


@pytest.mark.parametrize("text", ["", "[1]", "\xff", '{"chapter": "a"}', '{"seconds": "many"}', "[" * 10_000])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    record_path("chapter", "smoke", out=tmp_path).write_text(text, encoding="latin-1")
    assert notebooks.read_record("chapter", "smoke", out=tmp_path) is None


def test_the_record_lies_beside_the_notebook_also_where_its_path_is_given() -> None:
    assert record_path("chapter", "smoke", out=Path("out/mine.ipynb")).parent == Path("out")


@pytest.mark.parametrize("text", [b"a: [", b"\xff", b"- a\n b: {"], ids=["open", "binary", "nested"])
def test_a_table_of_contents_that_is_no_yaml_is_named(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "_toc.yml").write_bytes(text)
    with pytest.raises(UserError, match=r"_toc\.yml is not valid YAML: "):
        notebooks.chapters(book=tmp_path)
