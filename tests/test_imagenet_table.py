"""Table 2's code path: Inception v3 on a folder of real images, two processes under torchrun, recorded as one run."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn

from gendyn_lite import models
from gendyn_lite.claims.zhang2017 import TABLE_2
from gendyn_lite.errors import UserError
from gendyn_lite.experiments import imagenet
from gendyn_lite.models.imagenet import torchvision_network
from gendyn_lite.results.runs import read_run

TINY = {"epochs": 1, "batch_size": 4, "center_crop": 75, "learning_rate": 0.001, "precision": "float32"}


def test_a_row_of_the_table_is_a_run():
    runs = imagenet.plan()
    assert len(runs) == len(TABLE_2)
    for row, config in zip(TABLE_2, runs, strict=True):
        on = (row.augmentation, row.augmentation, row.dropout, row.weight_decay, row.random_labels)
        options = config.model_options
        assert (config.random_crop > 0, config.flip) == on[:2]
        assert (options["dropout"] > 0, config.weight_decay > 0, config.label_corruption == 1) == on[2:]
    assert len({config.run_id("00") for config in runs}) == len(runs)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_what_was_asked_for(dropout):
    network = torchvision_network("alexnet", num_classes=2, in_shape=(3, 64, 64), dropout=dropout)
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {dropout}


def test_dropout_of_a_network_without_is_refused():
    with pytest.raises(UserError, match="resnet50 has no dropout"):
        models.build("resnet50", num_classes=2, in_shape=(3, 64, 64), dropout=0.5)


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
def test_two_processes_train_and_record_one_run(photographs, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "gendyn_lite.experiments.imagenet", "--row", "4", "-p", f"dataset=folder:{photographs}"]
    for name, value in TINY.items():
        command += ["-p", f"{name}={value}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GENDYN_RUNS": str(tmp_path)}
    environment["GENDYN_DATA"] = str(tmp_path / "data")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    (folder,) = [path for path in (tmp_path / imagenet.EXPERIMENT).iterdir() if path.is_dir()]
    run = read_run(folder)
    assert run.complete
    assert run.env()["processes"] == 2
    assert [row["epoch"] for row in run.rows()] == [0, 1]
    assert {"top5/train_accuracy", "top5/test_accuracy"} <= set(run.rows()[-1])
    assert run.rows()[-1]["top5/test_accuracy"] == 1  # of two classes, both are among the five
    assert run.rows()[-1]["step"] == 3  # of 12 images in batches of 4, shared by the processes
    assert all(math.isfinite(value) for row in run.rows() for value in row.values())


def test_a_mistake_is_one_line(capsys):
    assert imagenet.main(["--row", "1", "-p", "epoch=3"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: unknown config field 'epoch': did you mean 'epochs'? Valid: experiment, ")
    assert message.count("\n") == 1
