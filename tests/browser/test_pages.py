"""Every page in a browser without a network: nothing asked of other hosts, nothing broken, charts that respond.

The tests of a page share its visits, one a size, in the order of this file: those that change the page come last.
"""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator
from playwright.sync_api import TimeoutError as TooLong

from tests.book.trial import ROOT
from tests.browser.places import ALIKE, BOOKS, PAGES, Place, site_of
from tests.browser.screen_reader import BY_SIZE, amiss
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
SCREENSHOTS = ROOT / "_build" / "test" / "screenshots"
HEAVIEST = 1_200_000  # bytes that a page loads, compressed
SLIDER = re.compile(r'"input":"select","labels":\[[^]]*\],"name":"[^"]*","options":\[[-\d]')  # in a specification

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


@pytest.mark.parametrize("book", BOOKS)
def test_every_page_is_visited_and_some_have_sliders(request: pytest.FixtureRequest, book: str) -> None:
    site = site_of(book, request)
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    read = [path for path in pages if not path.startswith(("_static/", "index.html"))]
    assert sorted(read) == sorted([*ALIKE[book], *(place.path for place in PAGES if place.book == book)])
    assert any(SLIDER.search((site / path).read_text(encoding="utf-8")) for path in read)


def test_a_page_fits(visit: Visit) -> None:
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= visit.width


def test_charts_are_no_wider_than_their_place(visit: Visit) -> None:
    assert visit.page.evaluate(STANDING_OUT) == []


def test_words_stand_out_from_what_is_behind_them(visit: Visit) -> None:
    where = "figure.gendyn-chart svg text, figure.gendyn-chart figcaption, main p, main summary"
    written = visit.page.evaluate(CONTRASTS, where)
    assert [(text, ratio) for text, ratio, least in written if text and ratio < least] == []


def test_a_screen_reader_finds_nothing_amiss(visit: Visit, desktop: Visit, place: Place) -> None:
    """What the theme shows at some sizes only is asked all rules on the trial's pages."""
    without = "" if visit is desktop else "svg.marks > g"  # which says the same at every size
    only = BY_SIZE if place.book == "real" and visit is not desktop else ()
    assert amiss(visit.page, without=without, only=only) == []


def test_a_page_is_as_light_or_dark_as_asked(visit: Visit) -> None:
    assert visit.page.evaluate("getComputedStyle(document.documentElement).colorScheme") == visit.scheme


def test_a_page_is_not_blank(visit: Visit, request: pytest.FixtureRequest) -> None:
    picture = visit.page.screenshot()  # of what is seen first; a whole page takes many seconds to paint
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / f"{request.node.callspec.id}.png").write_bytes(picture)
    darkest, lightest = Image.open(io.BytesIO(picture)).convert("L").getextrema()
    assert lightest - darkest > 100  # type: ignore[operator]


def test_a_page_has_one_title_and_its_charts_have_words(desktop: Visit) -> None:
    """That headings go down one level at a time, and pictures and the page have words and a language: axe, above."""
    assert desktop.page.locator("article h1:visible").count() <= 1
    named = "figure.gendyn-chart [role=graphics-document][aria-label]"
    assert desktop.page.locator(named).count() == desktop.page.locator("figure.gendyn-chart").count()


def test_a_page_is_light(desktop: Visit, place: Place, request: pytest.FixtureRequest) -> None:
    site, home = site_of(place.book, request), f"{desktop.home}/"
    files = [site / url.removeprefix(home) for url in desktop.loaded if url.startswith(home)]
    assert site / place.path in files
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= HEAVIEST


def test_no_chart_has_the_id_of_another(desktop: Visit) -> None:
    ids = desktop.page.locator("[id]").evaluate_all("all => all.map(e => e.id)")
    figures = [one for one in ids if one.startswith("chart-")]
    assert sorted(figures) == sorted(set(figures))


def still(figure: Locator) -> None:
    """Wait until the chart of a figure stands still, and keep its drawing."""
    figure.evaluate(
        """async figure => {
          const drawing = () => figure.querySelector(".gendyn-panel:not([hidden]) svg.marks").innerHTML;
          do { figure.kept = drawing(); await new Promise(done => setTimeout(done, 50)); }
          while (drawing() !== figure.kept);
        }"""
    )


