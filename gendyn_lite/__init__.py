"""Why over-parameterized networks generalize: exact and fast measures from five papers, and the book about them."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `gendyn_lite.report` only when it is first used, because it imports torch."""
    if name == "report":
        return import_module("gendyn_lite.reports").report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
