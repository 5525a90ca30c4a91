"""Convert MyST's directives and roles to the plain Markdown that JupyterLab, VS Code and Colab render.

A directive or role that cannot be converted is an error, so that none is ever left unrendered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from gendyn_lite.errors import UserError

# A directive, or a code block, whose content is not parsed.
_FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})(?:\{(?P<name>[\w-]+)\})?[^\S\n]*(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=fence)[^\S\n]*\n?$",
    re.MULTILINE | re.DOTALL,
)
_OPTION = re.compile(r"\A:(\w+):[^\S\n]*(.*)\n")
_ROLE = re.compile(r"\{([\w:-]+)\}`([^`]+)`")
_TARGET = re.compile(r"(?P<words>.*?)\s*<(?P<target>[^<>]+)>", re.DOTALL)
_LABEL = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
_TO_LABEL = re.compile(r"\[([^\]]+)\]\([\w-]+\)")
_HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
_ENTRY = re.compile(r"@\w+\{(\w+),\n(.*?)\n\}", re.DOTALL)
_FIELD = re.compile(r"(\w+)\s*=\s*\{(.*)\},?$", re.MULTILINE)
_BRACES = str.maketrans("", "", "{}")  # removes BibTeX's braces, which protect capitals
_ARXIV = re.compile(r"arXiv:(\S+)")


class Book(NamedTuple):
    """Everything in the book that the text of a page may refer to.

    Attributes:
        numbers: Numbers of equations and exercises as in the book, such as ``"4.1"``, by label.
        titles: Titles of pages, by file name without suffix.
        chapters: Names of the pages that are notebooks.
        sources: Fields of each entry of the bibliography, by key.
    """

    numbers: dict[str, str]
    titles: dict[str, str]
    chapters: tuple[str, ...]
    sources: dict[str, dict[str, str]]


def read_book(book: Path) -> Book:
    """Read what pages may refer to from the folder of a book."""
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    parts = [part["chapters"] for part in toc.get("parts", ()) if part.get("numbered")]
    numbered = [Path(one["file"]).stem for part in parts for one in part]
    numbers: dict[str, str] = {}
    texts = {path.stem: path.read_text(encoding="utf-8") for path in book.rglob("*.md")}
    chapters = {path.stem: _markdown(path) for path in sorted((book / "chapters").glob("*.ipynb"))}
    for name, text in chapters.items():
        prefix = f"{numbered.index(name) + 1}." if name in numbered else ""
        for kind in ("math", "exercise"):
            labels = [label for found, label in _labels(text) if found == kind]
            numbers |= {label: f"{prefix}{number}" for number, label in enumerate(labels, start=1)}
    headings = {name: _HEADING.search(text) for name, text in {**texts, **chapters}.items()}
    titles = {name: found[1].strip() for name, found in headings.items() if found}
    entries = (book / "references.bib").read_text(encoding="utf-8")
    found = {key: _FIELD.findall(fields) for key, fields in _ENTRY.findall(entries)}
    sources = {key: {name: text.translate(_BRACES) for name, text in fields} for key, fields in found.items()}
    return Book(numbers, titles, tuple(chapters), sources)


def _markdown(path: Path) -> str:
    """The text of all Markdown cells of a notebook."""
    cells = json.loads(path.read_bytes())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def _labels(text: str) -> Iterator[tuple[str, str]]:
    """The directives in a text that have a label, as pairs (name, label)."""
    for found in _FENCE.finditer(text):
        options, _ = _options(found["body"])
        if "label" in options:
            yield found["name"], options["label"]


def _options(body: str) -> tuple[dict[str, str], str]:
    """Split the body of a directive into its options and the rest."""
    options: dict[str, str] = {}
    while line := _OPTION.match(body):
        options[line[1]] = line[2].strip()
        body = body[line.end() :]
    return options, body.strip("\n")


class Plain:
    """Converts the text of one chapter to plain Markdown.

    Args:
        chapter: Name of the chapter.
        book: What its text may refer to.
        solutions: Whether solutions are kept, folded, or removed.
    """

    def __init__(self, chapter: str, book: Book, *, solutions: bool = True) -> None:
        self.chapter, self.book, self.solutions = chapter, book, solutions

    def text(self, text: str) -> str:
        """Convert a text.

        Raises:
            UserError: A directive or role cannot be converted, or refers to something that does not exist.

        >>> Plain("04_stiffness", Book({"eq-a": "4.1"}, {}, (), {})).text("See {eq}`eq-a`.")
        'See (4.1).'
        """
        parts, end = [], 0
        for found in _FENCE.finditer(text):
            parts += [self._inline(text[end : found.start()]), self._block(found)]
            end = found.end()
        return "".join([*parts, self._inline(text[end:])])

    def _inline(self, text: str) -> str:
        """Convert text outside of directives."""
        return _ROLE.sub(self._role, _TO_LABEL.sub(r"\1", _LABEL.sub("", text)))

    def _role(self, found: re.Match[str]) -> str:
        """Convert a role."""
        name, text = found[1], " ".join(found[2].split())
        split = _TARGET.fullmatch(text)
        words, target = (split["words"], split["target"]) if split else ("", text)
        if name == "eq":
            return f"({self._known(self.book.numbers, target)})"
        if name == "doc":
            page = Path(target).stem
            title = words or self._known(self.book.titles, page)
            return f"[{title}]({page}.ipynb)" if page in self.book.chapters else f"*{title}*"
        if name in ("cite:t", "cite:p"):
            return self._cited([key.strip() for key in target.split(",")], within=name == "cite:p")
        if name == "func":
            return f"`{target.rpartition('.')[2]}`"
        if name in ("term", "ref", "fig"):
            return f"*{target.rpartition('/')[2]}*" if name == "fig" else words or target
        raise UserError(f"{self.chapter}: the role {{{name}}} has no plain form: give it one in {__name__}")

    def _cited(self, keys: list[str], *, within: bool) -> str:
        """A citation with links to arXiv; brackets are around all of it if `within` is set, else around the year."""
        told = []
        for key in keys:
            source = self._known(self.book.sources, key)
            names = [name.split(",")[0] for name in source["author"].split(" and ")]
            who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
            arxiv = _ARXIV.search(source.get("note", ""))
            words = f"{who}, {source['year']}" if within else f"{who} ({source['year']})"
            told.append(f"[{words}](https://arxiv.org/abs/{arxiv[1]})" if arxiv else words)
        return f"({'; '.join(told)})" if within else " and ".join(told)

    def _block(self, found: re.Match[str]) -> str:
        """Convert a directive; a code block stays as it is."""
        name = found["name"]
        if not name:
            return found[0]
        kinds = ("math", "exercise", "solution", "admonition", "bibliography")
        if name not in kinds:
            raise UserError(f"{self.chapter}: the directive {{{name}}} has no plain form: give it one in {__name__}")
        options, body = _options(found["body"])
        return getattr(self, f"_{name}")(found["title"].strip(), options, body)

    # One method for each directive, called with its title, options and body.
    def _math(self, _: str, options: dict[str, str], body: str) -> str:
        tag = f"\\tag{{{self._known(self.book.numbers, options['label'])}}}\n" if "label" in options else ""
        return f"$$\n{body}\n{tag}$$\n"

    def _exercise(self, title: str, options: dict[str, str], body: str) -> str:
        number = self._known(self.book.numbers, options["label"])
        return f"### Exercise {number}{f': {title}' if title else ''}\n\n{self.text(body)}\n"

    def _solution(self, title: str, options: dict[str, str], body: str) -> str:
        del title, options
        return folded("Solution", self.text(body)) if self.solutions else ""

    def _admonition(self, title: str, options: dict[str, str], body: str) -> str:
        if "dropdown" in options.get("class", ""):
            return folded(title, self.text(body))
        lines = [f"**{title}**", "", *self.text(body).splitlines()]
        return "\n".join(f"> {line}".rstrip() for line in lines) + "\n"

    def _bibliography(self, *_: Any) -> str:
        return "\n".join(f"- {self._listed(source)}" for source in self.book.sources.values()) + "\n"

    def _listed(self, source: dict[str, str]) -> str:
        """An entry of the bibliography in full."""
        names = [" ".join(reversed(name.split(", "))) for name in source["author"].split(" and ")]
        return f"{', '.join(names)}. {source['title']}. {source['year'].rstrip('.')}. {source.get('note', '')}".strip()

    def _known(self, names: dict[str, Any], name: str) -> Any:
        """Look up what the text refers to."""
        if name not in names:
            raise UserError(f"{self.chapter}: its text refers to {name!r}, which the book does not have")
        return names[name]


def folded(title: str, body: str) -> str:
    """Markdown under a title that opens on a click.

    >>> print(folded("Hint", "Look at $x$."))
    <details>
    <summary>Hint</summary>
    <BLANKLINE>
    Look at $x$.
    <BLANKLINE>
    </details>
    <BLANKLINE>
    """
    return f"<details>\n<summary>{title}</summary>\n\n{body.strip()}\n\n</details>\n"
