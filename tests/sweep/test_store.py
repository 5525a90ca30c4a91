"""The run store: one sweep at a time, refused in one line where it cannot be written, left as it was found."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.sweep import jobs
from gendyn_lite.sweep.jobs import reserved, store_folder


def test_two_sweeps_on_one_store_are_refused(tmp_path: Path) -> None:
    place = str(tmp_path / "runs")
    with reserved(place) as token:
        with pytest.raises(UserError, match=r"another sweep is at work on the run store .*runs"), reserved(place):
            raise AssertionError
        assert (tmp_path / "runs" / token).is_file()  # the refused one has taken nothing away
    with reserved(place):
        pass  # afterwards it is free


def test_what_killed_sweeps_left_goes_and_nothing_else(tmp_path: Path) -> None:
    left = f".sweep.{'0' * 32}"
    foreign = [".sweep.notes", ".sweep.0", f"{left}.txt", "sweep", f"x{left}"]
    for name in (left, jobs.LOCK, *foreign):
        (tmp_path / name).touch()
    with reserved(str(tmp_path)) as token:
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*foreign, jobs.LOCK, token])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(foreign)


@pytest.mark.parametrize(("number", "said"), [(errno.ENOSPC, "No space left"), (errno.EROFS, "Read-only file system")])
def test_a_full_or_read_only_store_is_refused_and_left_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(jobs.os, "fsync", refuse)
    with pytest.raises(Failed, match=f"{said}.*; nothing was begun"), reserved(str(tmp_path / "runs")):
        raise AssertionError
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("place", ["{file}", "{file}/x/y", "nope://runs", "s3://bucket/runs", "://", "a\0b"])
def test_only_a_folder_is_a_store(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--store '.*' is not a folder: name one that every machine sees$"):
        store_folder(place.format(file=tmp_path / "file"))
