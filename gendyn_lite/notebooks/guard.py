"""What an executed notebook may hold: nothing that dies in a page, changes from run to run, or was never run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import read_notebook

NOT_COMPARED = "nbval-ignore-output"  # tag of a cell whose output nbval does not compare; `SEAL` guards it instead
SEAL = "outputs_sha256"
LIVE_ONLY = "live-only"  # tag of a cell whose output needs a kernel (ipywidgets); pages show `NOTE` instead
WIDGET = "application/vnd.jupyter.widget-view+json"
NOTE = "This explorer needs a live kernel: open the chapter in Jupyter or Colab and run this cell."
_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def tidy(notebook: Any) -> Any:
    """Take out of an executed notebook what differs from run to run, and what is dead without a kernel.

    Timestamps, papermill's records, widget state, interpreter versions. The output of a cell tagged ``live-only``
    becomes a note; of any other cell, outputs that are widgets (progress bars) go. Outputs that nbval does not compare
    (they hang on the processor, as numbers of trained networks do) are sealed: one that is edited by hand is noticed.
    """
    notebook.metadata = nbformat.from_dict(_METADATA)
    for cell in notebook.cells:
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        if not cell.metadata.get("tags", True):
            del cell.metadata["tags"]
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        if LIVE_ONLY in cell.metadata.get("tags", []):
            note = {"text/html": f'<p class="gendyn-live-only">{NOTE}</p>', "text/plain": NOTE}
            cell.outputs = [nbformat.v4.new_output("display_data", data=note)]
        cell.metadata.pop(SEAL, None)
        if NOT_COMPARED in cell.metadata.get("tags", []):
            cell.metadata[SEAL] = seal(cell.outputs)
    return notebook


def seal(outputs: Any) -> str:
    """The hash of a cell's outputs.

    >>> seal([]) == seal([{"output_type": "stream", "name": "stdout", "text": "0.98"}])
    False
    """
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()[:16]


def check_executed(path: Path) -> None:
    """Refuse a notebook that strict nbval would wave through, or that would render wrongly.

    nbval compares nothing in a cell without an execution count, so a stripped notebook passes it.

    Raises:
        UserError: The first cell that was not executed in order, failed, wrote to stderr, holds a widget or an output
            that is not the one it was sealed with; papermill's or widgets' metadata; an invalid notebook. In one line,
            with what to do.
    """
    check_notebook(read_notebook(path), name=path.name)


def check_notebook(notebook: Any, *, name: str) -> None:
    """`check_executed` for a notebook that was read already; errors call it by its file's name."""
    problem = next(_problems(notebook), None)
    if problem:
        raise UserError(f"{name}: {problem}; execute it anew with `make refresh`")


def _problems(notebook: Any) -> Iterator[str]:
    """Every fault of a notebook, in order."""
    yield from (f"metadata {name!r} is left in it" for name in ("widgets", "papermill") if name in notebook.metadata)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code:
        yield "it has no code cells"
    for number, cell in enumerate(code, start=1):
        first = next(iter(cell.source.strip().splitlines()), "")
        where = f"code cell {number} ({first[:60]!r})"
        if not first:
            yield f"code cell {number} is empty"
        if cell.execution_count != number:
            yield f"{where} has execution count {cell.execution_count}, expected {number}: not executed in order"
        yield from (f"{where} {fault}" for fault in _faults(cell))


def _faults(cell: Any) -> Iterator[str]:
    """What is wrong with the outputs of one cell."""
    tags = cell.metadata.get("tags", [])
    if LIVE_ONLY in tags and NOT_COMPARED not in tags:
        yield f"is tagged {LIVE_ONLY!r} and needs the tag {NOT_COMPARED!r} too"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in tags:
            yield f"failed with {output.ename}: {output.evalue}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"wrote to stderr: {output.text.strip()[:80]!r}"
        if WIDGET in output.get("data", {}):
            yield f"holds a widget, which is dead without a kernel: tag it {LIVE_ONLY!r}"
    if NOT_COMPARED in tags and cell.metadata.get(SEAL) != seal(cell.outputs):
        yield "has outputs that are not those of its execution: they were edited, or executed by other means"
