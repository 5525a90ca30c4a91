"""Where the images are must not change the batches: on the device, streamed, or in a folder."""

from __future__ import annotations

import gc

import pytest
import torch

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data import batching
from gendyn_lite.data.batching import resident, stream

CPU = torch.device("cpu")
CONFIG = RunConfig(experiment="test", batch_size=100, random_crop=1, flip=True)


def collect(batches, epoch=1):
    return [(x.cpu(), y.cpu()) for x, y in batches.epoch(epoch)]


@pytest.mark.parametrize("split", ["train", "train_eval", "test"])
def test_streamed_batches_equal_resident_ones(split, monkeypatch):
    digits = data.load("digits")
    expected = collect(data.batcher(digits, CONFIG, split=split))
    monkeypatch.setattr(batching, "resident", lambda *_: None)
    streamed = collect(data.batcher(digits, CONFIG, split=split))
    assert len(streamed) == len(expected)
    for got, want in zip(streamed, expected, strict=True):
        assert torch.equal(got[0], want[0])
        assert torch.equal(got[1], want[1])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_the_stream_keeps_the_order_for_any_number_of_batches(count):
    x = torch.arange(20, dtype=torch.uint8).reshape(20, 1, 1, 1)
    picks = [torch.tensor([i, i + 1]) for i in range(count)]
    assert [batch.flatten().tolist() for batch in stream(x, picks, CPU)] == [[i, i + 1] for i in range(count)]


def test_the_stream_reads_ahead_but_not_everything():
    class Counting:
        read = 0

        def __getitem__(self, pick):
            self.read += 1
            return torch.zeros(1, dtype=torch.uint8)

    images = Counting()
    batches = stream(images, [slice(0, 1)] * 50, CPU)  # type: ignore[arg-type]
    next(batches)
    batches.close()
    assert 1 <= images.read <= batching.AHEAD + 2


def test_an_error_while_streaming_is_raised_in_its_turn():
    class Failing:
        def __getitem__(self, pick):
            if pick.start == 2:
                raise ValueError("third")
            return torch.zeros(1, dtype=torch.uint8)

    batches = stream(Failing(), [slice(i, i + 1) for i in range(9)], CPU)  # type: ignore[arg-type]
    next(batches)
    next(batches)
    with pytest.raises(ValueError, match="third"):
        next(batches)


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
    del first
    gc.collect()


@pytest.mark.gpu
@pytest.mark.parametrize("streamed", [False, True], ids=["resident", "streamed"])
@pytest.mark.parametrize("standardize", ["per_image", "per_channel", "none"])
def test_gpu_batches_equal_those_of_the_cpu(streamed, standardize, monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("no GPU: nothing to compare with")
    digits, config = data.load("digits"), CONFIG.replace(standardize=standardize, center_crop=6)
    expected = collect(data.batcher(digits, config))
    if streamed:
        monkeypatch.setattr(batching, "resident", lambda *_: None)
    got = collect(data.batcher(digits, config, device="cuda"))
    for (x, y), (want_x, want_y) in zip(got, expected, strict=True):
        torch.testing.assert_close(x, want_x, rtol=1e-5, atol=1e-5)
        assert torch.equal(y, want_y)


@pytest.mark.gpu
def test_three_batchers_share_one_copy_on_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU: nothing to share")
    digits = data.load("digits")
    one, two = (data.batcher(digits, CONFIG, split=split, device="cuda") for split in ("train", "train_eval"))
    assert one._resident is two._resident
    assert one._resident is not None
