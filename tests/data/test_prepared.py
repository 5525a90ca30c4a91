"""The prepared form: mapped and shared, whole or absent, and every alteration noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from data_scripts import cli
from data_scripts.cli import prepare
from gendyn_lite import data
from gendyn_lite.data import gallery, prepared
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.results.files import seal

from . import trees


class Ready(NamedTuple):
    """A prepared set of one's own."""

    name: str
    root: Path
    folder: Path

    def load(self):
        return data.load(self.name, root=self.root)

    def verify(self):
        prepared.check(self.folder, prepared.read_record(self.folder, self.name))


@pytest.fixture
def ready(tmp_path):
    prepare("folder:pets", tmp_path / "data", source=trees.write(tmp_path / "pets", trees.files()))
    (folder,) = [path for path in (tmp_path / "data").iterdir() if path.is_dir()]
    return Ready("folder:pets", tmp_path / "data", folder)


def record_of(folder):
    return json.loads((folder / "data.json").read_text(encoding="utf-8"))


def test_the_record_says_what_it_is(ready):
    record, loaded = record_of(ready.folder), ready.load()
    assert (record["class_names"], record["shape"]) == (["cat", "dog"], [3, 5, 6])
    assert record["counts"] == {"train": [3, 3], "test": [2, 2]}
    assert record["fingerprint"] == data.load(f"folder:{ready.root.parent / 'pets'}").fingerprint
    assert loaded.mean == tuple(record["mean"]) == data.channel_statistics(loaded.train.x)[0]
    assert str(ready.root) not in json.dumps(record)


def test_loading_maps_a_file_that_processes_share_and_a_change_in_memory_stays_there(ready):
    first, second = (ready.load() for _ in range(2))
    before = second.train.x.clone()
    first.train.x.fill_(7)
    assert torch.equal(second.train.x, before)
    ready.verify()
    if (maps := Path("/proc/self/maps")).exists():  # where a private copy would not appear
        assert str(ready.folder / "train.npy") in maps.read_text()


@pytest.mark.parametrize("file", [*prepared.FILES, "data.json"])
def test_images_are_read_at_the_first_load_and_once_a_file_has_changed(ready, monkeypatch, file):
    monkeypatch.setattr(prepared, "_passed", {})  # as if this process had just begun
    reads, real = [], prepared.sha256
    monkeypatch.setattr(prepared, "sha256", lambda path: reads.append(path.name) or real(path))
    for _ in range(3):
        ready.load()
        assert reads == list(prepared.FILES)
    os.utime(ready.folder / file, ns=(0, 0))
    ready.load()
    assert reads == list(prepared.FILES) * 2


def write_record(folder, **changes):
    """Write a record as an editor would: without a new seal."""
    (folder / "data.json").write_text(json.dumps(record_of(folder) | changes))


@pytest.mark.parametrize("notice", [Ready.load, Ready.verify])
def test_a_record_edited_in_any_field_and_one_flipped_bit_are_noticed(ready, notice):
    ready.load()
    for path in map(ready.folder.joinpath, prepared.FILES):
        raw = path.read_bytes()
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
        with pytest.raises(UserError, match=rf"{path.name} was altered since it was prepared"):
            notice(ready)
        path.write_bytes(raw)
    record = record_of(ready.folder)
    for field in (*record, "another"):
        write_record(ready.folder, **record | {field: "other"})
        with pytest.raises(UserError, match=r"data\.json was altered since it was written"):
            notice(ready)


def test_a_set_under_the_name_of_another_is_not_taken_for_it(ready):
    ready.folder.rename(ready.root / "mnist")
    with pytest.raises(UserError, match=r"mnist holds folder:pets, not mnist: rename it"):
        data.load("mnist", root=ready.root)


def sealed_anew(folder):
    """A whole record of another format, as another version writes it."""
    record = record_of(folder) | {"format": 2}
    write_record(folder, **record | {"seal": seal(record)})


DAMAGE = {
    "cut array": (lambda folder: (folder / "train.npy").write_bytes(b"x"), r"train\.npy has 1 bytes, expected"),
    "missing labels": (lambda folder: (folder / "test_labels.npy").unlink(), r"test_labels\.npy: No such"),
    "broken record": (lambda folder: (folder / "data.json").write_bytes(b"{"), r"data\.json cannot be read"),
    "empty record": (lambda folder: (folder / "data.json").write_bytes(b"{}"), r"data\.json was altered since it was"),
    "other format": (sealed_anew, "has format 2, expected 1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_when_loading(ready, kind):
    damage, message = DAMAGE[kind]
    damage(ready.folder)
    with pytest.raises(UserError, match=rf"{message}.*prepare it again with `gendyn data"):
        ready.load()


def test_what_a_killed_process_had_moved_out_of_the_way_is_found_and_put_back(ready):
    """The kill itself, at any instant: tests/results/test_publishing.py."""
    ready.folder.rename(ready.root / f".{ready.folder.name}.old")
    ready.load()
    with pytest.raises(UserError, match="does not exist"):
        prepare("folder:pets", ready.root, source=ready.root / "nowhere")
    assert ready.folder.is_dir()
    ready.verify()


@pytest.mark.parametrize(
    ("work", "said"),
    [("prepare", "contains 'thesis.txt', not made by"), ("save", "exists: choose a new")],
)
def test_what_appears_meanwhile_is_left(tmp_path, monkeypatch, work, said):
    target = tmp_path / "cifar10"
    module, name = (cli, "open_source") if work == "prepare" else (gallery, "png")
    real = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *of: trees.write(target, {"thesis.txt": b"mine"}) and real(*of))
    with pytest.raises(UserError, match=said):
        if work == "prepare":
            source = trees.write(tmp_path / "c", trees.files(trees.CIFAR10, 1, 1, size=(32, 32)))
            prepare("cifar10", tmp_path, source=source)
        else:
            data.save_images(data.load("digits", train_size=10), target)
    assert os.listdir(target) == ["thesis.txt"]
    assert not list(tmp_path.glob(".*.new"))


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_a_full_disk_and_a_file_in_place_of_the_root_are_told_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full)
    pets, root = trees.write(tmp_path / "pets", trees.files()), tmp_path / "data"
    with pytest.raises(Failed, match=r"cannot use .*folder-pets.*: the disk is full: free some space"):
        prepare("folder:pets", root, source=pets)
    assert [path.suffix for path in root.iterdir()] == [".lock"]
    with pytest.raises(UserError, match=r"cannot use .*cat.*: a file is where a folder should be"):
        prepare("folder:pets", pets / "train" / "cat" / "0000.png", source=pets)
