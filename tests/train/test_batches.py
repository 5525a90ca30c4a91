"""The fast path gives the batches that gendyn_lite.data.batcher gives."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite.data import batcher
from gendyn_lite.train import batches as module
from gendyn_lite.train.batches import Batches

CPU = torch.device("cpu")
OPTIONS = {
    "plain": {},
    "cropped": {"center_crop": 6, "standardize": "per_channel"},
    "augmented": {"random_crop": 2, "flip": True},
    "raw": {"standardize": "none"},
}


def equal(one, other, *, exact=True):
    one, other = list(one), list(other)
    assert len(one) == len(other)
    for (x, y), (a, b) in zip(one, other, strict=True):
        torch.testing.assert_close(x, a, rtol=0 if exact else 1e-6, atol=0 if exact else 1e-6)
        assert torch.equal(y, b)


@pytest.mark.parametrize("limit", [0, 2**40], ids=["made anew", "kept"])
@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_same_as_the_batcher(config, digits, changes, limit, monkeypatch):
    monkeypatch.setattr(module, "RESIDENT_BYTES", limit)
    config = config.replace(**changes)
    ours, theirs = Batches(digits, config, CPU), batcher(digits, config)
    assert (ours.steps, ours.num_train, ours.num_test, ours.in_shape) == (5, 150, 355, theirs.in_shape)
    for epoch in (1, 2):
        equal(ours.training(epoch), theirs.epoch(epoch), exact=False)
    for split in ("train_eval", "test"):
        for _ in range(2):
            equal(ours.evaluation(split), batcher(digits, config, split=split).epoch(0))


@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("first", [0, 2, 4, 5])
def test_from_any_batch_on_they_are_the_same_to_the_bit(config, digits, changes, first):
    batches = Batches(digits, config.replace(**changes), CPU)
    equal(batches.training(3, first=first), list(batches.training(3))[first:])
