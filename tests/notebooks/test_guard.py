"""Nothing stripped, stale, failed or dead is taken for an executed notebook."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_output

from gendyn_lite import notebooks
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.guard import NOTE, WIDGET, tidy
from tests.book import trial


def executed() -> Any:
    """A notebook as a kernel would have left it."""
    chapter = trial.small("x = 2", "print(x)", trial.cell("explorer()", "live-only", "nbval-ignore-output"))
    for number, cell in enumerate(chapter.cells, start=1):
        cell.execution_count = number
    chapter.cells[2].outputs = [new_output("stream", name="stdout", text="2\n")]
    return tidy(chapter)


def strip(chapter: Any) -> None:
    for cell in chapter.cells:
        cell.execution_count, cell.outputs = None, []


def renumber(chapter: Any) -> None:
    chapter.cells[2].execution_count = 7


def fail(chapter: Any) -> None:
    chapter.cells[1].outputs = [new_output("error", ename="ValueError", evalue="no", traceback=[])]


def warn(chapter: Any) -> None:
    chapter.cells[1].outputs = [new_output("stream", name="stderr", text="UserWarning: old")]


def widget(chapter: Any) -> None:
    chapter.cells[1].outputs = [new_output("display_data", data={WIDGET: {"model_id": "1"}, "text/plain": "HBox()"})]


def untag(chapter: Any) -> None:
    chapter.cells[3].metadata.tags = ["live-only"]


def blank(chapter: Any) -> None:
    chapter.cells[1].source = " \n"


def state(chapter: Any) -> None:
    chapter.metadata["widgets"] = {}


def empty(chapter: Any) -> None:
    chapter.cells = []


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        pytest.param(
            strip, "code cell 1 .* has execution count None, expected 1: not executed in order", id="stripped"
        ),
        pytest.param(renumber, r"code cell 3 \('print\(x\)'\) has execution count 7, expected 3", id="out-of-order"),
        pytest.param(fail, "code cell 2 .* failed with ValueError: no", id="failed"),
        pytest.param(warn, "code cell 2 .* wrote to stderr: 'UserWarning: old'", id="stderr"),
        pytest.param(widget, "code cell 2 .* holds a widget", id="widget"),
        pytest.param(untag, "code cell 4 .* needs the tag 'nbval-ignore-output' too", id="live-only-compared"),
        pytest.param(blank, "code cell 2 is empty", id="empty-cell"),
        pytest.param(state, "metadata 'widgets' is left in it", id="widget-state"),
        pytest.param(empty, "it has no code cells", id="no-code"),
    ],
)
def test_a_planted_fault_is_refused(tmp_path: Path, fault: Callable[[Any], None], message: str) -> None:
    chapter, path = executed(), tmp_path / "chapter.ipynb"
    nbformat.write(chapter, path)
    notebooks.check_executed(path)
    fault(chapter)
    nbformat.write(chapter, path)
    with pytest.raises(UserError, match=f"chapter.ipynb: {message}.*; execute it anew with `make refresh`"):
        notebooks.check_executed(path)


@pytest.mark.parametrize("text", ["", "{}", '{"nbformat": 4, "cells": 3}', "[1]"])
def test_what_is_no_notebook_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "chapter.ipynb"
    path.write_text(text)
    with pytest.raises(UserError, match=r"chapter\.ipynb is no valid notebook"):
        notebooks.check_executed(path)


def test_tidy_leaves_a_note_where_a_kernel_is_needed() -> None:
    chapter = executed()
    assert chapter.cells[3].outputs[0].data["text/plain"] == NOTE
    assert chapter.cells[2].outputs[0].text == "2\n"


@pytest.mark.parametrize(("old", "new"), [("0.98765", "0.99765"), ("98.8", "99.8")], ids=["chart", "text"])
def test_an_edited_number_is_noticed_where_nbval_compares_nothing(tmp_path: Path, old: str, new: str) -> None:
    chapter, path = trial.small(trial.cell("draw(trained)", "nbval-ignore-output")), tmp_path / "chapter.ipynb"
    shown = {"text/html": '<script class="gendyn-spec">{"accuracy":0.98765}</script>', "text/plain": "98.8 %"}
    chapter.cells[1].outputs = [new_output("display_data", data=shown)]
    for number, cell in enumerate(chapter.cells, start=1):
        cell.execution_count = number
    nbformat.write(tidy(chapter), path)
    notebooks.check_executed(path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(
        UserError, match=r"code cell 2 \('draw\(trained\)'\) has outputs that are not those of its exec"
    ):
        notebooks.check_executed(path)


def test_tidy_drops_records_widgets_and_versions() -> None:
    chapter = executed()
    chapter.metadata.update({"papermill": {"duration": 1.0}, "widgets": {}, "language_info": {"version": "3.11.7"}})
    chapter.cells[1].metadata.update({"papermill": {}, "execution": {}, "tags": []})
    widget(chapter)
    tidy(chapter)
    assert set(chapter.metadata) == {"kernelspec", "language_info"}
    assert chapter.metadata.language_info == {"name": "python"}
    assert chapter.cells[1].metadata == {}
    assert chapter.cells[1].outputs == []
