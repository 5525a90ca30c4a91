"""Sphinx extension: the reference of the public library, and an index of equations made from its docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PUBLIC = (
    "data",
    "models",
    "train",
    "measures.capacity",
    "measures.relu_paths",
    "measures.fisher",
    "measures.stiffness",
    "measures.intervals",
    "measures.complexity",
    "results",
    "claims",
)
# The sources of the book in the order of its chapters; a source that is not named comes after them.
PAPERS = (
    "Zhang et al. (2017)",
    "Image functions (n.d.)",
    "Jiang",
    "Fort et al. (2019)",
    "Walker",
    "Salman et al. (2019)",
)
_SOURCE = re.compile(r"^Source:\s+(?P<text>.+?)(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
_PLACE = r"(?:(?:Eq|Sec|Fig|App)\.|Theorem|Table|Definition|Appendix|Example|Corollary|Lemma)\s"
_CITED = re.compile(rf"(?P<paper>[^,;]+(?:\(\d{{4}}\)|\(n\.d\.\))?)[,;]?\s.*?(?P<place>{_PLACE}.+)", re.DOTALL)
_REMARK = re.compile(r'[:"]|, (?:"|on )|\.\s(?=[A-Z][a-z])')  # after a place
_BRACKETS = re.compile(r"\s*\([^)]*\)")


class Cited(NamedTuple):
    """A place of a paper and what implements it."""

    paper: str
    place: str
    name: str


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives ``library`` and ``equations``."""
    app.add_directive("library", Library)
    app.add_directive("equations", Equations)
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def plain(*told: Any) -> None:
    """Keep stars and bars of a docstring as they are: they are mathematics. Code and examples are left alone."""
    lines, example = told[-1], False
    for number, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            parts = line.split("`")
            parts[::2] = [re.sub(r"([*|])", r"\\\1", part) for part in parts[::2]]
            lines[number] = "`".join(parts)


def members(package: str) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a package of the library offers, by name."""
    module = importlib.import_module(f"gendyn_lite.{package}")
    for name, found in inspect.getmembers(module, lambda one: inspect.isfunction(one) or inspect.isclass(one)):
        if not name.startswith("_") and found.__module__.startswith(module.__name__):
            yield name, found


def cited() -> list[Cited]:
    """What the public docstrings cite, in the order of the papers and of their places."""
    found = []
    for package in PUBLIC:
        for name, one in members(package):
            source = _SOURCE.search(inspect.getdoc(one) or "")
            for part in re.split(r";\s+", " ".join(source["text"].split())) if source else ():
                if place := _CITED.match(part):
                    where = _REMARK.split(_BRACKETS.sub("", place["place"]))[0].strip(" .,")
                    found.append(Cited(place["paper"].strip(), where, f"gendyn_lite.{package}.{name}"))
    order = {paper: number for number, paper in enumerate(PAPERS)}
    return sorted(found, key=lambda one: (order.get(one.paper, len(order)), one.paper, _natural(one.place)))


def _natural(text: str) -> list[Any]:
    """A key that sorts Eq. 9 before Eq. 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


class _Written(SphinxDirective):
    """A directive that stands for lines of reStructuredText."""

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """The nodes of those lines."""
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)


class Library(_Written):
    """Every public function and class of a package, with its docstring."""

    required_arguments = 1

    def lines(self) -> list[str]:
        """One directive of autodoc each."""
        package = self.arguments[0]
        made = [f".. py:module:: gendyn_lite.{package}", ""]
        for name, one in members(package):
            kind = "autoclass" if inspect.isclass(one) else "autofunction"
            made += [f".. {kind}:: gendyn_lite.{package}.{name}", ""]
        return made


class Equations(_Written):
    """Place in a paper → function, as a table."""

    def lines(self) -> list[str]:
        """A list-table."""
        made = [".. list-table::", "   :header-rows: 1", "", "   * - Paper", "     - Place", "     - Code"]
        for paper, place, name in cited():
            made += [
                f"   * - {paper}",
                f"     - {place}",
                f"     - :py:obj:`{name.removeprefix('gendyn_lite.')} <{name}>`",
            ]
        return made
