"""Learning rates against torch's schedulers and closed forms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.train import learning_rate, log_spaced

TWINS = {
    "constant": lambda opt: lr_scheduler.LambdaLR(opt, lambda epoch: 1.0),
    "exponential": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "step": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 5], 0.9),
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 7),
}


@pytest.mark.parametrize("schedule", TWINS)
def test_same_as_torch(schedule):
    config = RunConfig(experiment="test", schedule=schedule, decay=0.9, milestones=(2, 5), epochs=7, learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = TWINS[schedule](optimizer)
    for epoch in range(1, 8):
        assert learning_rate(config, epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_before_training_it_is_the_first_epochs():
    config = RunConfig(experiment="test", schedule="exponential", learning_rate=0.1)
    assert learning_rate(config, 0) == learning_rate(config, 1) == 0.1


@given(epochs=st.integers(1, 10_000), count=st.integers(1, 60))
def test_log_spaced_is_sorted_unique_and_has_both_ends(epochs, count):
    chosen = log_spaced(epochs, count)
    assert list(chosen) == sorted(set(chosen))
    assert chosen[0] == 0
    assert chosen[1] == 1 or epochs == 1 or count == 1
    assert chosen[-1] == epochs
    assert len(chosen) <= count + 2


@pytest.mark.parametrize(("epochs", "count"), [(0, 3), (3, 0)])
def test_log_spaced_refuses_nothing_to_space(epochs, count):
    with pytest.raises(UserError, match="expected at least one epoch and one probe"):
        log_spaced(epochs, count)