MOVING = """one => one.type === "range" ? ["End", "Home"][+(one.value === one.max)]
  : ["ArrowDown", "ArrowUp"][+![...one.options].slice(one.selectedIndex + 1).some(option => !option.disabled)]"""


def changes(figure: Locator, control: Locator) -> bool:
    """Whether a key that moves a control, or then the opposite one, changes the chart."""
    still(figure)
    keys = ["End", "Home", "ArrowDown", "ArrowUp"]
    first = keys.index(control.evaluate(MOVING))
    changed = "figure => figure.querySelector('.gendyn-panel:not([hidden]) svg.marks').innerHTML !== figure.kept"
    for key in (keys[first], keys[first ^ 1]):
        control.press(key)
        try:
            figure.page.wait_for_function(changed, arg=figure.element_handle(), timeout=3000)
            return True
        except TooLong:
            continue
    return False


def unfold(figure: Locator) -> None:
    """Open the fold that a chart is in."""
    figure.evaluate("f => { const fold = f.closest('details'); if (fold) fold.open = true; }")
    figure.locator(".gendyn-panel:not([hidden]) svg.marks").first.wait_for()


def test_every_slider_and_select_moves_its_chart_by_keyboard(desktop: Visit) -> None:
    for figure in desktop.page.locator("figure.gendyn-chart").all():
        unfold(figure)
        sliders = figure.locator(".vega-bindings input[type=range]:visible").all()
        assert len(sliders) == len(SLIDER.findall(figure.locator(".gendyn-spec").first.text_content() or ""))
        selects = figure.locator("select:has(option:nth-child(2):enabled):visible").all()
        for control in sliders + selects:
            name = control.evaluate("e => e.labels.length ? e.labels[0].innerText.trim() : ''")
            assert name and not name.startswith("param_")
            assert changes(figure, control), name


def test_every_chart_offers_its_data(desktop: Visit) -> None:
    for figure in desktop.page.locator("figure.gendyn-chart").all():
        unfold(figure)
        figure.locator(".gendyn-data summary:visible").click()
        figure.locator(".gendyn-table tbody tr").first.wait_for(timeout=5000)


def test_no_request_leaves_nothing_complains_and_everything_is_drawn(visit: Visit) -> None:
    assert visit.elsewhere + visit.complaints == []
    charts, chapter = "figure.gendyn-chart", "/chapters/" in visit.page.url
    drawn = [visit.page.locator(f"{charts}{of}").count() for of in ("", " .gendyn-panel:not([hidden]) svg.marks")]
    assert drawn[0] == drawn[1] >= chapter
    assert visit.page.locator("mjx-container").count() >= visit.page.locator(".math").count()


def test_a_request_to_another_host_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<script>fetch('https://example.org/a').catch(() => console.error('blocked'))</script>")
    with Visit(browser, page.as_uri()) as visit:
        with visit.page.expect_console_message(lambda message: "blocked" in message.text):
            visit.settle()
        assert visit.elsewhere == ["https://example.org/a"]
        assert any("blocked" in complaint for complaint in visit.complaints)


def test_controls_are_reached_by_tab_and_their_focus_is_seen(browser: Browser, trial_site: Path) -> None:
    page = next((trial_site / "chapters").glob("*.html"))
    with Visit(browser, page.as_uri()) as visit:
        visit.settle().page.locator("figure.gendyn-chart input[type=range]").first.focus()
        visit.page.keyboard.press("Tab")
        focus = "() => { const e = document.activeElement; return [e.tagName, getComputedStyle(e).outlineStyle]; }"
        assert visit.page.evaluate(focus) == ["SELECT", "solid"]
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate(focus) == ["INPUT", "solid"]  # that steps through the points
        visit.page.keyboard.press("Tab")
        assert visit.page.evaluate(focus) == ["SUMMARY", "solid"]
        visit.page.keyboard.press("Enter")
        table = visit.page.locator("figure.gendyn-chart .gendyn-table").first
        table.wait_for()
        assert table.locator("tbody tr").count() == 3 * 20  # of the chosen q
        assert table.locator("th").all_inner_texts() == ["line", "q", "x", "y"]
