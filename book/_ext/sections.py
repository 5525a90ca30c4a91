"""Sphinx extension: a search that finds sections, figures, functions and terms, and opens the page there.

The index is made from the pages as they are read, one entry a section. It is a script, which loads without a server.
Code of cells, solutions and specifications of charts are not in it.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx

INDEX, SCRIPT = "gendyn-sections.js", "gendyn-book.js"
# What the theme loads on every page for its own search.
_THEIRS = "searchtools|language_data|searchindex|sphinx_highlight"
_THEIR_SCRIPT = re.compile(rf'<script src="[^"]*(?:{_THEIRS})\.js[^"]*"></script>\s*')
_ENTRIES = ("section", "figure", "dt")  # with an id, each is an entry
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_VOID = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
_SILENT_TAGS = ("script", "style", "noscript", "button", "svg", "nav", "summary", "template")
_SILENT_CLASSES = {"headerlink", "cell_input", "solution", "tocwrapper", "viewcode-link"}
_CELLS = ("td", "th")
_WITHIN = ("a", "abbr", "b", "code", "em", "i", "mark", "span", "strong", "sub", "sup")  # no gap around them
_TEX = re.compile(r"\\\((.*?)\\\)|\\\[.*?\\\]", re.DOTALL)


class Open(NamedTuple):
    """An element that has not ended: its tag, the entry that its text belongs to, and whether it is left out."""

    tag: str
    entry: int
    silent: bool
    heading: bool


class Entry(NamedTuple):
    """A place in a page: its address, the words of its heading and of its text."""

    anchor: str
    title: list[str]
    text: list[str]


class _Reader(HTMLParser):
    """Takes a page apart into entries."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = [Entry("", [], [])]
        self.open = [Open("", 0, True, False)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin an element, and an entry where it has an address."""
        values = {name: value or "" for name, value in attrs}
        classes = set(values.get("class", "").split())
        if tag in _VOID:
            return
        _, entry, silent, heading = self.open[-1]
        if tag == "article":
            silent = False
        begins = tag in _ENTRIES and bool(values.get("id"))
        if begins:
            self.entries.append(Entry(values["id"], [], []))
            entry = len(self.entries) - 1
            if tag == "dt":  # what follows in its list is its text
                self.open[-1] = self.open[-1]._replace(entry=entry)
        silent = silent or tag in _SILENT_TAGS or bool(classes & _SILENT_CLASSES)
        first = not any(part.strip() for part in self.entries[entry].title)
        named = tag in _HEADINGS or "gendyn-title" in classes or (begins and tag == "dt")
        heading = heading or (named and first)
        self._gap(tag)
        self.open.append(Open(tag, entry, silent, heading))

    def handle_endtag(self, tag: str) -> None:
        """End an element, and what was left open in it."""
        if any(one.tag == tag for one in self.open[1:]):
            self._gap(tag)
            while self.open.pop().tag != tag:
                pass

    def handle_data(self, data: str) -> None:
        """Add text to its entry."""
        here = self.open[-1]
        if not here.silent:
            entry = self.entries[here.entry]
            (entry.title if here.heading else entry.text).append(data)

    def _gap(self, tag: str) -> None:
        """Keep the words of two elements apart."""
        if tag not in _WITHIN:
            self.handle_data(" · " if tag in _CELLS else " ")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the script, and write the index when all pages are written."""
    app.add_js_file(SCRIPT, loading_method="defer")
    app.connect("build-finished", write, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def entries(html: str) -> list[tuple[str, str, str]]:
    """Address, heading and text of every place in a page.

    >>> entries("<article><section id='a'><h2>One</h2><table><td>1</td><td>2</td></table></section></article>")
    [('a', 'One', '1 · 2')]
    """
    reader = _Reader()
    reader.feed(html)
    plain = [
        (anchor, anchor if anchor.startswith("gendyn_lite.") else _plain(title), _plain(text))
        for anchor, title, text in reader.entries
    ]
    return [entry for entry in plain if entry[1]]


def _plain(parts: list[str]) -> str:
    """Text on one line; of mathematics only what reads without TeX."""
    text = _TEX.sub(lambda found: found[1] if found[1] and "\\" not in found[1] else " … ", "".join(parts))
    return re.sub(r"^[·\s]+|[·\s]+$", "", re.sub(r"(\s*·\s*)+", " · ", " ".join(text.split())))


def write(app: Sphinx, exception: Exception | None) -> None:
    """The index of all pages that are for reading, as a script."""
    if exception is not None or app.builder.format != "html":
        return
    out, found = Path(app.outdir), []
    for page in [*sorted(app.env.found_docs), "search", "genindex"]:
        path = out / f"{page}.html"
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        own = _THEIR_SCRIPT.sub("", text)
        if page == "search":
            own = own.replace("</head>", f'<script defer src="_static/{INDEX}"></script>\n</head>', 1)
        if own != text:
            path.write_text(own, encoding="utf-8")
        if page in app.env.found_docs and (places := entries(own)):
            found.append([f"{page}.html", places[0][1], places])
    script = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    (out / "_static" / INDEX).write_text(f"window.gendynSections={script};\n", encoding="utf-8")
