"""Chapters as programs: what parameters they take, running one at a size, and what a committed one must look like.

No torch: the chapter's own kernel imports it.
"""

from __future__ import annotations

from gendyn_lite.notebooks.chapters import book_folder, chapter_path, chapters
from gendyn_lite.notebooks.execution import refresh, run
from gendyn_lite.notebooks.guard import check_executed
from gendyn_lite.notebooks.parameters import Parameter, check, parameters

__all__ = [
    "Parameter",
    "book_folder",
    "chapter_path",
    "chapters",
    "check",
    "check_executed",
    "parameters",
    "refresh",
    "run",
]
