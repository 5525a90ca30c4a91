"""The book builds without a warning, from executed copies, and a bad build leaves the last good one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from gendyn_lite import book, notebooks
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.notebooks.committed import NOTE
from tests.book import trial


def silent(line: str) -> None:
    """No progress."""


@pytest.fixture
def page(trial_site: Path) -> str:
    return (trial_site / "chapters" / f"{trial.NAME}.html").read_text(encoding="utf-8")


@pytest.fixture
def copy(trial_book: Path, tmp_path: Path) -> Path:
    """The trial book and its build, to be broken."""
    shutil.copytree(trial_book.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("render"))
    return tmp_path / "copy" / "book"


def test_what_is_rendered_was_executed_and_the_committed_notebook_is_not_touched(trial_book: Path) -> None:
    place = Path("chapters") / f"{trial.NAME}.ipynb"
    chapter = nbformat.read(trial_book / place, as_version=4)
    assert {cell.execution_count for cell in chapter.cells if cell.cell_type == "code"} == {None}
    notebooks.check_executed(trial_book.parent / "_build" / "source" / place)


def test_the_page_holds_charts_notes_equations_and_solutions(page: str) -> None:
    assert page.count('<figure class="gendyn-chart"') == 2
    assert page.count("gendyn-vega.js") == page.count("gendyn-charts.js") == 1  # one script for all charts
    for shown in (NOTE, 'href="#equation-eq-risk"', "Zhang", "dropdown"):
        assert shown in page
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert sorted(ids) == sorted(set(ids))


def test_what_is_downloaded_is_a_plain_notebook(trial_site: Path) -> None:
    text = (trial_site / "_sources" / "chapters" / f"{trial.NAME}.ipynb").read_text(encoding="utf-8")
    assert "<summary>Solution</summary>" in text
    assert not re.search(r"\{(cite:t|fig|eq|math|exercise|solution)\}", text)


def test_the_page_holds_nothing_dead(page: str) -> None:
    dead = r'papermill|widget-view|IntSlider|data-gendyn="live"|cdn\.|THEBE_JS_URL|<script[^>]*(thebe|widgets|require)'
    assert not re.search(dead, page)


def test_pages_stay_light_and_load_nothing_from_another_host(trial_site: Path) -> None:
    intro = (trial_site / "intro.html").read_text(encoding="utf-8")
    assert "gendyn-vega.js" not in intro and "mathjax/" not in intro  # without charts or mathematics
    assert book.external(trial_site) == []


def test_a_second_build_changes_no_page_and_says_what_it_does(copy: Path) -> None:
    out, lines = copy.parent / "_build", list[str]()
    before = (out / "html" / "chapters" / f"{trial.NAME}.html").read_bytes()
    assert book.build(book=copy, out=out, say=lines.append) == out / "html" / "index.html"
    assert (out / "html" / "chapters" / f"{trial.NAME}.html").read_bytes() == before
    first, seconds, last = lines
    assert (first, last) == ("chapter 1 of 1: 01_trial (profile smoke) ...", "rendering the pages ...")
    assert re.fullmatch(r"  \d+ s", seconds)


ELSEWHERE = "https://example.org/x.js"
FAULTS = {  # in a cell of the chapter, in the text of a book without chapters, or in a page as Sphinx might leave it
    "failing-cell": (trial.cell("1 / 0"), r"01_trial failed in cell \[7\] \('1 / 0'\) with ZeroDivisionError"),
    "unknown-source": ("{cite:t}`nobody1900`", "the book did not render: .*WARNING.*nobody1900"),
    "external-script": (f'<script src="{ELSEWHERE}"></script>', f"load from other hosts: index.html: {ELSEWHERE}"),
}


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_fails_the_build_and_keeps_the_last_pages(
    copy: Path, fault: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, chapter = copy.parent / "_build", copy / "chapters" / f"{trial.NAME}.ipynb"
    before = (out / "html" / "chapters" / f"{trial.NAME}.html").read_bytes()

    def rendered(*_: object, **__: object) -> SimpleNamespace:
        (pages := out / "render" / "_build" / "html").mkdir(parents=True)
        (pages / "index.html").write_text(fault)
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    if isinstance(fault, str):
        chapter.unlink()
        (copy / "_toc.yml").write_text("format: jb-book\nroot: intro\n")
        (copy / "intro.md").write_text(f"# A trial\n\n{fault}\n\n```{{bibliography}}\n```\n")
        if ELSEWHERE in fault:
            monkeypatch.setattr(book.subprocess, "run", rendered)
    else:
        nbformat.write(trial.notebook(fault), chapter)
    with pytest.raises(Failed, match=message):
        book.build(book=copy, out=out, say=silent)
    assert (out / "html" / "chapters" / f"{trial.NAME}.html").read_bytes() == before
    assert sorted(path.name for path in out.iterdir() if "html" in path.name) == ["html"]


def test_a_page_that_is_gone_from_the_book_is_gone_from_the_copy(copy: Path) -> None:
    (copy / "extra.md").write_text("# Extra\n")
    source = copy.parent / "mirror"
    book._mirror(copy, source, replaced={})
    assert (source / "extra.md").is_file()
    (copy / "extra.md").unlink()
    stamp = (source / "intro.md").stat().st_mtime_ns
    book._mirror(copy, source, replaced={})
    assert not (source / "extra.md").exists()
    assert (source / "intro.md").stat().st_mtime_ns == stamp  # else Sphinx would read everything again


@pytest.mark.parametrize("name", ["html", "source", "executed", "render", ".html.old"])
def test_a_folder_that_no_build_made_is_never_replaced(tmp_path: Path, name: str) -> None:
    book_folder, out = trial.write(tmp_path, trial.notebook()), tmp_path / "site"
    (out / name).mkdir(parents=True)
    (out / name / "mine.html").write_text("mine")
    with pytest.raises(UserError, match=rf"--out: .*{name} would be replaced, but was not made by a build"):
        book.build(book=book_folder, out=out, say=silent)
    assert [path.name for path in out.rglob("*")] == [name, "mine.html"]


INSIDE = "is inside the book itself, expected a folder outside"
PLACES = {"book": INSIDE, "book/chapters": INSIDE, "book/chapters/pages": INSIDE, "file": "file is not a folder"}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_in_the_book_or_of_a_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    book_folder = trial.write(tmp_path, trial.notebook())
    with pytest.raises(UserError, match=PLACES[place]):
        book.build(book=book_folder, out=tmp_path / place, say=silent)


def test_pages_that_a_killed_build_had_put_aside_come_back(tmp_path: Path) -> None:
    (tmp_path / "render.log").touch()
    (tmp_path / ".html.old").mkdir()
    book._take(tmp_path, tmp_path / "book")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["html"]
