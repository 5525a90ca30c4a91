"""Exercises of every chapter: each classical slip is told apart, and a right answer in another form is right.

That the folded solutions are right: tests/notebooks/test_student.py.
"""

from __future__ import annotations

import json
import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from gendyn_lite import results
from tests.chapters.exercises import CHECKS, RIGHT, SLIPS
from tests.chapters.random_labels import fake as fake_runs

CHAPTERS = Path(__file__).resolve().parents[2] / "book" / "chapters"
STOPPED = [("kl", "raise NotImplementedError", "your turn"), ("kl", "p.means()", "your code stopped with Attribute")]
STOPPED += [("midline", "None", "the checker cannot use your function or its result: TypeError")]


def solutions(notebook: str) -> dict[str, str]:
    """Code of each solution that a page folds away by the label of its exercise."""
    cells = json.loads((CHAPTERS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    found = r"`{3,}\{solution\} ex-([\w-]+)\n:class: dropdown\n```python\n(.*?)```"
    return dict(re.findall(found, text, flags=re.DOTALL))


def function(signature: str, code: str) -> Any:
    """The function of a signature that a piece of code defines, or whose body it is: an expression or statements."""
    if not code.lstrip().startswith(("def ", "import ", "from ")):
        body = code if "return" in code or "raise" in code else f"return {code}"
        code = f"def {signature}:\n{textwrap.indent(body, '    ')}"
    names: dict[str, Any] = {"torch": torch, "pd": pd}
    exec(compile(code, "<solution>", "exec"), names)
    return names[signature.partition("(")[0]]


FOLDED = {path.stem: found for path in CHAPTERS.glob("*.ipynb") if (found := solutions(path.stem))}
KNOWN = {
    label: (signature, getattr(import_module(f"gendyn_lite.chapters.{notebook[3:]}.exercises"), checker), notebook)
    for notebook, checks in CHECKS.items()
    for label, signature, checker in checks
}


def checked(label: str, code: str) -> bool:
    """Whether code passes as the answer to an exercise."""
    signature, checker, _ = KNOWN[label]
    given = [results.summarize(fake_runs.table(inputs=()))] if label == "gap" else []
    return checker(function(signature, code), *given)


def test_every_exercise_with_a_solution_is_tested():
    assert {notebook: set(labels) for notebook, labels in FOLDED.items()} == {
        notebook: {label for label, *_ in checks} for notebook, checks in CHECKS.items()
    }


@pytest.mark.parametrize(("label", "code", "told"), [*SLIPS, *STOPPED])
def test_a_slip_is_told_in_one_line(label, code, told, capsys):
    assert not checked(label, code)
    out = capsys.readouterr().out
    assert told in out and out.count("\n") == 1


@pytest.mark.parametrize(("label", "code"), RIGHT)
def test_a_right_answer_in_another_form_is_right(label, code, capsys):
    assert checked(label, code), capsys.readouterr().out
