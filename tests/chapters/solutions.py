"""The exercises of a chapter: the solutions that it folds away, as code, and what checks them."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pandas as pd
import torch

CHAPTERS = Path(__file__).resolve().parents[2] / "book" / "chapters"


def solutions(notebook: str) -> dict[str, str]:
    """Code of each solution by the label of its exercise."""
    cells = json.loads((CHAPTERS / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return dict(re.findall(r"`{3,}\{solution\} ([\w-]+)\n:class: dropdown\n```python\n(.*?)```", text, flags=re.DOTALL))


def function(signature: str, code: str) -> Any:
    """The function of a signature that a piece of code defines, or whose body it is: an expression or statements."""
    if not code.lstrip().startswith(("def ", "import ", "from ")):
        body = code if "return" in code or "raise" in code else f"return {code}"
        code = f"def {signature}:\n{textwrap.indent(body, '    ')}"
    names: dict[str, Any] = {"torch": torch, "pd": pd}
    exec(compile(code, "<solution>", "exec"), names)
    return names[signature.partition("(")[0]]
