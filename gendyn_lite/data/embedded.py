"""The data sets that come with scikit-learn or are computed, default of every chapter: no download, no file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits, make_moons

from gendyn_lite.data.types import ImageData, Split

TRAIN, TEST = 300, 100
NOISE = 0.08


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
    seen = torch.nn.functional.one_hot(y).cumsum(0)  # examples of each class so far
    test = seen.gather(1, y[:, None]).squeeze(1) % 5 == 0
    return ImageData.measured(
        "digits",
        "handwritten digits (8x8)",
        [str(digit) for digit in range(10)],
        train=Split(x[~test], y[~test]),
        test=Split(x[test], y[test]),
    )


def point_set(name: str) -> ImageData:
    """Two classes of points, 300 for training and 100 for testing, float32 [n, 2] or [n, 3].

    The coordinates are rounded to multiples of 2⁻¹⁶, since the last bits of sine and cosine differ between processors.

    Args:
        name: One of `POINT_SETS`.

    >>> point_set("linked_rings").in_shape
    (3,)
    """
    make, description, class_names = POINT_SETS[name]
    return ImageData.measured(name, description, class_names, train=make(TRAIN, seed=0), test=make(TEST, seed=1))


def two_moons(count: int, *, seed: int) -> Split:
    """Two interleaved half circles with noise: scikit-learn's make_moons, sizes as in the paper on intervals."""
    points, labels = map(np.asarray, make_moons(count, noise=0.1, random_state=seed))
    return _split(points, labels)


def rings(count: int, *, seed: int) -> Split:
    """A circle of radius 1 (class 1) around one of radius 0.5 (class 0), with noise.

    >>> rings(4, seed=0).y.tolist()
    [0, 1, 0, 1]
    """
    draw, y = np.random.default_rng(seed), np.arange(count) % 2
    angle = draw.uniform(0, 2 * math.pi, count)
    radius = np.where(y == 0, 0.5, 1.0)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _split(points + draw.normal(0, NOISE, points.shape), y)


def spirals(count: int, *, seed: int) -> Split:
    """Two arms of one and a quarter turns that wind around each other, with noise."""
    draw, y = np.random.default_rng(seed), np.arange(count) % 2
    share = np.sqrt(draw.uniform(0.02, 1, count))  # evenly along the arm
    angle = 2.5 * math.pi * share + math.pi * y
    points = 1.2 * share[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _split(points + draw.normal(0, NOISE / 3, points.shape), y)


def nested_rings(count: int, *, seed: int) -> Split:
    """Four disks (class 0), each inside a ring of its own (class 1): after set D-I of Naitzat et al. (2020)."""
    draw, y = np.random.default_rng(seed), np.arange(count) % 2
    centre = 0.7 * np.stack([1 - 2 * (np.arange(count) // 2 % 2), 1 - 2 * (np.arange(count) // 4 % 2)], 1)
    angle, share = draw.uniform(0, 2 * math.pi, count), draw.uniform(0, 1, count)
    radius = np.where(y == 0, 0.25 * np.sqrt(share), 0.42 + 0.13 * share)
    return _split(centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), y)


def linked_rings(count: int, *, seed: int) -> Split:
    """Two tori in space, linked like a chain, one a class: after set D-II of Naitzat et al. (2020)."""
    draw, y = np.random.default_rng(seed), np.arange(count) % 2
    around, across = draw.uniform(0, 2 * math.pi, (2, count))
    tube = 0.2 * np.sqrt(draw.uniform(0, 1, count))
    distance, height = 0.75 + tube * np.cos(across), tube * np.sin(across)
    flat = np.stack([distance * np.cos(around), distance * np.sin(around), height], 1)
    upright = np.stack([flat[:, 0] + 0.75, flat[:, 2], flat[:, 1]], 1)
    return _split(np.where(y[:, None] == 0, flat, upright), y)


def _split(points: np.ndarray, y: np.ndarray) -> Split:
    """Coordinates on multiples of 2⁻¹⁶; see `point_set`."""
    x = torch.from_numpy(np.round(points * 2**16) / 2**16).float()
    return Split(x, torch.from_numpy(y.astype(np.int64)))


# name → what makes it, its description, the names of its classes
POINT_SETS: dict[str, tuple[Callable[..., Split], str, tuple[str, str]]] = {
    "two_moons": (two_moons, "two moons (points in the plane)", ("upper", "lower")),
    "rings": (rings, "rings (points in the plane)", ("inner", "outer")),
    "spirals": (spirals, "spirals (points in the plane)", ("first arm", "second arm")),
    "nested_rings": (nested_rings, "disks nested in rings (points in the plane)", ("disks", "rings")),
    "linked_rings": (linked_rings, "linked rings (points in space)", ("flat", "upright")),
}
