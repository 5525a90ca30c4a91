"""Run a chapter at a size, or execute the committed one in place."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbclient.util import run_sync

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.notebooks.chapters import Values, chapter_path, checked, kernel_environment, notebook_of, notebook_text
from gendyn_lite.notebooks.committed import check_notebook, tidy
from gendyn_lite.results.files import write_text

Reached = Callable[[int, int], object]


class PatientChannel(AsyncZMQSocketChannel):
    """A channel that looks again every second for a message whose arrival it was not told of.

    A client that sends on a channel while it waits there (as nbclient does for a cell with an ipywidgets Output) can
    lose the socket's only notice of the reply, and then waits for ever.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """The next message, within `timeout` seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not await self.msg_ready():
            left = end - time.monotonic()
            try:
                return await super().get_msg(timeout=max(0.0, min(1.0, left)))
            except Empty:
                if left <= 0:
                    raise
        return await self._recv()


class PatientClient(AsyncKernelClient):
    """A client whose replies cannot be lost."""

    shell_channel_class = PatientChannel  # type: ignore[assignment]  # declared as a trait upstream


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels of the interpreter that asks, whatever the machine has registered as ``python3``."""

    client_factory = PatientClient  # type: ignore[assignment]  # likewise
    transport_encryption = "auto"  # type: ignore[assignment]  # else newer kernels warn on stderr

    @property
    def kernel_spec(self) -> KernelSpec:  # type: ignore[override]  # a plain attribute upstream, by its own property
        """This interpreter, with the roots of data and runs that hold in every chapter."""
        spec = get_kernel_dict()  # its argv is that of sys.executable
        return KernelSpec(**{**spec, "env": kernel_environment()})


def run(
    chapter: str | Path, *, profile: str = "smoke", values: Values = None, out: Path, reached: Reached | None = None
) -> Path:
    """Execute a chapter with parameters as papermill injects them, as a reader would by running all its cells.

    Args:
        chapter: Name of a chapter, or the path of a notebook.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Other parameters; text is read as the parameter's type. What equals the default is not injected.
        out: Folder of the executed notebook, or its path (``.ipynb``).
        reached: Called with the number of the code cell that starts (the first is 1), and how many there are.

    Returns:
        The executed notebook. After a failure or an interruption there is ``NAME.failed.ipynb`` beside it, as far as it
        ran.

    Raises:
        UserError: An unknown chapter, profile or parameter, a wrong type or place (nothing has run),
            or a UserError in a cell.
        Failed: A cell raised; named, in one line.
    """
    path, changed = checked(chapter, profile=profile, values=values)
    target = target_of(path, profile, out=out)
    failed = target.with_suffix(".failed.ipynb")
    notebook = _with_parameters(notebook_of(path.read_bytes(), name=path.name), changed)
    try:
        _execute(notebook, path, reached, f"as far as it ran: {failed}")
    except (Failed, UserError, KeyboardInterrupt):
        if any(cell.get("execution_count") for cell in notebook.cells):
            with contextlib.suppress(OSError):
                write_text(failed, notebook_text(notebook))
        raise
    write_text(target, notebook_text(tidy(notebook)))
    failed.unlink(missing_ok=True)
    return target


def target_of(path: Path, profile: str, *, out: Path) -> Path:
    """Where the executed notebook of a chapter goes; its folder is made.

    Raises:
        UserError: A folder is in its place, or a file in that of its folder.
        OSError: The folder cannot be made or written to.
    """
    target = out if out.suffix == ".ipynb" else out / f"{path.stem}.{profile}.ipynb"
    place = next(each for each in (target.parent, *target.parent.parents) if each.exists())
    if not place.is_dir():
        raise UserError(f"--out: {place} is not a folder, expected one for the executed notebook")
    if target.is_dir():
        raise UserError(f"--out: {target} is a folder, and the executed notebook would go there: take another place")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(13, "Permission denied", str(target.parent))
    return target.resolve()


def _with_parameters(notebook: Any, values: Mapping[str, Any]) -> Any:
    """The notebook before it is executed: no outputs, and a cell of values after that of the parameters."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    if not values:
        return notebook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # papermill's own deprecations
        from papermill.translators import translate_parameters
    source = translate_parameters("python3", "python", dict(values), "Parameters")
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]}))
    return notebook


def _execute(notebook: Any, path: Path, reached: Reached | None, after: str) -> None:
    """Execute a notebook in memory, in the folder of its path; its kernel is gone afterwards, however that ends.

    Raises:
        UserError: A cell raised one.
        Failed: A cell raised (named; `after` says what is left of it), the kernel died or did not start.
    """
    silent = logging.Logger("nbclient", logging.CRITICAL + 1)  # errors are raised, and reported once
    options: Any = {"kernel_manager_class": ThisInterpreter, "record_timing": False, "timeout": None, "log": silent}
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}, **options)
    client.km = manager = client.create_kernel_manager()
    loop_log = logging.getLogger("asyncio")
    before, loop_log.disabled = loop_log.disabled, True  # sockets that an interruption closes complain there
    try:  # not `client.execute()`: that answers signals itself, and goes on
        try:
            client.start_new_kernel()
            client.start_new_kernel_client()
        except RuntimeError as error:
            raise Failed(f"{path.stem}: no kernel of {sys.executable} started: {error}") from None
        with client.setup_kernel():  # which stops it
            try:
                for number, (index, cell) in enumerate(code, start=1):
                    if reached is not None:
                        reached(number, len(code))
                    try:
                        client.execute_cell(cell, index)
                    except CellExecutionError as error:
                        raise _failure(path.stem, cell, error, after) from None
            except DeadKernelError:
                raise Failed(f"{path.stem}: the kernel died (out of memory?); {after}") from None
            except KeyboardInterrupt:
                client.shutdown_kernel = "immediate"  # asked gently, it complains on stderr; nothing of a run is lost
                raise
    finally:
        if manager.has_kernel:
            run_sync(manager.shutdown_kernel)(now=True)  # type: ignore[arg-type]  # upstream it is typed as its parent's
        loop_log.disabled = before


def refresh(chapter: str | Path) -> Path:
    """Execute a notebook in place, for committing: nothing in it differs from run to run but what it computes.

    Args:
        chapter: Name of a chapter, or the path of a notebook.

    Returns:
        The path of the notebook.

    Raises:
        Failed: A cell raised, or the file was edited meanwhile. It is left as it is.
        UserError: The result is nothing to commit: a widget, something on stderr. The file is left as it is.
    """
    path = chapter_path(chapter)
    before = path.read_bytes()
    notebook = notebook_of(before, name=path.name)
    _execute(notebook, path, None, "the notebook is as it was")
    check_notebook(tidy(notebook), name=path.name)
    if not path.is_file() or path.read_bytes() != before:
        stays = "it stays as it is now, and what was executed is discarded"
        raise Failed(f"{path} was changed while it was executed: {stays}; run the same command again")
    write_text(path, notebook_text(notebook))
    return path


def _failure(chapter: str, cell: Any, error: CellExecutionError, after: str) -> Exception:
    """One line for a failed cell: which, what it begins with, what it raised."""
    value = " ".join(str(error.evalue).split())
    if error.ename == UserError.__name__:  # the chapter's configuration refused a value: the user's to mend
        return UserError(f"{chapter}, cell [{cell.execution_count}]: {value}")
    begins = cell.source.strip().splitlines()[0][:60]
    where = f"{chapter} failed in cell [{cell.execution_count}] ({begins!r})"
    return Failed(f"{where} with {error.ename}: {value}; {after}")
