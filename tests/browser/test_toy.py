"""The network that a reader trains in a page: by keyboard alone, in seconds, in a page opened as a file."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize

from gendyn_lite.charts import toy
from tests.book.trial import ROOT
from tests.browser.screen_reader import BY_SIZE, amiss
from tests.browser.visit import Visit

pytestmark = pytest.mark.browser
SECONDS = 5
HEAVIEST = 150_000  # bytes that it adds to a page, compressed
LONGEST = 50  # ms that the page may be busy without a break
SLOWED = 4  # times, of a phone
PHONE: ViewportSize = {"width": 390, "height": 844}
HEADER = 64  # pixels; the book's header stays at the top of a phone
NAMES = {
    "introduction": "toy-train-it-yourself",
    "01_random_labels": "toy-fit-random-labels-yourself",
    "02_path_functions": "toy-watch-the-pieces-move",
    "04_stiffness": "toy-take-the-step-yourself",
    "05_generalization_intervals": "toy-walk-from-one-digit-to-another",
}
NAME = NAMES["introduction"]
FOLLOWED = "02_path_functions"
ENDED = ", ".join(f"figure.gendyn-toy[data-state={state}]" for state in ("fitted", "unfitted", "astray"))
ANSWERED = ".gendyn-toy-answers[aria-busy=false]"
DRAWN = "() => document.querySelector('.gendyn-toy-plane').toDataURL()"
HEIGHT = "() => document.querySelector('.gendyn-toy-place').getBoundingClientRect().height"
BEGUN = "() => Number(document.querySelector('[data-fill=epochs]').textContent) > 2"
# What a page does between two looks at its clock is as much as on a slow machine, and no frame is waited for.
SLOW = f"""() => {{ const now = performance.now.bind(performance); performance.now = () => {SLOWED} * now();
  window.requestAnimationFrame = (then) => setTimeout(then); }}"""
HIDE = """(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
  document.dispatchEvent(new Event('visibilitychange')); }"""


def page_of(chapter: str, folder: Path) -> str:
    """A page that has the figure of a chapter as it was committed, far below its top, with today's script."""
    notebook = nbformat.read(ROOT / "book" / "chapters" / f"{chapter}.ipynb", as_version=4)
    outputs = [
        output.get("data", {}).get("text/html", "") for cell in notebook.cells for output in cell.get("outputs", [])
    ]
    (output,) = (text for text in outputs if f'id="{NAMES[chapter]}"' in text)
    figure = re.sub(r'<(style|script) data-gendyn="live">.*?</\1>\s*', "", output, flags=re.DOTALL)
    assert len(gzip.compress((figure + toy.script() + toy.style()).encode())) <= HEAVIEST
    head = "<meta charset=utf-8><title>Toy</title><meta name=viewport content='width=device-width'>"
    head += f"<style>{toy.style()}@media(prefers-color-scheme:dark){{html{{background:#121212;color:#eee;"
    head += (
        "color-scheme:dark}}body{font:16px/1.65 sans-serif;margin:28px;max-width:46rem}</style>"  # as wide as in a fold
    )
    body = f"<main><h1>Toy</h1><div id=above style='height:3000px'></div>{figure}</main><script>{toy.script()}</script>"
    path = folder / f"{chapter}.html"
    path.write_text(f"<!doctype html><html lang=en><head>{head}</head><body>{body}</body></html>", encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("toy")
    return {chapter: page_of(chapter, folder) for chapter in NAMES}


@pytest.fixture
def chapter() -> str:
    return "introduction"


@pytest.fixture
def visit(browser: Browser, addresses: dict[str, str], chapter: str) -> Iterator[Visit]:
    with Visit(browser, f"{addresses[chapter]}#{NAMES[chapter]}") as opened:
        opened.page.wait_for_selector("figure.gendyn-toy[data-ready]")
        yield opened
        assert opened.elsewhere + opened.complaints == []


def choose(page: Page, name: str, *keys: str) -> None:
    page.get_by_label(name).and_(page.locator("select")).focus()
    for key in keys:
        page.keyboard.press(key)


def train(page: Page) -> None:
    page.get_by_role("button", name="Train").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(ENDED)


def status(page: Page) -> str:
    return page.locator(".gendyn-toy-status").inner_text()


def accuracies(page: Page) -> list[float]:
    return [float(text) for text in re.findall(r"([\d.]+) %", status(page))]


def ask(page: Page) -> None:
    """Of the first image, where there are some to choose from."""
    if page.locator(".gendyn-toy-grid").count():
        page.locator(".gendyn-toy-grid label").first.click()
        page.wait_for_selector(ANSWERED)


def answer(page: Page) -> str:
    page.wait_for_selector(ANSWERED)
    return page.locator(".gendyn-toy-answers > p").inner_text()


def fits_a_phone(page: Page) -> None:
    """Controls, picture and result are one screen, and all is accessible, light and dark."""
    page.set_viewport_size(PHONE)
    assert page.evaluate(HEIGHT) <= PHONE["height"] - HEADER
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        assert amiss(page, only=BY_SIZE if scheme == "dark" else ()) == []


def test_random_labels_are_fitted_and_teach_nothing_by_keyboard_alone(visit: Visit) -> None:
    page = visit.page
    taken = []
    while min(taken, default=2 * SECONDS) > SECONDS and len(taken) < 3:  # the machine may be busy with other tests
        train(page)
        taken += [float(seconds) for seconds in re.findall(r"Fitted in ([\d.]+) seconds", status(page))]
    assert min(taken) <= SECONDS
    fitted, unseen = accuracies(page)
    assert fitted == 100
    assert 5 <= unseen <= 15
    page.keyboard.press("Tab")  # past the pause, which is disabled, to the digits
    for key in ("Space", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    said = re.match(r"Training digit 2, a \d, labelled (\d)\. The network says (\d), with probability", answer(page))
    assert said and said[1] == said[2]
    before = page.locator("[data-fill=upper]").inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # past the heading, to the class
    page.keyboard.press("8")
    page.wait_for_selector(ANSWERED)
    page.keyboard.press("Tab")  # the point: across, then up
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert f"{NAME}.toward=8&{NAME}.u=-1&{NAME}.v=0.02#" in page.url
    assert page.locator("[data-fill=upper]").inner_text() != before
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # whom a step helps
    assert page.locator(".gendyn-toy-row canvas[aria-label*=cosine]:visible").count() == 12
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".gendyn-toy-stepped:has-text('A step of size 0.05'):visible")
    own, then = re.findall(r"loss from ([\d.e-]+) to ([\d.e-]+)\.", page.locator(".gendyn-toy-stepped").inner_text())[0]
    assert float(then) < float(own)
    fits_a_phone(page)


def test_true_labels_teach_what_was_never_seen(visit: Visit) -> None:
    choose(visit.page, "labels", "Home")
    train(visit.page)
    assert accuracies(visit.page)[0] == 100
    assert accuracies(visit.page)[1] >= 90


def test_a_shared_link_trains_the_same_network_again(browser: Browser, visit: Visit) -> None:
    page = visit.page
    choose(page, "labels", "ArrowUp", "ArrowUp")
    choose(page, "seed", "ArrowDown")
    train(page)
    page.locator(".gendyn-toy-grid label").nth(16).click()
    page.get_by_label("toward").select_option("3")
    page.wait_for_selector(ANSWERED)
    kept = (("labels", "0.5"), ("seed", "1"), ("trained", "yes"), ("digit", "test-5"), ("toward", "3"))
    assert sorted(page.url.partition("?")[2].removesuffix(f"#{NAME}").split("&")) == sorted(
        f"{NAME}.{key}={value}" for key, value in kept
    )
    with Visit(browser, page.url) as again:
        again.page.wait_for_selector(ENDED)
        assert answer(again.page) == answer(page)
        assert accuracies(again.page) == accuracies(page)
        assert again.page.evaluate(DRAWN) == again.page.evaluate(DRAWN)
        choose(again.page, "seed", "Home")
        assert "seed" not in again.page.url
        assert "trained" not in again.page.url
        assert again.page.locator(".gendyn-toy-answers").is_hidden()


def test_a_link_with_values_that_there_are_not_opens_as_the_page_does(
    browser: Browser, addresses: dict[str, str]
) -> None:
    wrong = "&".join(f"{NAME}.{key}=nothing" for key in ("labels", "rate", "seed", "digit", "toward", "u", "length"))
    with Visit(browser, f"{addresses['introduction']}?{wrong}#{NAME}") as visit:
        visit.page.wait_for_selector("figure.gendyn-toy[data-ready]")
        assert visit.page.get_by_label("labels").input_value() == "1"
        train(visit.page)
        assert accuracies(visit.page)[0] == 100
        assert visit.complaints == []


def test_training_can_pause_and_does_in_the_background(visit: Visit) -> None:
    page = visit.page

    def stands_still() -> bool:
        page.wait_for_timeout(100)  # what was going on ends
        before = status(page)
        page.wait_for_timeout(300)
        return status(page) == before and before.startswith("Epoch ")

    page.get_by_role("button", name="Train").click()
    page.wait_for_function(BEGUN)
    page.get_by_role("button", name="Pause").click()
    assert stands_still()
    page.get_by_role("button", name="Go on").click()
    page.evaluate(HIDE, True)
    assert stands_still()
    page.evaluate(HIDE, False)
    page.wait_for_selector("figure.gendyn-toy[data-state=fitted]")


def test_a_loss_that_diverges_is_explained(visit: Visit) -> None:
    choose(visit.page, "step size", "End")
    train(visit.page)
    assert status(visit.page).startswith("Training went astray: the loss rose to ")
    assert "step size of 10" in status(visit.page)
    assert visit.page.locator(".gendyn-toy-choose").is_hidden()


@pytest.mark.parametrize("chapter", [FOLLOWED])
def test_pieces_move_while_two_moons_are_learned_and_a_point_has_its_function(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Train").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(BEGUN)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the pause
    page.wait_for_timeout(100)
    drawing, path = page.evaluate(DRAWN), page.locator("[data-fill=path]").inner_text()
    assert len(re.findall("[□■]", path)) == 24
    assert len(re.findall("■", path)) == int(page.locator("[data-fill=on]").inner_text())
    page.get_by_label("across").focus()
    page.keyboard.press("End")
    assert page.locator("[data-fill=x]").inner_text() == "2.60"
    paths = {path, page.locator("[data-fill=path]").inner_text()}
    page.keyboard.press("Home")
    assert len(paths | {page.locator("[data-fill=path]").inner_text()}) > 1
    page.get_by_role("button", name="Go on").click()
    page.wait_for_selector(ENDED)
    assert page.evaluate(DRAWN) != drawing
    assert accuracies(page)[0] == 100
    slope = [float(page.locator(f"[data-fill={key}]").inner_text().replace("−", "-")) for key in "abc"]
    assert any(slope)
    assert 0 < int(page.locator("[data-fill=right]").inner_text()) <= 200
    fits_a_phone(page)


@pytest.mark.parametrize("chapter", ["05_generalization_intervals"])
def test_a_point_is_dragged_and_the_end_of_the_class_is_seen(visit: Visit) -> None:
    page = visit.page
    train(page)
    ask(page)
    canvas = page.locator(".gendyn-toy-plane")
    canvas.scroll_into_view_if_needed()
    box, before = canvas.bounding_box(), page.evaluate(DRAWN)
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    found = []
    for share in (0.5, 0.6, 0.7):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] * 0.25)
        ends = [page.locator(f"[data-fill={key}]").inner_text().replace("−", "-") for key in ("lower", "upper")]
        assert -1 <= float(ends[0]) < 0 < float(ends[1]) <= 2
        found.append(ends)
    page.mouse.up()
    assert len({tuple(ends) for ends in found}) > 1
    assert abs(float(page.get_by_label("across").input_value()) - 1.1) < 0.03
    assert abs(float(page.get_by_label("up").input_value()) - 1.25) < 0.03
    assert page.evaluate(DRAWN) != before
    assert ".u=1.1" in page.url
    fits_a_phone(page)


