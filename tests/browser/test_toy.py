"""The network that a reader trains in a page: by keyboard alone, in seconds, in a page opened as a file."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from gendyn_lite.charts import toy
from tests.book.trial import ROOT
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
SECONDS = 5
HEAVIEST = 150_000  # bytes that it adds to a page, compressed
LONGEST = 50  # ms that the page may be busy without a break
NAME = "toy-train-it-yourself"
LONG = """() => { window.long = []; new PerformanceObserver((list) => window.long.push(
  ...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask" }); }"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page that has the figure of the introduction as it was committed, far below its top."""
    notebook = nbformat.read(ROOT / "book" / "chapters" / "introduction.ipynb", as_version=4)
    outputs = [
        output.get("data", {}).get("text/html", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    (output,) = (text for text in outputs if NAME in text)
    figure = re.sub(r'<(style|script) data-gendyn="live">.*?</\1>\s*', "", output, flags=re.DOTALL)
    assert len(gzip.compress((figure + toy.script() + toy.style()).encode())) <= HEAVIEST
    head = (
        f"<meta charset=utf-8><title>Toy</title><meta name=viewport content='width=device-width'><style>{toy.style()}"
    )
    head += "@media(prefers-color-scheme:dark){html{background:#121212;color:#eee;color-scheme:dark}}</style>"
    body = f"<main><h1>Toy</h1><div id=above style='height:3000px'></div>{figure}</main><script>{toy.script()}</script>"
    path = tmp_path_factory.mktemp("toy") / "page.html"
    path.write_text(f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>", encoding="utf-8")
    return path.as_uri()


@pytest.fixture(params=["light", "dark"])
def visit(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Visit]:
    with Visit(browser, f"{address}#{NAME}", scheme=request.param) as opened:
        opened.page.wait_for_selector("figure.gendyn-toy[data-ready]")
        yield opened
        assert opened.elsewhere + opened.complaints == []


def slider(page: Page, name: str, *keys: str) -> None:
    control = page.get_by_label(name, exact=False).and_(page.locator("input"))
    control.focus()
    for key in keys:
        page.keyboard.press(key)


def train(page: Page) -> None:
    page.get_by_role("button", name="Train").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("figure.gendyn-toy[data-ended]")


def accuracies(page: Page) -> list[float]:
    return [float(text) for text in re.findall(r"([\d.]+) %", page.get_by_role("status").first.inner_text())]


def answer(page: Page) -> str:
    page.wait_for_function("() => document.querySelector('.gendyn-toy-answer').textContent.includes('mean cosine')")
    return page.locator(".gendyn-toy-answer").inner_text()


def test_random_labels_are_fitted_and_teach_nothing_by_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    page.evaluate(LONG)
    train(page)
    said = page.get_by_role("status").first.inner_text()
    assert said.startswith("Fitted in ")
    assert float(said.split()[2]) <= SECONDS
    fitted, unseen = accuracies(page)
    assert fitted == 100
    assert 5 <= unseen <= 15
    page.keyboard.press("Tab")  # past the pause, which is disabled, to the digits
    for key in ("Space", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert re.match(r"Training digit 2 is a \d, labelled \d. The network says \d, with probability", answer(page))
    chosen = page.locator(".gendyn-toy-grid :checked").get_attribute("aria-label") or ""
    assert chosen.rpartition(" ")[2] == re.findall(r"says (\d)", answer(page))[0]
    before = page.locator(".gendyn-toy-lasts").get_attribute("style")
    page.keyboard.press("Tab")
    page.keyboard.press("8")
    page.wait_for_function("() => document.querySelector('.gendyn-toy-answer').textContent.includes('the line to a 8')")
    assert page.locator(".gendyn-toy-lasts").get_attribute("style") != before
    assert page.locator(".gendyn-toy-row canvas[aria-label*=cosine]").count() == 12
    page.keyboard.press("Tab")
    page.keyboard.press("End")  # at the far end of the line
    assert page.evaluate("document.activeElement.ariaValueText").startswith("2.00: ")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.gendyn-toy-stepped').textContent.startsWith('A step of')")
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] != "minor"] == []
    assert max(page.evaluate("window.long"), default=0) < 3 * LONGEST  # on a machine that may be busy


def test_true_labels_teach_what_was_never_seen(visit: Visit) -> None:
    slider(visit.page, "labels", "Home")
    train(visit.page)
    assert accuracies(visit.page)[0] == 100
    assert accuracies(visit.page)[1] >= 90


def test_a_shared_link_trains_the_same_network_again(browser: Browser, visit: Visit) -> None:
    page = visit.page
    slider(page, "labels", "ArrowLeft", "ArrowLeft")
    slider(page, "seed", "ArrowRight")
    train(page)
    page.locator(".gendyn-toy-grid label").nth(45).click()
    page.get_by_label("How far").select_option("3")
    page.wait_for_function("() => document.querySelector('.gendyn-toy-answer').textContent.includes('the line to a 3')")
    assert f"{NAME}.labels=0.5&{NAME}.seed=1&{NAME}.trained=yes&{NAME}.digit=test-5&{NAME}.toward=3#{NAME}" in page.url
    with Visit(browser, page.url) as again:
        again.page.wait_for_selector("figure.gendyn-toy[data-ended]")
        assert answer(again.page) == answer(page)
        assert accuracies(again.page) == accuracies(page)
        slider(again.page, "seed", "Home")
        assert "seed" not in again.page.url
        assert "trained" not in again.page.url
        assert again.page.locator(".gendyn-toy-answers").is_hidden()


def test_training_can_pause_and_does_in_the_background(visit: Visit) -> None:
    page = visit.page
    status, epochs = page.get_by_role("status").first, "() => document.querySelector('.gendyn-toy-chart svg').ariaLabel"
    page.get_by_role("button", name="Train").click()
    page.get_by_role("button", name="Pause").click()
    assert status.inner_text().startswith("Paused")
    before = page.evaluate(epochs)
    page.wait_for_timeout(200)
    assert page.evaluate(epochs) == before
    hide = "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.get_by_role("button", name="Go on").click()
    page.evaluate(hide, True)
    assert status.inner_text() == "Paused: this page is in the background."
    before = page.evaluate(epochs)
    page.wait_for_timeout(200)
    assert page.evaluate(epochs) == before
    page.evaluate(hide, False)
    page.wait_for_selector("figure.gendyn-toy[data-ended=fitted]")


def test_a_loss_that_diverges_is_explained(visit: Visit) -> None:
    slider(visit.page, "step size", "End")
    train(visit.page)
    assert visit.page.get_by_role("status").first.inner_text().startswith("Training went astray: the loss rose to ")
    assert "step size of 10" in visit.page.get_by_role("status").first.inner_text()


def test_ten_trainings_leave_the_memory_as_it_was(browser: Browser, address: str) -> None:
    with Visit(browser, f"{address}#{NAME}") as visit:
        page, used = visit.page, []
        page.wait_for_selector("figure.gendyn-toy[data-ready]")
        session = visit.context.new_cdp_session(page)
        slider(page, "labels", "Home")
        for _ in range(10):
            page.evaluate("() => document.querySelector('figure.gendyn-toy').removeAttribute('data-ended')")
            train(page)
            session.send("HeapProfiler.collectGarbage")
            used.append(session.send("Runtime.getHeapUsage"))
        grown = sum(used[-1][key] - used[1][key] for key in ("usedSize", "backingStorageSize") if key in used[-1])
        assert grown < 1_000_000


def test_nothing_begins_before_it_is_seen_and_without_scripts_a_run_is_shown(browser: Browser, address: str) -> None:
    with Visit(browser, address) as visit:
        visit.page.wait_for_load_state("load")
        assert visit.page.locator("figure.gendyn-toy[data-ready]").count() == 0
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    figure = page.locator("figure.gendyn-toy")
    assert figure.locator("button:visible, input:visible").count() == 0
    assert figure.locator("noscript").inner_text().strip() == toy.MISSING
    assert figure.locator("tbody tr:visible").count() == 3
    context.close()
