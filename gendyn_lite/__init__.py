"""Why over-parameterized networks generalize: five papers, their measures, exact and fast."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`gendyn_lite.report`, once it is asked for: it imports torch."""
    if name == "report":
        return import_module("gendyn_lite.reports").report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
