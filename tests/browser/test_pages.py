"""Every page in a browser without a network: nothing asked of other hosts, nothing broken, charts that respond."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator

from tests.book.trial import ROOT
from tests.browser.conftest import Visit, pages_of

pytestmark = pytest.mark.browser
SCREENSHOTS = ROOT / "_build" / "test" / "screenshots"
SIZES = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (390, "light"), "phone-dark": (390, "dark")}

# Contrast (WCAG 2: at least 4.5, large text 3) of what is written against the first opaque background behind it.
CONTRASTS = """(selector) => [...document.querySelectorAll(selector)].filter(e => e.getClientRects().length).map(e => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = (x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * linear(c[i] / 255), 0);
  const clear = (c) => c.length === 4 && c[3] < 0.5;
  let behind = e, ground = [0, 0, 0, 0];
  while (behind && clear(ground)) {
    ground = rgb(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
  if (clear(ground)) ground = [255, 255, 255];
  const style = getComputedStyle(e), ink = rgb(e instanceof SVGElement ? style.fill : style.color);
  const [low, high] = [light(ink), light(ground)].sort((a, b) => a - b);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  return [e.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05), large ? 3 : 4.5];
})"""


def test_no_request_leaves_and_nothing_complains(browser: Browser, site: Path, address: str) -> None:
    found: dict[str, list[str]] = {}
    for path in pages_of(site):
        with Visit(browser, f"{address}/{path}") as visit:
            found[path] = visit.elsewhere + visit.complaints
    assert found
    assert {path: faults for path, faults in found.items() if faults} == {}


def test_a_page_opened_as_a_file_draws_everything(browser: Browser, site: Path) -> None:
    for path in [path for path in pages_of(site) if path.startswith("chapters/")]:
        with Visit(browser, (site / path).as_uri()) as visit:
            assert visit.elsewhere + visit.complaints == []
            figures = visit.page.locator("figure.gendyn-chart").count()
            assert figures > 0
            assert visit.page.locator("figure.gendyn-chart svg.marks").count() == figures
            assert visit.page.locator("mjx-container").count() >= visit.page.locator(".math").count()


def test_a_request_to_another_host_would_be_seen(browser: Browser, trial_site: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<script>fetch('https://example.org/a').catch(() => console.error('blocked'))</script>")
    with Visit(browser, page.as_uri()) as visit:
        visit.page.wait_for_timeout(100)
        assert visit.elsewhere == ["https://example.org/a"]
        assert any("blocked" in complaint for complaint in visit.complaints)


def drawing(figure: Locator) -> str:
    """The chart of a figure as SVG."""
    return figure.locator("svg.marks").inner_html()


def changes(figure: Locator, control: Locator, keys: list[str]) -> bool:
    """Whether a key pressed on a control changes the chart."""
    before = drawing(figure)
    for key in keys:
        control.press(key)
        control.page.wait_for_timeout(150)
        if drawing(figure) != before:
            return True
    return False


def test_every_slider_and_select_moves_its_chart_by_keyboard(browser: Browser, site: Path, address: str) -> None:
    moved = 0
    for path in [path for path in pages_of(site) if path.startswith("chapters/")]:
        with Visit(browser, f"{address}/{path}") as visit:
            for figure in visit.page.locator("figure.gendyn-chart").all():
                sliders = figure.locator("input[type=range]").all()
                selects = figure.locator("select:has(option:nth-child(2))").all()
                for control, keys in [(one, ["End", "Home"]) for one in sliders] + [
                    (one, ["ArrowDown", "ArrowUp"]) for one in selects
                ]:
                    name = control.evaluate("e => e.labels.length ? e.labels[0].innerText.trim() : ''")
                    assert name
                    assert not name.startswith("param_")
                    assert changes(figure, control, keys), f"{path}: {name}"
                    moved += len(sliders) > 0
    assert moved > 0, "no chapter has a slider"


def test_controls_are_reached_by_tab_and_their_focus_is_seen(browser: Browser, trial_site: Path) -> None:
    page = next((trial_site / "chapters").glob("*.html"))
    with Visit(browser, page.as_uri()) as visit:
        visit.page.locator("figure.gendyn-chart input[type=range]").first.focus()
        visit.page.keyboard.press("Tab")
        focus = "() => { const e = document.activeElement; return [e.tagName, getComputedStyle(e).outlineStyle]; }"
        assert visit.page.evaluate(focus) == ["SELECT", "solid"]
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate(focus) == ["SUMMARY", "solid"]
        visit.page.keyboard.press("Enter")
        table = visit.page.locator("figure.gendyn-chart .gendyn-table").first
        table.wait_for()
        assert table.locator("tbody tr").count() == 3 * 5 * 20
        assert table.locator("th").all_inner_texts() == ["line", "q", "x", "y"]
        assert visit.page.locator("a[download]").first.get_attribute("href").startswith("data:text/csv")  # type: ignore[union-attr]


def test_every_chart_offers_its_data(browser: Browser, site: Path, address: str) -> None:
    for path in [path for path in pages_of(site) if path.startswith("chapters/")]:
        with Visit(browser, f"{address}/{path}") as visit:
            for figure in visit.page.locator("figure.gendyn-chart").all():
                figure.locator(".gendyn-data summary").click()
                figure.locator(".gendyn-table tbody tr").first.wait_for(timeout=5000)


@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_and_can_be_read(browser: Browser, site: Path, address: str, size: str) -> None:
    width, scheme = SIZES[size]
    for path in pages_of(site):
        with Visit(browser, f"{address}/{path}", width=width, scheme=scheme) as visit:
            assert visit.page.evaluate("document.documentElement.scrollWidth") <= width, path
            picture = visit.page.screenshot(full_page=True)
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            (SCREENSHOTS / f"{site.parent.parent.name}-{Path(path).stem}-{size}.png").write_bytes(picture)
            written = visit.page.evaluate(
                CONTRASTS, "figure.gendyn-chart svg text, figure.gendyn-chart figcaption *, main p"
            )
            assert [(text, ratio) for text, ratio, least in written if text and ratio < least] == [], path
            colours = Image.open(io.BytesIO(picture)).convert("L").getextrema()
            assert colours[1] - colours[0] > 100, path  # type: ignore[operator]
            ground = visit.page.evaluate("getComputedStyle(document.documentElement).colorScheme")
            assert ground == scheme


# What of a chart's views, or of the words in its drawing, stands out on the right, in pixels.
STANDING_OUT = """() => {
  const found = [];
  for (const view of document.querySelectorAll("figure.gendyn-chart .gendyn-view")) {
    const name = view.closest("figure").innerText.split("\\n")[0], edge = view.getBoundingClientRect().right;
    if (view.scrollWidth - view.clientWidth > 2) found.push([name, "the view", view.scrollWidth - view.clientWidth]);
    for (const text of view.querySelectorAll("svg.marks text")) {
      const over = text.getBoundingClientRect().right - edge;
      if (over > 2) found.push([name, text.textContent, over]);
    }
  }
  return found;
}"""


def test_charts_are_no_wider_than_their_place(browser: Browser, site: Path, address: str) -> None:
    for path in [path for path in pages_of(site) if path.startswith("chapters/")]:
        for width in (390, 1280):
            with Visit(browser, f"{address}/{path}", width=width) as visit:
                assert visit.page.evaluate(STANDING_OUT) == [], (path, width)


def test_headings_pictures_and_charts_have_words(browser: Browser, site: Path, address: str) -> None:
    for path in pages_of(site):
        with Visit(browser, f"{address}/{path}") as visit:
            page = visit.page
            levels = page.locator("article h1, article h2, article h3, article h4").evaluate_all(
                "all => all.filter(e => e.getClientRects().length).map(e => Number(e.tagName[1]))"
            )
            if path.startswith(("chapters/", "intro")):
                assert levels.count(1) == 1, path
                assert all(after - before <= 1 for before, after in pairwise(levels)), (path, levels)
            assert page.locator("main img:not([alt])").count() == 0, path
            assert page.get_attribute("html", "lang") == "en"
            named = "figure.gendyn-chart [role=graphics-document][aria-label]"
            assert page.locator(named).count() == page.locator("figure.gendyn-chart").count(), path
            ids = page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
            figures = [one for one in ids if one.startswith("chart-")]
            assert sorted(figures) == sorted(set(figures)), path
