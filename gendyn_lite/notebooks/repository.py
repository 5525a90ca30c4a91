"""The one address of the project: in `_config.yml`, and in the set-up cell of every chapter, which installs from it.

Until it is set, the set-up cell of a notebook opened alone (on Colab) says so and installs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import (
    book_folder,
    chapter_path,
    chapters,
    notebook_text,
    read_notebook,
    write_whole,
)

SETUP = '''repository = "{url}"  # set by `gendyn configure --repository URL`
try:
    import gendyn_lite  # noqa: F401
except ModuleNotFoundError:
    if not repository:
        raise SystemExit("install gendyn_lite first: see the project's README") from None
    %pip install --quiet "git+{{repository}}"'''
_NAME = r"(?!\.+(?:/|\Z))[\w.\-~]+"  # not "." or "..", which lead elsewhere
_ADDRESS = re.compile(rf"https://\w[\w.\-]*(:\d+)?(/{_NAME}){{2,}}", re.ASCII)  # a host, an owner, a name
_LINE = re.compile(r"""^repository = (["'])(.*?)\1""", re.MULTILINE)
_CONFIG = re.compile(r"^(# )?repository: \{url: .*\n(?:# )?launch_buttons: .*$", re.MULTILINE)
_ON = (
    'repository: {{url: "{url}", path_to_book: book, branch: main}}\n'
    'launch_buttons: {{colab_url: "https://colab.research.google.com"}}'
)
_OFF = (
    '# repository: {url: "https://github.com/OWNER/gendyn_lite", path_to_book: book, branch: main}\n'
    '# launch_buttons: {colab_url: "https://colab.research.google.com"}'
)


def setup_source(url: str = "") -> str:
    """The source of a chapter's set-up cell, its first.

    >>> setup_source("https://github.com/OWNER/REPO").splitlines()[0]
    'repository = "https://github.com/OWNER/REPO"  # set by `gendyn configure --repository URL`'
    """
    return SETUP.format(url=url)


def repository(config: Path | None = None) -> str:
    """The address in `_config.yml`, empty until it is set."""
    settings = yaml.safe_load((config or _config()).read_text(encoding="utf-8"))
    return (settings.get("repository") or {}).get("url", "")


def configure(url: str, *, config: Path | None = None, notebooks: Sequence[Path] | None = None) -> list[Path]:
    """Write the project's address into `_config.yml` and into the set-up cell of every chapter.

    Args:
        url: For instance ``"https://github.com/OWNER/REPO"``; empty to unset it, which turns launch buttons off.
        config: The configuration (default: this checkout's).
        notebooks: The chapters (default: all of this checkout).

    Returns:
        The files that changed.

    Raises:
        UserError: No https address of an owner's repository; a file without the place to write to. Nothing is written.
    """
    url = _checked(url)
    config = config or _config()
    paths = [chapter_path(name) for name in chapters()] if notebooks is None else list(notebooks)
    text = config.read_text(encoding="utf-8")
    if not _CONFIG.search(text):
        raise UserError(f"{config} has no lines 'repository' and 'launch_buttons' to write to: restore them")
    written = {config: _CONFIG.sub(lambda _: _ON.format(url=url) if url else _OFF, text)}
    for path in paths:
        written[path] = with_address(path, url)
    changed = [path for path, new in written.items() if new != path.read_text(encoding="utf-8")]
    for path in changed:
        write_whole(path, written[path])
    return changed


def _checked(url: str) -> str:
    """The address without what makes two spellings of one, or an error."""
    url = url.strip().removesuffix("/").removesuffix(".git")
    if "@" in url:  # not shown: it may be a secret
        raise UserError("the repository's address holds a user name or a password (before '@'): leave them out")
    if url and not _ADDRESS.fullmatch(url):
        raise UserError(f"repository {url!r} is not an address such as https://github.com/OWNER/REPO")
    return url


def with_address(path: Path, url: str) -> str:
    """A chapter's text with the address in its set-up cell."""
    notebook = read_notebook(path)
    first = next((cell for cell in notebook.cells if cell.cell_type == "code"), None)
    if first is None or not _LINE.search(first.source):
        raise UserError(f"{path.name}: its first code cell has no line 'repository = …': see `SETUP` of {__name__}")
    first.source = _LINE.sub(lambda _: f'repository = "{url}"', first.source, count=1)
    return notebook_text(notebook)


def _config() -> Path:
    return book_folder().parent / "_config.yml"
