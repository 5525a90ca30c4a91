"""Data sets and what is seen of them: embedded ones, fixed for ever; subsets; pictures, counts, saved files; errors."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from data_scripts import catalogue
from gendyn_lite import data
from gendyn_lite.charts import pages as draw
from gendyn_lite.config import RunConfig
from gendyn_lite.data import gallery, loading
from gendyn_lite.errors import UserError

from . import trees


def test_digits_are_scikit_learns_scaled_and_split_for_ever():
    digits = data.load("digits")
    assert digits.train.x.shape == (1442, 1, 8, 8)
    assert digits.test.x.shape == (355, 1, 8, 8)
    assert digits.train.x.dtype == digits.test.x.dtype == torch.uint8
    assert digits.fingerprint == "f30e4f9ce7fc6226"
    every_fifth = [0] * 10
    pixels, labels = load_digits(return_X_y=True)
    splits = {False: iter(zip(*digits.train, strict=True)), True: iter(zip(*digits.test, strict=True))}
    for image, label in zip(pixels, labels, strict=True):  # the slow twin
        x, y = next(splits[every_fifth[label] % 5 == 4])
        every_fifth[label] += 1
        assert y == label
        assert x.flatten().tolist() == [int(grey * 255 / 16 + 0.5) for grey in image]


@pytest.mark.parametrize("name", ["digits", "two_moons"])
def test_statistics_are_those_of_the_whole_training_set(name):
    whole, part = data.load(name), data.load(name, train_size=20)
    scale = 255 if name == "digits" else 1
    dims = (0, 2, 3) if name == "digits" else (0,)
    std, mean = torch.std_mean(whole.train.x.double() / scale, dim=dims, correction=0)
    for item in (whole, part):
        assert item.mean == pytest.approx(mean.tolist())
        assert item.std == pytest.approx(std.tolist())
        assert item.fingerprint == whole.fingerprint
    assert torch.equal(part.test.x, whole.test.x)


@settings(max_examples=40, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=40), seed=st.integers(0, 99))
def test_every_beginning_of_the_order_is_as_balanced_as_can_be(labels, seed):
    y = torch.tensor(labels)
    order = data.balanced_order(y, seed=seed)
    assert sorted(order.tolist()) == list(range(len(y)))
    sizes = y.bincount(minlength=5)
    for size in range(len(y) + 1):
        counts = y[order[:size]].bincount(minlength=5)
        spare = counts < sizes  # a class that has not run out has at most one fewer than any other
        assert (counts[spare] >= counts.max() - 1).all()


def test_subsets_of_both_splits_are_beginnings_of_the_balanced_order():
    whole = data.load("digits")
    for size, seed in ((50, 1), (200, 1), (50, 2)):
        chosen = data.balanced_order(whole.train.y, seed=seed)[:size]
        part = data.load("digits", train_size=size, seed=seed)
        assert torch.equal(part.train.x, whole.train.x[chosen]) and torch.equal(part.train.y, whole.train.y[chosen])
    config = RunConfig(experiment="demo", train_size=100, test_size=50, label_corruption=1.0, seed=1)
    (part, _), (all_test, _) = data.load_for_run(config), data.load_for_run(config.replace(test_size=None))
    chosen = data.balanced_order(whole.test.y, seed=1)[:50]
    assert torch.equal(part.test.x, whole.test.x[chosen]) and torch.equal(part.test.y, whole.test.y[chosen])
    assert torch.equal(part.train.x, all_test.train.x)
    with pytest.raises(UserError, match="test_size is 360, expected at most 355, the test images of digits"):
        data.load_for_run(config.replace(test_size=360))


def test_changing_what_was_loaded_changes_no_later_load():
    first = data.load("digits")
    first.train.x.zero_()
    first.test.y.zero_()
    again = data.load("digits")
    assert again.train.x.any() and again.test.y.any()


def test_root_is_the_argument_then_the_environment_then_here(monkeypatch):
    monkeypatch.setenv("GENDYN_DATA", "/elsewhere")
    assert data.data_root("here") == Path("here")
    assert data.data_root() == Path("/elsewhere")
    monkeypatch.delenv("GENDYN_DATA")
    assert data.data_root() == Path("datasets")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("digit", {}, "unknown dataset 'digit': did you mean 'digits'"),
        (["digits"], {}, r"name is \['digits'\] \(list\), expected text"),
        ("mnist", {}, "run `gendyn data mnist`, or with a local copy --from PATH"),
        ("mnist", {"root": "a\0b"}, r"root is 'a\\x00b', expected the path"),
        ("mnist", {"root": 3}, "root is 3, expected the path"),
        ("folder:", {}, "folder:PATH is '', expected the path"),
        ("folder:a\0b", {}, "name is .*, expected text .* without NUL"),
        ("folder:" + "a" * 300, {}, "the name is too long"),
        ("digits", {"train_size": 0}, "train_size is 0, expected"),
        ("digits", {"train_size": 1443}, "expected at most 1442"),
        ("digits", {"train_size": 10.0}, "train_size is 10.0"),
        ("digits", {"seed": -1}, "seed is -1, expected"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_bad_input_is_named(name, options, message, tmp_path):
    with pytest.raises(UserError, match=message):
        data.load(name, **{"root": tmp_path, **options})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_no_class_is_named(label, tmp_path):
    whole = data.load("digits", train_size=1)
    odd = whole.with_train_labels(torch.tensor([label]))
    for use in (gallery.samples, gallery.class_counts, lambda odd: data.save_images(odd, tmp_path / "x")):
        with pytest.raises(UserError, match=r"labels span -?\d+ to -?\d+, expected 0 to 9 \(num_classes - 1\)"):
            use(odd)


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
    assert (len(loaded.test.y), loaded.train.y.bincount().tolist()) == (100, [150, 150])
    assert torch.equal(loaded.train.x * 2**16, (loaded.train.x * 2**16).round())
    assert loaded.fingerprint == FINGERPRINTS[name]


def pixels(uri):
    raw = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(raw)))


def test_samples_are_the_examples_that_they_say_they_are():
    digits = data.load("digits")
    rows = gallery.samples(digits, per_class=3)
    assert rows["class"].value_counts().tolist() == [12] * 10
    counts = digits.train.y.bincount()
    for row in rows[rows["kind"] == "true"].itertuples():
        assert np.array_equal(pixels(row.image), digits.train.x[row.example, 0].numpy())
        assert int(digits.train.y[row.example]) == int(row[2]) == row.row
        assert row.count == counts[row.row]
    shuffled = rows[rows["kind"] == "shuffled_pixels"].iloc[0]
    true = rows[rows["kind"] == "true"].iloc[0]
    assert sorted(pixels(shuffled["image"]).flat) == sorted(pixels(true["image"]).flat)
    assert shuffled["image"] != true["image"]


def test_samples_of_many_or_small_classes(tmp_path):
    content = trees.files([f"class {i:02}" for i in range(25)], 1, 1)
    many = data.load(f"folder:{trees.write(tmp_path, content)}")
    rows = gallery.samples(many, per_class=5, kinds=("true",))
    assert rows["class"].nunique() == len(rows) == gallery.MOST_CLASSES


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_images_load_again_to_the_bit(tmp_path, channels):
    colour = f"folder:{trees.write(tmp_path / 'source', trees.files())}"
    source = data.load("digits", train_size=60) if channels == 1 else data.load(colour)
    (tmp_path / ".a b.new" / "train" / source.class_names[0]).mkdir(parents=True)  # of a process that was killed
    again = data.load(f"folder:{data.save_images(source, tmp_path / 'a b')}")
    for part, saved in ((source.train, again.train), (source.test, again.test)):
        order = torch.argsort(part.y, stable=True)
        assert torch.equal(saved.x, part.x[order]) and torch.equal(saved.y, part.y[order])
    assert again.class_names == source.class_names


BAD = {
    "exists: choose a new folder": lambda path: data.save_images(data.load("digits"), path),
    "holds points, not images: it cannot be saved": lambda path: data.save_images(data.load("two_moons"), path / "x"),
    "holds points, not images: choose": lambda path: gallery.samples(data.load("two_moons")),
    "class '../evil' cannot name a folder": lambda path: data.save_images(
        replace(data.load("digits"), class_names=("../evil",) * 10), path / "x"
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_picture_is_named(tmp_path, message):
    with pytest.raises(UserError, match=message):
        BAD[message](tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_grid_responds_to_clicks_and_to_the_keyboard_and_an_empty_table_is_named():
    rows = gallery.samples(data.load("digits"), per_class=2)
    params = {param["name"]: param for param in draw.picture_grid(rows, name="digits").to_dict()["params"]}
    assert params["picked"]["select"]["on"] == "click"
    assert params["picked"]["bind"]["options"] == list(range(20))
    assert params["inputs"]["bind"]["options"] == list(draw.KINDS.values())
    assert params["chosen_class"]["bind"]["options"] == ["all", *map(str, range(10))]
    with pytest.raises(UserError, match="there are no pictures to draw"):
        draw.picture_grid(rows[:0], name="nothing")


def test_the_catalogue_is_complete_and_well_formed():
    for entry in catalogue.ENTRIES.values():
        for download in entry.downloads:
            assert len(bytes.fromhex(download.sha256)) == 32
            assert download.bytes > 1000
            assert len(set(download.urls)) == len(download.urls) >= 3
            assert all(download.file in url for url in download.urls)
    assert len(catalogue.table()) == len(catalogue.ENTRIES)
