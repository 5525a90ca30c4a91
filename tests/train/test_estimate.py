"""The time estimate, and the warning where a GPU was expected."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from gendyn_lite.train import estimate_seconds, fit
from gendyn_lite.train.loop import in_words
from tests.train.conftest import make_network, same, weights


def test_within_a_factor_of_the_truth(config, digits):
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.02 if self.training else 0.002)
            return x

    model = nn.Sequential(Slow(), make_network(config, digits))
    started = time.perf_counter()
    fit(model, digits, config, device="cpu")
    taken = time.perf_counter() - started
    assert taken / 3 < estimate_seconds(model, digits, config, device="cpu") < 3 * taken


def test_leaves_everything_as_it_was(config, digits):
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), make_network(config, digits))
    before, generator = weights(model), torch.get_rng_state()
    estimate_seconds(model, digits, config, device="cpu")
    assert same(weights(model), before)
    assert model.training
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_set_of_a_single_batch(config, digits, network):
    assert estimate_seconds(network, digits, config.replace(batch_size=4096), device="cpu") > 0


def test_a_missing_gpu_is_said_before_training_with_the_time(config, digits, network):
    rows = []
    with pytest.warns(UserWarning, match=r"no GPU found: 4 epochs of mlp on digits take about \d+ seconds on this CPU"):
        fit(network, digits, config, device="cpu", expect_gpu=True, on_epoch=rows.append)
    assert rows[-1]["epoch"] == 4


def test_the_estimate_does_not_change_the_training(config, digits):
    one, other = make_network(config, digits), make_network(config, digits)
    with pytest.warns(UserWarning, match="no GPU found"):
        fit(one, digits, config, device="cpu", expect_gpu=True)
    fit(other, digits, config, device="cpu")
    assert same(weights(one), weights(other))


WORDS = {
    0.2: "0 seconds",
    89: "89 seconds",
    90: "2 minutes",
    5399: "90 minutes",
    5400: "1.5 hours",
    172_800: "2.0 days",
}


@pytest.mark.parametrize(("seconds", "text"), WORDS.items())
def test_in_words(seconds, text):
    assert in_words(seconds) == text
