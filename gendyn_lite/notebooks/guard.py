"""What an executed notebook may hold: nothing that dies in a page, changes from run to run, or was never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat

from gendyn_lite.errors import UserError

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
    becomes a note; of any other cell, outputs that are widgets (progress bars) go.
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
    return notebook


def check_executed(path: Path) -> None:
    """Refuse a notebook that strict nbval would wave through, or that would render wrongly.

    nbval compares nothing in a cell without an execution count, so a stripped notebook passes it.

    Raises:
        UserError: The first cell that was not executed in order, failed, wrote to stderr or holds a widget; papermill's
            or widgets' metadata; an invalid notebook. In one line, with what to do.
    """
    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (nbformat.ValidationError, nbformat.reader.NotJSONError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path.name} is no valid notebook: {str(error).strip().splitlines()[0]}") from None
    problem = next((text for text in _problems(notebook)), None)
    if problem:
        raise UserError(f"{path.name}: {problem}; execute it anew with `make refresh`")


def _problems(notebook: Any):
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


def _faults(cell: Any):
    """What is wrong with the outputs of one cell."""
    tags = cell.metadata.get("tags", [])
    if LIVE_ONLY in tags and "nbval-ignore-output" not in tags:
        yield f"is tagged {LIVE_ONLY!r} and needs the tag 'nbval-ignore-output' too"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in tags:
            yield f"failed with {output.ename}: {output.evalue}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"wrote to stderr: {output.text.strip()[:80]!r}"
        if WIDGET in output.get("data", {}):
            yield f"holds a widget, which is dead without a kernel: tag it {LIVE_ONLY!r}"
