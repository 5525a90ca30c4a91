"""A headless Chromium with every other host blocked, and a small server for the pages."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.browser.places import PAGES, SIZES, SIZES_OF, Place, site_of
from tests.browser.visit import Visit

FLAGS = ["--no-sandbox", "--no-first-run"]
FLAGS += [f"--disable-{what}" for what in ("gpu", "quic", "background-networking", "component-update", "sync")]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def executable() -> str | None:
    """The browser that the machine has, or that GENDYN_CHROMIUM names."""
    return os.environ.get("GENDYN_CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")  # while it lives, playwright's event loop runs in this thread
def browser() -> Iterator[Browser]:
    """Chromium; without one the test is skipped by name, and fails in CI."""
    path = executable()
    if path is None:
        missing = "no Chromium found: install it (Debian, Ubuntu: the package chromium) or set GENDYN_CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        started.new_context()  # the window of all visits
        yield started
        started.close()


@pytest.fixture(scope="module")
def without_scripts(browser: Browser) -> BrowserContext:
    """Where pages are opened that may run no script."""
    return browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 900})


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server of a folder on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=partial(server.serve_forever, poll_interval=0.02), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module", params=PAGES, ids=str)
def place(request: pytest.FixtureRequest) -> Place:
    """Every page of the trial book, then of the real one; all tests of one page come together."""
    return request.param


@pytest.fixture(scope="module")
def visits(request: pytest.FixtureRequest, browser: Browser, place: Place) -> Iterator[dict[str, Visit]]:
    """One visit of a page at each size; the tests of that page share them, in their order.

    The dark ones open it as a file, the others from a server.
    """
    site = site_of(place.book, request)
    with served(site) as address, ExitStack() as stack:
        homes = {"light": address, "dark": site.as_uri()}
        opened = {}
        for size in SIZES_OF[place.book]:
            width, scheme = SIZES[size]
            visit = Visit(browser, f"{homes[scheme]}/{place.path}", width=width, scheme=scheme)
            opened[size] = stack.enter_context(visit)
        yield {size: visit.settle() for size, visit in opened.items()}


@pytest.fixture(params=SIZES)
def visit(request: pytest.FixtureRequest, visits: dict[str, Visit]) -> Visit:
    """The page at every size that it is opened at."""
    return visits[request.param].in_front()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the sizes that a page is not opened at."""
    for item in items.copy():
        given = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        if {"visit", "place"} <= set(given) and given["visit"] not in SIZES_OF[given["place"].book]:
            items.remove(item)


@pytest.fixture
def desktop(visits: dict[str, Visit]) -> Visit:
    """The page, light, on a wide screen."""
    return visits["light"].in_front()
