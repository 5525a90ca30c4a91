"""The data sets that come with scikit-learn or are computed, default of every chapter: no download, no file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits, make_moons
from torch import Tensor

from gendyn_lite.data import point_sets
from gendyn_lite.data.randomization import channel_statistics
from gendyn_lite.data.types import ImageData, Split

MOONS_TRAIN, MOONS_TEST, MOONS_NOISE = 300, 100, 0.1


def digits() -> ImageData:
    """Handwritten digits: 1,442 training and 355 test images, uint8 [n, 1, 8, 8], 10 classes.

    The grey levels 0 … 16 of the original are scaled to 0 … 255 (times 255/16, rounded). The test set is every fifth
    image of each class, in the original's order, so the split is the same for ever.

    Source:
        E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI; scikit-learn's copy of its test
        part (1,797 images).
    """
    read = _digits()
    train, test = (Split(part.x.clone(), part.y.clone()) for part in (read.train, read.test))
    return replace(read, train=train, test=test)


@cache
def _digits() -> ImageData:
    """The digits, read once: scikit-learn parses text, and a chapter loads them a hundred times."""
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    x = torch.from_numpy((pixels.astype(np.int64) * 255 + 8) // 16).to(torch.uint8).view(-1, 1, 8, 8)
    y = torch.from_numpy(labels.astype(np.int64))
    test = _rank_in_class(y) % 5 == 4
    train, test = Split(x[~test], y[~test]), Split(x[test], y[test])
    mean, std = channel_statistics(train.x)
    return ImageData(
        name="digits",
        description="handwritten digits (8x8)",
        train=train,
        test=test,
        num_classes=10,
        class_names=tuple(str(digit) for digit in range(10)),
        mean=mean,
        std=std,
        fingerprint=fingerprint(train, test),
    )


def two_moons() -> ImageData:
    """Two interleaved half circles with noise: 300 training and 100 test points, float32 [n, 2], 2 classes.

    The coordinates are rounded to multiples of 2⁻¹⁶, since the last bits of sine and cosine differ between processors.

    Source:
        scikit-learn's make_moons, noise 0.1; sizes as in the paper on generalization intervals.
    """
    parts = _moons(MOONS_TRAIN, seed=0), _moons(MOONS_TEST, seed=1)
    return _points("two_moons", "two moons (points in the plane)", *parts, ("upper", "lower"))


def point_set(name: str) -> ImageData:
    """One of `gendyn_lite.data.point_sets`: 300 training and 100 test points, float32 [n, 2] or [n, 3], 2 classes.

    >>> point_set("linked_rings").in_shape
    (3,)
    """
    description, class_names = point_sets.TITLES[name]
    return _points(name, description, *point_sets.parts(name), class_names)


def _points(name: str, description: str, train: Split, test: Split, class_names: tuple[str, ...]) -> ImageData:
    std, mean = (tuple(stat.tolist()) for stat in torch.std_mean(train.x.double(), dim=0, correction=0))
    return ImageData(
        name=name,
        description=description,
        train=train,
        test=test,
        num_classes=2,
        class_names=class_names,
        mean=mean,
        std=std,
        fingerprint=fingerprint(train, test),
    )


def _moons(count: int, *, seed: int) -> Split:
    points, labels = map(np.asarray, make_moons(count, noise=MOONS_NOISE, random_state=seed))
    x = torch.from_numpy(np.round(points * 2**16) / 2**16).float()
    return Split(x, torch.from_numpy(labels.astype(np.int64)))


def fingerprint(train: Split, test: Split) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of both splits' shapes, inputs and labels.

    >>> part = Split(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    >>> fingerprint(part, part)
    'e399d7acf2b3b7c3'
    """
    total = hashlib.sha256()
    for part in (train, test):
        total.update(f"{str(part.x.dtype).removeprefix('torch.')} {list(part.x.shape)}".encode())
        total.update(_little_endian(part.x))
        total.update(_little_endian(part.y))
    return total.hexdigest()[:16]


def _little_endian(values: Tensor) -> memoryview:
    array = np.ascontiguousarray(values.cpu().numpy())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data


def _rank_in_class(y: Tensor) -> Tensor:
    """How many earlier examples have the label of example i, int64 [n]."""
    seen = torch.nn.functional.one_hot(y).cumsum(0)
    return seen.gather(1, y[:, None]).squeeze(1) - 1
