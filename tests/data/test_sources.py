"""Archives: every format gives the same files, and none that is not to be trusted is unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile

import pytest

from data_scripts import sources
from data_scripts.cli import prepare
from data_scripts.sources import open_source
from gendyn_lite import data
from gendyn_lite.data.image_folder import listing
from gendyn_lite.errors import UserError

from . import trees

FORMATS = {"set.tar": "w", "set.tar.gz": "w:gz", "set.tar.xz": "w:xz", "set.tar.bz2": "w:bz2"}


@pytest.mark.parametrize("name", [*FORMATS, "set.zip", "folder"])
def test_every_format_gives_the_same_files(tmp_path, name):
    content = trees.files() | {"empty.txt": b"", "a b/ü.txt": b"1"}
    path = tmp_path / name
    if name == "folder":
        trees.write(path, content)
    elif name == "set.zip":
        trees.zipped(path, content)
    else:
        trees.tar(path, content, FORMATS[name])
    (tmp_path / "scratch").mkdir()
    source = open_source(path, tmp_path / "scratch")
    assert sorted(source.names) == sorted(content)
    for file, expected in content.items():
        assert source.read(file) == expected
    assert (source.sha256 is None) == (name == "folder")


@pytest.mark.parametrize("make", [trees.tar, trees.zipped], ids=["tar", "zip"])
def test_names_may_begin_with_a_dot_and_a_slash(tmp_path, make):
    """As `tar -C pets -cf pets.tar .` writes them."""
    content = trees.files()
    source = open_source(make(tmp_path / "set", {f"./{name}": raw for name, raw in content.items()}), tmp_path)
    assert sorted(source.names) == sorted(content)
    assert listing(source.names, where="set").class_names == ("cat", "dog")


def members(path):
    with tarfile.open(path) as archive:
        return archive.getmembers()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("fault", ["cut at a member", "cut before the end's mark", "cut in a header", "damaged header"])
def test_a_tar_that_lacks_its_last_images_is_named(tmp_path, name, fault):
    """tarfile takes a missing or damaged header for the end, and the images before it are whole."""
    raw = trees.tar(tmp_path / "plain.tar", trees.files(train=4, test=4), "w").read_bytes()
    *_, before, last = members(tmp_path / "plain.tar")
    at = last.offset
    changed = {
        "cut at a member": raw[:at],
        "cut before the end's mark": raw[: last.offset_data - (-last.size // 512) * 512],
        "cut in a header": raw[: at + 100],
        "damaged header": raw[: at + 3] + b"?" + raw[at + 4 :],
    }[fault]
    assert before.offset < at
    opener = {"w:gz": gzip.open, "w:xz": lzma.open, "w:bz2": bz2.open}.get(FORMATS[name], open)
    with opener(tmp_path / name, "wb") as file:
        file.write(changed)
    with pytest.raises(UserError, match=rf"{name} is truncated or damaged \(.*\): get a fresh copy"):
        open_source(tmp_path / name, tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
@pytest.mark.parametrize("kind", ["pipe", "endless", "folder with a pipe for a batch"])
def test_what_has_no_end_is_not_read(tmp_path, kind):
    path = tmp_path / "source"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        trees.write(path, {f"data_batch_{i}": b"" for i in range(1, 6)})
        os.mkfifo(path / "test_batch")
    expected = "has data_batch_1 but no test_batch" if path.is_dir() else "is no plain file: expected a folder, .tar"
    with pytest.raises(UserError, match=expected):
        prepare("cifar10", tmp_path / "data", source=path)


@pytest.mark.parametrize("name", ["set.tar.xz", "set.zip"])
def test_own_images_from_an_archive(tmp_path, name):
    content = {f"pets/{file}": bytes_ for file, bytes_ in trees.files().items()}
    make = trees.zipped if name == "set.zip" else trees.tar
    prepare("folder:pets", tmp_path / "data", source=make(tmp_path / name, content))
    loaded = data.load("folder:pets", root=tmp_path / "data")
    direct = data.load(f"folder:{trees.write(tmp_path / 'unpacked', content)}")
    assert loaded.fingerprint == direct.fingerprint
    assert loaded.description == "own images (pets)"
    hidden = [path.name for path in (tmp_path / "data").iterdir() if path.name.startswith(".")]
    assert all(name.endswith(".lock") for name in hidden)


EVIL = ["/etc/passwd", "../evil", "a/../../evil", "C:\\evil", "..\\evil", "\\\\host\\share"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("make", [trees.tar, trees.zipped], ids=["tar", "zip"])
def test_names_that_lead_outside_are_refused(tmp_path, name, make):
    archive = make(tmp_path / "evil.archive", {"train/cat/1.png": b"x", name: b"evil"})
    before = sorted(tmp_path.parent.rglob("*evil*"))
    with pytest.raises(UserError, match=r"the name .* leads outside: refused"):
        prepare("folder:pets", tmp_path / "data", source=archive)
    assert sorted(tmp_path.parent.rglob("*evil*")) == before
    assert [path.suffix for path in (tmp_path / "data").iterdir()] == [".lock"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE], ids=str)
def test_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        member = tarfile.TarInfo("train/cat/1.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(UserError, match=r"'train/cat/1.png' is (a link|no plain file): refused"):
        open_source(tmp_path / "links.tar", tmp_path)


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "links.zip", "w") as archive:
        member = zipfile.ZipInfo("train/cat/1.png")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(UserError, match="is a link: refused"):
        open_source(tmp_path / "links.zip", tmp_path)


def test_names_that_appear_twice_are_refused(tmp_path):
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for content in (b"one", b"two"):
            member = tarfile.TarInfo("a.png")
            member.size = 3
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match=r"holds 'a.png' twice"):
        open_source(tmp_path / "twice.tar", tmp_path)


@pytest.mark.parametrize("make", [trees.tar, trees.zipped], ids=["tar", "zip"])
def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, make, monkeypatch):
    monkeypatch.setattr(sources, "MOST_PLAIN", 1 << 20)
    bomb = make(tmp_path / "bomb", {"train/cat/1.png": bytes(30 << 20)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match="unpacks to more than 50 times its size: refused as a possible bomb"):
        open_source(bomb, tmp_path)
    assert (tmp_path / "unpacked").stat().st_size <= (1 << 20) + 50 * bomb.stat().st_size


@pytest.mark.parametrize("make", [trees.tar, trees.zipped], ids=["tar", "zip"])
def test_a_bomb_of_empty_files_is_refused(tmp_path, make, monkeypatch):
    monkeypatch.setattr(sources, "MOST_PLAIN", 100)
    monkeypatch.setattr(sources, "MOST_RATIO", 0)
    with pytest.raises(UserError, match="refused as a possible bomb"):
        open_source(make(tmp_path / "bomb", {f"{i}.png": b"" for i in range(10)}), tmp_path)


def test_a_bomb_in_a_header_is_refused(tmp_path, monkeypatch):
    """A pax header is read whole into memory by tarfile: it must be stopped too."""
    monkeypatch.setattr(sources, "MOST_PLAIN", 1 << 20)
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 30 << 20
    with lzma.open(tmp_path / "bomb.tar.xz", "wb") as file:
        file.write(header.tobuf())
        file.write(bytes(30 << 20))
    with pytest.raises(UserError, match="refused as a possible bomb"):
        open_source(tmp_path / "bomb.tar.xz", tmp_path)


@pytest.mark.parametrize(
    ("name", "fault"),
    # All but a flipped byte in a plain .tar, which has no checksum of its contents.
    [("set.tar", "cut"), *((name, fault) for name in (*list(FORMATS)[1:], "set.zip") for fault in ("cut", "flipped"))],
)
def test_a_damaged_archive_is_named(tmp_path, name, fault):
    content = {"train/cat/1.bin": os.urandom(60_000), "train/dog/1.bin": os.urandom(60_000)}
    path = tmp_path / name
    raw = (trees.zipped(path, content) if name == "set.zip" else trees.tar(path, content, FORMATS[name])).read_bytes()
    if fault == "cut":
        path.write_bytes(raw[: len(raw) // 2])
    else:
        path.write_bytes(raw[:40_000] + bytes([raw[40_000] ^ 255]) + raw[40_001:])
    with pytest.raises(UserError, match=rf"{name} (is truncated or damaged|holds no files)"):
        open_source(path, tmp_path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(bytes(10_240), "holds no files", id="nothing in it"),
        pytest.param(b"", "cannot be read as an archive: expected a folder, .tar", id="empty"),
        pytest.param(b"<html>", "cannot be read as an archive", id="web page"),
        pytest.param(None, "does not exist: expected a folder, .tar", id="missing"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path, raw, message):
    path = tmp_path / "set.tar.xz"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(UserError, match=message):
        open_source(path, tmp_path)


def test_an_encrypted_zip_is_named(tmp_path):
    path = trees.zipped(tmp_path / "set.zip", {"a.png": b"x"})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    path.write_bytes(raw)
    with pytest.raises(UserError, match=r"'a\.png' is encrypted: unpack it yourself"):
        open_source(path, tmp_path)
