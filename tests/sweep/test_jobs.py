"""The run store: one sweep at a time, refused in one line, left as it was found; what machines lack is named."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.results.runs import environment
from gendyn_lite.sweep import jobs
from gendyn_lite.sweep.grid import plan
from gendyn_lite.sweep.jobs import reserved, store_folder


def test_a_store_is_for_one_sweep_at_a_time(tmp_path: Path) -> None:
    place, foreign = tmp_path / "runs", {".sweep.notes", "sweep"}
    place.mkdir()
    for name in (jobs.TOKEN, jobs.LOCK, *foreign):  # two of a killed sweep, two of somebody else
        (place / name).write_text("0")
    with reserved(str(place)) as token:
        with pytest.raises(UserError, match=r"another sweep is at work on the run store .*runs"), reserved(str(place)):
            raise AssertionError
        assert (place / jobs.TOKEN).read_text().strip() == token  # the refused one has taken nothing away
    assert {path.name for path in place.iterdir()} == foreign
    with reserved(str(place)) as another:
        assert another != token


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_a_full_or_read_only_store_is_refused_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(Failed, match=f"{said}.*; nothing was started"), reserved(str(tmp_path / "runs")):
        raise AssertionError
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("place", ["{file}", "{file}/x/y", "nope://runs", "s3://bucket/runs", "://", "a\0b"])
def test_only_a_folder_is_a_store(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--store '.*' is not a folder: name one that every machine sees$"):
        store_folder(place.format(file=tmp_path / "file"))


def test_a_machine_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / jobs.TOKEN).write_text("token ")
    (job,) = plan("01_random_labels", grid=["seed=0"], store=str(tmp_path))
    version = environment()["versions"]["gendyn_lite"]

    def lacks(changes: dict[str, Any] | None = None, *, token: str = "token", other: str = version) -> str:
        return jobs.look([job._replace(**(changes or {}))], token, other)

    assert lacks() == ""
    assert lacks(other="9.9") == f"gendyn_lite is {version} there and 9.9 here: install the same"
    assert "is another folder there: take one that every machine sees" in lacks(token="absent")
    assert "the data 'digits'" in lacks({"fingerprint": "00ff"})
    unprepared = {"config": job.config.replace(dataset="mnist"), "data_root": str(tmp_path)}
    assert "are not prepared there: prepare them on a folder that every machine sees" in lacks(unprepared)
