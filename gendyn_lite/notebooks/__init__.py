"""Chapters as programs: what parameters they take, running one at a size, and what a committed one must look like.

No torch: the chapter's own kernel imports it.
"""

from gendyn_lite.notebooks.chapters import book_folder, chapter_path, chapters, checked, parameters
from gendyn_lite.notebooks.committed import check_executed, verify_figures
from gendyn_lite.notebooks.execution import refresh, run
from gendyn_lite.notebooks.student import plain, student
