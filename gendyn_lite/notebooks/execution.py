"""Run a chapter at a size, or execute the committed one in place."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping
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

from gendyn_lite.errors import Failed, UserError, unknown_name
from gendyn_lite.notebooks.chapters import chapter_path, roots
from gendyn_lite.notebooks.guard import check_executed, tidy
from gendyn_lite.notebooks.live import Live
from gendyn_lite.notebooks.parameters import check, parameters

PROFILES = ("smoke", "colab", "full")


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
        quiet = {"PYDEVD_DISABLE_FILE_VALIDATION": "1", "TQDM_DISABLE": "1"}  # no debugger's notice, no dead bars
        spec = get_kernel_dict()  # its argv is that of sys.executable
        return KernelSpec(**{**spec, "env": {**roots(), **quiet}})


def run(
    chapter: str | Path,
    *,
    profile: str = "smoke",
    values: Mapping[str, Any] | None = None,
    out: Path,
    live: Live | None = None,
) -> Path:
    """Execute a chapter with papermill, as a reader would by running all its cells.

    Args:
        chapter: Name of a chapter, or the path of a notebook.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        values: Other parameters; text is read as the parameter's type. What equals the default is not injected.
        out: Folder of the executed notebook, or its path (``.ipynb``).
        live: Is told which cell runs, and says it.

    Returns:
        The executed notebook. After a failure or an interruption there is ``NAME.failed.ipynb`` beside it, as far as it
        ran.

    Raises:
        UserError: An unknown chapter, profile or parameter, a wrong type (nothing has run), or a UserError in a cell.
        Failed: A cell raised; named, in one line.
    """
    path, changed = checked(chapter, profile=profile, values=values)
    target = out if out.suffix == ".ipynb" else out / f"{path.stem}.{profile}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target)
    return _papermill(path, changed, target.resolve(), live)


def _clear(target: Path) -> None:
    """Remove what killed executions left half-written."""
    import psutil

    for left in target.parent.glob(f"{target.stem}.*.partial.ipynb"):
        number = left.name.removesuffix(".partial.ipynb").rpartition(".")[2]
        if number.isdigit() and not psutil.pid_exists(int(number)):
            left.unlink(missing_ok=True)


def checked(
    chapter: str | Path, *, profile: str = "smoke", values: Mapping[str, Any] | None = None
) -> tuple[Path, dict[str, Any]]:
    """The notebook of a chapter, and the parameters that differ from its own, each in its type. Nothing runs.

    Raises:
        UserError: An unknown chapter, profile or parameter, or a wrong type.
    """
    path = chapter_path(chapter)
    if profile not in PROFILES:
        raise unknown_name("profile", profile, PROFILES)
    typed = check(path, {**(values or {}), "profile": profile})
    defaults = parameters(path)
    return path, {name: value for name, value in typed.items() if value != defaults[name].default}


def _papermill(path: Path, values: dict[str, Any], target: Path, live: Live | None) -> Path:
    """Execute aside, then rename: to the target, or to ``.failed`` if a cell raised or someone interrupted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # papermill's own deprecations; the chapter runs in a process of its own
        import papermill
    aside, failed = target.with_suffix(f".{os.getpid()}.partial.ipynb"), target.with_suffix(".failed.ipynb")
    options = {"kernel_manager_class": ThisInterpreter, "record_timing": False, "progress_bar": False}
    options |= _told(path, live, injected=bool(values))
    try:
        papermill.execute_notebook(
            path, aside, values, kernel_name="python3", language="python", cwd=path.parent, **options
        )
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        aside.replace(failed)
        raise _failure(path, nbformat.read(failed, as_version=4), error, f"as far as it ran: {failed}") from None
    except KeyboardInterrupt:
        if aside.exists():
            aside.replace(failed)
        raise
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _write(tidy(nbformat.read(aside, as_version=4)), target)
    aside.unlink()
    failed.unlink(missing_ok=True)
    return target


def _told(path: Path, live: Live | None, *, injected: bool) -> dict[str, Any]:
    """Options of nbclient by which `live` is told of cells."""
    if live is None:
        return {}
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    live.cells = len(code) + injected
    return {"on_cell_start": lambda cell, cell_index: live.reach(cell)}


def refresh(chapter: str | Path) -> Path:
    """Execute a notebook in place, for committing: nothing in it differs from run to run but what it computes.

    Raises:
        Failed: A cell raised. The notebook is left as it was.
        UserError: The result is nothing to commit: a widget, something on stderr. It is left as it was.
    """
    path = chapter_path(chapter)
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    options: Any = {"kernel_manager_class": ThisInterpreter, "record_timing": False, "timeout": None}
    try:
        NotebookClient(notebook, resources=place, **options).execute()
    except (CellExecutionError, DeadKernelError) as error:
        raise _failure(path, notebook, error, "the notebook is as it was") from None
    aside = path.with_suffix(f".{os.getpid()}.partial.ipynb")
    try:
        _write(tidy(notebook), aside)
        check_executed(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _write(notebook: Any, path: Path) -> None:
    """Write a notebook aside, then rename."""
    aside = path.with_suffix(f".{os.getpid()}.writing")
    nbformat.write(notebook, aside)
    aside.replace(path)


def _failure(path: Path, notebook: Any, error: Exception, more: str) -> Exception:
    """One line for a failed cell: which, what it begins with, what it raised."""
    if isinstance(error, DeadKernelError):
        return Failed(f"{path.stem}: the kernel died (out of memory?); {more}")
    cell = next(cell for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error")
    raised = next(output for output in cell.outputs if output.output_type == "error")
    value = " ".join(str(raised.evalue).split())
    if raised.ename == UserError.__name__:  # the chapter's configuration refused a value: the user's to mend
        return UserError(f"{path.stem}, cell [{cell.execution_count}]: {value}")
    begins = cell.source.strip().splitlines()[0][:60]
    return Failed(
        f"{path.stem} failed in cell [{cell.execution_count}] ({begins!r}) with {raised.ename}: {value}; {more}"
    )
