"""A long page answers at once: what is far from sight is made ready later, and all of it for paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.book.trial import ROOT
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
# In place of MathJax, which asks the page's script what to do when it is ready.
SETS = "window.MathJax = { typesetPromise: async (some) => some.forEach((one) => { one.textContent = 'set'; }) };"
WIDE = "x" * 500
HEIGHT = "document.querySelector('.gendyn-wide').offsetHeight"


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """Two formulas and two listings, the second of each far below, and a table."""
    script, style = ((ROOT / "book" / "_ext" / name).read_text(encoding="utf-8") for name in ("book.js", "book.css"))
    here, there = (f"<p class=math id={name}>n</p><pre id=listing-{name}>{WIDE}</pre>" for name in ("here", "there"))
    table = "<div class=gendyn-wide style='--rows: 2'><p style='height: 700px'></p></div>"
    body = f"{here}<pre id=narrow>x</pre><div style='height:5000px'></div>{there}<div class=bd-article>{table}</div>"
    path = tmp_path / "page.html"
    head = f"<!doctype html><title>t</title><style>pre {{ overflow-x: auto; }} {style}</style>"
    path.write_text(f"{head}<script>{SETS}</script>{body}<script>{script}</script>", encoding="utf-8")
    with Visit(browser, path.as_uri()) as visit:
        visit.page.wait_for_load_state("load")
        visit.page.evaluate("() => { MathJax.startup.pageReady(); }")
        visit.page.wait_for_selector("#here:text('set')")
        yield visit.page
        assert visit.complaints == []


def test_what_is_near_is_made_ready_first(page: Page) -> None:
    page.wait_for_selector("#listing-here[tabindex='0']")
    assert page.inner_text("#there") == "n"
    assert page.evaluate(HEIGHT) == 2 * 5.5 * 16  # guessed by its rows
    assert page.locator("#narrow[tabindex]").count() == 0


def test_what_comes_near_is_made_ready(page: Page) -> None:
    page.evaluate("scrollTo(0, 5000)")
    page.wait_for_selector("#there:text('set')", timeout=2000)


def test_all_of_a_page_is_made_ready_for_paper(page: Page) -> None:
    page.evaluate("() => { window.dispatchEvent(new Event('beforeprint')); }")
    assert page.inner_text("#there") == "set"
    assert page.evaluate(HEIGHT) == 700


def test_all_of_a_page_is_made_ready_in_the_end(page: Page) -> None:
    page.wait_for_selector("#there:text('set')", timeout=10_000)
    page.wait_for_selector("#listing-there[tabindex='0']", timeout=10_000)


def test_the_theme_measures_no_listing(trial_site: Path) -> None:
    theme = (trial_site / "_static" / "scripts" / "pydata-sphinx-theme.js").read_text(encoding="utf-8")
    assert theme.count('[".none"].join') == 1
