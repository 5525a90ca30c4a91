"""Two processes under torchrun end as one does."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gendyn_lite import data
from gendyn_lite.train import distributed, fit
from tests.train import several

SCRIPT = Path(several.__file__)


def torchrun(*words: str) -> str:
    """What two processes that run a script say on stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    torchrun(str(SCRIPT), str(folder))
    return folder


@pytest.mark.parametrize("name", several.CONFIGS)
def test_same_as_one_process(folder, name):
    config = several.CONFIGS[name]
    loaded, _ = data.load_for_run(config)
    model = several.network(config, loaded)
    rows = fit(model, loaded, config, device="cpu").rows
    found = load_file(folder / f"{name}.0.safetensors")
    columns = [column for column in rows[0] if column != "seconds"]
    for column, numbers in zip(columns, found.pop("rows").T.tolist(), strict=True):
        few = 2 / loaded.train.x.shape[0] if column.endswith("accuracy") else 1e-4  # two examples near a boundary
        assert numbers == pytest.approx([row[column] for row in rows], rel=1e-3, abs=few), column
    state = model.state_dict()
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        torch.testing.assert_close(found[key], tensor, rtol=2e-3, atol=2e-4, msg=key)


@pytest.mark.parametrize("name", [*several.CONFIGS, "whole", "resumed"])
def test_both_processes_end_with_equal_weights_and_rows(folder, name):
    one, other = (load_file(folder / f"{name}.{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_resumed_with_the_random_numbers_of_each_process(folder):
    whole, resumed = (load_file(folder / f"{name}.0.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_only_the_first_process_reports(folder):
    assert [(folder / f"reported.{rank}").read_text() for rank in (0, 1)] == ["8", "0"]
    assert len(list((folder / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("shape", [(7, 3, 2, 2), (5, 3)], ids=str)
def test_synchronized_batch_norm_of_one_process_is_torchs_own(training, shape):
    torch.manual_seed(0)
    x, towards = torch.randn(shape, dtype=torch.float64, requires_grad=True), torch.randn(shape, dtype=torch.float64)
    norm = torch.nn.BatchNorm2d(3) if len(shape) == 4 else torch.nn.BatchNorm1d(3)
    norm = norm.double().train(training)
    torch.nn.init.uniform_(norm.weight)
    twin = copy.deepcopy(norm)
    found, expected = distributed._synchronized_norm(norm, x, ranks=distributed.Ranks()), twin(x)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((out * towards).sum(), x)[0] for out in (found, expected)]
    torch.testing.assert_close(*gradients)
    for buffer, other in zip(norm.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(buffer, other)
