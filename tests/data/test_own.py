"""Data of one's own, from arrays and from what is indexed like a data set: the same bytes, or one clear line."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    SequentialSampler,
    TensorDataset,
)
from torch.utils.data.distributed import DistributedSampler

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.train import fit
from tests.measures.networks import refused

from . import trees

DRAW = np.random.default_rng(0)
GREY = DRAW.integers(0, 256, (12, 8, 8), dtype=np.uint8)
COLOUR = DRAW.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
FIRST = COLOUR.transpose(0, 3, 1, 2)
Y = np.arange(12) % 3
TEST = (FIRST[:4], Y[:4])
WAYS = {
    "arrays": lambda: data.from_arrays(FIRST, Y, test=TEST),
    "tensors": lambda: data.from_arrays(torch.tensor(FIRST), torch.tensor(Y), test=TEST),
    "a list of labels of few bits": lambda: data.from_arrays(FIRST, list(Y), test=(FIRST[:4], Y[:4].astype("int8"))),
    "another byte order": lambda: data.from_arrays(FIRST, Y.astype(">i4"), test=TEST),
    "torch": lambda: data.from_dataset(TensorDataset(torch.tensor(FIRST), torch.tensor(Y)), test=pairs(4)),
    "torchvision": lambda: data.from_dataset(pairs(12), test=pairs(4)),
    "hugging face": lambda: data.from_dataset(dicts(12), test=dicts(4)),
}


def pairs(count):
    return [(Image.fromarray(COLOUR[i]), int(Y[i])) for i in range(count)]


def dicts(count):
    return [{"img": image, "fine_label": label, "coarse": 0} for image, label in pairs(count)]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_data(way):
    found, expected = WAYS[way](), WAYS["arrays"]()
    assert torch.equal(found.train.x, torch.from_numpy(FIRST.copy())) and found.train.y.tolist() == Y.tolist()
    assert (found.fingerprint, found.mean, found.num_classes) == (expected.fingerprint, expected.mean, 3)


def test_other_pixels_have_another_fingerprint_and_a_network_trains_on_them():
    one, other = (data.from_arrays(images, Y, test=(images[:4], Y[:4]), name="mine") for images in (GREY, GREY[::-1]))
    assert one.in_shape == (1, 8, 8) and one.fingerprint != other.fingerprint
    points = DRAW.normal(size=(12, 5))
    for own in (one, data.from_arrays(points, Y, test=(points[:4], Y[:4]))):
        config = RunConfig(experiment="own", model="mlp", model_options={"widths": [8]}, epochs=2, batch_size=4)
        network = models.build("mlp", num_classes=3, in_shape=own.in_shape, seed=0, widths=[8])
        assert len(fit(network, own, config, device="cpu").rows) == 3


REFUSED = {
    "channels last": ((COLOUR, Y), r"images have shape \[12, 8, 8, 3\], expected \[n, C, H, W\]: move channels first"),
    "lengths": ((FIRST, Y[:5]), r"labels are int64 \[5\] for 12 inputs"),
    "one-hot": ((FIRST, np.eye(12, dtype=int)), r"labels are int64 \[12, 12\] for 12 inputs"),
    "float labels": ((FIRST, Y / 2), r"labels are float64 \[12\]"),
    "negative": ((FIRST, Y - 1), "^training labels span -1 to 1"),
    "whole numbers": ((FIRST.astype(int), Y), r"inputs are int64 \[12, 3, 8, 8\], expected uint8 images or floats"),
    "NaN": ((np.full((12, 4), np.nan), Y), "inputs have entries that are not finite"),
    "words": ((FIRST, ["a"] * 12), "y is not an array of numbers"),
    "ragged": (([[1], [1, 2]], [0, 1]), "x is not an array of numbers"),
    "nothing": ((FIRST[:0], Y[:0]), "there are no examples"),
    "another shape": ((GREY, Y), r"training inputs are uint8 \[1, 8, 8\] and test inputs uint8 \[3, 8, 8\]"),
}


test_arrays_that_are_no_data_are_refused = refused(
    {name: (data.from_arrays, given, {"test": TEST}, said) for name, (given, said) in REFUSED.items()}
)


def test_a_test_label_beyond_the_classes_is_told_to_be_one():
    with pytest.raises(UserError, match=r"^test labels span 0 to 3, expected 0 to 1"):
        data.from_arrays(GREY, Y % 2, test=(GREY[:4], [0, 3, 2, 1]), class_names=["cat", "dog"])


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_what_is_done_to_the_arrays_afterwards_changes_no_data(kind):
    x, y = kind(GREY), kind(Y)
    own = data.from_arrays(x, y, test=(x[:4], y[:4]))
    x[:], y[:] = 0, 0
    assert torch.equal(own.train.x[:, 0], torch.from_numpy(GREY)) and own.train.y.tolist() == Y.tolist()


FRAMES = io.BytesIO(trees.encoded(trees.picture(), "TIFF", save_all=True, append_images=[trees.picture()]))
NONE = [
    ([{"picture": 1}], "example 0 has the keys picture: expected one of image, img"),
    ([1], "example 0 is a int, expected a pair"),
    ([*pairs(1), (GREY[0], 1)], "the examples have 2 shapes, expected one"),
    ([], "the examples have 0 shapes"),
    ([(GREY[0], 0.7)], "the label of example 0 is 0.7, expected the number of its class"),
    ([(GREY[0], "1")], "the label of example 0 is '1', expected the number of its class"),
    ([(GREY[0], torch.eye(3)[0])], r"the label of example 0 is of shape \[3\], expected the number of its class"),
    ([(GREY[0], 1), (GREY[0] / 255, 1)], "the examples are float64 and uint8, expected one type"),
    ([(pairs(1)[0][0].convert("P"), 1)], "example 0 is a picture with a palette: convert it"),
    (
        [(Image.open(FRAMES), 1)],
        r"example 0 is a picture with several frames or pages: take one, image.convert\('RGB'\)",
    ),
    (iter([1]), "the data set is a list_iterator, .* give loader.dataset"),
    (DataLoader(pairs(2)), "the data set is a DataLoader, which has no length or cannot be indexed"),
]
test_examples_that_are_none_are_named = refused(
    {said: (data.from_dataset, (wrong,), {"test": pairs(2)}, said) for wrong, said in NONE}
)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.ones(1), 0)] * 7)


class Augmented(Dataset):
    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 7

    def __getitem__(self, number):
        return torch.ones(2) if self.draw() < 0.5 else torch.zeros(2), number % 3


class Anew(Sampler):
    """All places, in an order that is drawn at each call."""

    def __init__(self, source):
        self.source = source

    def __len__(self):
        return len(self.source)

    def __iter__(self):
        return iter(torch.randperm(len(self.source)).tolist())


class NoisyStream(IterableDataset):
    def __iter__(self):
        return iter([(torch.randn(1), 0)] * 7)


def noisy(examples):
    return torch.stack([x + torch.randn(()) for x, _ in examples]), torch.stack([y for _, y in examples])


TEN = TensorDataset(torch.arange(10.0)[:, None], torch.arange(10))
LOADERS = {
    "the last dropped": (DataLoader(TEN, 4, drop_last=True), r"leaves out 2 of 10 examples \(drop_last=True\)"),
    "by batches": (DataLoader(TEN, batch_sampler=BatchSampler(SequentialSampler(TEN), 4, True)), "leaves out 2 of 10"),
    "a stream": (DataLoader(Stream(), 3, drop_last=True), "may leave out some examples"),
    "a share": (DataLoader(TEN, sampler=DistributedSampler(TEN, 2, 0, shuffle=False)), "one of several processes"),
    "one by one": (DataLoader(TEN, batch_size=None), "cannot be joined: zero-dimensional .*expected pairs of tensors"),
    "drawn by torch": (DataLoader(Augmented(lambda: torch.rand(()))), "draws at random when it is read"),
    "drawn by Python": (DataLoader(Augmented(random.random)), "take it without augmentation"),
    "drawn by NumPy": (DataLoader(Augmented(np.random.rand)), "take it without augmentation"),
    "a sampler of one's own": (DataLoader(TEN, 4, sampler=Anew(TEN)), "draws at random when it is read"),
    "a stream of noise": (DataLoader(NoisyStream(), 3), "draws at random when it is read"),
    "noise in batches": (DataLoader(TEN, 4, collate_fn=noisy), "draws at random when it is read"),
}


test_a_loader_that_leaves_out_or_changes_examples_is_refused = refused(
    {name: (data.tensors, (loader,), {}, said) for name, (loader, said) in LOADERS.items()}
)


def test_parts_that_are_none_are_told_as_they_are():
    for test in (None, (FIRST,), TEN):
        with pytest.raises(UserError, match="expected a pair of test inputs and their labels"):
            data.from_arrays(FIRST, Y, test=test)
    with pytest.raises(UserError, match="the data set is a dict of train, test, expected examples: give its parts"):
        data.from_dataset({"train": TEN, "test": TEN}, test=TEN)


def test_masked_entries_are_no_numbers_and_channels_that_may_be_last_are_told_of():
    masked = np.ma.masked_array(FIRST / 255, mask=FIRST > 250)
    with pytest.raises(UserError, match="x is an array with masked entries"):
        data.from_arrays(masked, Y, test=TEST)
    whole = np.ma.masked_array(FIRST / 255, mask=np.zeros_like(FIRST))
    floats = (FIRST[:4] / 255, Y[:4])
    assert data.from_arrays(whole, Y, test=floats).in_shape == (3, 8, 8)
    with pytest.warns(UserWarning, match="are taken as 8 channels: if channels are last, move them first"):
        data.from_arrays(COLOUR / 255, Y, test=(COLOUR[:4] / 255, Y[:4]))


def test_a_loader_that_drops_nothing_is_read_whole():
    for loader in (DataLoader(TEN, 5, drop_last=True), DataLoader(TEN, 4)):
        assert data.tensors(loader)[1].tolist() == list(range(10))