@pytest.mark.parametrize("chapter", ["01_random_labels"])
def test_what_was_tried_is_collected(visit: Visit) -> None:
    train(visit.page)
    choose(visit.page, "hidden units", "Home")
    train(visit.page)
    rows = visit.page.locator(".gendyn-toy-tried tr").all()
    cells = [row.locator("td").all_inner_texts() for row in rows]
    assert [row[:2] for row in cells] == [["all random", "256"], ["all random", "4"]]
    assert (cells[0][4], cells[1][2]) == ("100 %", "unfitted")
    ask(visit.page)
    fits_a_phone(visit.page)


@pytest.mark.parametrize("chapter", ["04_stiffness"])
def test_a_trained_figure_fits_a_phone(visit: Visit) -> None:
    """Those of the other chapters, in which more is done, do so at the end of their tests."""
    train(visit.page)
    ask(visit.page)
    fits_a_phone(visit.page)


@pytest.mark.parametrize("chapter", ["introduction", FOLLOWED])
def test_no_task_is_long_on_a_slow_machine(browser: Browser, visit: Visit) -> None:
    """By the time of the thread itself, with a clock that runs as much faster as a phone is slower."""
    page = visit.page
    page.evaluate(SLOW)
    browser.start_tracing(page=page, categories=["devtools.timeline"])
    train(page)
    ask(page)
    page.get_by_label("across").press("Home")
    events = json.loads(browser.stop_tracing())["traceEvents"]
    kinds = ("TimerFire", "EventDispatch")
    tasks = [SLOWED * event["tdur"] / 1000 for event in events if event["name"] in kinds and "tdur" in event]
    assert len(tasks) > 200
    assert max(tasks) <= LONGEST


