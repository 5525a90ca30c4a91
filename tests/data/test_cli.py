"""`gendyn data`: what is said, and the exit code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_scripts import cli
from data_scripts.catalogue import ENTRIES
from gendyn_lite import data
from gendyn_lite.results import files

from . import trees
from .trees import main


def test_preparing_reports_verify_agrees_and_the_list_names_size_licence_source_and_what_is_prepared(tmp_path, capsys):
    pets = f"folder:{trees.write(tmp_path / 'pets', trees.files())}"
    said = []
    for words in ([pets, "--size", "4"], ["two_moons"], ["--verify", pets], ["--list"]):
        assert main([*words, "--root", str(tmp_path / "data")]) == 0
        said.append(capsys.readouterr().out)
    assert "own images (pets), 4x4: 6 training and 4 test images, 2 classes, fingerprint" in said[0]
    assert "two_moons comes with the library: nothing to prepare" in said[1]
    assert "every byte is as it was prepared" in said[2]
    lines = said[3].splitlines()
    for line, entry in zip(lines[1:], ENTRIES.values(), strict=False):
        state = "embedded" if "embedded" in entry.size else "no"
        assert re.split("   *", line) == [entry.name, entry.size, entry.licence, entry.source, state]
    assert f"own images (pets), 4x4, in {tmp_path / 'data'}" in lines[-1]
    assert set(ENTRIES) == set(data.names()) - {"folder:PATH"}


def tree():
    return trees.files(trees.CIFAR10, 1, 1, size=(32, 32))


@pytest.fixture
def imports(tmp_path):
    """The arguments that import a small CIFAR-10 from `source` to the root, which is the folder around it."""
    return ["cifar10", "--from", str(trees.write(tmp_path / "source", tree())), "--root", str(tmp_path)]


LONG = "n" * 300
MISTAKES = [
    ("", "needs either a NAME, --list or --verify NAME; names: digits"),
    ("imagenet", "ImageNet (ILSVRC 2012) cannot be downloaded: get it from www.image-net.org"),
    ("--verify mnist", "mnist is not prepared in"),
    ("--verify ../x", "unknown dataset '../x'"),
    ("--verify digits", "digits comes with the library"),
    ("--list --from x", "--list and --verify can be combined only with --root"),
    ("cifar10 --from nowhere", "nowhere does not exist: expected a folder"),
    ("cifar10 --from 'a\0b'", r"--from is 'a\x00b', expected the path of a file or folder"),
    (f"cifar10 --root {LONG}", "the name is too long"),
    ("folder:caf\udce9", r"folder:PATH is 'caf\udce9', expected"),
    (f"folder:{LONG}", "the name is too long"),
    ("cifar10 --size 8", "--size is 8, expected 1 to 9,459 pixels, and folder:PATH"),
    ("folder:x --size 9460", "--size is 9460, expected 1 to 9,459 pixels"),
    ("folder:x@8", "give --size 8 with the name folder:x"),
    ("folder:x@8 --size 4", "give --size 8 with the name folder:x"),
    ("mnist --description x", "MNIST is accepted byte for byte only"),
    ("cifar10 --description 'a\nb'", r"--description is 'a\nb', expected one line"),
    ("cifar10 --description ' '", "--description is ' ', expected one line"),
    ("cifar10 --from x --mirror y", "here nothing is downloaded"),
    ("imagenet --mirror y", "here nothing is downloaded"),
    ("mnist --mirror file:///etc/", "--mirror is 'file:///etc/', expected an address"),
]


@pytest.mark.parametrize(("command", "message"), MISTAKES, ids=[ascii(command)[:40] for command, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, command, message):
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gendyn: error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert all(path.suffix == ".lock" for path in tmp_path.rglob("*") if path.is_file())


PLACES = {  # where the source is, and as what it is imported; a link of that name leads to it
    "the source": ("cifar10", "cifar10"),
    "above the source": ("cifar10/a", "cifar10/a"),
    "the source, by another way": ("cifar10", "../{}/cifar10"),
    "the source, through a link": ("cifar10", "link"),
    "a link to the source": ("pics", "pics"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("relative", [False, True])
def test_a_source_is_never_replaced_by_its_prepared_form(tmp_path, capsys, monkeypatch, place, relative):
    at, source = PLACES[place]
    trees.write(tmp_path / at, tree())
    if "link" in place:
        (tmp_path / ("link" if at == "cifar10" else "cifar10")).symlink_to(at)
    before = everything(tmp_path)
    monkeypatch.chdir(tmp_path)
    paths = (tmp_path / source.format(tmp_path.name), tmp_path)
    source, root = (os.path.relpath(path) if relative else str(path) for path in paths)
    assert main(["cifar10", "--from", source, "--root", root]) == 2
    assert "is where the prepared form would be written" in capsys.readouterr().err
    assert everything(tmp_path) == before


def everything(folder):
    return {path: path.is_dir() or path.read_bytes() for path in folder.rglob("*")}


FOREIGN = {
    "a file in its place": ({"": b"mine"}, "cifar10 exists, and was not made by `gendyn data`: move it away"),
    "a file": ({"thesis.txt": b"mine"}, "contains 'thesis.txt', not made by"),
    "a folder": ({"train/cat/1.png": b"mine"}, "contains 'train', not made by"),
    "a file of our name": ({"train.npy": b"mine"}, "contains 'train.npy', not made by"),
    "a record of another kind": ({"data.json": b"{}", "a": b""}, "data.json was altered since it was written: remove"),
}


@pytest.mark.parametrize(("content", "named"), FOREIGN.values(), ids=FOREIGN)
def test_a_folder_that_was_not_made_here_is_left(tmp_path, capsys, imports, content, named):
    trees.write(tmp_path / "cifar10", content)
    before = everything(tmp_path)
    assert main(imports) == 2
    assert named in capsys.readouterr().err
    assert everything(tmp_path) == before


def test_a_file_beside_a_prepared_set_is_named_and_none_is_fetched_twice(tmp_path, capsys, monkeypatch, imports):
    assert main(imports) == 0
    trees.write(tmp_path / "cifar10", {"notes.txt": b"mine", "more.txt": b"mine"})
    assert main(imports) == 2
    said = capsys.readouterr().err
    assert "cifar10 contains 'more.txt' and 1 more, not made by `gendyn data`: move it away, or choose an" in said
    monkeypatch.setattr(cli, "fetch", None)
    assert main(["cifar10", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("already prepared: CIFAR-10 (PNG, ")
    trees.write(tmp_path, {"mnist/data.json": b"\xff"})  # does not hide the others in the list
    assert main(["--list", "--root", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "data.json cannot be read" in said and "CIFAR-10 (PNG, 10 train and 10 test images), in" in said


def test_a_set_that_lies_elsewhere_and_is_linked_stays_there(tmp_path, imports):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cifar10").symlink_to(tmp_path / "elsewhere" / "cifar10")
    for _ in range(2):
        assert main(imports) == 0
    assert data.load("cifar10", root=tmp_path).num_classes == 10
    assert (tmp_path / "cifar10").is_symlink()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir() if path.is_dir()] == ["cifar10"]


def test_of_the_downloads_only_what_was_fetched_is_removed(tmp_path, monkeypatch):
    mine = trees.write(tmp_path / ".downloads" / "cifar10", tree())
    before = everything(mine)
    assert main(["cifar10", "--from", str(mine), "--root", str(tmp_path)]) == 0
    shutil.rmtree(tmp_path / "cifar10")
    source = trees.tar(tmp_path / "source.tar.xz", tree())
    monkeypatch.setattr(cli, "fetch", lambda download, to, mirrors: source.rename(to / download.file))
    assert main(["cifar10", "--root", str(tmp_path)]) == 0
    assert not source.exists()
    assert everything(mine) == before


def test_two_at_once_fetch_once_and_the_other_waits(tmp_path, monkeypatch, capsys):
    fetched = []
    source = trees.tar(tmp_path / "source.tar.xz", tree())

    def fetch(download, to, mirrors):
        fetched.append(download)
        time.sleep(0.5)
        return trees.write(to, {download.file: source.read_bytes()}) / download.file

    monkeypatch.setattr(cli, "fetch", fetch)
    monkeypatch.setattr(files, "SILENT_SECONDS", 0.1)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda _: main(["cifar10", "--root", str(tmp_path)]), range(2))) == [0, 0]
    assert len(fetched) == 1
    said = capsys.readouterr()
    assert "waiting for it" in said.err and "already prepared" in said.out
