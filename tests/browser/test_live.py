"""A chart in a live notebook (Jupyter, Colab) stands alone: it brings Vega from a public CDN, once, and is drawn."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import pandas as pd
import pytest
from playwright.sync_api import Browser, Route

from gendyn_lite import charts
from gendyn_lite.charts.figure import figure_html
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
TABLE = pd.DataFrame({"x": [0, 1], "y": [0, 1]})
AMD = "<script>window.define = () => { throw new Error('swallowed'); }; window.define.amd = {};</script>"
SCRIPTS = [f"vega@{alt.VEGA_VERSION}", f"vega-lite@{alt.VEGALITE_VERSION}", f"vega-embed@{alt.VEGAEMBED_VERSION}"]


def live(folder: Path, *titles: str, before: str = "") -> str:
    """The address of a page with a figure for each title."""
    charts.enable()
    chart = alt.Chart(TABLE).mark_line().encode(x="x:Q", y="y:Q").properties(description="A line.")
    figures = "".join(figure_html(chart.properties(title=title).to_dict()) for title in titles)
    (folder / "live.html").write_text(f"<!doctype html><body>{before}{figures}</body>", encoding="utf-8")
    return (folder / "live.html").as_uri()


class Online(Visit):
    """A visit with the CDN, where one script brings all."""

    bundle: str

    def _guard(self, route: Route) -> None:
        if route.request.url.startswith("file:"):
            return route.continue_()
        self.elsewhere.append(route.request.url.rsplit("/", 1)[-1])
        body = self.bundle if "vega-embed" in self.elsewhere[-1] else ""
        return route.fulfill(body=body, content_type="text/javascript")


@pytest.mark.parametrize("before", ["", AMD], ids=["jupyterlab-and-colab", "require.js"])
def test_two_outputs_load_vega_once(browser: Browser, trial_site: Path, tmp_path: Path, before: str) -> None:
    Online.bundle = (trial_site / "_static" / "gendyn-vega.js").read_text(encoding="utf-8")
    with Online(browser, live(tmp_path, "One", "Two", before=before)) as visit:
        visit.page.wait_for_function("() => document.querySelectorAll('figure.gendyn-chart svg.marks').length === 2")
        assert (visit.elsewhere, visit.complaints) == (SCRIPTS, [])


def test_without_a_network_the_description_stays_and_it_is_said_why(browser: Browser, tmp_path: Path) -> None:
    with Visit(browser, live(tmp_path, "One")) as visit:
        visit.page.wait_for_selector("figure.gendyn-chart .gendyn-view[data-told] p")
        shown = visit.page.locator("figure.gendyn-chart").inner_text()
        why = "Not drawn: the internet cannot be reached, and vl-convert-python is not installed."
        assert shown.split("\n\n") == ["One", "A line.", why, "Data as a table; save as SVG or CSV"]
