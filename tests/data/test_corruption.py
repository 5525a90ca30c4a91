"""Label corruption: exact counts, nestedness, reproducibility, untouched inputs, messages."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data import draws
from gendyn_lite.errors import UserError

LABELS = torch.arange(10_000) % 10


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_counts_are_those_of_the_uniform_numbers(fraction):
    labels, redrawn = data.corrupt_labels(LABELS, fraction, num_classes=10, seed=3)
    expected = sum(u < fraction for u in draws.uniform(10_000, 3, draws.LABELS, 0))  # the slow twin
    assert redrawn.sum().item() == expected
    assert abs(expected - 10_000 * fraction) < 4 * (10_000 * fraction * (1 - fraction)) ** 0.5 + 1e-9
    assert torch.equal(labels[~redrawn], LABELS[~redrawn])


def test_redrawn_labels_are_uniform_over_all_classes_the_true_one_included():
    labels, redrawn = data.corrupt_labels(LABELS, 1.0, num_classes=10, seed=0)
    assert redrawn.all()
    counts = torch.bincount(labels, minlength=10).double()
    assert ((counts - 1000) ** 2 / 1000).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert abs((labels == LABELS).double().mean() - 0.1) < 4 * (0.09 / 10_000) ** 0.5


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(0, 60),
    classes=st.integers(1, 12),
    seed=st.integers(0, 2**31 - 1),
    fractions=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_corruption_is_nested_and_leaves_its_input(n, classes, seed, fractions):
    y = torch.arange(n) % classes
    before = y.clone()
    (less, few), (more, many) = (data.corrupt_labels(y, q, num_classes=classes, seed=seed) for q in fractions)
    assert torch.equal(y, before)
    assert not (few & ~many).any()
    assert torch.equal(less[few], more[few])
    assert ((more >= 0) & (more < classes)).all()
    assert more.dtype == torch.int64


def test_a_prefix_is_corrupted_as_within_the_whole():
    whole, _ = data.corrupt_labels(LABELS, 0.3, num_classes=10, seed=5)
    part, _ = data.corrupt_labels(LABELS[:100], 0.3, num_classes=10, seed=5)
    assert torch.equal(part, whole[:100])


def test_test_labels_stay_and_the_mask_is_returned():
    clean = data.load("digits")
    corrupted, redrawn = data.load_for_run(RunConfig(experiment="x", label_corruption=1.0))
    assert torch.equal(corrupted.test.y, clean.test.y)
    assert torch.equal(corrupted.train.x, clean.train.x)
    assert redrawn.shape == clean.train.y.shape
    assert not torch.equal(corrupted.train.y, clean.train.y)
    assert corrupted.fingerprint == clean.fingerprint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 1.5}, r"fraction is 1.5, expected a number in \[0, 1\]"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"fraction": "half"}, r"fraction is 'half' \(str\), expected a number"),
        ({"seed": -1}, "seed is -1, expected a whole number"),
        ({"num_classes": 3}, "labels span 0 to 4, expected 0 to 2"),
        ({"y": torch.zeros(3)}, r"labels are torch.float32 \[3\], expected int64"),
    ],
    ids=str,
)
def test_bad_input_is_named(arguments, message):
    arguments = {"y": torch.arange(5), "fraction": 0.5, "num_classes": 5, "seed": 0, **arguments}
    with pytest.raises(UserError, match=message):
        data.corrupt_labels(arguments.pop("y"), arguments.pop("fraction"), **arguments)
