"""A chart in a live notebook (Jupyter, Colab) stands alone: it brings Vega from a public CDN, once, and is drawn."""

from __future__ import annotations

import re
from pathlib import Path

import altair as alt
import pandas as pd
import pytest
from playwright.sync_api import Browser, Route

from gendyn_lite import charts
from gendyn_lite.charts.figure import figure_html

pytestmark = pytest.mark.browser
ELSEWHERE = re.compile("^https?:")
TABLE = pd.DataFrame({"x": [0, 1], "y": [0, 1]})
AMD = "<script>window.define = () => { throw new Error('swallowed'); }; window.define.amd = {};</script>"


def figure(title: str) -> str:
    charts.enable()
    chart = alt.Chart(TABLE).mark_line().encode(x="x:Q", y="y:Q").properties(title=title, description="A line.")
    return figure_html(chart.to_dict())


@pytest.mark.parametrize("before", [pytest.param("", id="jupyterlab-and-colab"), pytest.param(AMD, id="require.js")])
def test_two_outputs_of_one_page_load_vega_once(
    browser: Browser, trial_site: Path, tmp_path: Path, before: str
) -> None:
    bundle = (trial_site / "_static" / "gendyn-vega.js").read_text(encoding="utf-8")
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url.rsplit("/", 1)[-1])
        route.fulfill(body=bundle if "vega-embed" in asked[-1] else "", content_type="text/javascript")

    path = tmp_path / "live.html"
    path.write_text(f"<!doctype html><body>{before}{figure('One')}{figure('Two')}</body>", encoding="utf-8")
    context = browser.new_context()
    context.route(ELSEWHERE, answer)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("() => document.querySelectorAll('figure.gendyn-chart svg.marks').length === 2")
    assert asked == [
        f"vega@{alt.VEGA_VERSION}",
        f"vega-lite@{alt.VEGALITE_VERSION}",
        f"vega-embed@{alt.VEGAEMBED_VERSION}",
    ]
    assert errors == []
    context.close()


def test_without_a_network_the_description_stays(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "live.html"
    path.write_text(f"<!doctype html><body>{figure('One')}</body>", encoding="utf-8")
    context = browser.new_context()
    context.route(ELSEWHERE, lambda route: route.abort())
    page = context.new_page()
    page.goto(path.as_uri())
    page.wait_for_timeout(300)
    assert page.locator("figure.gendyn-chart").inner_text().split("\n\n") == [
        "One",
        "A line.",
        "Data as a table; save as SVG or CSV",
    ]
    context.close()
