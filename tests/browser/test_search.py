"""A search finds places and opens the page there, without a server too; a page without scripts says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.book import trial
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
HERE = "() => document.getElementById(location.hash.slice(1)).getBoundingClientRect().top"
MARKED = "() => [...(CSS.highlights.get('gendyn-found') || [])].map(String)"


def test_a_hit_opens_the_page_at_its_place(browser: Browser, trial_site: Path) -> None:
    with Visit(browser, f"{(trial_site / 'search.html').as_uri()}?q=points+brushed") as visit:
        page = visit.page
        hits = page.locator(".gendyn-results li")
        hits.first.wait_for()
        assert page.get_by_role("status").inner_text() == "1 place with “points brushed”"
        assert hits.first.locator("mark").all_inner_texts() == ["Points", "brushed"]
        hits.first.get_by_role("link").click()
        page.wait_for_function("() => location.hash === '#chart-a-linked-view'")
        visit.settle()
        page.wait_for_function(f"() => Math.abs(({HERE})()) < 150")
        assert set(page.evaluate(MARKED)) >= {"Points", "brushed"}
        page.keyboard.press("Escape")
        assert page.evaluate(MARKED) == []
        assert visit.elsewhere + visit.complaints == []


def test_what_is_nowhere_is_said_to_be(browser: Browser, trial_site: Path) -> None:
    with Visit(browser, f"{(trial_site / 'search.html').as_uri()}?q=%3Cxyzzy%3E") as visit:
        status = visit.page.get_by_role("status")
        status.wait_for()
        assert status.inner_text() == "No places with “<xyzzy>”"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_without_scripts_has_pictures_and_says_so(
    without_scripts: BrowserContext, trial_site: Path, scheme: str
) -> None:
    page = without_scripts.new_page()
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto((trial_site / "chapters" / f"{trial.NAME}.html").as_uri())
    assert page.locator(".gendyn-noscript").inner_text().startswith("JavaScript is off:")
    pictures = page.locator("figure.gendyn-chart img")
    assert pictures.count() == page.locator("figure.gendyn-chart").count() == 2
    for picture in pictures.all():
        assert picture.bounding_box()["height"] > 100  # type: ignore[index]
        assert picture.evaluate("e => e.complete && e.naturalWidth > 0")
    assert page.locator("figure.gendyn-chart .gendyn-view").first.bounding_box()["height"] < 100  # type: ignore[index]
    assert page.locator('figure.gendyn-chart a[href$=".csv"]').count() == 2
    assert not page.locator(".gendyn-data summary").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()
