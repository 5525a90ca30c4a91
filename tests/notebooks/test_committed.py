"""The committed chapters: executed, listed, figures with rows behind them, one address; each fault is seen."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from gendyn_lite import notebooks, results
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.committed import NOT_COMPARED, NOTE, SETUP, WIDGET, configure, tidy
from tests.book import trial
from tests.book.trial import ROOT

CHAPTERS = sorted((ROOT / "book" / "chapters").glob("*.ipynb"))
each_chapter = pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in CHAPTERS])
URL = "https://github.com/someone/gendyn_lite"


def address(config: Path) -> str:
    """What is set there; nothing until it is."""
    return yaml.safe_load(config.read_text()).get("repository", {}).get("url", "")


def code_of(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_table_of_contents_lists_the_chapters_that_exist() -> None:
    assert sorted(notebooks.chapters()) == [path.stem for path in CHAPTERS]


@each_chapter
def test_a_chapter_is_executed_as_it_stands_with_figures_of_published_tables(path: Path) -> None:
    notebooks.check_executed(path)
    assert notebooks.verify_figures([path]) > (3 if path.stem[:2] in ("01", "02", "03", "04", "05") else -1)


@each_chapter
def test_its_first_cells_are_the_set_up_and_the_parameters(path: Path) -> None:
    first, second, *_ = code_of(path)
    assert first.source == SETUP.format(url=address(ROOT / "_config.yml"))
    assert "parameters" in second.metadata.get("tags", [])
    found = notebooks.parameters(path)
    assert found["profile"].default == "smoke"
    assert [name for name, parameter in found.items() if not parameter.help] == []


@each_chapter
def test_what_comes_from_published_tables_is_compared(path: Path) -> None:
    """What is not compared is of the page's own training, of this machine, or a picture; a seal guards it."""
    ignored = [cell for cell in code_of(path) if NOT_COMPARED in cell.metadata.get("tags", [])]
    drawn = re.compile(r"results\.(published|benchmark)|\((published|mnist|cifar|switched|unseen|deep|networks)\b")
    assert [cell.source for cell in ignored if drawn.search(cell.source)] == []
    assert path.stem not in ("06_performance", "07_what_holds") or ignored == []


@each_chapter
def test_no_cell_is_longer_than_twelve_lines_of_code(path: Path) -> None:
    lengths = [sum(bool(line.strip()) for line in cell.source.splitlines()) for cell in code_of(path)]
    assert max(lengths) <= 12


def executed(*sources: Any) -> Any:
    """A notebook as a kernel would have left it."""
    live = trial.cell("explorer()", "live-only", "nbval-ignore-output")
    chapter = trial.small(*(sources or ("x = 2", "print(x)", live)))
    for number, cell in enumerate(chapter.cells, start=1):
        cell.execution_count = number
    if not sources:
        chapter.cells[2].outputs = [new_output("stream", name="stdout", text="2\n")]
    return tidy(chapter)


def strip(chapter: Any) -> None:
    for cell in chapter.cells:
        cell.execution_count, cell.outputs = None, []


def shows(output: Any) -> Any:
    """The fault of an output in code cell 2."""
    return lambda chapter: chapter.cells[1].update(outputs=[output])


