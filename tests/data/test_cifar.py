"""CIFAR from every form of the original and from image trees, called by its true name only."""

from __future__ import annotations

import hashlib
import os
import pickle

import numpy as np
import pytest

from data_scripts import originals
from data_scripts.cli import prepare
from gendyn_lite import data
from gendyn_lite.errors import UserError

from . import trees

NAMES = ("cifar10", "cifar100")


def batch(seed, count, classes):
    random = np.random.default_rng(seed)
    x = random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    return x, random.integers(0, classes, count).tolist()


def files(name):
    """The files of a tiny original, and its pixels and labels by split."""
    family = originals.FAMILIES[name]
    content, expected = {}, {}
    for split, names in (("train", family.train), ("test", family.test)):
        parts = [batch(len(content) + i, 7 + i, len(family.class_names)) for i in range(len(names))]
        for file, (x, y) in zip(names, parts, strict=True):
            content[f"some-folder/{file}"] = trees.python_batch(x, y, family.key.encode())
        expected[split] = np.concatenate([x for x, _ in parts]), [label for _, y in parts for label in y]
    return content, expected


def known(monkeypatch, name, content):
    """Take these files for the original: put their checksums into the table."""
    family = originals.FAMILIES[name]
    digests = {path.rsplit("/", 1)[-1]: hashlib.md5(raw).hexdigest() for path, raw in content.items()}
    train, test = ({file: digests[file] for file in split} for split in (family.train, family.test))
    monkeypatch.setitem(originals.FAMILIES, name, family._replace(train=train, test=test))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["archive", "folder"])
def test_the_original_in_every_form(tmp_path, monkeypatch, name, form):
    content, expected = files(name)
    known(monkeypatch, name, content)
    copy = trees.tar(tmp_path / "c", content, "w:gz") if form == "archive" else trees.write(tmp_path / "c", content)
    prepare(name, tmp_path / "data", source=copy)
    loaded = data.load(name, root=tmp_path / "data")
    for part, (x, y) in ((loaded.train, expected["train"]), (loaded.test, expected["test"])):
        assert np.array_equal(part.x.numpy(), x) and part.y.tolist() == y
    title, first = {"cifar10": ("CIFAR-10", "airplane"), "cifar100": ("CIFAR-100", "apple")}[name]
    assert (loaded.description, loaded.class_names[0]) == (title, first)


def test_an_altered_batch_needs_a_description(tmp_path):
    copy = trees.write(tmp_path / "copy", files("cifar10")[0])
    with pytest.raises(UserError, match=r"data_batch_1 is altered or not CIFAR-10's.*--description"):
        prepare("cifar10", tmp_path / "data", source=copy)
    prepare("cifar10", tmp_path / "data", source=copy, description="CIFAR-10 (made up)")
    assert data.load("cifar10", root=tmp_path / "data").description == "CIFAR-10 (made up)"


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil-was-here",)


GOOD = batch(0, 7, 10)


def with_labels(labels):
    """A batch as Python 3 writes it, with any labels."""
    pixels = GOOD[0].reshape(len(GOOD[0]), -1)[: len(labels)]
    return pickle.dumps({b"data": pixels, b"labels": labels}, protocol=3)


def pickled(content):
    return pickle.dumps(content, protocol=2)


REFUSED = {
    "code": (pickled(Evil()), r"is refused: it asks for (posix|nt)\.system"),
    "code inside": (pickled({"data": [Evil()]}), "is refused: it asks for"),
    "other numpy": (pickled(np.random.default_rng), "is refused: it asks for numpy"),
    "objects": (pickled({"data": np.array([Evil()], dtype=object)}), "is refused"),
    "floats": (trees.python_batch(GOOD[0].astype(np.float32), GOOD[1]), "not one of unsigned bytes"),
    "label below 0": (with_labels([-1] * 7), "has labels -1 to -1, expected 0 to 9"),
    "half labels": (with_labels([0.5] * 7), "is refused: its labels are not a list of whole numbers"),
    "nested labels": (with_labels([[0]] * 7), "is refused: its labels are not a list of whole numbers"),
    "no images": (with_labels([]), "holds no images: get a fresh copy"),
    "cut": (trees.python_batch(*GOOD)[:-10], "is (damaged|refused)"),
    "empty": (b"", "is damaged or not a CIFAR batch"),
    "other content": (pickled({"data": 1}), "is damaged or not a CIFAR batch"),
    "no array": (pickle.dumps({b"data": [1], b"labels": [1]}, protocol=3), "is damaged or not a CIFAR batch"),
    "label out of range": (trees.python_batch(GOOD[0], [*GOOD[1][:-1], 10]), "has labels"),
    "grey": (trees.python_batch(GOOD[0][:, :1], GOOD[1]), "is damaged or not a CIFAR batch"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_wrong_or_evil_batch_is_refused_and_not_run(tmp_path, monkeypatch, kind):
    content, message = REFUSED[kind]
    monkeypatch.chdir(tmp_path)
    good, _ = files("cifar10")
    good[next(iter(good))] = content
    with pytest.raises(UserError, match=rf"data_batch_1.* {message}"):
        prepare("cifar10", tmp_path / "data", source=trees.write(tmp_path / "c", good), description="x")
    assert not (tmp_path / "evil-was-here").exists()


def tree(classes=originals.FAMILIES["cifar10"].class_names, extension="jpg", **options):
    return trees.files(classes, 2, 1, extension, **{"size": (32, 32), **options})


@pytest.mark.parametrize(("extension", "called"), [("jpg", "JPEG q75"), ("png", "PNG")])
def test_an_image_tree_is_called_what_its_images_are(tmp_path, extension, called):
    prepare("cifar10", tmp_path / "data", source=trees.tar(tmp_path / "set.tar.xz", tree(extension=extension)))
    expected = f"CIFAR-10 ({called}, 20 train and 10 test images)"
    assert data.load("cifar10", root=tmp_path / "data").description == expected


def test_a_known_copy_is_recognized_and_a_description_wins(tmp_path, monkeypatch):
    archive = trees.tar(tmp_path / "set.tar.xz", tree())
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(originals.KNOWN_COPIES, digest, "CIFAR-10 (a known copy)")
    prepare("cifar10", tmp_path / "data", source=archive)
    first = data.load("cifar10", root=tmp_path / "data")
    assert first.description == "CIFAR-10 (a known copy)"
    prepare("cifar10", tmp_path / "data", source=archive, description="CIFAR-10 (mine)")
    again = data.load("cifar10", root=tmp_path / "data")
    assert again.description == "CIFAR-10 (mine)"
    assert again.fingerprint == first.fingerprint


OTHERS = {
    "other classes": (tree(("cat", "dog")), r"has 2 classes that are not CIFAR-10's 10 .*folder:"),
    "other size": (tree(size=(31, 32)), r"has 32x31 pixels, expected 32x32"),
    "no images": ({"readme.txt": b"x"}, r"is not CIFAR-10: expected data_batch_1, .* or an image tree"),
    "one batch only": ({"a/data_batch_1": b"x"}, "has data_batch_1 but no data_batch_2"),
}


@pytest.mark.parametrize(("content", "message"), OTHERS.values(), ids=OTHERS)
def test_what_is_not_cifar_is_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        prepare("cifar10", tmp_path / "data", source=trees.write(tmp_path / "c", content))
