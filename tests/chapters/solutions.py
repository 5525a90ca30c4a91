"""The exercises of a chapter: the solutions that it folds away, as code, and what checks them."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

CHAPTERS = Path(__file__).resolve().parents[2] / "book" / "chapters"


class Exercise(NamedTuple):
    """What the tests know of an exercise.

    Attributes:
        signature: Of the function that its code defines.
        checker: What checks that function.
        slips: Wrong code, an expression or the lines of a body, and words of the answer to it.
    """

    signature: str
    checker: Callable[[Any], bool]
    slips: Mapping[str, str]

    def check(self, code: str) -> bool:
        """Whether a piece of code that defines the function is right."""
        names: dict[str, Any] = {"torch": torch, "pd": pd}
        exec(compile(code, "<solution>", "exec"), names)
        return self.checker(names[self.signature.partition("(")[0]])

    def wrong(self, body: str) -> bool:
        """Whether the function with that body is right."""
        lines = body if "return" in body or "raise" in body else f"return {body}"
        return self.check(f"def {self.signature}:\n{textwrap.indent(lines, '    ')}")


def solutions(notebook: str) -> dict[str, str]:
    """Code of each solution by the label of its exercise."""
    cells = json.loads((CHAPTERS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return dict(re.findall(r"`{3,}\{solution\} ([\w-]+)\n:class: dropdown\n```python\n(.*?)```", text, flags=re.DOTALL))
