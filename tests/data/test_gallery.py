"""The page on data: pictures and counts as tables, charts of them, and files that load again."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from data_scripts import catalogue
from gendyn_lite import data
from gendyn_lite.charts import pages as draw
from gendyn_lite.data import gallery
from gendyn_lite.errors import UserError

from . import trees


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
    "two_moons holds points, not images: it": lambda path: data.save_images(data.load("two_moons"), path / "x"),
    "two_moons holds points, not images: there": lambda path: gallery.samples(data.load("two_moons")),
    "class '../evil' cannot name a folder": lambda path: data.save_images(
        replace(data.load("digits"), class_names=("../evil",) * 10), path / "x"
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(tmp_path, message):
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
