"""Where the book is, and which chapters it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from gendyn_lite.errors import UserError, unknown_name


def book_folder() -> Path:
    """The folder ``book`` of the checkout that this package is installed from, else of the working folder.

    Raises:
        UserError: There is none: the package was installed without its book.
    """
    for place in (Path(__file__).resolve().parents[2], Path.cwd()):
        if (place / "book" / "_toc.yml").is_file():
            return place / "book"
    raise UserError("no book/_toc.yml here: run this inside a clone of the repository")


def chapters(*, book: Path | None = None) -> list[str]:
    """Names of the chapters in the order of the table of contents.

    >>> all(chapter_path(name).suffix == ".ipynb" for name in chapters())
    True
    """
    book = book or book_folder()
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    return [Path(file).stem for file in _files(toc) if file.startswith("chapters/")]


def _files(node: Any) -> list[str]:
    """Every ``file:`` of a table of contents, in order."""
    if isinstance(node, list):
        return [file for item in node for file in _files(item)]
    if not isinstance(node, dict):
        return []
    own = [str(node["file"])] if "file" in node else []
    return own + [file for item in node.values() for file in _files(item)]


def chapter_path(chapter: str | Path, *, book: Path | None = None) -> Path:
    """The notebook of a chapter, given its name or its path.

    Raises:
        UserError: There is no such chapter.

    >>> chapter_path("1_random")
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: unknown chapter '1_random': ...
    """
    if Path(chapter).suffix == ".ipynb":
        if not Path(chapter).is_file():
            raise UserError(f"{chapter}: no such notebook")
        return Path(chapter).resolve()
    book = book or book_folder()
    path = book / "chapters" / f"{chapter}.ipynb"
    if chapter not in chapters(book=book):
        raise unknown_name("chapter", chapter, chapters(book=book))
    if not path.is_file():
        raise UserError(f"book/_toc.yml lists chapter {str(chapter)!r}, but {path} does not exist")
    return path


def roots(*, book: Path | None = None) -> dict[str, str]:
    """Where data and runs are kept, for a kernel whose working folder is that of its chapter."""
    top = (book or book_folder()).parent
    defaults = {"GENDYN_DATA": top / "datasets", "GENDYN_RUNS": top / "runs"}
    return {name: str(Path(os.environ.get(name) or path).resolve()) for name, path in defaults.items()}
