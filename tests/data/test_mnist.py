"""MNIST from IDX files: the right bytes in every form, and what each wrong one is called."""

from __future__ import annotations

import gzip
import hashlib

import numpy as np
import pytest

from data_scripts import originals
from data_scripts.cli import prepare
from gendyn_lite import data
from gendyn_lite.errors import UserError

from . import trees

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
def test_every_form_gives_the_same_data(tmp_path, arrays, form):
    prepare("mnist", tmp_path / "data", source=stored(tmp_path / "copy", arrays, *FORMS[form]))
    loaded = data.load("mnist", root=tmp_path / "data")
    found = (loaded.train.x[:, 0], loaded.train.y, loaded.test.x[:, 0], loaded.test.y)
    assert all(map(np.array_equal, found, arrays.values()))
    assert loaded.description == "MNIST"
    assert loaded.fingerprint == "722a1526c70fc29a"


FIRST = "train-images-idx3-ubyte"


WRONG = {
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


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_file_is_named_and_nothing_is_prepared(tmp_path, arrays, wrong):
    change, message = WRONG[wrong]
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
