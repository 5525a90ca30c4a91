"""ResNet-50 with a gradient mask on a folder of real images, two processes under torchrun, recorded as one run."""

from __future__ import annotations

import pytest

from gendyn_lite.chapters.fisher_mask import runs
from tests.chapters import photographs

TINY = {"epochs": 2, "batch_size": 4, "center_crop": 32, "learning_rate": 0.001, "precision": "float32"}


@pytest.mark.slow
def test_two_processes_agree_on_a_mask_and_record_one_run(tmp_path):
    run, said = photographs.run_in_two_processes(
        runs, ["--keep", "0.25"], TINY, root=tmp_path, python=["-W", "error::UserWarning:gendyn_lite"]
    )
    assert "no formula" not in said
    assert run.complete
    assert (run.config.mask_keep, run.env()["processes"]) == (0.25, 2)
    assert [row["epoch"] for row in run.rows()] == [0, 1, 2]


def test_a_mistake_is_one_line(capsys):
    assert runs.main(["--keep", "1.5"]) == 2
    assert capsys.readouterr().err == "gendyn: error: mask_keep is 1.5, expected a number in (0, 1]\n"
