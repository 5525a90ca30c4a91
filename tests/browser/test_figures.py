"""What a reader can do with a figure of a page: switch, share, step, pick, brush, save; and what it never does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, Page

from gendyn_lite import charts
from gendyn_lite.charts.figure import figure_html
from gendyn_lite.charts.parts import from_legend, looks, menu, slider
from tests.book.trial import ROOT
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
PICTURE = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
PLACES = [*product("ab", ["wide"], (0, 0.25, 1), range(4)), *product("a", ["deep"], (0.25, 0.5), range(2))]
LINES = pd.DataFrame(PLACES, columns=["line", "net", "q", "x"])
LINES = LINES.assign(y=LINES["x"] * (1 + LINES["q"]), image=PICTURE)


def lines(*, title: str = "Three lines") -> alt.Chart:
    charts.enable()
    picked, opacity = from_legend("line")
    color, dash, _ = looks("line", ["a", "b", "c"])
    base = alt.Chart(LINES).transform_filter("datum.net === net && datum.q === level")
    drawn = base.mark_line(point=True).encode(
        x="x:Q", y="y:Q", color=color, strokeDash=dash, opacity=opacity, tooltip=["line:N", "x:Q"]
    )
    brush = alt.selection_interval(name="brush", encodings=["x"])
    params = [menu("net", LINES["net"], "network"), slider("level", LINES["q"], "noise q", value=1), picked, brush]
    return drawn.add_params(*params).properties(title=title, description="y against x.")


def cells() -> alt.Chart:
    charts.enable()
    rows = pd.DataFrame({"x": range(1200), "value": [0.3] * 1199 + [1.0]})
    drawn = alt.Chart(rows).mark_rect().encode(x="x:Q", color=alt.Color("value:Q", scale=alt.Scale(domain=[-0.5, 1])))
    return drawn.properties(title="A map", description="1,200 cells.")


def side_by_side() -> alt.HConcatChart:
    charts.enable()
    picked, opacity = from_legend("line")
    color, dash, _ = looks("line", ["a", "b"])
    drawn = alt.Chart(LINES).mark_line().encode(x="x:Q", y="y:Q", color=color, strokeDash=dash, opacity=opacity)
    drawn = alt.layer(drawn.encode(detail=["net:N", "q:N"]))
    return alt.hconcat(drawn.add_params(picked), drawn).properties(title="Side by side", description="y against x.")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with a figure that has a switch, and far below it another."""
    sys.path.insert(0, str(ROOT / "book" / "_ext"))
    try:
        import offline
    finally:
        sys.path.remove(str(ROOT / "book" / "_ext"))
    folder = tmp_path_factory.mktemp("figures")
    offline.write_charts(folder)
    both = figure_html(lines().to_dict(), charts.captioned(lines(), "own").to_dict())
    last = figure_html(lines(title="Far below").to_dict())
    body = f"{both}<div style='height:4000px'></div>{last}{figure_html(cells().to_dict())}"
    body += figure_html(side_by_side().to_dict())
    body = offline._LIVE.sub("", body)
    head = '<meta charset="utf-8"><link rel="stylesheet" href="gendyn-charts.css">'
    scripts = "".join(f'<script defer src="{name}"></script>' for name in offline.CHART_FILES[:2])
    page = folder / "page.html"
    page.write_text(f"<!doctype html><html lang=en><head>{head}</head><body>{body}{scripts}</body></html>", "utf-8")
    return page.as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with Visit(browser, address) as visit:
        visit.page.wait_for_selector("#chart-three-lines[data-drawn=yes]")
        yield visit.page
        assert visit.complaints == []


def figure(page: Page) -> Locator:
    return page.locator("#chart-three-lines")


def says(page: Page, words: str, name: str = "three-lines") -> None:
    shown = page.locator(f"#chart-{name} .gendyn-shown:visible")
    shown.get_by_text(f"Shown: {words}.", exact=True).wait_for(timeout=5000)


def press(page: Page, label: str, *keys: str) -> None:
    control = figure(page).locator("label:visible", has_text=label).locator("input").first
    control.focus()
    for key in keys:
        control.press(key)


def test_a_switch_draws_only_what_it_shows(page: Page) -> None:
    assert page.locator("svg.marks").count() == 1
    figure(page).get_by_label("Published runs").press("ArrowDown")
    figure(page).locator("[data-runs=own][data-drawn=yes]").wait_for()
    assert figure(page).locator("svg.marks:visible").count() == 1
    assert figure(page).locator(".gendyn-caption:visible").inner_text() == "own"


