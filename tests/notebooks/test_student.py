"""Plain notebooks: nothing raw is left, no solution where none is wanted, and what somebody changed is never lost."""

from __future__ import annotations

import doctest
import json
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import torch
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

from gendyn_lite import cli, notebooks, results
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.markdown import Book, Plain
from gendyn_lite.results.files import book_folder
from tests.chapters.random_labels import fake
from tests.chapters.test_exercises import FOLDED, KNOWN, function

CHAPTERS = notebooks.chapters()
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS)
LISTING = re.compile(r"^(`{3,})\w*\n.*?^\1$", re.MULTILINE | re.DOTALL)
RAW = re.compile(r"\{[\w:-]+\}`|^[`:]{3,}|^:\w+:|^\([\w-]+\)=|\]\([\w-]+\)", re.MULTILINE)


def text_of(notebook: Any) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


@cache
def otters(chapter: str) -> Any:
    return notebooks.plain(chapter).metadata.otter.tests


@cache
def source_of(chapter: str) -> Any:
    return nbformat.read(notebooks.chapter_path(chapter), as_version=4)


@each_chapter
def test_nothing_raw_is_left_and_nothing_of_the_text_is_lost(chapter: str) -> None:
    made, source = notebooks.plain(chapter), text_of(source_of(chapter))
    nbformat.validate(made)
    text = text_of(made)
    assert RAW.findall(LISTING.sub("", text)) == []
    assert text.count("$$") == 2 * source.count("{math}") + source.count("$$")
    assert len(re.findall(r"\\tag\{(\d\.)?\d+\}", text)) == source.count(":label: eq-")
    assert text.count("<details>") == text.count("</details>") == source.count(":class: dropdown")
    assert len(re.findall(r"^### Exercise \d\.\d: ", text, re.MULTILINE)) == source.count("{exercise}")
    levels = re.findall(r"^\*(?:Easy|Medium|Hard), \d+ minutes\.\* \S", text, re.MULTILINE)
    assert len(levels) == text.count("<summary>A hint</summary>") == source.count("{exercise}")
    assert re.findall(r"^#{1,2} .*", text, re.MULTILINE) == re.findall(r"^#{1,2} .*", source, re.MULTILINE)
    for cell in made.cells:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert cell.cell_type == "markdown" or (cell.outputs == [] and len(lines) <= 12)


@each_chapter
def test_markdown_it_which_vs_code_uses_sets_every_formula_and_leaves_nothing_raw(chapter: str) -> None:
    reader = MarkdownIt("commonmark", {"html": True}).enable("table")
    reader.use(dollarmath_plugin, allow_space=False, allow_digits=False)  # as VS Code's own plugin has it
    cells = [cell.source for cell in notebooks.plain(chapter).cells if cell.cell_type == "markdown"]
    blocks = [block for source in cells for block in reader.parse(source)]
    found: dict[str, list[str]] = defaultdict(list)
    for token in (token for block in blocks for token in (block, *(block.children or ()))):
        found[token.type].append(str(token.attrs.get("href", token.content)).strip())
    assert [text for text in found["text"] if re.search(r"[$`{}\\]|\*\*|:::", text)] == []
    text = re.sub(r"`[^`\n]+`", "", LISTING.sub("", "\n\n".join(cells)))
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, re.DOTALL)
    assert len(found["math_block"] + found["math_inline"]) == len(formulas)
    opened = r"<details>\n<summary>[^<]+</summary>"
    assert [html for html in found["html_block"] if not re.fullmatch(f"{opened}|</details>", html)] == []
    assert found["html_inline"] == [] and found["html_block"].count("</details>") == text.count("<details>")
    within = {link for link in found["link_open"] if not link.startswith("https://")}
    assert within <= {f"{name}.ipynb" for name in CHAPTERS}


def test_a_chapter_alone_links_to_no_chapter_that_is_not_there(tmp_path: Path) -> None:
    notebooks.student(["04_stiffness", "07_what_holds"], out=tmp_path)
    linked = re.findall(r"\]\(([^):]+)\)", text_of(nbformat.read(tmp_path / "04_stiffness.ipynb", as_version=4)))
    assert set(linked) == {"07_what_holds.ipynb"}


