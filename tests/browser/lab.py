"""A notebook opened in JupyterLab by headless Chromium, with every other host blocked."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from playwright.sync_api import Browser

from tests.browser.visit import Visit
from tests.project.beside import Beside

OPTIONS = ["--no-browser", "--allow-root", "--ServerApp.token=", "--ServerApp.password="]
OPTIONS += ["--LabApp.expose_app_in_browser=True"]
CONTENT = "window.jupyterapp.shell.currentWidget.content"
CODE = f"{CONTENT}.widgets.filter((one) => one.model.type === 'code')"
MINUTES = 300_000  # ms, of a chapter


class Lab:
    """The notebook that is open."""

    def __init__(self, visit: Visit) -> None:
        self.page, self.elsewhere = visit.page, visit.elsewhere

    def find(self, text: str) -> int:
        """Number of the first cell with a text, which comes into sight."""
        found = f"{CONTENT}.widgets.findIndex((one) => one.model.sharedModel.getSource().includes(text))"
        number = self.page.evaluate(f"(text) => {found}", text)
        self.show(number)
        return number

    def within(self, number: int, selector: str) -> int:
        """How many elements of a cell a selector finds."""
        return self.page.evaluate(
            f"([n, all]) => {CONTENT}.widgets[n].node.querySelectorAll(all).length", [number, selector]
        )

    def wait(self, number: int, selector: str) -> None:
        """Wait until a cell has an element."""
        self.page.wait_for_function(
            f"([n, one]) => {CONTENT}.widgets[n].node.querySelector(one)", arg=[number, selector]
        )

    def run_all(self) -> None:
        """Run every cell, and wait for the last one."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        self.page.wait_for_function(f"() => {CODE}.every((one) => one.model.executionCount)", timeout=MINUTES)

    def show(self, number: int) -> None:
        """Bring a cell into sight."""
        self.page.evaluate(f"(number) => {CONTENT}.scrollToItem(number, 'start')", number)

    def figures(self) -> list[int]:
        """Numbers of the cells that show a chart."""
        has = "one.model.outputs && JSON.stringify(one.model.outputs.toJSON()).includes('gendyn-spec')"
        return self.page.evaluate(f"() => {CONTENT}.widgets.flatMap((one, number) => {has} ? [number] : [])")


@contextmanager
def opened(beside: Beside, folder: Path, name: str, browser: Browser) -> Iterator[Lab]:
    """JupyterLab of an environment with a notebook of a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(beside.python), "-m", "jupyterlab", f"--ServerApp.port={port}", *OPTIONS]
    own = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, cwd=folder, env={**beside.environ, **own}, **quiet)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1500):  # five minutes: it may start beside other work
            try:
                requests.get(f"{address}/api", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.2)
        with Visit(browser, f"{address}/lab/tree/{name}.ipynb") as visit:
            visit.page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length > 3")
            yield Lab(visit)
    finally:
        server.terminate()
        server.wait()
