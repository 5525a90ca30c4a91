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


def equal(one, other):
    for (x, y), (a, b) in zip(one, other, strict=True):
        torch.testing.assert_close(x, a, rtol=1e-6, atol=1e-6)
        assert torch.equal(y, b)


@pytest.mark.parametrize("limit", [0, 2**40], ids=["made anew", "kept"])
@pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS)
def test_same_as_the_batcher(config, digits, changes, limit, monkeypatch):
    monkeypatch.setattr(module, "RESIDENT_BYTES", limit)
    config = config.replace(**changes)
    ours, theirs = Batches(digits, config, CPU), batcher(digits, config)
    assert (ours.steps, ours.num_train, ours.num_test, ours.in_shape) == (5, 150, 355, theirs.in_shape)
    for epoch, first in ((1, 0), (2, 0), (2, 2), (2, 5)):
        equal(ours.training(epoch, first=first), list(theirs.epoch(epoch))[first:])
    for split in ("train_eval", "test"):
        for _ in range(2):
            equal(ours.evaluation(split), batcher(digits, config, split=split).epoch(0))
