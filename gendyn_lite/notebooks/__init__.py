"""Chapters as programs: what parameters they take, running one at a size, and what a committed one must look like.

No torch: the chapter's own kernel imports it.
"""

from __future__ import annotations

from gendyn_lite.notebooks.chapters import book_folder, chapter_path, chapters
from gendyn_lite.notebooks.execution import checked, refresh, run
from gendyn_lite.notebooks.guard import check_executed
from gendyn_lite.notebooks.live import Live, Record, read_record, record_path, run_recorded
from gendyn_lite.notebooks.parameters import Parameter, check, parameters

__all__ = [
    "Live",
    "Parameter",
    "Record",
    "book_folder",
    "chapter_path",
    "chapters",
    "check",
    "check_executed",
    "checked",
    "parameters",
    "read_record",
    "record_path",
    "refresh",
    "run",
    "run_recorded",
]
