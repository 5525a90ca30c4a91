"""The examples for clusters are whole: what they start exists, and the command in them is one that `gendyn` takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gendyn_lite import cli, sweep
from gendyn_lite.sweep import grid as grids
from tests.sweep.test_ray import pytestmark as needs_ray

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
    assert (given.address, given.gpus_per_run) == ("auto", 0.25)
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


def test_machines_of_the_kubernetes_example_share_their_volume() -> None:
    cluster = yaml.safe_load((CLUSTERS / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        (container,) = group["template"]["spec"]["containers"]
        assert container["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
        assert [volume["name"] for volume in group["template"]["spec"]["volumes"]] == ["shared"]