@each_chapter
def test_without_solutions_nothing_of_them_can_be_read(chapter: str) -> None:
    whole = nbformat.writes(notebooks.plain(chapter, solutions=False))
    told = re.findall(r"`{3,}\{solution\}.*?\n:class: dropdown\n(.*?)^`{3,}$", text_of(source_of(chapter)), re.M | re.S)
    lines = {line.strip() for answer in told for line in answer.splitlines() if not line.startswith(("def ", "```"))}
    assert [line for line in lines if len(line) > 12 and json.dumps(line)[1:-1] in whole] == []
    assert ("A hint" in whole) == ("{exercise}" in text_of(source_of(chapter)))
    assert bool(lines) == (chapter in FOLDED)


BOOK = Book(
    {"eq-a": "4.2", "ex-a": "4.1"},
    {"04_stiffness": "Stiffness", "glossary": "Glossary"},
    ("04_stiffness",),
    {
        "one": {"author": "Jiang, Lei", "year": "n.d.", "title": "Masks", "note": "In Russian"},
        "two": {"author": "Hanin, Boris and Rolnick, David", "year": "2019", "title": "Paths"},
        "many": {"author": "A, B and C, D and E, F", "year": "2017", "title": "T", "note": "arXiv:1611.03530"},
    },
)
MATH = "```{math}\n:label: eq-a\nx = 1\n```"
MORE = ":::{admonition} More\n:class: dropdown\nNo.\n:::"
HINTS = f"::::{{admonition}} A hint\n:class: dropdown\nTry {{eq}}`eq-a`.\n\n{MORE}\n::::"
OPENED = "<details>\n<summary>More</summary>\n\nNo.\n\n</details>"
FORMS = {
    "numbered": (MATH, "$$\nx = 1\n\\tag{4.2}\n$$\n"),
    "unnumbered": ("```{math}\nx\n```\n\nThen", "$$\nx\n$$\n\nThen"),
    "eq": ("see {eq}`eq-a`,", "see (4.2),"),
    "text": ("{cite:t}`many` say", "[A et al. (2017)](https://arxiv.org/abs/1611.03530) say"),
    "brackets": ("so {cite:p}`two,one`.", "so (Hanin and Rolnick, 2019; Jiang, n.d.)."),
    "doc": ("{doc}`04_stiffness`", "[Stiffness](04_stiffness.ipynb)"),
    "doc-words": ("{doc}`that\nchapter <04_stiffness>`", "[that chapter](04_stiffness.ipynb)"),
    "doc-page": ("{doc}`../glossary`", "*Glossary*"),
    "others": ("{term}`seeds <seed>` {fig}`04/A` {func}`~a.b.c` {ref}`an x <y>`", "seeds *A* `c` an x"),
    "label": ("(here)=\n## Title [there](here) [web](https://a.b)", "## Title there [web](https://a.b)"),
    "box": (":::{admonition} In short\n:class: tip\n**a**\n\nb\n:::", "> **In short**\n>\n> **a**\n>\n> b\n"),
    "exercise": ("```{exercise} Two\n:label: ex-a\nGive 2.\n```", "### Exercise 4.1: Two\n\nGive 2.\n"),
    "listing": ("```python\nx = {eq}`eq-a`\n```\n", "```python\nx = {eq}`eq-a`\n```\n"),
    "hints": (HINTS, f"<details>\n<summary>A hint</summary>\n\nTry (4.2).\n\n{OPENED}\n\n</details>\n"),
}


@pytest.mark.parametrize(("text", "expected"), FORMS.values(), ids=FORMS)
def test_each_form(text: str, expected: str) -> None:
    assert Plain("04_stiffness", BOOK).text(text) == expected


