"""What rendered pages load: nothing from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

# Links that a reader follows (a) are free; what a browser fetches by itself is not.
_LOADING = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "use": ("href", "xlink:href"),
    "image": ("href", "xlink:href"),
    "base": ("href",),
}
_NOT_FETCHED = {"canonical", "license", "author", "help"}  # a link's rel
_ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
_IN_STYLE = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


class _Scanner(HTMLParser):
    """Collects the addresses that a page makes a browser fetch from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the loading attributes and the inline style of one tag."""
        values = {name: value or "" for name, value in attrs}
        self._style = tag == "style"
        self.found += _IN_STYLE.findall(values.get("style", ""))
        if tag == "link" and set(values.get("rel", "").lower().split()) & _NOT_FETCHED:
            return
        for name in _LOADING.get(tag, ()):
            parts = values.get(name, "").split(",") if name == "srcset" else [values.get(name, "")]
            self.found += [part.strip() for part in parts if _ELSEWHERE.match(part)]

    def handle_data(self, data: str) -> None:
        """Look at a style sheet written in the page."""
        if self._style:
            self.found += _IN_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        """Leave a style sheet."""
        self._style = False


def external_in(html: str) -> list[str]:
    """Addresses at other hosts that a page would fetch by itself.

    >>> external_in('<a href="https://example.org">free</a><script src="//example.org/x.js"></script>')
    ['//example.org/x.js']
    """
    scanner = _Scanner()
    scanner.feed(html)
    return scanner.found


def external(folder: Path) -> list[str]:
    """The same for every page and style sheet of a folder, as ``PAGE: ADDRESS``."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".html", ".css"):
            continue
        text = path.read_text(encoding="utf-8")
        addresses = external_in(text) if path.suffix == ".html" else _IN_STYLE.findall(text)
        found += [f"{path.relative_to(folder).as_posix()}: {address}" for address in addresses]
    return found