def test_without_a_script_both_charts_of_a_figure_stand_under_their_headings(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("#chart-three-lines .gendyn-alternative:visible").count() == 2
    assert page.locator("#chart-three-lines .gendyn-runs:visible").all_inner_texts()[0] == "Published runs"
    context.close()


def test_a_shared_link_opens_at_its_figure_as_it_was_set(browser: Browser, page: Page) -> None:
    page.evaluate("document.getElementById('chart-far-below').scrollIntoView()")
    page.wait_for_selector("#chart-far-below[data-drawn=yes]")
    page.locator("#chart-far-below select:visible").select_option("deep")
    says(page, "network deep, noise q 0.5; 2 points", "far-below")
    figure(page).get_by_label("This page's own").check()
    figure(page).locator("[data-runs=own][data-drawn=yes]").wait_for()
    press(page, "noise q", "Home")
    page.wait_for_function("location.search.includes('three-lines.own.level=0')")
    assert page.url.endswith("#chart-three-lines")
    with Visit(browser, page.url.replace("#chart-three-lines", "#chart-far-below")) as again:
        again.page.wait_for_selector("#chart-far-below[data-drawn=yes]")
        says(again.page, "network deep, noise q 0.5; 2 points", "far-below")
        again.page.wait_for_function("scrollY > 3000")
        again.page.evaluate("scrollTo(0, 0)")
        says(again.page, "network wide, noise q 0; 8 points")
        assert figure(again.page).locator(".gendyn-switch input:checked").get_attribute("value") == "own"


def test_a_choice_that_would_draw_nothing_gives_way_and_a_legend_names_what_is_drawn(page: Page) -> None:
    named = figure(page).locator(".role-legend-label text")
    assert named.all_text_contents() == ["a", "b"]
    figure(page).locator("select:visible").select_option("deep")
    says(page, "network deep, noise q 0.5; 2 points")
    assert named.all_text_contents() == ["a"]
    press(page, "noise q", "End")  # q = 1 has no row here
    says(page, "network deep, noise q 0.5; 2 points")
    press(page, "noise q", "Home")
    says(page, "network deep, noise q 0.25; 2 points")
    assert figure(page).get_by_label("noise q").first.get_attribute("aria-valuetext") == "0.25"
    figure(page).locator("select:visible").select_option("wide")
    says(page, "network wide, noise q 0.25; 8 points")


def test_every_pointer_action_has_a_key(page: Page) -> None:
    press(page, "Points, by arrow keys", "ArrowRight", "ArrowRight")
    tooltip = page.locator("#vg-tooltip-element.visible")
    assert tooltip.inner_text().split() == ["line", "a", "x", "1"]
    assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "line a, x 1"
    figure(page).locator("button:visible", has_text="b").press("Enter")
    says(page, "network wide, noise q 1, picked b; 8 points")
    press(page, "from", "End", "PageDown")
    says(page, "network wide, noise q 1, picked b, range of x 2.7 to 3; 8 points")
    assert figure(page).locator(".brush_brush path").get_attribute("d") not in (None, "M0,0h0v0h0Z")


def test_the_one_legend_of_charts_side_by_side_is_picked_from_by_pointer_and_by_key(page: Page) -> None:
    page.evaluate("window.gendynCharts.drawAll()")
    chart = page.locator("#chart-side-by-side")
    chart.locator(".role-legend-label text").last.click()
    says(page, "picked b; 28 points", "side-by-side")
    chart.locator("button:visible", has_text="a").first.press("Enter")
    says(page, "picked b and a; 28 points", "side-by-side")


def test_the_table_and_what_is_saved_follow_the_controls(page: Page) -> None:
    press(page, "noise q", "Home")
    figure(page).locator("summary:visible").click()
    rows = figure(page).locator(".gendyn-table tbody tr")
    figure(page).locator("caption", has_text="8 rows of 28").wait_for()
    assert rows.count() == 8
    assert rows.first.locator("img").get_attribute("src") == PICTURE
    saved = {}
    for name in ("Save as SVG", "Save as CSV", "Save all rows as CSV"):
        with page.expect_download() as started:
            figure(page).get_by_role("button", name=name).click()
        saved[started.value.suggested_filename] = Path(started.value.path()).read_text(encoding="utf-8")
    assert {name: text.count("\n") for name, text in saved.items() if name.endswith("csv")} == {
        "three-lines.csv": 8,
        "three-lines-all.csv": 28,
    }
    picture = saved["three-lines.svg"]
    assert "<title>Three lines</title>" in picture
    assert "currentcolor" not in picture.lower()


def test_a_colour_bar_has_a_number_at_both_ends_and_a_map_is_of_cells(page: Page) -> None:
    page.evaluate("window.gendynCharts.drawAll()")
    says(page, "1,200 cells", "a-map")
    assert page.locator("#chart-a-map .role-legend-label text").all_text_contents() == ["−0.5", "0", "1"]


def test_print_has_no_controls(page: Page) -> None:
    page.emulate_media(media="print")
    assert figure(page).locator("select:visible, input:visible, summary:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
