"""One chapter, run at a size or executed in place: in this interpreter, and never half-written."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
import pytest

from gendyn_lite import notebooks
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.notebooks.execution import PatientChannel, ThisInterpreter
from tests.book import trial


def chapter_of(folder: Path, *sources: Any) -> Path:
    path = folder / "chapter.ipynb"
    nbformat.write(trial.small(*sources), path)
    return path


def outputs(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [output.text for cell in cells if cell.cell_type == "code" for output in cell.outputs]


def test_run_injects_what_differs_from_the_defaults(tmp_path: Path) -> None:
    path = chapter_of(
        tmp_path, "print(profile, points, scale)", "import sys, os\nprint(sys.executable)\nprint(os.getcwd())"
    )
    before = path.read_bytes()
    out = notebooks.run(path, profile="colab", values={"points": "3", "scale": "None"}, out=tmp_path / "out")
    assert out == tmp_path / "out" / "chapter.colab.ipynb"
    printed = outputs(out)
    assert printed[0] == "colab 3 None\n"
    assert printed[1].splitlines() == [sys.executable, str(tmp_path)]
    assert "scale" not in next(cell.source for cell in nbformat.read(out, 4).cells if "colab" in cell.source)
    assert path.read_bytes() == before
    assert [left.name for left in out.parent.iterdir()] == [out.name]
    notebooks.check_executed(out)


def test_run_keeps_a_failed_notebook_and_names_the_cell(tmp_path: Path) -> None:
    path = chapter_of(tmp_path, "x = 1", "y = 0\nx / y", "print('never')")
    with pytest.raises(Failed, match=r"chapter failed in cell \[3\] \('y = 0'\) with ZeroDivisionError: .*; as far as"):
        notebooks.run(path, out=tmp_path / "out")
    left = list((tmp_path / "out").iterdir())
    assert [file.name for file in left] == ["chapter.smoke.failed.ipynb"]
    with pytest.raises(UserError):
        notebooks.check_executed(left[0])


def test_a_users_mistake_in_a_cell_stays_one(tmp_path: Path) -> None:
    path = chapter_of(tmp_path, "from gendyn_lite.errors import UserError\nraise UserError('q is 2, expected [0, 1]')")
    with pytest.raises(UserError, match=r"^chapter, cell \[2\]: q is 2, expected \[0, 1\]$"):
        notebooks.run(path, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"profile": "smok"}, "unknown profile 'smok': did you mean 'smoke'", id="profile"),
        pytest.param(
            {"values": {"pionts": "3"}}, "unknown parameter of chapter 'pionts': did you mean 'points'", id="name"
        ),
        pytest.param({"values": {"points": "three"}}, "points is 'three'", id="type"),
    ],
)
def test_nothing_runs_after_a_mistake(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = chapter_of(tmp_path, "open('ran', 'w').close()")
    with pytest.raises(UserError, match=message):
        notebooks.run(path, **options, out=tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_an_unknown_chapter_is_named() -> None:
    with pytest.raises(UserError, match="unknown chapter 'no_such_chapter'"):
        notebooks.chapter_path("no_such_chapter")
    with pytest.raises(UserError, match=r"no_such\.ipynb: no such notebook"):
        notebooks.chapter_path("no_such.ipynb")


def test_refresh_is_the_same_every_time(tmp_path: Path) -> None:
    live = trial.cell("import ipywidgets\nipywidgets.IntSlider()", "live-only", "nbval-ignore-output")
    path = chapter_of(tmp_path, "print(points)", live)
    assert notebooks.refresh(path) == path
    first = path.read_bytes()
    notebooks.check_executed(path)
    notebooks.refresh(path)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        pytest.param("1 / 0", Failed, "failed in cell .2. .* the notebook is as it was", id="raises"),
        pytest.param("import sys; print('w', file=sys.stderr)", UserError, "wrote to stderr: 'w'", id="stderr"),
        pytest.param("import os; os._exit(1)", Failed, "the kernel died", id="dies"),
    ],
)
def test_refresh_leaves_the_notebook_when_it_fails(
    tmp_path: Path, source: str, error: type[Exception], message: str
) -> None:
    path = chapter_of(tmp_path, source)
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        notebooks.refresh(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_kernel_is_this_interpreter_and_knows_the_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENDYN_RUNS", str(tmp_path / "elsewhere"))
    monkeypatch.delenv("GENDYN_DATA", raising=False)
    spec = ThisInterpreter().kernel_spec
    assert spec.argv[0] == sys.executable
    assert spec.env["GENDYN_RUNS"] == str(tmp_path / "elsewhere")
    assert spec.env["GENDYN_DATA"] == str(trial.ROOT / "datasets")


class Deaf(PatientChannel):
    """A channel that is never told of the message that is there, or comes."""

    def __init__(self, arrives: int | None) -> None:
        self.looks, self.arrives = 0, arrives

    async def msg_ready(self) -> bool:
        self.looks += 1
        return self.arrives is not None and self.looks >= self.arrives

    async def _recv(self, **_: Any) -> dict[str, Any]:
        return {"content": "reply"}

    @property
    def socket(self) -> Any:
        class Socket:
            async def poll(self, timeout: float | None) -> int:
                return 0  # the notice was lost

        return Socket()

    @socket.setter
    def socket(self, value: Any) -> None: ...


def test_a_reply_whose_notice_was_lost_is_found() -> None:
    assert asyncio.run(Deaf(arrives=3).get_msg(timeout=None)) == {"content": "reply"}


def test_a_reply_that_never_comes_is_not_waited_for_beyond_the_timeout() -> None:
    with pytest.raises(Empty):
        asyncio.run(Deaf(arrives=None).get_msg(timeout=0.05))
