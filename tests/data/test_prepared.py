"""The prepared form: mapped and shared, whole or absent, and every alteration noticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from data_scripts.cli import prepare
from gendyn_lite import data
from gendyn_lite.data import prepared, storage
from gendyn_lite.errors import UserError

from . import trees

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ready(tmp_path):
    """A prepared set of one's own: (name, root, its folder)."""
    prepare("folder:pets", tmp_path / "data", source=trees.write(tmp_path / "pets", trees.files()))
    (folder,) = [path for path in (tmp_path / "data").iterdir() if path.is_dir()]
    return "folder:pets", tmp_path / "data", folder


def test_the_record_says_what_it_is(ready):
    record = json.loads((ready[2] / "data.json").read_text(encoding="utf-8"))
    assert record["class_names"] == ["cat", "dog"]
    assert record["counts"] == {"train": [3, 3], "test": [2, 2]}
    assert record["shape"] == [3, 5, 6]
    loaded = data.load(ready[0], root=ready[1])
    assert loaded.mean == tuple(record["mean"]) == data.channel_statistics(loaded.train.x)[0]
    assert str(ready[1]) not in json.dumps(record)


def test_loading_maps_and_a_change_in_memory_stays_there(ready):
    first, second = (data.load(ready[0], root=ready[1]) for _ in range(2))
    before = second.train.x.clone()
    first.train.x.fill_(7)
    assert torch.equal(second.train.x, before)
    prepared.verify(ready[2])


def test_loading_does_not_read_the_images(tmp_path):
    """A gigabyte of images, a hole in the file, loads at once and takes no memory."""
    folder = tmp_path / "big"
    folder.mkdir()
    for split, count in (("train", 300_000), ("test", 10)):
        np.lib.format.open_memmap(folder / f"{split}.npy", mode="w+", dtype=np.uint8, shape=(count, 3, 32, 32))
        np.save(folder / f"{split}_labels.npy", np.zeros(count, dtype=np.int64))
    record = {
        "format": 1, "name": "big", "description": "big", "class_names": ["a", "b"], "shape": [3, 32, 32],
        "counts": {"train": [300_000, 0], "test": [10, 0]}, "mean": [0.0] * 3, "std": [0.0] * 3, "fingerprint": "0",
        "files": {file: {"bytes": (folder / file).stat().st_size} for file in prepared.FILES}, "source": {},
    }  # fmt: skip
    prepared.write_record(folder, record)
    start = time.perf_counter()
    assert prepared.read(folder, name="big").train.x.shape == (300_000, 3, 32, 32)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda f: (f / "train.npy").write_bytes(b"x"), r"train\.npy has 1 bytes, expec", id="cut array"),
        pytest.param(lambda f: (f / "test_labels.npy").unlink(), r"test_labels\.npy: No such", id="missing labels"),
        pytest.param(lambda f: (f / "data.json").write_text("{"), r"data\.json cannot be read", id="broken record"),
        pytest.param(lambda f: (f / "data.json").write_text("[]"), r"data\.json cannot be read", id="no record"),
        pytest.param(lambda f: (f / "data.json").write_text("{}"), r"has no valid 'format'", id="empty record"),
        pytest.param(
            lambda f: (f / "data.json").write_text((f / "data.json").read_text().replace('"format": 1', '"format": 2')),
            "has format 2, expected 1",
            id="other format",
        ),
        pytest.param(
            lambda f: (f / "data.json").write_text((f / "data.json").read_text().replace("[5, 6]", "[5, 7]")
                                                   .replace('"shape": [3, 5, 6]', '"shape": [3, 6, 5]')),
            "unlike its record",
            id="other shape",
        ),
    ],
)  # fmt: skip
def test_damage_is_named_when_loading(ready, damage, message):
    damage(ready[2])
    with pytest.raises(UserError, match=rf"{message}.*prepare it again with `gendyn data"):
        data.load(ready[0], root=ready[1])


@pytest.mark.parametrize("file", [*prepared.FILES, "data.json"])
def test_one_flipped_bit_is_found_by_verify(ready, file):
    path = ready[2] / file
    prepared.verify(ready[2])
    if file == "data.json":
        text = path.read_text()
        digest = json.loads(text)["fingerprint"]
        path.write_text(text.replace(digest, digest[::-1]))
    else:
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
    with pytest.raises(UserError, match="was altered"):
        prepared.verify(ready[2])


def test_replacing_is_all_or_nothing(tmp_path):
    target = tmp_path / "set"
    with storage.replacing(target) as new:
        (new / "a").write_text("1")
        assert not target.exists()
    with pytest.raises(RuntimeError), storage.replacing(target) as new:
        (new / "a").write_text("2")
        raise RuntimeError
    assert (target / "a").read_text() == "1"
    with storage.replacing(target) as new:
        (new / "b").write_text("3")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_a_killed_process_left_is_not_taken_for_complete_and_is_removed(tmp_path):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from gendyn_lite.data import storage\n"
        "with storage.replacing(Path(sys.argv[1])) as new:\n"
        "    (new / 'data.json').write_text('{}')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    target = tmp_path / "mnist"
    subprocess.run([sys.executable, "-c", code, str(target)], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".mnist.aside-new-")
    with pytest.raises(UserError, match="mnist is not prepared"):
        data.load("mnist", root=tmp_path)
    with storage.replacing(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match=r"cannot use .*folder-pets.*: the disk is full: free some space"):
        prepare("folder:pets", tmp_path / "data", source=trees.write(tmp_path / "pets", trees.files()))
    assert [path.suffix for path in (tmp_path / "data").iterdir()] == [".lock"]


def test_a_file_in_place_of_the_root_is_told(tmp_path):
    (tmp_path / "data").write_text("x")
    with pytest.raises(UserError, match=r"cannot use .*data.*: a file is where a folder should be"):
        prepare("folder:pets", tmp_path / "data", source=trees.write(tmp_path / "pets", trees.files()))


def test_many_processes_share_one_mapping(ready):
    """Both see the same file; a private copy would not appear in the table of mappings."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    loaded = data.load(ready[0], root=ready[1])
    assert str(ready[2] / "train.npy") in maps.read_text()
    assert loaded.train.x.untyped_storage().data_ptr()
    shutil.rmtree(ready[2])
    assert loaded.train.x.sum() > 0  # still mapped
