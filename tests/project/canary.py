"""The committed book on the newest versions of its tools, for `make test-canary`: does it render without the pins?

`python tests/project/canary.py wanted` lists what to install, without a version; `... render` renders the book.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

from packaging.requirements import Requirement

from gendyn_lite import book
from gendyn_lite.errors import Failed

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("jupyter-book", "sphinx", "docutils", "myst-nb", "myst-parser", "sphinx-book-theme", "altair")
NOT_RENDERED_WITH = {"torch", "torchvision", "jupyter-book"}  # the chapters have been executed; the last stays as it is


def wanted() -> list[str]:
    """What Jupyter Book, the library and the book's extra ask for, whatever the versions that they ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*(requires("jupyter-book") or []), *project["dependencies"], *project["optional-dependencies"]["book"]]
    found = [Requirement(one) for one in asked]
    plain = {one.name for one in found if one.marker is None or one.marker.evaluate({"extra": ""})}
    return sorted(plain - NOT_RENDERED_WITH)


def render() -> Path:
    """Render the committed chapters with warnings as errors; gives the folder of pages."""
    out = ROOT / "_build" / "canary"
    book._mirror(ROOT / "book", out / "source", replaced={})
    return book._render(out / "source", ROOT / "_config.yml", out)


if __name__ == "__main__":
    if sys.argv[1:] == ["wanted"]:
        print("\n".join(wanted()))  # noqa: T201
    else:
        print(", ".join(f"{name} {version(name)}" for name in SHOWN))  # noqa: T201
        try:
            print(f"the book renders without a warning: {render().relative_to(ROOT)}")  # noqa: T201
        except Failed as error:
            sys.exit(f"error: {error}")
