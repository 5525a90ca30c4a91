"""Where the book is, which chapters it has, how they are read and written, and the one address of the project.

The address is in `_config.yml`, and in the set-up cell of every chapter, which installs from it. Until it is set, the
set-up cell of a notebook opened alone (on Colab) says so and installs nothing.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import psutil
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
    toc = (book or book_folder()) / "_toc.yml"
    try:
        listed = _files(yaml.safe_load(toc.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{toc} is not valid YAML: {_line(error)}") from None
    return [Path(file).stem for file in listed if file.startswith("chapters/")]


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


def read_notebook(path: Path) -> Any:
    """The notebook in a file.

    Raises:
        UserError: The file holds no valid notebook of nbformat 4.
    """
    return notebook_of(path.read_bytes(), name=path.name)


def notebook_of(content: bytes, *, name: str) -> Any:
    """The notebook that a file holds, given its content; errors call it by the file's name. See `read_notebook`."""
    try:
        written = json.loads(content.decode())
        if isinstance(written, dict) and written.get("nbformat") in (1, 2, 3):
            raise UserError(f"{name} is of nbformat {written['nbformat']}, expected 4: open it in Jupyter and save it")
        notebook = nbformat.reader.reads(content.decode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of cells without an id, which get one
            nbformat.validate(notebook)
    except UserError:
        raise
    except Exception as error:  # nbformat raises whatever a wrong type happens to lead to
        raise UserError(f"{name} is no valid notebook: {_line(error)}") from None
    return notebook


def _line(error: Exception) -> str:
    """An error as one line that can be read."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def notebook_text(notebook: Any) -> str:
    """A notebook as the text of its file."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; what a killed process left beside it goes."""
    kind = "gendyn-partial"
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.{kind}"):
        remove_if_dead(left, left.name.split(".")[-2])
    aside = path.with_name(f".{path.name}.{os.getpid()}.{kind}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def remove_if_dead(left: Path, number: str) -> None:
    """Remove a file that a process made for itself, once there is no process of that number."""
    if number.isdigit() and not psutil.pid_exists(int(number)):
        with contextlib.suppress(OSError):
            left.unlink()


def roots(*, book: Path | None = None) -> dict[str, str]:
    """Where data and runs are kept, for a kernel whose working folder is that of its chapter."""
    top = (book or book_folder()).parent
    defaults = {"GENDYN_DATA": top / "datasets", "GENDYN_RUNS": top / "runs"}
    return {name: str(Path(os.environ.get(name) or path).resolve()) for name, path in defaults.items()}


def kernel_environment() -> dict[str, str]:
    """What every kernel of a chapter finds in its environment: `roots`, where it was started from, and no noise."""
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_DISABLE": "1"}  # no debugger's notice, no dead bars
    return {**roots(), **quiet, "GENDYN_TYPED_IN": str(Path.cwd())}  # see data/image_folder.py


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
    config = config or book_folder().parent / "_config.yml"
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
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
    config = config or book_folder().parent / "_config.yml"
    paths = [chapter_path(name) for name in chapters()] if notebooks is None else list(notebooks)
    text = config.read_text(encoding="utf-8")
    if not _CONFIG.search(text):
        raise UserError(f"{config} has no lines 'repository' and 'launch_buttons' to write to: restore them")
    written = {config: _CONFIG.sub(lambda _: _ON.format(url=url) if url else _OFF, text)}
    written |= {path: with_address(path, url) for path in paths}
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
