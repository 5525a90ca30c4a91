"""The solutions that a chapter folds away, as code."""

from __future__ import annotations

import json
import re
from pathlib import Path

CHAPTERS = Path(__file__).resolve().parents[2] / "book" / "chapters"


def solutions(chapter: str) -> dict[str, str]:
    """Code of each solution by the label of its exercise."""
    cells = json.loads((CHAPTERS / f"{chapter}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return dict(re.findall(r"`{3,}\{solution\} ([\w-]+)\n:class: dropdown\n```python\n(.*?)```", text, flags=re.DOTALL))


def run(code: str, **given):
    """The names that a piece of code defines."""
    names = dict(given)
    exec(compile(code, "<solution>", "exec"), names)
    return names
