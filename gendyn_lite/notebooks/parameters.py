"""The parameters of a chapter: names, types, defaults and help, read from its cell tagged ``parameters``."""

from __future__ import annotations

import ast
import io
import math
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gendyn_lite.config import check_type
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.notebooks.chapters import read_notebook

# What papermill can write into a cell: a tuple would arrive as text.
LONGEST = 10_000  # characters of a value; a chapter's lists of networks and fractions take a few hundred
_TYPES = {"int": int, "float": float, "str": str, "bool": bool, "list": list}


class Parameter(NamedTuple):
    """One line ``name: type = default  # help`` of the parameters cell."""

    type: str
    default: Any
    help: str


def parameters(path: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, in the order of its cell.

    Args:
        path: A notebook with exactly one code cell tagged ``parameters``, of lines ``name: type = default  # help``.

    Raises:
        UserError: The cell is missing or double, or a line of it is something else.
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
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise UserError(f"{name}, parameters cell: it is not Python: {error}") from None
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    found = {}
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
        found[line.target.id] = Parameter(kind, default, comments.get(line.end_lineno or line.lineno, ""))
    return found


def check(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values in the types of a notebook's parameters; text (from a command line) is read as that type.

    Ranges are the chapter's own business: its configuration refuses what is outside them.

    Raises:
        UserError: A name is unknown (with the nearest match) or a value has the wrong type.
    """
    known = parameters(path)
    for name in values:
        if name not in known:
            raise unknown_name(f"parameter of {path.stem}", name, known)
    return {name: _typed(name, value, known[name]) for name, value in values.items()}


def _typed(name: str, value: Any, parameter: Parameter) -> Any:
    """One value in the type of its parameter."""
    hint = _hint(parameter.type)
    if isinstance(value, str):
        if len(value) > LONGEST:
            raise UserError(f"{name} is {len(value):,} characters long, expected at most {LONGEST:,}")
        if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            raise UserError(f"{name} is {value!r}, expected text that can be written as UTF-8, without NUL")
    if isinstance(value, str) and not parameter.type.startswith("str"):
        value = _literal(value)
    elif value == "None" and parameter.type.endswith("None"):
        value = None
    try:
        value = check_type(name, value, hint)
    except OverflowError:
        raise UserError(f"{name} is a whole number too large for the computer, expected a number") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{name} is {value}, expected a finite number")
    return value


def _literal(text: str) -> Any:
    """The value that a command line's text stands for; text that stands for nothing stays text, and fails its type."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text if len(text) <= 80 else f"{text[:77]}..."


def _hint(kind: str) -> Any:
    """The type that an annotation such as ``int | None`` or ``list[float]`` names."""
    plain, _, rest = (part.strip() for part in kind.partition("|"))
    found = _TYPES[plain.partition("[")[0]]
    if rest not in ("", "None"):
        raise KeyError(rest)
    return found | None if rest else found
