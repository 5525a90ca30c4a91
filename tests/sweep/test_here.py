"""What the set-up cell of a plain notebook says of this machine, and where its runs go."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import gendyn_lite
from gendyn_lite.chapters import registry
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import open_run
from gendyn_lite.sweep import here

VERSION = gendyn_lite.__version__


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No run and no data anywhere; nothing is tried."""
    monkeypatch.setenv("GENDYN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path / "sets"))
    monkeypatch.setattr(here, "TRIAL", 0.0)
    monkeypatch.setattr(here, "display", lambda html: None)
    monkeypatch.setattr(here, "vega", str)
    return tmp_path


def said(capsys: Any, chapter: str = "04_stiffness", version: str = VERSION, **options: Any) -> list[str]:
    here.ready(chapter, version=version, **options)
    return capsys.readouterr().out.splitlines()


def test_it_says_what_it_found_and_how_long_each_profile_takes(places: Path, capsys: Any) -> None:
    versions, device, sets, runs, *profiles, told = said(capsys)
    assert versions.startswith(f"gendyn_lite {VERSION}, torch {torch.__version__}, Python 3.")
    assert re.match(r"GPU: |no GPU: .* the processor, \d+ cores", device)
    assert (sets, runs) == (f"data: {places / 'sets'}", f"runs: {places / 'runs'}")
    assert [line.partition(":")[0] for line in profiles] == ["profile smoke", "profile colab", "profile full"]
    assert told == here.UNCOUNTED
    assert re.fullmatch(r"profile smoke: training takes an unknown time; \d+ runs, 0 of them complete", profiles[0])
    assert said(capsys, "07_what_holds")[4:] == ["this chapter trains nothing: it takes less than a minute"]
    solves = "this chapter trains no network; its computing time is stated next to its parameter `profile`"
    assert said(capsys, "06_capacity")[4:] == [solves]  # regressions of an hour at profile colab


def test_a_notebook_of_another_version_is_named(capsys: Any) -> None:
    line = said(capsys, version="0.0.9")[1]
    assert line.startswith(f"This notebook was written by gendyn_lite 0.0.9, but {VERSION} is installed: ")


def test_runs_go_where_they_are_told(places: Path, capsys: Any) -> None:
    assert f"runs: {places / 'mine'}" in said(capsys, runs=str(places / "mine"))
    assert (places / "mine").is_dir()
    with pytest.raises(UserError, match='runs = "drive" works only on Google Colab'):
        here.ready("04_stiffness", version=VERSION, runs="drive")
    (places / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot use .*file.* a file is where a folder should be"):
        here.ready("04_stiffness", version=VERSION, runs=str(places / "file"))


def test_a_folder_that_cannot_be_written_to_is_told_at_once(
    places: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(here.os, "access", lambda path, mode: asked.append(path))
    told = f"runs: {places / 'runs'} (read-only: name another folder in runs above)"
    assert told in said(capsys, "07_what_holds") and asked == [places]


def test_on_colab_runs_can_live_on_the_drive(places: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted: list[str] = []
    colab = SimpleNamespace(drive=SimpleNamespace(mount=mounted.append))
    monkeypatch.setattr(here, "DRIVE", places / "drive")
    for name, module in {"google": SimpleNamespace(colab=colab), "google.colab": colab}.items():
        monkeypatch.setitem(sys.modules, name, module)
    kept = places / "drive" / "MyDrive" / "gendyn_lite" / "runs"
    lines = said(capsys, runs="drive")
    assert f"runs: {kept}" in lines and kept.is_dir()
    assert mounted == [str(places / "drive")]
    assert torch.cuda.is_available() or "(Colab has one: Runtime, Change runtime type)" in lines[1]


def test_what_was_interrupted_is_told_on_return(capsys: Any) -> None:
    assert not any(line.startswith("interrupted runs") for line in said(capsys))
    config = registry.planned("04_stiffness", "smoke", {})[0]
    checkpoints = open_run(config, "00ff").checkpoints
    checkpoints.mkdir(parents=True)
    assert not any(line.startswith("interrupted runs") for line in said(capsys))
    (checkpoints / "step_10.safetensors").write_bytes(b"")
    told = "interrupted runs: 1; each continues from its last checkpoint, at most half a minute old"
    assert said(capsys)[4] == told
