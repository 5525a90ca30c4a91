"""The prepared form: mapped and shared, whole or absent, and every alteration noticed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from data_scripts.cli import prepare
from gendyn_lite import data
from gendyn_lite.data import prepared, storage
from gendyn_lite.errors import Failed, UserError

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


def test_the_record_says_what_it_is(ready):
    record = record_of(ready.folder)
    assert record["class_names"] == ["cat", "dog"]
    assert record["counts"] == {"train": [3, 3], "test": [2, 2]}
    assert record["shape"] == [3, 5, 6]
    assert record["seal"] == prepared.seal(record)
    loaded = ready.load()
    assert record["fingerprint"] == data.load(f"folder:{ready.root.parent / 'pets'}").fingerprint
    assert loaded.mean == tuple(record["mean"]) == data.channel_statistics(loaded.train.x)[0]
    assert str(ready.root) not in json.dumps(record)


def record_of(folder):
    return json.loads((folder / "data.json").read_text(encoding="utf-8"))


def test_loading_maps_and_a_change_in_memory_stays_there(ready):
    first, second = (ready.load() for _ in range(2))
    before = second.train.x.clone()
    first.train.x.fill_(7)
    assert torch.equal(second.train.x, before)
    ready.verify()


@pytest.fixture
def reads(monkeypatch):
    """The names of the files whose every byte is read, in this process as if it had just begun."""
    monkeypatch.setattr(prepared, "_passed", {})
    names, real = [], prepared.sha256
    monkeypatch.setattr(prepared, "sha256", lambda path: names.append(path.name) or real(path))
    return names


@pytest.mark.parametrize("file", [*prepared.FILES, "data.json"])
def test_images_are_read_at_the_first_load_and_once_a_file_has_changed(ready, reads, file):
    for _ in range(3):
        ready.load()
        assert reads == list(prepared.FILES)
    os.utime(ready.folder / file, ns=(0, 0))
    ready.load()
    assert reads == list(prepared.FILES) * 2


def edited(folder, **changes):
    """Write a record as an editor would: without a new seal."""
    (folder / "data.json").write_text(json.dumps(record_of(folder) | changes))


NOTICE = pytest.mark.parametrize("notice", [Ready.load, Ready.verify])


CHANGES = {
    "description": "CIFAR-10",
    "class_names": ["dog", "cat"],
    "counts": {"train": [4, 2], "test": [2, 2]},
    "mean": [0.1, 0.2, 0.3],
    "std": [0.1, 0.2, 0.3],
    "fingerprint": "0" * 16,
    "source": {},
    "name": "cifar10",
    "seal": "0" * 64,
    "files": {},
    "more": 1,
}


@pytest.mark.parametrize("field", CHANGES)
@NOTICE
def test_an_edited_record_is_noticed(ready, notice, field):
    ready.load()
    edited(ready.folder, **{field: CHANGES[field]})
    with pytest.raises(UserError, match=r"data\.json was altered since it was written"):
        notice(ready)


def test_a_set_under_the_name_of_another_is_not_taken_for_it(ready):
    ready.folder.rename(ready.root / "mnist")
    with pytest.raises(UserError, match=r"mnist holds folder:pets, not mnist: rename it"):
        data.load("mnist", root=ready.root)


def writing(content):
    """Write this to the record."""
    return lambda folder: (folder / "data.json").write_bytes(content)


def sealed_anew(folder):
    """A whole record of another format, as another version writes it."""
    record = record_of(folder) | {"format": 2}
    edited(folder, **record | {"seal": prepared.seal(record)})


DAMAGE = {
    "cut array": (lambda folder: (folder / "train.npy").write_bytes(b"x"), r"train\.npy has 1 bytes, expected"),
    "missing labels": (lambda folder: (folder / "test_labels.npy").unlink(), r"test_labels\.npy: No such"),
    "broken record": (writing(b"{"), r"data\.json cannot be read"),
    "nothing": (writing(b""), r"data\.json cannot be read"),
    "high bit": (writing(b'"\xe9"'), r"data\.json cannot be read"),
    "nested": (writing(b"[" * 99_999), r"data\.json cannot be read"),
    "no record": (writing(b"[]"), r"data\.json was altered since it was written"),
    "empty record": (writing(b"{}"), r"data\.json was altered since it was written"),
    "other format": (sealed_anew, "has format 2, expected 1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_when_loading(ready, kind):
    damage, message = DAMAGE[kind]
    damage(ready.folder)
    with pytest.raises(UserError, match=rf"{message}.*prepare it again with `gendyn data"):
        ready.load()


@pytest.mark.parametrize("file", prepared.FILES)
@NOTICE
def test_one_flipped_bit_is_found(ready, notice, file):
    raw = (ready.folder / file).read_bytes()
    (ready.folder / file).write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(UserError, match=rf"{file} was altered since it was prepared"):
        notice(ready)


CHANGING = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "open")


def killed_at(step, work):
    """Do `work` in a process of its own, killed just before its change of the disk number `step`; whether it ended."""
    with warnings.catch_warnings(action="ignore"):  # the child only touches files: it needs none of our threads
        child = os.fork()
    if child == 0:
        left = list(range(step))

        def hook(event, _):
            if event in CHANGING and (not left or left.pop() is None):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


def write_set(folder, text):
    for name in ("data.json", "a"):
        (folder / name).write_text(text)


def replace_set(target):
    with storage.replacing(target) as new:
        write_set(new, "new")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("earlier", [True, False], ids=["replaced", "new"])
def test_a_kill_at_any_step_leaves_a_whole_copy_that_is_found_and_put_back(tmp_path, earlier):
    def texts(place):
        return {(place / name).read_text() if place else "none" for name in ("data.json", "a")}

    found = set()
    for step in itertools.count():
        target = tmp_path / f"{step}" / "mnist"
        target.parent.mkdir()
        if earlier:
            target.mkdir()
            write_set(target, "old")
        ended = killed_at(step, lambda target=target: replace_set(target))
        place = prepared.find(target)
        before = texts(place)
        found.add((*before, place == target))  # one text: the copy is whole
        with pytest.raises(RuntimeError), storage.replacing(target):  # from a source that will not do
            raise RuntimeError
        assert texts(target if place else None) == before
        assert os.listdir(target.parent) == (["mnist"] if place else [])
        if ended:
            break
    between = {("old", False), ("old", True)} if earlier else {("none", False)}  # the first: between the renames
    assert found == {("new", True), *between}


def test_what_appears_meanwhile_is_left(tmp_path):
    with pytest.raises(UserError, match="has appeared meanwhile"), storage.replacing(tmp_path / "set"):
        trees.write(tmp_path / "set", {"thesis.txt": b"mine"})
    assert os.listdir(tmp_path / "set") == ["thesis.txt"]


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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_many_processes_share_one_mapping(ready):
    """Both see the same file; a private copy would not appear in the table of mappings."""
    loaded = ready.load()
    assert str(ready.folder / "train.npy") in Path("/proc/self/maps").read_text()
    assert loaded.train.x.sum() > 0