UNKNOWN = {
    "{abbr}`x`": r"the role \{abbr\} has no plain form",
    "```{tab-set}\nx\n```": r"the directive \{tab-set\} has no plain form",
    "{eq}`eq-b`": "its text refers to 'eq-b', which the book does not have",
    "{cite:t}`none`": "refers to 'none'",
    "{doc}`05_none`": "refers to '05_none'",
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_what_has_no_plain_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"^04_stiffness: .*{UNKNOWN[text]}"):
        Plain("04_stiffness", BOOK).text(text)


def passes(test: dict[str, Any], names: dict[str, Any]) -> bool:
    """Whether a test of otter-grader passes: it runs its cases as doctests."""
    (case,) = (case for suite in test["suites"] for case in suite["cases"])
    found = doctest.DocTestParser().get_doctest(case["code"], names, test["name"], None, 0)
    return doctest.DocTestRunner(verbose=False).run(found, out=lambda line: None).failed == 0


@pytest.mark.parametrize("label", KNOWN)
def test_the_tests_of_otter_grader_are_our_checkers(label: str) -> None:
    signature, _, notebook = KNOWN[label]
    tests = otters(notebook)
    assert len(tests) == len(FOLDED[notebook])
    test, name = tests[f"ex_{label.replace('-', '_')}"], signature.partition("(")[0]
    names = {"torch": torch, "pd": pd, "ends": results.summarize(fake.table(inputs=()))}
    assert passes(test, {**names, name: function(signature, FOLDED[notebook][label])})
    assert not passes(test, {**names, name: function(signature, "raise NotImplementedError")})


def written(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_they_are_written_again_until_somebody_changes_them(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "course"
    asked = ["student", "04_stiffness", "07_what_holds", "--out", str(out)]
    assert cli.main(asked) == 0
    first, path = written(out), out / "04_stiffness.ipynb"
    assert set(first) >= {"04_stiffness.ipynb", "07_what_holds.ipynb", "tests/04_stiffness/ex_cosine.py"}
    notebook = nbformat.read(path, as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code").execution_count = 1
    nbformat.write(notebook, path)  # it was run, and saved
    assert cli.main([*asked, "--no-solutions"]) == cli.main(asked) == 0
    assert written(out) == first
    notebook.cells[3].source += " "
    nbformat.write(notebook, path)
    (out / "07_what_holds.ipynb").write_text("mine")
    before = written(out)
    capsys.readouterr()
    assert cli.main([*asked, "--no-solutions"]) == 2
    told = capsys.readouterr().err
    assert "changed since they were written: 04_stiffness.ipynb, 07_what_holds.ipynb; choose another" in told
    assert told.count("\n") == 1 and written(out) == before


def test_tests_that_another_version_wrote_are_written_anew_and_changed_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = tmp_path / "tests" / "04_stiffness" / "ex_cosine.py"
    made, older = sys.modules[notebooks.student.__module__], {"ex_cosine": {"name": "ex_cosine", "points": 7}}
    with monkeypatch.context() as before:
        before.setattr(made, "_tests", lambda notebook: older)
        notebooks.student(["04_stiffness"], out=tmp_path)
    assert "'points': 7" in test.read_text()
    notebooks.student(["04_stiffness"], out=tmp_path)
    assert "'points': 1," in test.read_text()
    test.write_text(test.read_text().replace("'points': 1,", "'points': 2,"))
    with pytest.raises(UserError, match=r"changed since they were written: tests/04_stiffness/ex_cosine\.py;"):
        notebooks.student(["04_stiffness"], out=tmp_path)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "course").write_text("")
    with pytest.raises(UserError, match=r"--out: .*course is not a folder"):
        notebooks.student(["00_data"], out=tmp_path / "course")


def test_the_page_for_teachers_knows_the_chapters_and_their_exercises() -> None:
    page = (book_folder() / "teaching.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \{doc\}`chapters/(\w+)` \| .* \| (\w+)[^|]*\| [^|]*\|$", page, re.MULTILINE))
    counts = {name: text_of(source_of(name)).count("{exercise}") for name in rows}
    assert {name: str(count or "none") for name, count in counts.items()} == rows
    assert set(FOLDED) <= set(rows)
