"""One chapter, run at a size or executed in place: in this interpreter, and never half-written."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

import nbformat
import psutil
import pytest

from gendyn_lite import cli, notebooks
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.notebooks import execution
from gendyn_lite.notebooks.execution import PatientChannel
from tests.book import trial
from tests.book.trial import chapter_of


def outputs(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [output.text for cell in cells if cell.cell_type == "code" for output in cell.outputs]


def test_run_injects_what_differs_from_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = "import os, sys\nfor told in (sys.executable, os.getcwd(), os.environ['GENDYN_DATA']): print(told)"
    path = chapter_of(tmp_path, "print(profile, points, scale)", asked)
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path / "elsewhere"))
    before = path.read_bytes()
    out = notebooks.run(path, profile="colab", values={"points": "3", "scale": "None"}, out=tmp_path / "out")
    assert out == tmp_path / "out" / "chapter.colab.ipynb"
    printed = outputs(out)
    assert printed[0] == "colab 3 None\n"
    assert printed[1].splitlines() == [sys.executable, str(tmp_path), str(tmp_path / "elsewhere")]
    assert "scale" not in next(cell.source for cell in nbformat.read(out, 4).cells if "colab" in cell.source)
    assert path.read_bytes() == before
    assert [left.name for left in out.parent.iterdir()] == [out.name]
    notebooks.check_executed(out)


def test_a_users_mistake_in_a_cell_stays_one(tmp_path: Path) -> None:
    path = chapter_of(tmp_path, "from gendyn_lite.errors import UserError\nraise UserError('q is 2, expected [0, 1]')")
    with pytest.raises(UserError, match=r"^chapter, cell \[2\]: q is 2, expected \[0, 1\]$"):
        notebooks.run(path, out=tmp_path / "out")


def test_refresh_is_the_same_every_time(tmp_path: Path) -> None:
    live = trial.cell("import ipywidgets\nipywidgets.IntSlider()", "live-only", "nbval-ignore-output")
    path = chapter_of(tmp_path, "print(points)", live)
    assert notebooks.refresh(path) == path
    first = path.read_bytes()
    notebooks.check_executed(path)
    notebooks.refresh(path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


NAMED = "from pathlib import Path\npath = Path('chapter.ipynb')\n"
CHANGED = r"chapter\.ipynb was changed while it was executed: your changes are kept"


CHANGES = {
    "raises": ("1 / 0", Failed, "failed in cell .2. .* the notebook is unchanged", "{0}"),
    "stderr": ("import sys; print('w', file=sys.stderr)", UserError, "wrote to stderr: 'w'", "{0}"),
    "dies": ("import os; os._exit(1)", Failed, "the kernel died", "{0}"),
    "edited": (f"{NAMED}path.write_text(path.read_text() + ' ');", Failed, CHANGED, "{0} "),
    "removed": (f"{NAMED}path.unlink();", Failed, CHANGED, None),
}


@pytest.mark.parametrize(("source", "error", "message", "left"), CHANGES.values(), ids=CHANGES)
def test_a_refresh_that_fails_changes_nothing(tmp_path: Path, source: str, error: Any, message: str, left: Any) -> None:
    path = chapter_of(tmp_path, source)
    before = path.read_text()
    with pytest.raises(error, match=message):
        notebooks.refresh(path)
    expected = [] if left is None else [left.replace("{0}", before)]
    assert [file.read_text() for file in tmp_path.iterdir()] == expected


@pytest.mark.parametrize(("command", "sent", "to"), [("refresh", "SIGTERM", os.kill), ("run", "SIGINT", os.killpg)])
def test_an_interruption_is_one_line_and_leaves_no_kernel(tmp_path: Path, command: str, sent: str, to: Any) -> None:
    wait = "import os, time\nopen('kernel', 'w').write(str(os.getpid()))\nos.rename('kernel', 'begun')\ntime.sleep(60)"
    path = chapter_of(tmp_path, wait)
    before, out = path.read_bytes(), tmp_path / "out"
    words = [command, str(path), *(["--out", str(out)] if command == "run" else [])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    asked = subprocess.Popen([sys.executable, "-m", "gendyn_lite.cli", *words], start_new_session=True, **pipes)
    while not (tmp_path / "begun").exists():
        assert asked.poll() is None
        time.sleep(0.05)
    to(asked.pid, signal.Signals[sent])
    _, told = asked.communicate(timeout=60)
    assert (asked.returncode, len(told.splitlines())) == (130, 1), told
    assert "gendyn: interrupted; what is complete is kept" in told
    assert path.read_bytes() == before
    kernel = int((tmp_path / "begun").read_text())
    assert not psutil.pid_exists(kernel) or psutil.Process(kernel).status() == psutil.STATUS_ZOMBIE
    kept = ["chapter.smoke.failed.ipynb", "chapter.smoke.failed.record.json"] if command == "run" else []
    assert sorted(file.name for file in out.glob("*")) == kept
    assert sorted(file.name for file in tmp_path.iterdir() if file != out) == ["begun", "chapter.ipynb"]


def test_a_kernel_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: Any, capfd: Any) -> None:
    monkeypatch.setattr(execution, "get_kernel_dict", lambda: {"argv": ["false"], "display_name": "x", "language": "x"})
    path = chapter_of(tmp_path, "1 + 1")
    assert cli.main(["refresh", str(path)]) == 1
    assert re.fullmatch(r"gendyn: error: chapter: no kernel of \S+ started: .*\n", capfd.readouterr().err)


NOT_NOTEBOOKS = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "binary": b"\xff\xfe",
    "nbformat-3": b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": []}',
    "no-cells": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "cell": b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": ["a"]}',
}


@pytest.mark.parametrize("kind", [*NOT_NOTEBOOKS, "folder", "pipe", "device", "name"])
@pytest.mark.parametrize("command", ["run", "refresh"])
def test_what_is_no_notebook_is_one_line(tmp_path: Path, capsys: Any, command: str, kind: str) -> None:
    path = tmp_path / "chapter.ipynb"
    if kind in NOT_NOTEBOOKS:
        path.write_bytes(NOT_NOTEBOOKS[kind])
    elif kind in ("folder", "pipe"):
        {"folder": os.mkdir, "pipe": os.mkfifo}[kind](path)
    asked = {"device": "/dev/zero", "name": "../chapters/00_data"}.get(kind, str(path))
    assert cli.main([command, asked]) == 2
    said = r"chapter\.ipynb is not a valid notebook of nbformat 4: |\S+: no such notebook|unknown chapter"
    assert re.fullmatch(rf"gendyn: error: ({said}).*\n", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) in ([path], [])


PLACES = {  # none can take the result
    "file": "file is not a folder",
    "file/below": "file is not a folder",
    "taken": r"chapter\.smoke\.ipynb is a folder",
    "taken/chapter.smoke.ipynb": r"chapter\.smoke\.ipynb is a folder",
}


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_cannot_take_the_result_is_refused_before_anything_runs(tmp_path: Path, place: str) -> None:
    path = chapter_of(tmp_path, "open('ran', 'w').close()")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken" / "chapter.smoke.ipynb").mkdir(parents=True)
    with pytest.raises(UserError, match=f"--out: .*{PLACES[place]}"):
        notebooks.run(path, out=tmp_path / place)
    assert not (tmp_path / "ran").exists()


class Deaf(PatientChannel):
    """A channel that is never told of the message that is there from the look number `arrives` on."""

    def __init__(self, arrives: float) -> None:
        self.left = arrives
        self.socket: Any = SimpleNamespace(poll=self._nothing)

    async def _nothing(self, timeout: float | None) -> int:
        return 0

    async def msg_ready(self) -> bool:
        self.left -= 1
        return self.left <= 0

    async def _recv(self, **_: Any) -> dict[str, Any]:
        return {"content": "reply"}


def test_a_reply_whose_notice_was_lost_is_found_and_one_that_never_comes_is_not_waited_for() -> None:
    assert asyncio.run(Deaf(arrives=3).get_msg(timeout=None)) == {"content": "reply"}
    with pytest.raises(Empty):
        asyncio.run(Deaf(arrives=math.inf).get_msg(timeout=0.05))