HOLDS_WIDGET = shows(new_output("display_data", data={WIDGET: {"model_id": "1"}, "text/plain": "HBox()"}))
RAISED = new_output("error", ename="ValueError", evalue="no", traceback=[])
WARNED = new_output("stream", name="stderr", text="UserWarning: old")
FAULTS = {
    "stripped": (strip, "code cell 1 .* has execution count None, expected 1: not executed in order"),
    "out-of-order": (
        lambda chapter: chapter.cells[2].update(execution_count=7),
        r"code cell 3 \('print\(x\)'\) has execution count 7, expected 3",
    ),
    "failed": (shows(RAISED), "code cell 2 .* failed with ValueError: no"),
    "stderr": (shows(WARNED), "code cell 2 .* wrote to stderr: 'UserWarning: old'"),
    "widget": (HOLDS_WIDGET, "code cell 2 .* holds a widget"),
    "live-only-compared": (
        lambda chapter: chapter.cells[3].metadata.update(tags=["live-only"]),
        "code cell 4 .* needs the tag 'nbval-ignore-output' too",
    ),
    "empty-cell": (lambda chapter: chapter.cells[1].update(source=" \n"), "code cell 2 is empty"),
    "widget-state": (lambda chapter: chapter.metadata.update(widgets={}), "metadata 'widgets' is left in it"),
    "no-code": (lambda chapter: chapter.cells.clear(), "it has no code cells"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_refused(tmp_path: Path, fault: str) -> None:
    chapter, path = executed(), tmp_path / "chapter.ipynb"
    nbformat.write(chapter, path)
    notebooks.check_executed(path)
    plant, message = FAULTS[fault]
    plant(chapter)
    nbformat.write(chapter, path)
    with pytest.raises(UserError, match=f"chapter.ipynb: {message}.*; execute it again with `make refresh`"):
        notebooks.check_executed(path)


@pytest.mark.parametrize(("old", "new"), [("0.98765", "0.99765"), ("98.8", "99.8")], ids=["chart", "text"])
def test_an_edited_number_is_noticed_where_nbval_compares_nothing(tmp_path: Path, old: str, new: str) -> None:
    chapter, path = executed(trial.cell("draw(trained)", "nbval-ignore-output")), tmp_path / "chapter.ipynb"
    shown = {"text/html": '<script class="gendyn-spec">{"accuracy":0.98765}</script>', "text/plain": "98.8 %"}
    chapter.cells[1].outputs = [new_output("display_data", data=shown)]
    nbformat.write(tidy(chapter), path)
    notebooks.check_executed(path)
    path.write_text(path.read_text().replace(old, new))
    said = r"code cell 2 \('draw\(trained\)'\) has outputs that are not those of its exec"
    with pytest.raises(UserError, match=said):
        notebooks.check_executed(path)


def test_tidy_drops_records_widgets_and_versions_and_leaves_a_note_where_a_kernel_is_needed() -> None:
    chapter = executed()
    chapter.metadata.update({"papermill": {"duration": 1.0}, "widgets": {}, "language_info": {"version": "3.11.7"}})
    chapter.cells[1].metadata.update({"papermill": {}, "execution": {}, "tags": []})
    HOLDS_WIDGET(chapter)
    tidy(chapter)
    assert set(chapter.metadata) == {"kernelspec", "language_info"}
    assert chapter.metadata.language_info == {"name": "python"}
    assert (chapter.cells[1].metadata, chapter.cells[1].outputs) == ({}, [])
    assert chapter.cells[2].outputs[0].text == "2\n"
    assert chapter.cells[3].outputs[0].data["text/plain"] == NOTE


@pytest.mark.parametrize(
    ("demo", "group", "counted"),
    [("", None, 1), (": method demo, not evidence", "deadbeef", 0), ("", "deadbeef", None)],
    ids=["published", "smoke", "unknown"],
)
def test_figures_are_looked_up(tmp_path: Path, demo: str, group: str | None, counted: int | None) -> None:
    group = group or results.published("random_labels")["group_id"].iloc[0][:8]
    caption = f"MNIST; mlp (n = 10); 2 runs; profile colab{demo}; CPU; groups <code>{group}</code>."
    output = new_output("display_data", {"text/html": f"<p>{caption}</p>"})
    path = tmp_path / "chapter.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(outputs=[output])]), path)
    if counted is not None:
        assert notebooks.verify_figures([path]) == counted
        return
    with pytest.raises(UserError, match=r"chapter.ipynb: a figure names group deadbeef, which no published table has"):
        notebooks.verify_figures([path])


@pytest.fixture
def copy(tmp_path: Path) -> tuple[Path, list[Path]]:
    """The configuration and two chapters, to be written to."""
    paths = [Path(shutil.copy(path, tmp_path)) for path in (ROOT / "_config.yml", *CHAPTERS[:2])]
    return paths[0], paths[1:]


def test_the_address_is_written_everywhere_and_taken_back(copy: tuple[Path, list[Path]]) -> None:
    config, paths = copy
    before = {path: path.read_bytes() for path in (config, *paths)}
    assert configure(f"{URL}.git/", config=config, notebooks=paths) == [config, *paths]
    assert address(config) == URL
    assert [code_of(path)[0].source for path in paths] == [SETUP.format(url=URL)] * 2
    assert yaml.safe_load(config.read_text())["launch_buttons"]["colab_url"].endswith("colab.research.google.com")
    for path in paths:
        notebooks.check_executed(path)
    assert configure(URL, config=config, notebooks=paths) == []
    assert configure("", config=config, notebooks=paths) == [config, *paths]
    assert {path: path.read_bytes() for path in (config, *paths)} == before


ADDRESSES = {
    "no-scheme": "github.com/someone/x",
    "not-https": "http://github.com/someone/x",
    "no-owner": "https://github.com",
    "quote": 'https://a/b/"c',
    "up-last": "https://github.com/someone/..",
    "no-port": "https://github.com:x/someone/x",
    "password": "https://user:secret@github.com/a/b",
    "two-passwords": "https://user:se@cret@github.com/a/b",
}


@pytest.mark.parametrize("url", ADDRESSES.values(), ids=ADDRESSES)
def test_what_is_no_address_is_refused_and_neither_written_nor_shown(copy: Any, url: str) -> None:
    config, paths = copy
    before = config.read_bytes()
    said = "holds a user name or a password" if "@" in url else "is not an address such as"
    with pytest.raises(UserError, match=said) as caught:
        configure(url, config=config, notebooks=paths)
    assert config.read_bytes() == before and "secret" not in str(caught.value)


def test_a_file_without_the_place_stops_everything(copy: Any, tmp_path: Path) -> None:
    config, paths = copy
    before, other = config.read_bytes(), tmp_path / "other.ipynb"
    nbformat.write(new_notebook(), other)
    with pytest.raises(UserError, match=r"other.ipynb: its first code cell has no line 'repository"):
        configure(URL, config=config, notebooks=[*paths, other])
    assert config.read_bytes() == before
    config.write_text("title: none\n")
    with pytest.raises(UserError, match="has no lines 'repository' and 'launch_buttons'"):
        configure(URL, config=config, notebooks=paths)


def test_without_an_address_the_set_up_says_so_and_installs_nothing() -> None:
    source = SETUP.format(url="").replace("import gendyn_lite", "import no_such_package_here")
    shown = source.replace("    %pip install", "    raise AssertionError('installs') #")
    with pytest.raises(SystemExit, match="install gendyn_lite first"):
        exec(compile(shown, "set-up", "exec"), {})
