"""Execute a chapter with parameters, or the committed notebook in place."""

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
    """A channel that checks every second whether a message has arrived without a notification.

    If a client sends on a channel while it waits there (as nbclient does for a cell with an ipywidgets Output), the
    socket's only notification of the reply can be lost, and the client would wait forever.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """Return the next message; raises `queue.Empty` after `timeout` seconds."""
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
    """A client that never misses a reply: see `PatientChannel`."""

    shell_channel_class = PatientChannel  # type: ignore[assignment]  # declared as a trait upstream


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels of the running interpreter, whichever kernel the machine has registered as ``python3``."""

    client_factory = PatientClient  # type: ignore[assignment]  # likewise
    transport_encryption = "auto"  # type: ignore[assignment]  # else newer kernels warn on stderr

    @property
    def kernel_spec(self) -> KernelSpec:  # type: ignore[override]  # a plain attribute upstream, by its own property
        """The kernel of this interpreter, with the environment of a chapter."""
        spec = get_kernel_dict()  # its argv is that of sys.executable
        return KernelSpec(**{**spec, "env": kernel_environment()})


def run(
    chapter: str | Path, *, profile: str = "smoke", values: Values = None, out: Path, reached: Reached | None = None
) -> Path:
    """Execute all cells of a chapter with the given parameters, which are injected as papermill does.

    After a failure or an interruption, the notebook as far as it ran is written to ``NAME.failed.ipynb``.

    Args:
        chapter: Name of a chapter, or the path of a notebook.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Other parameters by name; text is converted to the parameter's type. Defaults are not injected.
        out: Folder of the executed notebook, or its path (``.ipynb``).
        reached: Called when a code cell starts, with its number (from 1) and the number of code cells.

    Returns:
        Path of the executed notebook.

    Raises:
        UserError: A chapter, profile, parameter or the output path is invalid, in which case no cell has run; or a cell
            raised a UserError.
        Failed: A cell raised another error; the cell is named.
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
    """The path of a chapter's executed notebook, whose folder is created.

    Raises:
        UserError: The path is a folder, or that of its folder is a file.
        OSError: The folder cannot be created or written to.
    """
    target = out if out.suffix == ".ipynb" else out / f"{path.stem}.{profile}.ipynb"
    place = next(each for each in (target.parent, *target.parent.parents) if each.exists())
    if not place.is_dir():
        raise UserError(f"--out: {place} is not a folder, expected one for the executed notebook")
    if target.is_dir():
        raise UserError(f"--out: {target} is a folder, expected the executed notebook there: choose another path")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(13, "Permission denied", str(target.parent))
    return target.resolve()


def _with_parameters(notebook: Any, values: Mapping[str, Any]) -> Any:
    """Remove all outputs of a notebook, and insert a cell with parameter values after its parameters cell."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    if not values:
        return notebook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside papermill
        from papermill.translators import translate_parameters
    source = translate_parameters("python3", "python", dict(values), "Parameters")
    place = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]}))
    return notebook


def _execute(notebook: Any, path: Path, reached: Reached | None, after: str) -> None:
    """Execute a notebook in memory, with the folder of its path as working folder. Its kernel is always shut down.

    Args:
        notebook: The notebook; outputs are written into it.
        path: Its path.
        reached: As for `run`.
        after: End of error messages: what is left of the execution.

    Raises:
        UserError: A cell raised a UserError.
        Failed: A cell raised another error, or the kernel died or did not start.
    """
    silent = logging.Logger("nbclient", logging.CRITICAL + 1)  # errors are raised and need not be logged too
    options: Any = {"kernel_manager_class": ThisInterpreter, "record_timing": False, "timeout": None, "log": silent}
    code = [(index, cell) for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    client = NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}, **options)
    client.km = manager = client.create_kernel_manager()
    loop_log = logging.getLogger("asyncio")
    before, loop_log.disabled = loop_log.disabled, True  # after an interruption it would warn about closed sockets
    try:  # not `client.execute()`, which handles signals itself and continues
        try:
            client.start_new_kernel()
            client.start_new_kernel_client()
        except RuntimeError as error:
            raise Failed(f"{path.stem}: no kernel of {sys.executable} started: {error}") from None
        with client.setup_kernel():  # shuts the kernel down at the end
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
                client.shutdown_kernel = "immediate"  # a graceful shutdown writes to stderr; runs can be resumed anyway
                raise
    finally:
        if manager.has_kernel:
            run_sync(manager.shutdown_kernel)(now=True)  # type: ignore[arg-type]  # inexact annotation upstream
        loop_log.disabled = before


def refresh(chapter: str | Path) -> Path:
    """Execute a notebook in place and tidy it for committing. After an error the file is unchanged.

    Args:
        chapter: Name of a chapter, or the path of a notebook.

    Returns:
        The path of the notebook.

    Raises:
        Failed: A cell raised an error, or the file was edited during the execution.
        UserError: The result cannot be committed, because of a widget or output on stderr.
    """
    path = chapter_path(chapter)
    before = path.read_bytes()
    notebook = notebook_of(before, name=path.name)
    _execute(notebook, path, None, "the notebook is unchanged")
    check_notebook(tidy(notebook), name=path.name)
    if not path.is_file() or path.read_bytes() != before:
        stays = "your changes are kept, and the outputs of the execution are discarded"
        raise Failed(f"{path} was changed while it was executed: {stays}; run the same command again")
    write_text(path, notebook_text(notebook))
    return path


def _failure(chapter: str, cell: Any, error: CellExecutionError, after: str) -> Exception:
    """The error for a failed cell, in one line: its number, the beginning of its code, and what it raised."""
    value = " ".join(str(error.evalue).split())
    if error.ename == UserError.__name__:  # for instance an invalid value of a parameter
        return UserError(f"{chapter}, cell [{cell.execution_count}]: {value}")
    begins = cell.source.strip().splitlines()[0][:60]
    where = f"{chapter} failed in cell [{cell.execution_count}] ({begins!r})"
    return Failed(f"{where} with {error.ename}: {value}; {after}")
