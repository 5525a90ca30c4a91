"""The committed chapters: executed, listed, figures with rows behind them, one address; each fault is seen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook, new_output

from gendyn_lite import notebooks, results
from gendyn_lite.charts.figure import read_spec
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
def test_a_chapter_sets_itself_up_lists_its_parameters_and_is_compared_with_published_tables(path: Path) -> None:
    first, second, *rest = code_of(path)
    assert first.source == SETUP.format(url=address(ROOT / "_config.yml"))
    assert "parameters" in second.metadata.get("tags", [])
    found = notebooks.parameters(path)
    assert found["profile"].default == "smoke"
    assert [name for name, parameter in found.items() if not parameter.help] == []
    for cell in (first, second, *rest):
        assert sum(bool(line.strip()) for line in cell.source.splitlines()) <= 12
    # What is not compared is of the page's own training, of this machine, or a picture; a seal guards it.
    ignored = [cell.source for cell in rest if NOT_COMPARED in cell.metadata.get("tags", [])]
    drawn = re.compile(r"results\.(published|benchmark)|\((published|mnist|cifar|switched|unseen|deep|networks)\b")
    tagged = [source for source in ignored if drawn.search(source)]
    assert tagged == [], "load published tables in a cell without nbval-ignore-output, apart from the figure"
    assert path.stem not in ("06_performance", "07_what_holds") or ignored == []


Layer = tuple[list[dict[str, Any]], dict[str, str]]  # its rows, and the column that each control filters


def layers_of(spec: dict[str, Any]) -> list[list[Layer]]:
    """The layers of each of the panels that stand side by side in a chart."""
    offered = {param["name"] for param in spec.get("params", []) if "options" in (param.get("bind") or {})}

    def of(part: dict[str, Any], data: str, filters: str) -> Iterator[Layer]:
        data = part.get("data", {}).get("name", data)
        filters += " ".join(str(step.get("filter")) for step in part.get("transform", []))
        by = {name: column for column, name in re.findall(r"datum\.(\w+) === (\w+)", filters) if name in offered}
        if "layer" not in part:
            yield spec["datasets"].get(data, []), by
        for inner in part.get("layer", []):
            yield from of(inner, data, filters)

    return [list(of(part, spec.get("data", {}).get("name", ""), "")) for part in spec.get("hconcat", [])]


@each_chapter
def test_no_choice_that_is_offered_leaves_one_of_several_panels_empty(path: Path) -> None:
    outputs = (output for cell in code_of(path) for output in cell.outputs if "data" in output)
    pages = "".join(str(output.data.get("text/html", "")) for output in outputs)
    specs = re.findall(r'class="gendyn-spec">(.*?)</script>', pages, re.DOTALL)
    found = []
    for panels in (layers_of(read_spec(spec)) for spec in specs):
        everything = [layer for panel in panels for layer in panel if layer[0]]
        most = max((len(by) for _, by in everything), default=0)
        choices = {
            tuple((name, row[column]) for name, column in by.items())
            for rows, by in everything
            for row in rows
            if len(by) == most > 0
        }
        for choice in map(dict, choices):
            for number, panel in enumerate(panels):
                fits = [any(all(row[by[name]] == choice[name] for name in by) for row in rows) for rows, by in panel]
                found += [] if any(fits) else [(number, choice)]
    assert found == []


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


def set_cell(index: int, **changes: Any) -> Any:
    """The fault of a code cell."""
    return lambda chapter: chapter.cells[index].update(nbformat.from_dict(changes))


DEAD = new_output("display_data", data={WIDGET: {"model_id": "1"}, "text/plain": "HBox()"})
HOLDS_WIDGET = set_cell(1, outputs=[DEAD])
UNSEALED = "code cell 4 .* has outputs other than those that were sealed"
RAISED = new_output("error", ename="ValueError", evalue="no", traceback=[])
WARNED = new_output("stream", name="stderr", text="UserWarning: old")
FAULTS = {
    "stripped": (strip, "code cell 1 .* has execution count None, expected 1: not executed in order"),
    "out-of-order": (set_cell(2, execution_count=7), r"code cell 3 \('print\(x\)'\) has execution count 7, expected 3"),
    "failed": (set_cell(1, outputs=[RAISED]), "code cell 2 .* failed with ValueError: no"),
    "stderr": (set_cell(1, outputs=[WARNED]), "code cell 2 .* wrote to stderr: 'UserWarning: old'"),
    "widget": (HOLDS_WIDGET, "code cell 2 .* holds a widget"),
    "compared": (set_cell(3, metadata={"tags": ["live-only"]}), "code cell 4 .* needs the tag 'nbval-ignore-output'"),
    "edited": (lambda chapter: chapter.cells[3].outputs[0].data.update({"text/plain": "99.8"}), UNSEALED),
    "edited-chart": (lambda chapter: chapter.cells[3].outputs[0].data.update({"text/html": "99.8"}), UNSEALED),
    "empty-cell": (set_cell(1, source=" \n"), "code cell 2 is empty"),
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


GROUP = results.published("random_labels")["group_id"].iloc[0][:8]
FIGURES = [("", GROUP, 1), (": method demo, not evidence", "deadbeef", 0), ("", "deadbeef", None)]


@pytest.mark.parametrize(("demo", "group", "counted"), FIGURES, ids=["published", "smoke", "unknown"])
def test_figures_are_looked_up(tmp_path: Path, demo: str, group: str, counted: int | None) -> None:
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
    written = yaml.safe_load(config.read_text())
    assert written["launch_buttons"]["colab_url"].endswith("colab.research.google.com")
    assert written["repository"] == {"url": URL, "path_to_book": "", "branch": "student"}  # see .ci/student
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
