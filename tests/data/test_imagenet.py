"""ImageNet's form: an image folder that stays where it is and is read by worker processes."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from data_scripts import images
from data_scripts.cli import prepare
from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data.decoding import FolderImages, Pool
from gendyn_lite.decode import Item, Options
from gendyn_lite.errors import UserError

from . import trees
from .trees import main

CLASSES = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def folder(tmp_path):
    content = {}
    for i, name in enumerate(trees.files(CLASSES, 4, 2, "jpg")):
        image = trees.picture(seed=i, size=(300 + 10 * i, 280), mode="L" if i == 1 else "RGB")
        content[name.replace("test/", "val/").replace(".jpg", ".JPEG")] = trees.encoded(image, "JPEG")
    return trees.write(tmp_path / "ILSVRC" / "Data", content)


@pytest.fixture
def root(tmp_path, folder):
    """Where `folder` is registered."""
    prepare("imagenet", tmp_path / "data", source=folder)
    return tmp_path / "data"


@pytest.fixture
def loaded(root):
    return data.load("imagenet", root=root)


def expected(path):
    """Resize 256, centre crop 224, as plainly as it can be written."""
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224))).transpose(2, 0, 1)


def test_images_are_read_when_they_are_asked_for(root, folder, loaded):
    assert loaded.description == "ImageNet, a part (3 classes, 12 train and 6 test images)"
    assert loaded.class_names == CLASSES
    assert loaded.train.x.shape == (12, 3, 224, 224)
    names = np.array(sorted(folder.glob("train/*/*")))
    for pick in (slice(2, 9, 3), torch.tensor([5, 0, 5]), [1]):
        images = loaded.train.x[pick]
        assert images.dtype == torch.uint8
        for image, name in zip(images, names[pick if isinstance(pick, slice) else np.asarray(pick)], strict=True):
            assert np.array_equal(image.numpy(), expected(name))
    assert np.array_equal(loaded.test.x[0].numpy(), expected(min(folder.glob("val/*/*"))))
    assert {path.name for path in (root / "imagenet").glob("*.npy")} == {"train_labels.npy", "test_labels.npy"}


def test_the_batcher_streams_it_and_subsets_stay_in_the_folder(root, loaded):
    part = data.load("imagenet", root=root, train_size=6)
    assert isinstance(part.train.x, FolderImages)
    assert part.train.y.bincount().tolist() == [2, 2, 2]
    config = RunConfig(experiment="x", batch_size=4, flip=True, random_crop=8)
    memory = replace(part, train=data.Split(part.train.x[:], part.train.y))
    found, expected = (list(data.batcher(images, config).epoch(0)) for images in (part, memory))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert part.fingerprint == loaded.fingerprint
    with pytest.raises(UserError, match="needs images in memory; these are read from their folder"):
        data.randomize(loaded, "gaussian", seed=0)


def test_the_set_is_the_same_in_another_place(tmp_path, monkeypatch, root, folder, loaded):
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"the images of imagenet were in .*ILSVRC.*, which is missing"):
        data.load("imagenet", root=root)
    monkeypatch.setattr(images, "COUNTS", {"train": 12, "test": 6})
    monkeypatch.setattr(images, "CLASSES", 3)
    prepare("imagenet", root, source=tmp_path / "elsewhere")
    again = data.load("imagenet", root=root)
    assert (again.fingerprint, again.description) == (loaded.fingerprint, "ImageNet")


def test_a_missing_or_unreadable_image_is_named_when_it_is_read(folder, loaded):
    names = sorted(folder.glob("train/*/*"))
    names[3].unlink()
    names[4].write_bytes(names[4].read_bytes()[:500])
    loaded.train.x[:3]
    with pytest.raises(UserError, match=rf"{names[3].name} cannot be read: No such file"):
        loaded.train.x[3]
    with pytest.raises(UserError, match=rf"{names[4].name} is truncated or damaged"):
        loaded.train.x[[0, 4]]
    loaded.train.x[5]  # the workers go on


def test_verify_finds_what_has_changed(root, folder, capsys):
    verify = ["--verify", "imagenet", "--root", str(root)]
    assert main(verify) == 0
    name = min(folder.glob("train/*/*"))
    raw = bytearray(name.read_bytes())
    raw[: len(raw) // 2] = bytes(len(raw) // 2)
    name.write_bytes(raw)
    assert main(verify) == 2
    assert f"{name.name} cannot be read as an image" in capsys.readouterr().err
    name.unlink()
    assert main(verify) == 2
    assert "has changed since it was registered" in capsys.readouterr().err


WRONG = {
    f"train/{CLASSES[0]}/0000.JPEG": (b"", r"0000\.JPEG is empty"),
    "val/1.JPEG": (b"x", r"val/1\.JPEG is not in a class folder"),
    f"train/{CLASSES[0]}/a\nb.JPEG": (b"x", "the file name contains a line break: rename it"),
}


@pytest.mark.parametrize("changed", WRONG)
def test_a_wrong_folder_is_named(tmp_path, folder, changed):
    content, message = WRONG[changed]
    (folder / changed).write_bytes(content)
    with pytest.raises(UserError, match=message):
        prepare("imagenet", tmp_path / "data", source=folder)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".imagenet.lock"]


def test_a_folder_of_other_classes_is_not_called_imagenet(tmp_path):
    pets = trees.write(tmp_path / "pets", trees.files(("cat", "dog"), 2, 1))
    with pytest.raises(
        UserError, match=r"has the class 'cat', expected ImageNet's .*: load your own images as folder:"
    ):
        prepare("imagenet", tmp_path / "data", source=pets)
    prepare("imagenet", tmp_path / "data", source=pets, description="Cats and dogs")
    assert data.load("imagenet", root=tmp_path / "data").description == "Cats and dogs"


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_give_the_same_pixels_as_this_process_and_one_that_dies_is_told_and_replaced(tmp_path, workers):
    content = trees.files(("a",), 7, 0)
    trees.write(tmp_path, content)
    items = [Item(str(tmp_path / name), name) for name in content]
    pool, out = Pool(workers), torch.empty(7, 3, 5, 6, dtype=torch.uint8)
    for worker in [None, *range(workers)]:
        if worker is not None:
            pool._started[worker].kill()
            pool._started[worker].wait()
            with pytest.raises(UserError, match=r"a worker process ended while it decoded train/a/000\d\.png … train"):
                pool.decode(items, Options(3, (5, 6)), out)
        pool.decode(items, Options(3, (5, 6)), out.zero_())
        for image, raw in zip(out, content.values(), strict=True):
            assert np.array_equal(image.numpy(), np.asarray(Image.open(io.BytesIO(raw))).transpose(2, 0, 1))
