"""A page opened in a browser as a reader would, and what it asked and said meanwhile."""

from __future__ import annotations

from playwright.sync_api import Browser, Page, Route
from playwright.sync_api import TimeoutError as TooLong

PATIENCE = 60_000  # ms: four pages load at once, on a machine that may be busy
UNDRAWN = "figure.gendyn-chart:not([data-drawn=yes]), .math:not(:has(mjx-container))"


class Visit:
    """A page opened in a tab of its own, with what it asked of other hosts and what it complained of.

    It loads while others do: `settle` waits until everything is drawn.
    """

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, scheme: str = "light") -> None:
        self.elsewhere: list[str] = []
        self.complaints: list[str] = []
        self.loaded: set[str] = set()
        self.width, self.scheme = width, scheme
        self.home = url if url.startswith("file:") else "/".join(url.split("/")[:3])
        self.page: Page = browser.contexts[0].new_page()  # a window for each would take a second of processor time
        self.page.set_default_timeout(PATIENCE)
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        self.page.route("**/*", self._guard)
        self.page.on("console", lambda message: self._complain(message.type, message.text))
        self.page.on("pageerror", lambda error: self._complain("error", str(error)))
        self.page.on("response", lambda answer: self._answered(answer.status, answer.url))
        self.page.goto(url, wait_until="commit")

    def in_front(self) -> Visit:
        """The same visit, as the tab that is seen: Chromium draws the others once a second."""
        self.page.bring_to_front()
        return self

    def settle(self) -> Visit:
        """Make ready what is not in sight yet, as for paper; wait until all charts are drawn, the mathematics set."""
        self.in_front().page.wait_for_load_state("load")
        self.page.evaluate("() => window.MathJax?.startup?.promise?.then(() => null)")
        self.page.evaluate("() => { window.dispatchEvent(new Event('beforeprint')); }")
        frame = "requestAnimationFrame"  # what it unfolds is measured within two
        self.page.evaluate(f"() => new Promise((done) => {frame}(() => {frame}(() => done())))")
        try:
            self.page.wait_for_function(f"() => !document.querySelector({UNDRAWN!r})")
        except TooLong as error:
            raise AssertionError(f"{self.page.url}: not drawn or not set: {self.complaints}") from error
        return self

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
        self.loaded.add(url.partition("?")[0].partition("#")[0])
        if status >= 400:
            self.complaints.append(f"{status}: {url}")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()