def test_ten_trainings_leave_the_memory_as_it_was(browser: Browser, addresses: dict[str, str]) -> None:
    with Visit(browser, f"{addresses['introduction']}#{NAME}") as visit:
        page, used = visit.page, []
        page.wait_for_selector("figure.gendyn-toy[data-ready]")
        session = page.context.new_cdp_session(page)
        choose(page, "labels", "Home")
        for turn in range(10):
            page.locator("select[name=seed]").select_option(str(turn))
            train(page)
            session.send("HeapProfiler.collectGarbage")
            used.append(session.send("Runtime.getHeapUsage"))
        grown = sum(used[-1][key] - used[1][key] for key in ("usedSize", "backingStorageSize") if key in used[-1])
        assert grown < 1_000_000


@pytest.mark.parametrize("chapter", NAMES)
def test_nothing_begins_before_it_is_seen_and_without_scripts_a_run_is_shown(
    browser: Browser, without_scripts: BrowserContext, addresses: dict[str, str], chapter: str
) -> None:
    with Visit(browser, addresses[chapter]) as visit:
        visit.page.wait_for_load_state("load")
        assert visit.page.locator("figure.gendyn-toy[data-ready]").count() == 0
    page = without_scripts.new_page()
    page.goto(addresses[chapter])
    figure = page.locator("figure.gendyn-toy")
    assert figure.locator("button:visible, input:visible, select:visible, canvas:visible").count() == 0
    assert figure.locator("noscript").inner_text().strip() == toy.MISSING
    assert figure.locator(".gendyn-toy-recorded tbody tr:visible").count() in (3, 6)
    page.close()
