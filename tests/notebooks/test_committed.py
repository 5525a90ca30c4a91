"""The committed chapters: executed, listed, short cells, parameters that every chapter has."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from gendyn_lite import notebooks
from gendyn_lite.notebooks.guard import NOT_COMPARED
from tests.book.trial import ROOT

CHAPTERS = sorted((ROOT / "book" / "chapters").glob("*.ipynb"))
each_chapter = pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in CHAPTERS])


def test_the_table_of_contents_lists_the_chapters_that_exist() -> None:
    assert notebooks.chapters() == [path.stem for path in CHAPTERS]


@each_chapter
def test_it_was_executed_as_it_stands(path: Path) -> None:
    notebooks.check_executed(path)


@each_chapter
def test_its_second_code_cell_holds_the_parameters(path: Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert "parameters" in code[1].metadata.get("tags", [])
    found = notebooks.parameters(path)
    assert found["profile"].default == "smoke"
    assert [name for name, parameter in found.items() if not parameter.help] == []


@each_chapter
def test_what_comes_from_published_tables_is_compared(path: Path) -> None:
    """What is not compared is of the page's own training, of this machine, or a picture; a seal guards it."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    ignored = [cell for cell in cells if NOT_COMPARED in cell.metadata.get("tags", [])]
    drawn = re.compile(r"results\.(published|benchmark)|\((published|mnist|cifar|switched|unseen|deep|networks)\b")
    assert [cell.source for cell in ignored if drawn.search(cell.source)] == []
    assert path.stem not in ("06_performance", "07_what_holds") or ignored == []


@each_chapter
def test_no_cell_is_longer_than_twelve_lines_of_code(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    lengths = {cell.execution_count: sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in cells}
    assert {cell: length for cell, length in lengths.items() if length > 12} == {}
