"""The run store: one sweep at a time, refused in one line where it cannot be written, at a URL as in a folder."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.sweep import mirror, store
from gendyn_lite.sweep.mirror import Mirror
from gendyn_lite.sweep.store import at_work, collect, reserved


@pytest.fixture(autouse=True)
def own_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in progress of a URL lies under the test's folder."""
    monkeypatch.setattr(store, "scratch", lambda place: tmp_path / "scratch")


@pytest.mark.parametrize("scheme", ["", "file://"], ids=["folder", "url"])
def test_two_sweeps_on_one_store_are_refused(tmp_path: Path, scheme: str) -> None:
    place = f"{scheme}{tmp_path / 'runs'}"
    with (
        reserved(place),
        pytest.raises(UserError, match=r"another sweep is at work on the run store .*runs"),
        reserved(place),
    ):
        raise AssertionError
    with reserved(place):
        pass  # afterwards it is free


def test_the_reservation_of_a_dead_sweep_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"file://{tmp_path}"
    (tmp_path / mirror.RESERVATION).write_text(json.dumps({"time": 0, "process": 1, "host": "gone", "token": ""}))
    with reserved(place):
        assert json.loads((tmp_path / mirror.RESERVATION).read_text())["process"] == os.getpid()
    assert not (tmp_path / mirror.RESERVATION).exists()


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_a_full_or_read_only_store_is_refused_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(store.os, "fsync", refuse)
    with pytest.raises(Failed, match=f"{said}.*; nothing was begun"), reserved(str(tmp_path / "runs")):
        raise AssertionError
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{file}", "is a file, expected a folder or a URL"),
        ("nope://runs", "cannot be opened: Protocol not known: nope"),
    ],
)
def test_what_is_no_store_is_refused(tmp_path: Path, place: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=message), reserved(place.format(file=tmp_path / "file")):
        raise AssertionError


def write(folder: Path, **files: str) -> None:
    """Files of a run; a double underscore stands for a slash, a single one for a dot."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_run_at_a_url_goes_on_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"file://{tmp_path / 'remote'}"
    with pytest.raises(RuntimeError, match="killed"), at_work(place, "demo", "00ff") as root:
        write(
            root / "demo" / "00ff", config_json="{}", checkpoints__1="one", checkpoints__2_part="half", metrics_tmp7="x"
        )
        raise RuntimeError("killed")
    assert names(tmp_path / "remote" / "demo" / "00ff") == ["checkpoints/1", "config.json"]
    monkeypatch.setattr(store, "scratch", lambda place: tmp_path / "other machine")
    with at_work(place, "demo", "00ff") as root:
        run = root / "demo" / "00ff"
        assert names(run) == ["checkpoints/1", "config.json"]
        write(run, checkpoints__2="two", metrics_jsonl="{}", complete_json="{}")
    assert "complete.json" in names(tmp_path / "remote" / "demo" / "00ff")
    collect(place, "demo", "00ff", root=tmp_path / "mine")
    assert names(tmp_path / "mine" / "demo" / "00ff") == ["complete.json", "config.json", "metrics.jsonl"]


def test_what_the_store_has_complete_replaces_what_was_begun_here(tmp_path: Path) -> None:
    write(tmp_path / "remote" / "demo" / "00ff", metrics_jsonl="whole", complete_json="{}")
    write(tmp_path / "scratch" / "demo" / "00ff", metrics_jsonl="ha")
    with at_work(f"file://{tmp_path / 'remote'}", "demo", "00ff") as root:
        assert (root / "demo" / "00ff" / "metrics.jsonl").read_text() == "whole"


def test_old_checkpoints_go_and_the_last_file_is_the_one_that_completes(tmp_path: Path, monkeypatch: Any) -> None:
    copied: list[str] = []
    twin = Mirror(f"file://{tmp_path / 'remote'}", tmp_path / "here", "run")
    move = twin.files.mv
    monkeypatch.setattr(twin.files, "mv", lambda a, b, **_: (copied.append(Path(b).name), move(a, b)))
    write(tmp_path / "here" / "run", checkpoints__1="one", complete_json="{}", metrics_jsonl="m", config_json="{}")
    twin.push()
    assert copied[-2:] == ["1", "complete.json"]
    (tmp_path / "here" / "run" / "checkpoints" / "1").unlink()
    twin.push()
    assert len(copied) == 4  # nothing is copied twice
    assert names(tmp_path / "remote" / "run") == ["complete.json", "config.json", "metrics.jsonl"]
