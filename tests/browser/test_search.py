"""A search finds places and opens the page there, with the words marked; without a server, too."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

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
