"""A headless Chromium with every other host blocked, and a small server for the pages."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
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
        yield started
        started.close()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def serve(folder: Path) -> Iterator[str]:
    """The address of a server of a folder on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session", params=["trial", "real"])
def site(request: pytest.FixtureRequest) -> Path:
    """The trial book's pages, then the real one's."""
    return request.getfixturevalue(f"{request.param}_site")


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the pages are served."""
    yield from serve(site)


def pages_of(site: Path) -> list[str]:
    """Paths of the pages that readers come to."""
    every = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    return [path for path in every if not path.startswith(("_static/", "index.html"))]


class Visit:
    """A page opened in a fresh context, with what it asked of other hosts and what it complained of."""

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, scheme: str = "light") -> None:
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.home = url if url.startswith("file:") else "/".join(url.split("/")[:3])
        options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
        self.context = browser.new_context(**options, reduced_motion="reduce")  # type: ignore[arg-type]
        self.page: Page = self.context.new_page()
        self.context.route("**/*", self._guard)
        self.page.on("console", lambda message: self._complain(message.type, message.text))
        self.page.on("pageerror", lambda error: self._complain("error", str(error)))
        self.page.on("response", lambda answer: self._answered(answer.status, answer.url))
        self.page.goto(url)
        self.page.wait_for_function("() => !document.querySelector('figure.gendyn-chart:not([data-drawn=yes])')")
        self.page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")

    def _guard(self, route: Route) -> None:
        local = ("data:", "blob:", "file:" if self.home.startswith("file:") else self.home)
        if route.request.url.startswith(local):
            route.continue_()
        else:
            self.elsewhere.append(route.request.url)
            route.abort()

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def _answered(self, status: int, url: str) -> None:
        if status >= 400:
            self.complaints.append(f"{status}: {url}")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()
