"""The run store, which machines share and one sweep has to itself; and the examples for clusters, which are whole."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gendyn_lite import cli, sweep
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.results.runs import environment
from gendyn_lite.sweep import grid as grids
from gendyn_lite.sweep import jobs
from gendyn_lite.sweep.grid import plan
from gendyn_lite.sweep.jobs import reserved, store_folder
from tests.sweep.test_ray import pytestmark as needs_ray


def test_a_store_is_for_one_sweep_at_a_time(tmp_path: Path) -> None:
    place, foreign = tmp_path / "runs", {".sweep.notes", "sweep"}
    place.mkdir()
    for name in (jobs.TOKEN, jobs.LOCK, *foreign):  # two of a killed sweep, two of somebody else
        (place / name).write_text("0")
    with reserved(str(place)) as token:
        with pytest.raises(UserError, match=r"another sweep uses the run store .*runs"), reserved(str(place)):
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
    assert lacks(other="9.9") == f"gendyn_lite is {version} there and 9.9 here: install the same version"
    assert "is another folder there: use one that every machine sees" in lacks(token="absent")
    assert "the data 'digits'" in lacks({"fingerprint": "00ff"})
    unprepared = {"config": job.config.replace(dataset="mnist"), "data_root": str(tmp_path)}
    assert "are not prepared there: prepare them in a folder that every machine sees" in lacks(unprepared)


CLUSTERS = Path(sweep.__file__).parent / "clusters"


def commands() -> dict[str, list[str]]:
    """The words after ``gendyn`` of each example."""
    slurm = (CLUSTERS / "slurm.sh").read_text().replace("\\\n", " ")
    job = yaml.safe_load((CLUSTERS / "rayjob.yaml").read_text())
    line = next(line for line in slurm.splitlines() if line.startswith("srun "))
    return {
        "slurm": shlex.split(line.partition(" gendyn ")[2]),
        "kubernetes": shlex.split(job["spec"]["entrypoint"])[1:],
    }


@pytest.mark.parametrize("where", ["slurm", "kubernetes"])
def test_the_command_is_one_that_gendyn_takes(where: str) -> None:
    given = cli._parser().parse_args(commands()[where])
    assert (given.chapter, given.profile, given.engine) == ("01_random_labels", "full", "ray")
    assert (given.address, given.gpus) == ("auto", 0.25)
    assert {name: len(values) for name, values in grids.read_grid(given.grid).items()} == {
        "label_corruption": 11,
        "model": 2,
        "seed": 5,
    }


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_is_bash() -> None:
    done = subprocess.run(["bash", "-n", str(CLUSTERS / "slurm.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_ray
def test_rays_own_tools_have_the_commands_that_are_used() -> None:
    from ray.scripts.scripts import cli as tool

    used = set(re.findall(r"\bray ([a-z-]+) (?:--|\[)", (CLUSTERS / "slurm.sh").read_text()))
    assert used == {"get-auth-token", "symmetric-run"}
    assert used <= set(tool.commands)
