"""With JavaScript off a page says what is missing, and shows text, pictures of the charts and their data."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.book import trial

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_without_scripts_has_pictures_and_says_so(browser: Browser, trial_site: Path, scheme: str) -> None:
    context = browser.new_context(
        java_script_enabled=False, color_scheme=scheme, viewport={"width": 390, "height": 900}
    )  # type: ignore[arg-type]
    page = context.new_page()
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
    context.close()
