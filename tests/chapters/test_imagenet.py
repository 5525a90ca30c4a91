"""Experiments for ImageNet on a folder of real images: two processes under torchrun record one run; the code path."""

from __future__ import annotations

import json
import math

import pytest
from torch import nn

from gendyn_lite import results
from gendyn_lite.chapters.fisher_mask import runs as fisher_mask
from gendyn_lite.chapters.path_functions import probes
from gendyn_lite.chapters.path_functions import runs as paths
from gendyn_lite.chapters.random_labels import imagenet as table_2
from gendyn_lite.chapters.random_labels.tables import TABLE_2
from gendyn_lite.models.imagenet import torchvision_network
from gendyn_lite.results.runs import read_run
from tests.chapters import photographs
from tests.train.test_distributed import torchrun

SMALLER = ["-p", "center_crop=32", "-p", "model=resnet18_imagenet"]  # it has every kind of layer of ResNet-50
CASES = {  # the module and how it is asked for what it trains, the name of its runs, and epochs
    "table 2": (table_2, ["--row", "4", "-p", "epochs=1", "-p", "center_crop=75"], "imagenet_regularizers", 1),
    "mask": (fisher_mask, ["--keep", "0.25", "-p", "epochs=2", *SMALLER], "imagenet_mask", 2),
}
TINY = ["-p", "batch_size=4", "-p", "learning_rate=0.001", "-p", "precision=float32"]
IN_TURN = """import json, runpy, sys
for module, words in json.loads(sys.argv[1]):
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code:
            raise"""


@pytest.fixture
def pictures(tmp_path, runs, monkeypatch):
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path / "data"))
    return f"folder:{photographs.write(tmp_path / 'photographs', side=80)}"


@pytest.mark.slow
def test_two_processes_train_and_record_one_run(pictures, runs, tmp_path):
    """Each experiment as a command of its own, one after another in the same two processes."""
    commands = [(module.__name__, [*asked, *TINY, "-p", f"dataset={pictures}"]) for module, asked, *_ in CASES.values()]
    (tmp_path / "in_turn.py").write_text(IN_TURN)
    assert "no formula" not in torchrun(str(tmp_path / "in_turn.py"), json.dumps(commands))
    for _, _, experiment, epochs in CASES.values():
        (folder,) = [path for path in (runs / experiment).iterdir() if path.is_dir()]
        run = read_run(folder)
        assert run.complete and run.env()["processes"] == 2
        assert [row["epoch"] for row in run.rows()] == list(range(epochs + 1))
        assert run.rows()[-1]["step"] == 3 * epochs  # of 12 images in batches of 4, shared by the processes
        assert all(math.isfinite(value) for row in run.rows() for value in row.values())
        assert run.rows()[-1].get("top5/test_accuracy", 1) == 1  # of two classes, both are among the five


def test_paths_of_a_resnet_are_recorded(pictures, capsys):
    assert paths.main(["imagenet", "--dataset", pictures, "--epochs", "2"]) == 0
    found = results.load("path_imagenet")
    layers = [name for name in found.columns if name.endswith(":cross:mean")]
    assert len(layers) == probes.FEW and found[layers].iloc[-1].between(0, 1).all()
    assert "resnet18_imagenet, seed 0" in capsys.readouterr().out


MISTAKES = [
    (table_2, ["--row", "1", "-p", "epoch=3"], "unknown config field 'epoch': did you mean 'epochs'? Valid: experim"),
    (fisher_mask, ["--keep", "1.5"], "mask_keep is 1.5, expected a number in (0, 1]"),
    (paths, ["imagenet"], "imagenet is not prepared"),
]


@pytest.mark.parametrize(("experiment", "asked", "said"), MISTAKES)
def test_a_mistake_is_one_line(experiment, asked, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("GENDYN_DATA", str(tmp_path))
    assert experiment.main(asked) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"gendyn: error: {said}") and message.count("\n") == 1


def test_a_row_of_table_2_is_a_run():
    configs = table_2.plan()
    assert len({config.run_id("00") for config in configs}) == len(configs) == len(TABLE_2)
    for row, config in zip(TABLE_2, configs, strict=True):
        assert (config.random_crop > 0, config.flip) == (row.augmentation, row.augmentation)
        assert (config.model_options["dropout"] > 0, config.weight_decay > 0) == (row.dropout, row.weight_decay)
        assert (config.label_corruption == 1) == row.random_labels


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_what_was_asked_for(dropout):
    network = torchvision_network("alexnet", num_classes=2, in_shape=(3, 64, 64), dropout=dropout)
    assert {module.p for module in network.modules() if isinstance(module, nn.Dropout)} == {dropout}
