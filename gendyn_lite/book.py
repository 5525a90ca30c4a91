"""Build the book: execute every chapter with profile smoke, and render the executed copies with warnings as errors.

The committed notebooks are never changed, and pages of an earlier build stay until the new ones are complete. A build
fails if a page would load anything from another host.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path

from gendyn_lite import notebooks
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.notebooks.chapters import notebook_text
from gendyn_lite.notebooks.markdown import read_book
from gendyn_lite.results.files import recover, renewed, write_text

_NOT_CONTENT = (
    "_ext", "_vendor", "results", "runs", "datasets", ".ipynb_checkpoints", "_build", "conftest.py", "__pycache__",
)  # fmt: skip
_BUILT = ("source", "executed", "render", "html", ".html.new", ".html.old")  # folders that a build replaces
_LOG = "render.log"  # created first by every build, so it marks folders that a build may replace


def build(*, out: Path = Path("_build"), book: Path | None = None, say: Callable[[str], object] = print) -> Path:
    """Execute every chapter in the table of contents with profile smoke, and render the book.

    Args:
        out: Folder to build into; the pages are written to its subfolder ``html``.
        book: Folder of the book, next to its ``_config.yml`` (default: that of this checkout).
        say: Called with each line of progress.

    Returns:
        Path of the first page, ``html/index.html``.

    Raises:
        UserError: `out` is a file, is inside the book, or contains folders that a build would replace but did not make.
        Failed: A cell raised an error, Sphinx warned, or a page would load something from another host. The pages of an
            earlier build are unchanged.
    """
    book, out = (book or notebooks.book_folder()).resolve(), out.resolve()
    _take(out, book)
    source = out / "source"
    executed = _execute(book, out / "executed", say)
    _mirror(book, source, replaced=executed)
    say("rendering the pages ...")
    rendered = _render(source, book.parent / "_config.yml", out)
    with renewed(out / "html") as new:
        shutil.copytree(rendered, new)
        known = read_book(book)
        for place in executed:  # the notebooks behind the download buttons
            write_text(new / "_sources" / place, notebook_text(notebooks.plain(book / place, book=known)))
    return out / "html" / "index.html"


def _take(out: Path, book: Path) -> None:
    """Create or take over the folder of a build; refuse it if something in it was not made by a build."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is not a folder, expected one to build into")
    if out.is_relative_to(book) and not set(out.relative_to(book).parts) & set(_NOT_CONTENT):
        raise UserError(f"--out: {out} is inside the book itself, expected a folder outside {book}")
    foreign = [name for name in _BUILT if (out / name).exists()]
    if foreign and not (out / _LOG).exists():
        made = f"{out / foreign[0]} would be replaced, but was not made by a build"
        raise UserError(f"--out: {made}: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    (out / _LOG).touch()
    recover(out / "html")  # clean up after a build that was killed while it replaced the pages


def _execute(book: Path, folder: Path, say: Callable[[str], object]) -> dict[Path, Path]:
    """Execute the chapters; returns the executed notebooks by their relative paths in the book."""
    names = notebooks.chapters(book=book)
    executed = {}
    for number, name in enumerate(names, start=1):
        path = notebooks.chapter_path(name, book=book)
        say(f"chapter {number} of {len(names)}: {name} (profile smoke) ...")
        start = time.perf_counter()
        executed[path.relative_to(book)] = notebooks.run(path, profile="smoke", out=folder / f"{name}.ipynb")
        say(f"  {time.perf_counter() - start:.0f} s")
    return executed


def _mirror(book: Path, source: Path, *, replaced: Mapping[Path, Path]) -> None:
    """Copy the book's content to `source`, with some files replaced; the others keep their modification times."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(book, source, ignore=shutil.ignore_patterns(*_NOT_CONTENT))
    for place, path in replaced.items():
        shutil.copyfile(path, source / place)


def _render(source: Path, config: Path, out: Path) -> Path:
    """Run Jupyter Book with warnings as errors; returns the folder of the pages.

    Raises:
        Failed: Sphinx warned or failed, or a page would load something from another host.
    """
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(source)]
    command += ["--config", str(config), "--path-output", str(out / "render"), "-W", "--keep-going"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # deprecations inside Sphinx's own extensions
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=config.parent, env=environment)
    log = out / _LOG
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    rendered = out / "render" / "_build" / "html"
    if done.returncode != 0 or not (rendered / "index.html").is_file():
        lines = [line for line in done.stderr.splitlines() if "WARNING" in line or "ERROR" in line]
        first = lines[0].strip() if lines else f"jupyter-book exited with {done.returncode}"
        raise Failed(f"the book did not render: {first} ({len(lines)} such lines; all in {log})")
    foreign = external(rendered)
    if foreign:
        raise Failed(f"the book would load from other hosts: {foreign[0]} ({len(foreign)} such references)")
    return rendered


# Attributes and tags that make a browser load something by itself. Links that a reader follows (a) are not among them.
_LOADING = ("src", "srcset", "poster", "data")  # attributes of any tag
_LOADING_BY_HREF = ("link", "use", "image", "base")
_NOT_FETCHED = {"canonical", "license", "author", "help"}  # values of a link's rel that load nothing
_ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
_STYLE = re.compile(r"<style\b.*?</style", re.IGNORECASE | re.DOTALL)
_IN_STYLE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


class _Scanner(HTMLParser):
    """Collects addresses at other hosts in attributes that a browser loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Check the attributes and the inline style of a tag."""
        values = {name: value or "" for name, value in attrs}
        self.found += _IN_STYLE.findall(values.get("style", ""))
        if tag == "link" and set(values.get("rel", "").lower().split()) & _NOT_FETCHED:
            return
        for name, value in values.items():
            if name in _LOADING or (tag in _LOADING_BY_HREF and name in ("href", "xlink:href")):
                parts = value.split(",") if name == "srcset" else [value]
                self.found += [part.strip() for part in parts if _ELSEWHERE.match(part)]


def external_in(html: str) -> list[str]:
    """The addresses at other hosts that a browser would load for a page by itself.

    >>> external_in('<a href="https://example.org">free</a><script src="//example.org/x.js"></script>')
    ['//example.org/x.js']
    """
    scanner = _Scanner()
    scanner.feed(html)
    return scanner.found + [address for style in _STYLE.findall(html) for address in _IN_STYLE.findall(style)]


def external(folder: Path) -> list[str]:
    """Apply `external_in` to all pages and style sheets of a folder; the results are ``FILE: ADDRESS``."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".html", ".css"):
            continue
        text = path.read_text(encoding="utf-8")
        addresses = external_in(text) if path.suffix == ".html" else _IN_STYLE.findall(text)
        found += [f"{path.relative_to(folder).as_posix()}: {address}" for address in addresses]
    return found
