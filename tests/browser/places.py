"""The pages of the trial book and of the real one, by name: a page that is built and not listed fails a test."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from gendyn_lite import notebooks
from tests.book import trial

BOOKS = {"trial": [trial.NAME], "real": notebooks.chapters()}
OTHERS = {"trial": ["intro.html"]}
OTHERS["real"] = [
    "genindex.html",
    "search.html",
    "glossary.html",
    "teaching.html",
    "reference/equations.html",
    "reference/library.html",
    "reference/relu_paths.html",
]
# Pages that are not read: the theme's own, which the real book has too, and those of the reference that one directive
# makes as it makes that of the paths.
LISTED = ("capacity", "complexity", "data", "fisher", "intervals", "results", "stiffness", "training")
ALIKE = {"trial": {"genindex.html", "search.html"}, "real": {f"reference/{name}.html" for name in LISTED}}
SIZES = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (390, "light"), "phone-dark": (390, "dark")}
# The real book has two, each width and each scheme once; all four show what is around a text, on the trial's pages.
SIZES_OF = {"trial": tuple(SIZES), "real": ("light", "phone-dark")}


def site_of(book: str, request: pytest.FixtureRequest) -> Path:
    """The folder of a book's pages, built once a session."""
    return request.getfixturevalue(f"{book}_site")


class Place(NamedTuple):
    """A page of a book."""

    book: str
    path: str

    def __str__(self) -> str:
        return f"{self.book}-{Path(self.path).stem}"


PAGES = [
    Place(book, path)
    for book, names in BOOKS.items()
    for path in (*(f"chapters/{name}.html" for name in names), *OTHERS[book])
]
