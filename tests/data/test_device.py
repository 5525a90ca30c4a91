"""Where the images are must not change the batches: on the device, streamed, or in a folder."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data import batching
from gendyn_lite.data.batching import resident, stream

CPU = torch.device("cpu")
CONFIG = RunConfig(experiment="test", batch_size=100, random_crop=1, flip=True)


def assert_same(got, expected, **tolerance):
    """Epoch 1 of two batchers is the same, wherever it was made."""
    for (x, y), (want_x, want_y) in zip(got.epoch(1), expected.epoch(1), strict=True):
        torch.testing.assert_close(x.cpu(), want_x, **tolerance)
        assert torch.equal(y.cpu(), want_y)


@pytest.mark.parametrize("split", ["train", "train_eval", "test"])
def test_streamed_batches_equal_resident_ones(split, monkeypatch):
    digits = data.load("digits")
    expected = data.batcher(digits, CONFIG, split=split)
    monkeypatch.setattr(batching, "resident", lambda *_: None)
    assert_same(data.batcher(digits, CONFIG, split=split), expected, rtol=0, atol=0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_the_stream_keeps_the_order_for_any_number_of_batches(count):
    x = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1)
    picks = [torch.tensor([i, i + 1]) for i in range(count)]
    assert [batch.flatten().tolist() for batch in stream(x, picks, CPU)] == [[i, i + 1] for i in range(count)]


class Counting:
    """Images that count how often they are read; the one at `bad` fails."""

    def __init__(self, bad=-1):
        self.read, self.bad = 0, bad

    def __getitem__(self, pick):
        self.read += 1
        if pick.start == self.bad:
            raise ValueError("third")
        return torch.zeros(1, dtype=torch.uint8)


def test_the_stream_reads_ahead_but_not_everything_and_an_error_is_raised_in_its_turn():
    images, picks = Counting(bad=2), [slice(i, i + 1) for i in range(50)]
    batches = stream(images, picks, CPU)  # type: ignore[arg-type]
    next(batches)
    next(batches)
    with pytest.raises(ValueError, match="third"):
        next(batches)
    assert 3 <= images.read <= 2 + batching.AHEAD + 2


def test_a_set_too_large_for_the_gpu_is_not_put_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 2000))
    fits, too_large = (torch.zeros(n, dtype=torch.uint8) for n in (500, 501))
    assert batching._fits(fits, torch.device("cuda:0"))
    assert not batching._fits(too_large, torch.device("cuda:0"))
    assert batching._fits(too_large, CPU)


def test_copies_on_a_device_are_shared_and_renewed_when_the_source_changes():
    meta = torch.device("meta")  # a device that every machine has
    x = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    first = resident(x, meta)
    assert first is resident(x, meta)
    assert first is not resident(x.clone(), meta)
    x[0] = 1
    assert first is not resident(x, meta)
    assert resident(x, CPU) is x


@pytest.mark.gpu
@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("standardize", ["per_image", "per_channel", "none"])
def test_gpu_batches_equal_those_of_the_cpu(streamed, standardize, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("no GPU: nothing to compare with")
    digits, config = data.load("digits"), CONFIG.replace(standardize=standardize, center_crop=6)
    expected = data.batcher(digits, config)
    if streamed:
        monkeypatch.setattr(batching, "resident", lambda *_: None)
    assert_same(data.batcher(digits, config, device="cuda"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
def test_three_batchers_share_one_copy_on_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU: nothing to share")
    digits = data.load("digits")
    one, two = (data.batcher(digits, CONFIG, split=split, device="cuda") for split in ("train", "train_eval"))
    assert one._resident is two._resident
    assert one._resident is not None
