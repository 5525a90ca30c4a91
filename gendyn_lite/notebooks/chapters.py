"""The chapters of the book: their names and paths, reading their notebooks, and their parameters."""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import yaml

from gendyn_lite.config import check_type
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.files import book_folder, roots
from gendyn_lite.results.runs import check_profile

Values = Mapping[str, Any] | None  # parameters of a chapter by name
# Types of parameters: those that papermill can write into a cell (a tuple would become text).
_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}


def chapters(*, book: Path | None = None) -> list[str]:
    """The names of the chapters in the order of the table of contents.

    Args:
        book: The book's folder (default: that of this checkout).

    Returns:
        The names, for `chapter_path`.

    Raises:
        UserError: The table of contents is not valid YAML.

    >>> chapters()[:2]
    ['introduction', '01_random_labels']
    """
    toc = (book or book_folder()) / "_toc.yml"
    try:
        listed = _files(yaml.safe_load(toc.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{toc} is not valid YAML: {_line(error)}") from None
    return [Path(file).stem for file in listed if file.startswith("chapters/")]


def _files(node: Any) -> list[str]:
    """The values of ``root:`` and of every ``file:`` in a table of contents, in order."""
    if isinstance(node, list):
        return [file for item in node for file in _files(item)]
    if not isinstance(node, dict):
        return []
    own = [str(node[name]) for name in ("root", "file") if name in node]
    return own + [file for item in node.values() for file in _files(item)]


def chapter_path(chapter: str | Path, *, book: Path | None = None) -> Path:
    """The path of a chapter's notebook.

    Args:
        chapter: Name of a chapter, or the path of a notebook.
        book: The book's folder (default: that of this checkout).

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
        UserError: The file is not a valid notebook of nbformat 4.
    """
    return notebook_of(path.read_bytes(), name=path.name)


def notebook_of(content: bytes, *, name: str) -> Any:
    """Parse the content of a notebook file of the given name; errors as for `read_notebook`."""
    try:
        notebook = nbformat.reader.reads(content.decode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about cells without an id, which get one
            nbformat.validate(notebook, version=4)
    except Exception as error:  # nbformat raises all kinds of errors on malformed input
        raise UserError(f"{name} is not a valid notebook of nbformat 4: {_line(error)}") from None
    return notebook


def _line(error: Exception) -> str:
    """The message of an error as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def notebook_text(notebook: Any) -> str:
    """The text of a notebook's file."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def kernel_environment() -> dict[str, str]:
    """The environment variables of a chapter's kernel: `roots`, the working folder, and settings against noise."""
    quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_DISABLE": "1"}  # no debugger warning, no progress bars
    return {**roots(), **quiet, "GENDYN_TYPED_IN": str(Path.cwd())}  # the last one is read by data/image_folder.py


class Parameter(NamedTuple):
    """A parameter of a chapter: one line ``name: type = default  # help`` of its parameters cell."""

    type: str
    default: Any
    help: str


def parameters(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook.

    Args:
        path: A notebook with exactly one code cell tagged ``parameters``, of lines ``name: type = default  # help``.

    Returns:
        The parameters by name, in their order in the cell.

    Raises:
        UserError: The cell is missing or duplicated, or one of its lines has another form.

    >>> parameters(chapter_path("01_random_labels"))["profile"].default
    'smoke'
    """
    cells = read_notebook(path).cells
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", []) and cell.cell_type == "code"]
    if len(tagged) != 1:
        raise UserError(f"{path.name} has {len(tagged)} cells tagged 'parameters', expected exactly one")
    return read_parameters(tagged[0].source, name=path.name)


def read_parameters(source: str, *, name: str = "notebook") -> dict[str, Parameter]:
    """The parameters that a cell's source defines.

    >>> read_parameters("epochs: int = 60  # most epochs")["epochs"]
    Parameter(type='int', default=60, help='most epochs')
    """
    try:
        lines = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{name}, parameters cell: it is not valid Python: {error}") from None
    found, texts = {}, source.encode().splitlines()
    for line in lines:
        expected = f"{name}, parameters cell, line {line.lineno}: expected 'name: type = default  # help'"
        if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value):
            raise UserError(f"{expected}, got {ast.unparse(line)!r}")
        kind = ast.unparse(line.annotation)
        try:
            hint, default = _hint(kind), ast.literal_eval(line.value)
        except (KeyError, ValueError):
            raise UserError(f"{expected} with a type of {', '.join(_TYPES)} (or None) and a plain value") from None
        default = check_type(line.target.id, default, hint)
        rest = texts[(line.end_lineno or 1) - 1][line.end_col_offset :].decode()
        found[line.target.id] = Parameter(kind, default, rest.partition("#")[2].strip())
    return found


def checked(chapter: str | Path, *, profile: str = "smoke", values: Values = None) -> tuple[Path, dict[str, Any]]:
    """Check parameters for a chapter without executing it.

    Ranges of values are not checked here; the configurations of the chapter's runs do that.

    Args:
        chapter: Name of a chapter, or the path of a notebook.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Other parameters by name; text, as from a command line, is converted to the parameter's type.

    Returns:
        The path of the notebook, and the parameters that differ from its defaults, converted to their types.

    Raises:
        UserError: A chapter, profile or parameter is unknown (the message names the nearest match), or a value has the
            wrong type.

    >>> checked("01_random_labels", profile="colab", values={"epochs": "5"})[1]
    {'epochs': 5, 'profile': 'colab'}
    """
    path = chapter_path(chapter)
    check_profile(profile)
    if "profile" in (values or {}):
        raise UserError("the profile cannot be set by -p: use --profile (in Python: profile=)")
    given, known = {**(values or {}), "profile": profile}, parameters(path)
    for name in given:
        if name not in known:
            raise unknown_name(f"parameter of {path.stem}", name, known)
    typed = {name: _typed(name, value, known[name]) for name, value in given.items()}
    return path, {name: value for name, value in typed.items() if value != known[name].default}


def _typed(name: str, value: Any, parameter: Parameter) -> Any:
    """Convert one value to the type of its parameter."""
    hint = _hint(parameter.type)
    if isinstance(value, str):
        value = check_type(name, value, str)
        if not parameter.type.startswith("str"):
            value = _literal(value)
        elif value == "None" and parameter.type.endswith("None"):
            value = None
    value = check_type(name, value, hint)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} is {value}, expected a finite number")
    return value


def _literal(text: str) -> Any:
    """The Python value that text from a command line stands for; other text stays text, which `check_type` refuses."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text if len(text) <= 80 else f"{text[:77]}..."


def _hint(kind: str) -> Any:
    """The type that an annotation such as ``int | None`` or ``list[float]`` names; a KeyError if it is not allowed."""
    plain, _, rest = (part.strip() for part in kind.partition("|"))
    found = _TYPES[plain.partition("[")[0]]
    if rest not in ("", "None"):
        raise KeyError(rest)
    return found | None if rest else found
