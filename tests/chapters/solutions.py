"""The exercises of a chapter: the solutions that it folds away, as code, and what checks them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

CHAPTERS = Path(__file__).resolve().parents[2] / "book" / "chapters"


@dataclass(frozen=True)
class Chapter:
    """What the tests know of the exercises of one chapter.

    Args:
        notebook: name of its file
        checks: for each exercise the name that its code defines, and the function that checks it
        slips: by a name of its own the exercise, wrong code, and words of the answer to it
        given: what the code may use without importing it
        one_line: whether the answer to a slip is a single line
    """

    notebook: str
    checks: Mapping[str, tuple[str, Callable[[Any], bool]]]
    slips: Mapping[str, tuple[str, str, str]]
    given: Mapping[str, Any] = field(default_factory=lambda: {"torch": torch})
    one_line: bool = False

    def check(self, label: str, code: str) -> bool:
        name, checker = self.checks[label]
        return checker(run(code, **self.given)[name])


def solutions(notebook: str) -> dict[str, str]:
    """Code of each solution by the label of its exercise."""
    cells = json.loads((CHAPTERS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return dict(re.findall(r"`{3,}\{solution\} ([\w-]+)\n:class: dropdown\n```python\n(.*?)```", text, flags=re.DOTALL))


def run(code: str, **given):
    """The names that a piece of code defines."""
    names = dict(given)
    exec(compile(code, "<solution>", "exec"), names)
    return names
