"""Table 2's code path: Inception v3 on a folder of real images, two processes under torchrun, recorded as one run."""

from __future__ import annotations

import math

import pytest
from torch import nn

from gendyn_lite import models
from gendyn_lite.chapters.random_labels import imagenet
from gendyn_lite.chapters.random_labels.tables import TABLE_2
from gendyn_lite.errors import UserError
from gendyn_lite.models.imagenet import torchvision_network
from tests.chapters import photographs

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
    with pytest.raises(UserError, match="unknown option of resnet50 'dropout': Valid: init"):
        models.build("resnet50", num_classes=2, in_shape=(3, 64, 64), dropout=0.5)


@pytest.mark.slow
def test_two_processes_train_and_record_one_run(tmp_path):
    run, _ = photographs.run_in_two_processes(imagenet, ["--row", "4"], TINY, root=tmp_path)
    assert run.complete and run.env()["processes"] == 2
    assert [row["epoch"] for row in run.rows()] == [0, 1]
    last = run.rows()[-1]
    assert last["top5/train_accuracy"] == last["top5/test_accuracy"] == 1  # of two classes, both are among the five
    assert last["step"] == 3  # of 12 images in batches of 4, shared by the processes
    assert all(math.isfinite(value) for row in run.rows() for value in row.values())


def test_a_mistake_is_one_line(capsys):
    assert imagenet.main(["--row", "1", "-p", "epoch=3"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("gendyn: error: unknown config field 'epoch': did you mean 'epochs'? Valid: experiment, ")
    assert message.count("\n") == 1
