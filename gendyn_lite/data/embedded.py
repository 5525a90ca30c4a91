"""The data sets that come with the library: handwritten digits, and point sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits, make_moons

from gendyn_lite.data.types import ImageData, Split

TRAIN, TEST = 300, 100  # numbers of points
NOISE = 0.08  # standard deviation


@cache
def digits() -> ImageData:
    """Handwritten digits: 1,442 training and 355 test images, uint8 [n, 1, 8, 8], 10 classes.

    The grey levels 0 … 16 of the original are scaled to 0 … 255 (times 255/16, rounded). The test set is every fifth
    image of each class, in the original's order, so the split never changes. The result is cached, because scikit-learn
    parses a text file and a chapter loads the digits a hundred times.

    Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI; scikit-learn's copy of its test
        part (1,797 images).
    """
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    x = torch.from_numpy((pixels.astype(np.int64) * 255 + 8) // 16).to(torch.uint8).view(-1, 1, 8, 8)
    y = torch.from_numpy(labels.astype(np.int64))
    seen = torch.nn.functional.one_hot(y).cumsum(0)  # examples of each class so far
    test = seen.gather(1, y[:, None]).squeeze(1) % 5 == 0
    train, test = Split(x[~test], y[~test]), Split(x[test], y[test])
    return ImageData.measured("digits", "handwritten digits (8x8)", list("0123456789"), train=train, test=test)


def points(name: str, count: int, *, seed: int) -> Split:
    """Draw two classes of points in the plane or in space.

    The coordinates are rounded to multiples of 2⁻¹⁶, because the last bits of sine and cosine depend on the processor.

    Args:
        name: One of `POINT_SETS`.
        count: Number of points n.
        seed: Seed of the draws.

    Returns:
        Points, float32 [n, 2] or [n, 3], and labels 0 and 1, int64 [n].

    >>> points("linked_rings", 4, seed=0).y.tolist()
    [0, 1, 0, 1]
    """
    make, y = POINT_SETS[name][0], np.arange(count) % 2
    if make is None:
        x, y = map(np.asarray, make_moons(count, noise=0.1, random_state=seed))
    else:
        x = make(y, np.random.default_rng(seed))
    x = torch.from_numpy(np.round(x * 2**16) / 2**16).float()
    return Split(x, torch.from_numpy(y.astype(np.int64)))


def _direction(angle: np.ndarray) -> np.ndarray:
    """Unit vectors [n, 2] at the given angles [n]."""
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _rings(y: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A circle of radius 1 (class 1) around one of radius 0.5 (class 0), with noise."""
    radius = np.where(y == 0, 0.5, 1.0)
    exact = radius[:, None] * _direction(draw.uniform(0, 2 * math.pi, len(y)))
    return exact + draw.normal(0, NOISE, exact.shape)


def _spirals(y: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Two interleaved spiral arms of one and a quarter turns, with noise."""
    share = np.sqrt(draw.uniform(0.02, 1, len(y)))  # the square root spreads points evenly along the arm
    exact = 1.2 * share[:, None] * _direction(2.5 * math.pi * share + math.pi * y)
    return exact + draw.normal(0, NOISE / 3, exact.shape)


def _nested_rings(y: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Four disks (class 0), each inside a ring of its own (class 1).

    Source: Naitzat et al. (2020), after data set D-I.
    """
    place = np.arange(len(y))
    centre = 0.7 * np.stack([1 - 2 * (place // 2 % 2), 1 - 2 * (place // 4 % 2)], 1)
    angle, share = draw.uniform(0, 2 * math.pi, len(y)), draw.uniform(0, 1, len(y))
    radius = np.where(y == 0, 0.25 * np.sqrt(share), 0.42 + 0.13 * share)
    return centre + radius[:, None] * _direction(angle)


def _linked_rings(y: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Two tori in space, one per class, linked like a chain.

    Source: Naitzat et al. (2020), after data set D-II.
    """
    around, across = draw.uniform(0, 2 * math.pi, (2, len(y)))
    tube = 0.2 * np.sqrt(draw.uniform(0, 1, len(y)))
    distance, height = 0.75 + tube * np.cos(across), tube * np.sin(across)
    flat = np.column_stack([distance[:, None] * _direction(around), height])
    upright = np.stack([flat[:, 0] + 0.75, flat[:, 2], flat[:, 1]], 1)
    return np.where(y[:, None] == 0, flat, upright)


# name → function of labels and generator that draws coordinates (None: scikit-learn's moons), description, class names
POINT_SETS: dict[str, tuple[Callable[..., np.ndarray] | None, str, tuple[str, str]]] = {
    "two_moons": (None, "two moons (points in the plane)", ("upper", "lower")),
    "rings": (_rings, "rings (points in the plane)", ("inner", "outer")),
    "spirals": (_spirals, "spirals (points in the plane)", ("first arm", "second arm")),
    "nested_rings": (_nested_rings, "disks nested in rings (points in the plane)", ("disks", "rings")),
    "linked_rings": (_linked_rings, "linked rings (points in space)", ("flat", "upright")),
}
