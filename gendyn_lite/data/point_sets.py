"""Two-class point sets of growing topological difficulty: rings, spirals, disks nested in rings, linked rings."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gendyn_lite.data.types import Split

TRAIN, TEST = 300, 100
NOISE = 0.08


def rings(count: int, *, seed: int) -> Split:
    """A circle of radius 1 (class 1) around one of radius 0.5 (class 0), with noise.

    >>> rings(4, seed=0).y.tolist()
    [0, 1, 0, 1]
    """
    draw, y = np.random.default_rng(seed), _labels(count)
    angle = draw.uniform(0, 2 * math.pi, count)
    radius = np.where(y == 0, 0.5, 1.0)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _split(points + draw.normal(0, NOISE, points.shape), y)


def spirals(count: int, *, seed: int) -> Split:
    """Two arms of one and a quarter turns that wind around each other, with noise."""
    draw, y = np.random.default_rng(seed), _labels(count)
    share = np.sqrt(draw.uniform(0.02, 1, count))  # evenly along the arm
    angle = 2.5 * math.pi * share + math.pi * y
    points = 1.2 * share[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _split(points + draw.normal(0, NOISE / 3, points.shape), y)


def nested_rings(count: int, *, seed: int) -> Split:
    """Four disks (class 0), each inside a ring of its own (class 1): after set D-I of Naitzat et al. (2020)."""
    draw, y = np.random.default_rng(seed), _labels(count)
    centre = 0.7 * np.stack([1 - 2 * (np.arange(count) // 2 % 2), 1 - 2 * (np.arange(count) // 4 % 2)], 1)
    angle, share = draw.uniform(0, 2 * math.pi, count), draw.uniform(0, 1, count)
    radius = np.where(y == 0, 0.25 * np.sqrt(share), 0.42 + 0.13 * share)
    return _split(centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), y)


def linked_rings(count: int, *, seed: int) -> Split:
    """Two tori in space, linked like a chain, one a class: after set D-II of Naitzat et al. (2020)."""
    draw, y = np.random.default_rng(seed), _labels(count)
    around, across = draw.uniform(0, 2 * math.pi, (2, count))
    tube = 0.2 * np.sqrt(draw.uniform(0, 1, count))
    distance, height = 0.75 + tube * np.cos(across), tube * np.sin(across)
    flat = np.stack([distance * np.cos(around), distance * np.sin(around), height], 1)
    upright = np.stack([flat[:, 0] + 0.75, flat[:, 2], flat[:, 1]], 1)
    return _split(np.where(y[:, None] == 0, flat, upright), y)


MAKERS = {"rings": rings, "spirals": spirals, "nested_rings": nested_rings, "linked_rings": linked_rings}
TITLES = {
    "rings": ("rings (points in the plane)", ("inner", "outer")),
    "spirals": ("spirals (points in the plane)", ("first arm", "second arm")),
    "nested_rings": ("disks nested in rings (points in the plane)", ("disks", "rings")),
    "linked_rings": ("linked rings (points in space)", ("flat", "upright")),
}


def parts(name: str) -> tuple[Split, Split]:
    """Training and test points of a set by its name."""
    return MAKERS[name](TRAIN, seed=0), MAKERS[name](TEST, seed=1)


def _labels(count: int) -> np.ndarray:
    return np.arange(count) % 2


def _split(points: np.ndarray, y: np.ndarray) -> Split:
    """Coordinates on multiples of 2⁻¹⁶: the last bits of sine and cosine differ between processors."""
    x: Tensor = torch.from_numpy(np.round(points * 2**16) / 2**16).float()
    return Split(x, torch.from_numpy(y.astype(np.int64)))
