"""Chapters as programs: their parameters, their execution, and checks of the committed notebooks.

Nothing here imports torch; the kernel of a chapter does.
"""

from gendyn_lite.notebooks.chapters import book_folder, chapter_path, chapters, checked, parameters
from gendyn_lite.notebooks.committed import check_executed, verify_figures
from gendyn_lite.notebooks.execution import refresh, run
from gendyn_lite.notebooks.student import plain, student
