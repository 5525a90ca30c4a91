"""ResNet-50 with a gradient mask on a folder of real images, two processes under torchrun, recorded as one run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from gendyn_lite.experiments import imagenet_mask
from gendyn_lite.results.runs import read_run

TINY = {"epochs": 2, "batch_size": 4, "center_crop": 32, "learning_rate": 0.001, "precision": "float32"}


def test_every_mask_has_its_run_without_one():
    runs = imagenet_mask.plan(seeds=2)
    assert len({run.run_id("00") for run in runs}) == len(runs)
    assert sum(run.mask_keep == 1 for run in runs) == 2
    assert {run.mask_by for run in runs if run.mask_keep < 1} == {"fisher", "magnitude", "random"}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Windows of the two photographs that scikit-learn brings: six to train on and two to test with, of each."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, picture in zip(("china", "flower"), load_sample_images().images, strict=True):
        for number in range(8):
            place = folder / ("train" if number < 6 else "test") / name
            place.mkdir(parents=True, exist_ok=True)
            window = picture[100 : 100 + 80, 60 * number : 60 * number + 80]
            Image.fromarray(window).save(place / f"{number}.png")
    return folder


@pytest.mark.slow
def test_two_processes_agree_on_a_mask_and_record_one_run(photographs, tmp_path):
    command = [sys.executable, "-W", "error::UserWarning:gendyn_lite", "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "gendyn_lite.experiments.imagenet_mask", "--keep", "0.25"]
    command += ["-p", f"dataset=folder:{photographs}"]
    for name, value in TINY.items():
        command += ["-p", f"{name}={value}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GENDYN_RUNS": str(tmp_path)}
    environment["GENDYN_DATA"] = str(tmp_path / "data")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "no formula" not in done.stderr
    (folder,) = [path for path in (tmp_path / imagenet_mask.EXPERIMENT).iterdir() if path.is_dir()]
    run = read_run(folder)
    assert run.complete
    assert (run.config.mask_keep, run.env()["processes"]) == (0.25, 2)
    assert [row["epoch"] for row in run.rows()] == [0, 1, 2]


def test_a_mistake_is_one_line(capsys):
    assert imagenet_mask.main(["--keep", "1.5"]) == 2
    assert capsys.readouterr().err == "error: mask_keep is 1.5, expected a number in (0, 1]\n"
