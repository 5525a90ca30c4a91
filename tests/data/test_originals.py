"""MNIST and CIFAR from every form of their makers' files, CIFAR from image trees: called by their true names only."""

from __future__ import annotations

import gzip
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


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
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


def pickled(content):
    return pickle.dumps(content, protocol=3)


def labelled(labels):
    return trees.python_batch(GOOD[0][: len(labels)], labels)


REFUSED = {
    "code": (pickled({"data": [Evil()]}), r"is refused: it asks for (posix|nt)\.system"),
    "other numpy": (pickled(np.random.default_rng), "is refused: it asks for numpy"),
    "objects": (pickled({"data": np.array([Evil()], dtype=object)}), "is refused"),
    "floats": (trees.python_batch(GOOD[0].astype(np.float32), GOOD[1]), "not one of unsigned bytes"),
    "label below 0": (labelled([-1] * 7), "has labels -1 to -1, expected 0 to 9"),
    "nested labels": (labelled([[0]] * 7), "is refused: its labels are not a list of whole numbers"),
    "no images": (labelled([]), "contains no images: get a fresh copy"),
    "cut": (trees.python_batch(*GOOD)[:-10], "is (damaged|refused)"),
    "empty": (b"", "is damaged or not a CIFAR batch"),
    "no array": (pickled({b"data": [1], b"labels": [1]}), "is damaged or not a CIFAR batch"),
    "label out of range": (labelled([0, 10]), "has labels 0 to 10, expected 0 to 9"),
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


def tree(classes=trees.CIFAR10, extension="jpg", **options):
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


COUNTS = {"train": 6, "t10k": 4}


@pytest.fixture
def arrays(monkeypatch):
    """A tiny MNIST: the real one's names, with other shapes and checksums."""
    made = {}
    for file, (real, _) in originals.IDX_FILES.items():
        shape = (COUNTS[file.split("-")[0]], *real[1:])
        values = np.arange(np.prod(shape)) * 37 % (251 if len(shape) == 3 else 10)
        made[file] = values.astype(np.uint8).reshape(shape)
    digests = {file: (a.shape, hashlib.sha256(trees.idx(a)).hexdigest()) for file, a in made.items()}
    monkeypatch.setattr(originals, "IDX_FILES", digests)
    return made


def stored(folder, arrays, name="{}", pack=lambda raw: raw):
    return trees.write(folder, {name.format(file): pack(trees.idx(array)) for file, array in arrays.items()})


FORMS = {
    "plain": ("{}", bytes),
    "gzipped": ("{}.gz", gzip.compress),
    "gzipped without the extension": ("{}", gzip.compress),
    "torchvision's folders": ("MNIST/raw/{}", bytes),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_mnist_gives_the_same_data(tmp_path, arrays, form):
    prepare("mnist", tmp_path / "data", source=stored(tmp_path / "copy", arrays, *FORMS[form]))
    loaded = data.load("mnist", root=tmp_path / "data")
    found = (loaded.train.x[:, 0], loaded.train.y, loaded.test.x[:, 0], loaded.test.y)
    assert all(map(np.array_equal, found, arrays.values()))
    assert loaded.description == "MNIST"
    assert loaded.fingerprint == "722a1526c70fc29a"


FIRST = "train-images-idx3-ubyte"
WRONG_IDX = {
    "truncated": (lambda raw: raw[:-5], "is truncated: 4715 bytes, expected 4720"),
    "too long": (lambda raw: raw + b"x", "is longer than MNIST's, expected 4720"),
    "one flipped bit": (
        lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
        "is altered or not MNIST: its SHA-256 is not",
    ),
    "empty": (lambda raw: b"", "is truncated: 0 bytes, expected 4720"),
    "cut gzip": (lambda raw: gzip.compress(raw)[:-20], r"is truncated or damaged \(broken gzip data\)"),
    "no gzip": (lambda raw: b"\x1f\x8b" + raw, r"is truncated or damaged \(broken gzip data\)"),
    "bomb": (lambda raw: gzip.compress(bytes(50_000_000)), "is longer than MNIST's"),
}


@pytest.mark.parametrize("wrong", WRONG_IDX)
def test_a_wrong_file_is_named_and_nothing_is_prepared(tmp_path, arrays, wrong):
    change, message = WRONG_IDX[wrong]
    copy = stored(tmp_path / "copy", arrays)
    (copy / FIRST).write_bytes(change((copy / FIRST).read_bytes()))
    with pytest.raises(UserError, match=rf"{FIRST} {message}"):
        prepare("mnist", tmp_path / "data", source=copy)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".mnist.lock"]
    with pytest.raises(UserError, match="mnist is not prepared"):
        data.load("mnist", root=tmp_path / "data")


def test_a_missing_file_or_folder_is_named(tmp_path, arrays):
    copy = stored(tmp_path / "copy", arrays)
    (copy / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="copy has t10k-images-idx3-ubyte but no t10k-labels-idx1-ubyte: get"):
        prepare("mnist", tmp_path / "data", source=copy)
    with pytest.raises(UserError, match="nothing is not MNIST: expected the four IDX files"):
        prepare("mnist", tmp_path / "data", source=trees.write(tmp_path / "nothing", {"a": b""}))
