"""Figures are numbered in their order, found by their titles, and drawn beside the pages with their tables."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gendyn_lite import charts
from gendyn_lite.charts.figure import figure_html
from tests.book.test_figure import chart
from tests.book.trial import NAME, ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import figures  # type: ignore[import-not-found]

PAGES = {"chapters/04_stiffness": (["a-title", "other"], False), "chapters/07_what_holds": (["other"], False)}


@pytest.fixture
def env() -> Any:
    return SimpleNamespace(toc_secnumbers={"chapters/04_stiffness": {"": (4,)}}, gendyn_figures=PAGES)


def test_a_number_is_of_the_chapter_or_of_the_page(env: Any) -> None:
    assert figures.label(env, "chapters/04_stiffness", 3) == "Figure 4.3"
    assert figures.label(env, "chapters/07_what_holds", 1) == "Figure W.1"


FOUND = {
    "of-another-page": ("07_what_holds", "A title", ("chapters/04_stiffness", 1)),
    "own-first": ("07_what_holds", "Other", ("chapters/07_what_holds", 1)),
    "page-named": ("07_what_holds", "04_stiffness/other", ("chapters/04_stiffness", 2)),
    "unknown": ("07_what_holds", "Neither", None),
}


@pytest.mark.parametrize(("page", "target", "place"), FOUND.values(), ids=FOUND)
def test_a_figure_is_found_by_its_title(env: Any, page: str, target: str, place: Any) -> None:
    found = figures.find(env, f"chapters/{page}", target)
    assert (found and (found[0], found[1].number)) == place


def test_equal_titles_have_addresses_of_their_own() -> None:
    charts.enable()
    one = figure_html(chart(title="Two & a half").to_dict())
    found = figures.slugs(one + one + figure_html(chart(title="Two & a half, 2").to_dict()))
    assert found == ["two-a-half", "two-a-half-2", "two-a-half-2-2"]


@pytest.mark.parametrize("place", ["", '<span class="gendyn-number"></span>'], ids=["bare", "with-a-place"])
def test_a_title_begins_with_its_number(tmp_path: Path, env: Any, place: str) -> None:
    html = re.sub(r'<span class="gendyn-number"></span>', place, figure_html(chart().to_dict()))
    app, context = SimpleNamespace(env=env, outdir=str(tmp_path)), {"body": html * 2}
    figures.complete(app, "chapters/04_stiffness", "", context, None)
    number = r'id="([^"]+)-title"><span class="gendyn-number"><a href="#\1">(.*?)</a></span> A'
    numbers = re.findall(number, context["body"])
    assert numbers == [("chart-a-title", "Figure 4.1"), ("chart-a-title-2", "Figure 4.2")]


def test_text_refers_to_a_figure_by_its_number(trial_site: Path) -> None:
    page = (trial_site / "chapters" / f"{NAME}.html").read_text(encoding="utf-8")
    assert re.search(r'<a class="reference internal" href="#chart-a-linked-view">Figure 1\.2</a>', page)


def test_every_figure_has_a_picture_and_tables_and_nothing_else_is_kept(trial_site: Path) -> None:
    page = (trial_site / "chapters" / f"{NAME}.html").read_text(encoding="utf-8")
    shown = re.findall(r'(?:src|href)="\.\./figures/([^"]+)"', page)
    assert sorted(set(shown)) == sorted(path.name for path in (trial_site / "figures").iterdir())
    assert sorted(Path(name).suffix for name in shown) == [".csv", ".csv", ".svg", ".svg"]


def test_a_picture_shows_where_the_controls_begin_in_ink_on_paper() -> None:
    spec: dict[str, Any] = {
        "data": {"values": [{"x": 1, "kind": "first"}, {"x": 2, "kind": "second"}]},
        "params": [{"name": "k", "value": "second", "bind": {"input": "select", "options": ["first", "second"]}}],
        "transform": [{"filter": "datum.kind === k"}],
        "mark": {"type": "text", "color": "currentColor"},
        "encoding": {"text": {"field": "kind"}},
    }
    svg = figures.drawn(spec)
    assert "second" in svg and "first" not in svg
    assert "currentColor" not in svg and figures.INK in svg and figures.PAPER in svg.lower().replace("white", "#ffffff")
