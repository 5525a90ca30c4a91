"""Plain notebooks for students, which JupyterLab, VS Code and Colab render and otter-grader can grade.

They are made from the notebooks of the book, without outputs. Existing ones are read only to see whether somebody has
changed them. The checkers of the exercises serve as otter-grader's tests.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import nbformat

import gendyn_lite
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import book_folder, chapter_path, notebook_text, read_notebook
from gendyn_lite.notebooks.committed import METADATA
from gendyn_lite.notebooks.markdown import Book, Plain, read_book
from gendyn_lite.results.files import write_text

RUNS = 'runs = ""  # folder to save trained networks in; on Colab "drive" for your Google Drive'
READY = """

from gendyn_lite.sweep.here import ready

ready("{chapter}", version="{version}", runs=runs)"""
_SETUP = re.compile(r"\A(repository = .*)\n")
_EXERCISE = re.compile(r"^```\{exercise\}.*\n:label: ([\w-]+)$", re.MULTILINE)
_CHECK = re.compile(r"^solved = (exercises\.check_\w+\(.*\))\Z", re.MULTILINE)
_CHECKERS = re.compile(r"^from gendyn_lite\.chapters\.(\w+) import .*\bexercises\b", re.MULTILINE)
_FOLDED = {"hide-input", "remove-input"}  # tags of cells whose code is folded or hidden in the book
SUMMARY = "from gendyn_lite.chapters.live import summary\n\nsummary({count})"


def plain(chapter: str | Path, *, solutions: bool = True, book: Book | None = None) -> Any:
    """Make the plain notebook of a chapter.

    Args:
        chapter: Name of a chapter, or the path of its notebook.
        solutions: Whether solutions are kept, folded; hints always are.
        book: What its text may refer to (default: the book of this checkout).

    Returns:
        A notebook without outputs. Its metadata say which version made it, and contain otter-grader's tests.

    Raises:
        UserError: There is no such chapter, or its text has a directive or role that cannot be converted.

    >>> cells = plain("04_stiffness", solutions=False).cells
    >>> any("Solution" in cell.source for cell in cells)
    False
    """
    path = chapter_path(chapter)
    source = read_notebook(path)
    made = Plain(path.stem, book or read_book(book_folder()), solutions=solutions)
    tests = _tests(source)
    cells = [_cell(cell, made) for cell in source.cells]
    first = next(cell for cell in cells if cell.cell_type == "code")
    if _SETUP.match(first.source):
        version = gendyn_lite.__version__
        first.source = _SETUP.sub(rf"\1\n{RUNS}\n", first.source) + READY.format(chapter=path.stem, version=version)
    if tests:
        place = max(i for i, cell in enumerate(cells) if _CHECK.search(cell.source)) + 1
        heading = nbformat.v4.new_markdown_cell("### How far are you?", id="summary-heading")
        summary = nbformat.v4.new_code_cell(SUMMARY.format(count=len(tests)), id="summary")
        cells[place + 1 : place + 1] = [heading, summary]  # after the solution of the last exercise
    cells = [cell for cell in cells if cell.source.strip()]
    about = {"chapter": path.stem, "version": gendyn_lite.__version__, "solutions": solutions, "sources": seal(cells)}
    metadata = {**METADATA, "gendyn": about, "otter": {"OK_FORMAT": True, "tests": tests}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def _cell(cell: Any, made: Plain) -> Any:
    """Convert one cell."""
    if cell.cell_type == "markdown":
        return nbformat.v4.new_markdown_cell(made.text(cell.source).strip(), id=cell.id)
    tags = set(cell.metadata.get("tags", ()))
    metadata: dict[str, Any] = {"tags": ["parameters"]} if "parameters" in tags else {}
    own = metadata or _SETUP.match(cell.source) or _CHECK.search(cell.source)  # cells that students read or edit
    if tags & _FOLDED and not own:
        metadata = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # how JupyterLab and Colab hide code
    return nbformat.v4.new_code_cell(cell.source, id=cell.id, metadata=metadata)


def _tests(notebook: Any) -> dict[str, Any]:
    """Otter-grader's tests of a chapter: for each exercise, that its checker says that the answer is right."""
    found: dict[str, Any] = {}
    label = module = ""
    for cell in notebook.cells:
        for name in _EXERCISE.findall(cell.source):
            label = name.replace("-", "_")
        for name in _CHECKERS.findall(cell.source):
            module = name
        if cell.cell_type == "code" and (call := _CHECK.search(cell.source)):
            brought = f">>> from gendyn_lite.chapters.{module} import exercises\n"
            code = f"{brought}>>> solved = {call[1]}  # doctest: +ELLIPSIS\nRight (...).\n"
            case = {"code": code, "hidden": False, "locked": False}
            suite = {"cases": [case], "scored": True, "setup": "", "teardown": "", "type": "doctest"}
            found[label] = {"name": label, "points": 1, "suites": [suite]}
    return found


def student(chapters: Iterable[str], *, out: Path, solutions: bool = True) -> list[Path]:
    """Write the plain notebooks of chapters, and otter-grader's tests beside them, ``tests/CHAPTER/*.py``.

    Args:
        chapters: Names of chapters.
        out: Folder to write into; it is created.
        solutions: Whether solutions are kept, folded.

    Returns:
        Paths of the notebooks.

    Raises:
        UserError: A file that would be replaced was changed since it was written, or was not written by this function.
            Nothing is written then.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"--out: {out} is not a folder, expected one for plain notebooks")
    chapters = tuple(chapters)
    book = read_book(book_folder())._replace(chapters=chapters)  # only chapters that are written here become links
    made = {out / f"{chapter}.ipynb": plain(chapter, solutions=solutions, book=book) for chapter in chapters}
    texts = {path: notebook_text(notebook) for path, notebook in made.items()} | _files_of_tests(made)
    before = _files_of_tests({path: there for path in made if (there := _there(path))})  # may be of an earlier version
    changed = [
        path for path, text in texts.items() if path.exists() and not _as_written(path, {text, before.get(path, text)})
    ]
    if changed:
        names = ", ".join(str(path.relative_to(out)) for path in changed)
        raise UserError(f"{out} has files that were changed since they were written: {names}; choose another --out")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return list(made)


def _files_of_tests(notebooks: Mapping[Path, Any]) -> dict[Path, str]:
    """The texts of otter-grader's test files, by path, from the tests in the metadata of plain notebooks."""
    texts = {}
    for path, notebook in notebooks.items():
        for name, test in notebook.metadata.get("otter", {}).get("tests", {}).items():
            told = pformat(json.loads(json.dumps(test)), width=110, sort_dicts=False)
            texts[path.parent / "tests" / path.stem / f"{name}.py"] = f"OK_FORMAT = True\n\ntest = {told}\n"
    return texts


def _there(path: Path) -> Any:
    """The notebook in a file, or None if the file is missing or not a notebook."""
    try:
        return read_notebook(path)
    except (UserError, OSError):
        return None


def _as_written(path: Path, texts: Collection[str]) -> bool:
    """Whether a file was written by `student` and not changed since, other than by executing the notebook."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8", errors="replace") in texts
    notebook = _there(path)
    return notebook is not None and notebook.metadata.get("gendyn", {}).get("sources") == seal(notebook.cells)


def seal(cells: Iterable[Mapping[str, Any]]) -> str:
    """A hash of the sources of cells, without their outputs.

    >>> seal([]) == seal([{"cell_type": "code", "source": "1"}])
    False
    """
    told = [[cell["cell_type"], cell["source"]] for cell in cells]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
