"""The batcher against a loop over single images, its determinism and its errors, wherever the images are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data import Split, batching, draws
from gendyn_lite.data.batching import resident, stream
from tests.measures.networks import refused


def make(n=11, channels=3, height=8, width=8):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2 * n, channels, height, width), dtype=torch.uint8, generator=generator)
    y = torch.arange(2 * n) % 3
    train, test = Split(x[:n], y[:n]), Split(x[n:], y[n:])
    return data.ImageData.measured("made", "made up", "abc", train=train, test=test)


def config(**options):
    return RunConfig(experiment="test", batch_size=4, **options)


def collect(batches, epoch=0):
    parts = list(batches.epoch(epoch))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def slow_twin(images, settings, epoch):
    """One image at a time, in float64."""
    n, pad, key = len(images.train.y), settings.random_crop, (settings.seed, draws.AUGMENT, epoch)
    order = draws.permutation(n, settings.seed, draws.ORDER, epoch)
    moves = [draws.integers(n, bound, *key, stream) for stream, bound in enumerate((2 * pad + 1, 2 * pad + 1, 2))]
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (images.mean, images.std))
    height, width = images.in_shape[1:]
    side_y, side_x = (settings.center_crop or height), (settings.center_crop or width)
    out = []
    for source, down, right, flipped in zip(order, *moves, strict=True):
        top, left = (height - side_y) // 2 + down, (width - side_x) // 2 + right
        image = F.pad(images.train.x[source].double(), (pad,) * 4)[:, top : top + side_y, left : left + side_x]
        image = image.flip(2) if settings.flip and flipped else image
        if settings.standardize == "per_image":
            spread = max(image.std(correction=0).item(), 1 / image.numel() ** 0.5)
            out.append((image - image.mean()) / spread)
        else:
            out.append((image / 255 - mean) / std if settings.standardize == "per_channel" else image / 255)
    return torch.stack(out), images.train.y[torch.from_numpy(order)]


@pytest.mark.parametrize("standardize", ["per_image", "per_channel", "none"])
@pytest.mark.parametrize("center_crop", [None, 5, 6], ids=["whole", "odd crop", "even crop"])
@pytest.mark.parametrize("random_crop", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True], ids=["", "flip"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 9)], ids=str)
def test_training_batches_equal_the_slow_twin(standardize, center_crop, random_crop, flip, shape):
    images = make(7, *shape)
    settings = config(standardize=standardize, center_crop=center_crop, random_crop=random_crop, flip=flip, seed=3)
    x, y = collect(data.batcher(images, settings), epoch=2)
    expected_x, expected_y = slow_twin(images, settings, 2)
    assert x.dtype == torch.float32
    assert torch.equal(y, expected_y)
    torch.testing.assert_close(x.double(), expected_x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("split", ["train_eval", "test"])
def test_evaluation_is_in_order_and_not_augmented(split):
    images = make()
    settings = config(random_crop=2, flip=True, standardize="none")
    part = images.test if split == "test" else images.train
    x, y = collect(data.batcher(images, settings, split=split))
    torch.testing.assert_close(x, part.x / 255)
    assert torch.equal(y, part.y)


@pytest.mark.parametrize("size", [1, 3000, 1 << 23])
def test_same_batches_after_a_resume_whatever_is_augmented_at_once_and_the_batch_size(size, monkeypatch):
    images, settings, threads = make(), config(random_crop=2, flip=True), torch.get_num_threads()
    epochs = [collect(data.batcher(images, settings), epoch) for epoch in range(4)]
    assert not torch.equal(epochs[0][1], epochs[1][1])
    assert not torch.equal(collect(data.batcher(images, settings.replace(seed=1)))[0], epochs[0][0])
    monkeypatch.setitem(batching.CHUNK_BYTES, "cpu", size)
    for batch_size, sizes in ((4, [4, 4, 3]), (7, [7, 4])):
        resumed = data.batcher(images, settings, batch_size=batch_size)
        for epoch in (3, 1):
            torch.testing.assert_close(epochs[epoch], collect(resumed, epoch))
        assert [(len(y), torch.get_num_threads()) for _, y in resumed.epoch(0)] == [(n, threads) for n in sizes]
        assert len(resumed) == len(sizes)


def test_constant_images_stay_finite():
    images = make(4)
    images.train.x.fill_(200)
    x, _ = collect(data.batcher(images, config()))
    assert torch.equal(x, torch.zeros_like(x))
    constant = replace(images, std=(0.0, 0.0, 0.0), mean=(200 / 255,) * 3)
    x, _ = collect(data.batcher(constant, config(standardize="per_channel")))
    torch.testing.assert_close(x, torch.zeros_like(x), rtol=0, atol=1e-6)


def test_per_image_is_tensorflows_where_an_image_is_nearly_constant():
    """Divided by 1/√4 = 0.5, as its √0.1875 = 0.433 is less."""
    x = torch.tensor([[[[7, 7], [7, 8]]]], dtype=torch.uint8)
    assert data.standardize(x, "per_image", mean=torch.zeros(1), std=torch.ones(1))[0, 0, 1, 1].item() == 0.75 / 0.5


def test_points_go_through_unchanged():
    moons = data.load("two_moons")
    batches = data.batcher(moons, config(), split="train_eval")
    assert batches.in_shape == (2,)
    assert all(map(torch.equal, collect(batches), moons.train))
    assert not torch.equal(collect(data.batcher(moons, config()))[0], moons.train.x)


MOONS, DIGITS, MADE = data.load("two_moons"), data.load("digits"), make()
NONE = replace(MADE, train=Split(MADE.train.x[:0], MADE.train.y[:0]))
REFUSED = [
    (MOONS, config(flip=True), {}, "flip is True, but two_moons holds points"),
    (MOONS, config(center_crop=1), {}, "center_crop is 1, but two_moons"),
    (MOONS, config(random_crop=1), {}, "random_crop is 1, but two_moons"),
    (DIGITS, config(center_crop=28), {}, "center_crop is 28, expected at most 8 for 8x8"),
    (DIGITS, config(random_crop=8), {}, "random_crop is 8, expected less than the side 8"),
    (DIGITS, config(), {"split": "val"}, "unknown split 'val'"),
    (DIGITS, config(), {"batch_size": 0}, "batch_size is 0, expected"),
    (DIGITS, config(inputs="gaussian"), {}, "apply data.randomize"),
    (NONE, config(), {}, "made has no training examples"),
]
test_bad_input_is_named = refused({row[3]: (data.batcher, row[:2], *row[2:]) for row in REFUSED})


CPU = torch.device("cpu")
CONFIG = config(random_crop=1, flip=True).replace(batch_size=100)


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
    digits, settings = data.load("digits"), CONFIG.replace(standardize=standardize, center_crop=6)
    expected = data.batcher(digits, settings)
    if streamed:
        monkeypatch.setattr(batching, "resident", lambda *_: None)
    found, other = (data.batcher(digits, settings, split=split, device="cuda") for split in ("train", "train_eval"))
    assert_same(found, expected, rtol=1e-5, atol=1e-5)
    assert found._resident is other._resident and (found._resident is None) == streamed  # one copy for both
