"""Corrupted labels and randomized inputs: what is kept, what is drawn apart, and that chunks do not show."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data import draws
from gendyn_lite.errors import UserError
from tests.measures.networks import refused

LABELS = torch.arange(10_000) % 10
KINDS = ["shuffled_pixels", "random_pixels", "gaussian"]


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
def test_corruption_is_nested_in_the_fraction_and_in_the_set_and_leaves_its_input(n, classes, seed, fractions):
    y = torch.arange(n) % classes
    before = y.clone()
    (less, few), (more, many) = (data.corrupt_labels(y, q, num_classes=classes, seed=seed) for q in fractions)
    assert torch.equal(y, before)
    assert not (few & ~many).any()
    assert torch.equal(less[few], more[few])
    assert ((more >= 0) & (more < classes)).all() and more.dtype == torch.int64
    part, _ = data.corrupt_labels(y[: n // 2], fractions[1], num_classes=classes, seed=seed)
    assert torch.equal(part, more[: n // 2])


def test_test_labels_stay_and_the_mask_is_returned():
    clean = data.load("digits")
    corrupted, redrawn = data.load_for_run(RunConfig(experiment="x", label_corruption=1.0))
    assert torch.equal(corrupted.test.y, clean.test.y)
    assert torch.equal(corrupted.train.x, clean.train.x)
    assert redrawn.shape == clean.train.y.shape
    assert not torch.equal(corrupted.train.y, clean.train.y)
    assert corrupted.fingerprint == clean.fingerprint


def images(n=6, channels=3, side=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, side, side + 1), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_move_whole(kind, channels):
    x = images(channels=channels)
    out = data.randomize_inputs(x, kind, seed=1)
    for before, after in zip(x, out, strict=True):
        pixels = [sorted(map(tuple, image.flatten(1).T.tolist())) for image in (before, after)]
        assert pixels[0] == pixels[1]
    assert not torch.equal(x, out)


def test_shuffled_pixels_is_one_permutation_for_all_and_for_both_splits():
    places = torch.arange(30, dtype=torch.uint8).reshape(1, 1, 5, 6).expand(4, 3, 5, 6)
    train = data.randomize_inputs(places, "shuffled_pixels", seed=2)
    test = data.randomize_inputs(places, "shuffled_pixels", seed=2, split="test")
    assert (train == train[0, 0]).all()
    assert torch.equal(train, test)


def test_random_pixels_is_a_fresh_permutation_for_each_image():
    places = torch.arange(30, dtype=torch.uint8).reshape(1, 1, 5, 6).expand(200, 1, 5, 6)
    out = data.randomize_inputs(places, "random_pixels", seed=2)
    assert len(set(map(tuple, out.flatten(1).tolist()))) == 200
    # Uniform: each place receives each pixel 200/30 times; chi-squared, 29 degrees of freedom, p = 0.001.
    counts = torch.bincount(out[:, 0, 0, 0].long(), minlength=30).double()
    assert ((counts - 200 / 30) ** 2 / (200 / 30)).sum() < 58.3


@pytest.mark.parametrize("kind", KINDS[1:])
def test_training_and_test_images_are_drawn_apart(kind):
    x = images()
    train, test = (data.randomize_inputs(x, kind, seed=0, split=split) for split in ("train", "test"))
    assert not any(torch.equal(a, b) for a in train for b in test)


def test_gaussian_noise_has_the_given_moments_in_each_channel():
    mean, std = (0.4, 0.5, 0.6), (0.05, 0.1, 0.12)
    out = data.randomize_inputs(images(n=300, side=20), "gaussian", seed=0, mean=mean, std=std).double() / 255
    got_std, got_mean = torch.std_mean(out, dim=(0, 2, 3), correction=0)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (mean, std))
    assert ((got_mean - mean).abs() < 4 * std / math.sqrt(out.numel() / 3)).all()
    assert ((got_std - std).abs() < 0.01 * std).all()
    flat = out.flatten(1)
    assert abs(torch.corrcoef(torch.stack([flat[:-1, 0], flat[1:, 0]]))[0, 1]) < 4 / math.sqrt(300)


@pytest.mark.parametrize("kind", KINDS)
def test_result_depends_on_seed_and_image_only(kind, monkeypatch):
    x, moments = images(n=7), {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    whole = data.randomize_inputs(x, kind, seed=4, **moments)
    assert torch.equal(whole[:3], data.randomize_inputs(x[:3], kind, seed=4, **moments))
    assert not torch.equal(whole, data.randomize_inputs(x, kind, seed=5, **moments))
    monkeypatch.setattr(draws, "CHUNK", 2)
    assert torch.equal(whole, data.randomize_inputs(x, kind, seed=4, **moments))


@pytest.mark.parametrize("kind", KINDS)
def test_randomize_does_both_splits_once_and_records_it(kind):
    digits = data.load("digits")
    before = digits.train.x.clone()
    out = data.randomize(digits, kind, seed=0)
    assert out.inputs == kind
    assert data.randomize(out, kind, seed=0) is out
    assert torch.equal(digits.train.x, before)
    for part, old in ((out.train, digits.train), (out.test, digits.test)):
        assert not torch.equal(part.x, old.x) and torch.equal(part.y, old.y)
    with pytest.raises(UserError, match=f"inputs of digits are '{kind}' already"):
        data.randomize(out, "true", seed=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_channel_statistics_equal_the_obvious(channels):
    x = images(channels=channels)
    std, mean = torch.std_mean(x.double() / 255, dim=(0, 2, 3), correction=0)
    got_mean, got_std = data.channel_statistics(x)
    assert got_mean == pytest.approx(mean.tolist(), rel=1e-12)
    assert got_std == pytest.approx(std.tolist(), rel=1e-12)


X, Y = images(), torch.arange(5)
LABELLED, DRAWN = {"seed": 0, "num_classes": 5}, {"seed": 0}
MISTAKES = [
    (data.corrupt_labels, (Y, 1.5), LABELLED, r"fraction is 1.5, expected a number in \[0, 1\]"),
    (data.corrupt_labels, (Y, float("nan")), LABELLED, "fraction is nan"),
    (data.corrupt_labels, (Y, "half"), LABELLED, r"fraction is 'half' \(str\), expected a number"),
    (data.corrupt_labels, (Y, 0.5), {**LABELLED, "seed": -1}, "seed is -1, expected a whole number"),
    (data.corrupt_labels, (Y, 0.5), {**LABELLED, "num_classes": 3}, "labels span 0 to 4, expected 0 to 2"),
    (data.corrupt_labels, (torch.zeros(3), 0.5), LABELLED, r"labels are torch.float32 \[3\], expected int64"),
    (data.randomize_inputs, (X, "shufled_pixels"), DRAWN, "did you mean 'shuffled_pixels'"),
    (data.randomize_inputs, (X, "gaussian"), {**DRAWN, "split": "val"}, "unknown split 'val'"),
    (data.randomize_inputs, (X, "gaussian"), {"seed": -1}, "seed is -1"),
    (data.randomize_inputs, (X, "gaussian"), {**DRAWN, "mean": (0.5,)}, "expected 3 numbers"),
    (data.randomize_inputs, (torch.zeros(4, 2), "gaussian"), DRAWN, r"needs images.*float32 \[4, 2\]"),
]
test_bad_input_is_named = refused({row[-1]: row for row in MISTAKES})
