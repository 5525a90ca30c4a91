"""Out of memory: once, batches are halved with the same gradient; where that is not possible it is said."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from gendyn_lite.errors import UserError
from gendyn_lite.train import fit
from tests.train.conftest import make_network, same, weights
from tests.train.test_resume import Stop, StopAt


class Narrow(nn.Module):
    """Passes at most `most` examples in train mode; beyond that the memory is said to be full, half of it used up."""

    def __init__(self, most: int, error: RuntimeError) -> None:
        super().__init__()
        self.most, self.error, self.calls = most, error, []

    def forward(self, x):
        if self.training:
            self.calls.append(len(x))
            if len(x) > self.most:
                raise self.error
        return x


ERRORS = {
    "gpu": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"),
    "cpu": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_halves_once_says_so_and_gets_the_same_result(config, digits, error):
    narrow, plain = Narrow(16, error), make_network(config, digits)
    halved = nn.Sequential(narrow, make_network(config, digits))
    with pytest.warns(UserWarning, match="out of memory: batches of 32 are now computed in two halves") as said:
        fit(halved, digits, config, device="cpu")
    assert len(said) == 1
    fit(plain, digits, config, device="cpu")
    for a, b in zip(halved.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert narrow.calls[0] == 32
    assert narrow.calls[1:9] == [16] * 8
    assert narrow.calls[9:11] == [11, 11]  # 150 examples: the fifth batch has 22
    assert 32 not in narrow.calls[1:]


def test_a_last_batch_of_one_needs_no_halving(config, digits):
    config = config.replace(batch_size=149)
    halved = nn.Sequential(Narrow(75, ERRORS["gpu"]), make_network(config, digits))
    with pytest.warns(UserWarning, match="batches of 149"):
        history = fit(halved, digits, config, device="cpu")
    assert history.last["step"] == 8


def test_a_second_time_is_an_error(config, digits):
    model = nn.Sequential(Narrow(8, ERRORS["gpu"]), make_network(config, digits))
    with (
        pytest.warns(UserWarning, match="in two halves"),
        pytest.raises(UserError, match="out of memory even with batches of 32 cut in two: lower batch_size"),
    ):
        fit(model, digits, config, device="cpu")


def test_batch_norm_is_not_cut_in_silence(config, digits):
    model = nn.Sequential(Narrow(16, ERRORS["gpu"]), nn.BatchNorm2d(1), make_network(config, digits))
    with pytest.raises(
        UserError, match=r"batches of 32 \(CUDA out of memory.*\), and cutting them would change batch-norm"
    ):
        fit(model, digits, config, device="cpu")


def test_other_errors_are_passed_on(config, digits):
    model = nn.Sequential(Narrow(16, RuntimeError("device-side assert")), make_network(config, digits))
    with pytest.raises(RuntimeError, match="device-side assert"):
        fit(model, digits, config, device="cpu")


def test_a_resumed_run_keeps_its_halves_and_its_bits(config, digits, tmp_path):
    whole, stopped, resumed = (nn.Sequential(Narrow(16, ERRORS["gpu"]), make_network(config, digits)) for _ in range(3))
    options = {"device": "cpu", "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with pytest.warns(UserWarning, match="two halves"):
        fit(whole, digits, config, device="cpu")
    with pytest.warns(UserWarning, match="two halves"), pytest.raises(Stop):
        fit(stopped, digits, config, **options, grad_hook=StopAt(9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(resumed, digits, config, **options)
    assert same(weights(resumed), weights(whole))
