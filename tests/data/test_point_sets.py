"""Two-class point sets: balanced, on a fixed grid, and of the topology that they are named for."""

from __future__ import annotations

import math

import pytest
import torch

from gendyn_lite import data
from gendyn_lite.data import loading

# The hash of all points: the same on every machine.
FINGERPRINTS = {
    "two_moons": "a8613f0f88e85190",
    "rings": "780d61693a9c7af8",
    "spirals": "76cef99882788023",
    "nested_rings": "9aabd98e665955db",
    "linked_rings": "bf026805b63510d5",
}


@pytest.mark.parametrize("name", loading.POINT_SETS)
def test_a_point_set_is_balanced_and_on_a_fixed_grid(name):
    loaded = data.load(name)
    width = 3 if name == "linked_rings" else 2
    assert loaded.train.x.shape == (300, width)
    assert loaded.test.x.shape == (100, width)
    assert loaded.train.x.dtype == torch.float32
    assert loaded.train.y.bincount().tolist() == [150, 150]
    assert torch.equal(loaded.train.x * 2**16, (loaded.train.x * 2**16).round())
    assert loaded.fingerprint == FINGERPRINTS[name]


@pytest.mark.parametrize("name", loading.POINT_SETS)
def test_neighbours_share_a_class_and_no_line_divides_the_classes(name):
    """A nearest neighbour gets nearly every test point, a linear model does not."""
    loaded = data.load(name)
    nearest = torch.cdist(loaded.test.x, loaded.train.x).argmin(1)
    assert (loaded.train.y[nearest] == loaded.test.y).float().mean() > 0.95
    x = torch.cat([loaded.train.x, torch.ones(300, 1)], 1).double()
    target = 2.0 * loaded.train.y.double() - 1
    weights = torch.linalg.lstsq(x, target[:, None]).solution[:, 0]
    assert (x @ weights * target > 0).double().mean() < 0.9


def test_the_linked_rings_are_linked():
    """The core of the upright ring passes through the disk that the flat one spans, once."""
    x, y = loading.points("linked_rings", 4000, seed=0)
    flat, upright = x[y == 0], x[y == 1]
    assert flat[:, 2].abs().max() < 0.21
    assert upright[:, 1].abs().max() < 0.21
    crossing = upright[upright[:, 2].abs() < 0.05]
    inside = crossing[:, :2].norm(dim=1) < 0.55
    assert inside.any() and (~inside).any()
    assert torch.cdist(flat, upright).min() > 0.3
    assert math.isclose(float(upright[:, 0].mean()), 0.75, abs_tol=0.05)
