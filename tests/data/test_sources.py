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

from data_scripts.cli import prepare
from gendyn_lite import data
from gendyn_lite.data import prepared, sources
from gendyn_lite.data.sources import open_source
from gendyn_lite.errors import UserError

from . import trees

FORMATS = {"set.tar": "w", "set.tar.gz": "w:gz", "set.tar.xz": "w:xz", "set.tar.bz2": "w:bz2"}
PACKED = {"set.tar.gz": gzip.compress, "set.tar.xz": lzma.compress, "set.tar.bz2": bz2.compress}
BOTH = pytest.mark.parametrize("make", [trees.tar, trees.zipped], ids=["tar", "zip"])


def made(path, content):
    """A folder or an archive, by its name."""
    if path.name in FORMATS:
        return trees.tar(path, content, FORMATS[path.name])
    return (trees.zipped if path.suffix == ".zip" else trees.write)(path, content)


@pytest.mark.parametrize("name", [*FORMATS, "set.zip", "folder"])
@pytest.mark.parametrize("prefix", ["", "./"], ids=["plain", "as tar -C pets . writes them"])
def test_every_format_gives_the_same_files(tmp_path, name, prefix):
    content = trees.files() | {"empty.txt": b"", "a b/ü.txt": b"1"}
    (tmp_path / "scratch").mkdir()
    stored = {f"{prefix}{file}": raw for file, raw in content.items()}
    source = open_source(made(tmp_path / name, stored), tmp_path / "scratch")
    assert {file: source.read(file) for file in source.names} == content
    assert (source.sha256 is None) == (name == "folder")


def cut_or_damaged(raw, fault):
    """A plain tar whose images before the fault are whole: tarfile takes a missing or damaged header for the end."""
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        last = archive.getmembers()[-1]
    at, end = last.offset, last.offset_data - (-last.size // 512) * 512
    if fault == "damaged header":
        return raw[: at + 3] + b"?" + raw[at + 4 :]
    return raw[: {"cut at a member": at, "cut before the end's mark": end, "cut in a header": at + 100}[fault]]


INSIDE = ("cut at a member", "cut before the end's mark", "cut in a header", "damaged header")
DAMAGES = [(name, fault) for name in FORMATS for fault in INSIDE]
# All but a flipped byte in a plain .tar, which has no checksum of its contents.
DAMAGES += [("set.tar", "cut"), *((name, fault) for name in (*PACKED, "set.zip") for fault in ("cut", "flipped"))]


@pytest.mark.parametrize(("name", "fault"), DAMAGES)
def test_a_damaged_archive_is_named(tmp_path, name, fault):
    content = {"train/cat/1.bin": os.urandom(60_000), "train/dog/1.bin": os.urandom(60_000)}
    path = made(tmp_path / name, content)
    if fault in INSIDE:
        pack = PACKED.get(name, bytes)
        path.write_bytes(pack(cut_or_damaged(trees.tar(tmp_path / "plain", content, "w").read_bytes(), fault)))
    else:
        raw = path.read_bytes()
        path.write_bytes(raw[:60_000] if fault == "cut" else raw[:40_000] + bytes([raw[40_000] ^ 255]) + raw[40_001:])
    said = r"is truncated or damaged \(.*\): get a fresh copy"
    with pytest.raises(UserError, match=rf"{name} ({said}|holds no files|.*or is damaged: expected)"):
        open_source(path, tmp_path)


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
    expected = "has data_batch_1 but no test_batch" if path.is_dir() else "is not a regular file: expected a folder"
    with pytest.raises(UserError, match=expected):
        prepare("cifar10", tmp_path / "data", source=path)


@pytest.mark.parametrize("name", ["set.tar.xz", "set.zip"])
def test_own_images_from_an_archive(tmp_path, name):
    content = {f"pets/{file}": bytes_ for file, bytes_ in trees.files().items()}
    prepare("folder:pets", tmp_path / "data", source=made(tmp_path / name, content))
    loaded = data.load("folder:pets", root=tmp_path / "data")
    direct = data.load(f"folder:{trees.write(tmp_path / 'unpacked', content)}")
    assert loaded.fingerprint == direct.fingerprint
    assert loaded.description == "own images (pets)"
    left = {path.name for path in (tmp_path / "data").rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert left == {*prepared.FILES, prepared.RECORD}


EVIL = ["/etc/passwd", "../evil", "a/../../evil", "C:\\evil", "..\\evil", "\\\\host\\share"]


@pytest.mark.parametrize("name", EVIL)
@BOTH
def test_names_that_lead_outside_are_refused(tmp_path, name, make):
    archive = make(tmp_path / "evil.archive", {"train/cat/1.png": b"x", name: b"evil"})
    before = sorted(tmp_path.parent.rglob("*evil*"))
    with pytest.raises(UserError, match=r"the name .* leads outside: refused"):
        prepare("folder:pets", tmp_path / "data", source=archive)
    assert sorted(tmp_path.parent.rglob("*evil*")) == before
    assert [path.suffix for path in (tmp_path / "data").iterdir()] == [".lock"]


def tar_of(path, *members):
    """A tar of members without their contents' checks: name, type and content of each."""
    with tarfile.open(path, "w") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "/etc/passwd", len(content)
            archive.addfile(member, io.BytesIO(content))


def zip_with_a_link(path):
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("train/1.png")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")


def encrypted_zip(path):
    raw = bytearray(trees.zipped(path, {"a.png": b"x"}).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    path.write_bytes(raw)


def tar_with(kind):
    return lambda path: tar_of(path, ("train/1.png", kind, b""))


EMPTY_FILES = dict.fromkeys(map(str, range(2000)), b"")
UNTRUSTED = {
    "symbolic link": (tar_with(tarfile.SYMTYPE), r"'train/1.png' is a link: refused"),
    "hard link": (tar_with(tarfile.LNKTYPE), r"'train/1.png' is a link: refused"),
    "device": (tar_with(tarfile.CHRTYPE), r"'train/1.png' is not a regular file: refused"),
    "pipe": (tar_with(tarfile.FIFOTYPE), r"'train/1.png' is not a regular file: refused"),
    "bomb of empty files": (lambda path: trees.zipped(path, EMPTY_FILES), "refused as a possible zip bomb"),
    "link in a zip": (zip_with_a_link, "'train/1.png' is a link: refused"),
    "encrypted": (encrypted_zip, r"'a\.png' is encrypted: unpack it yourself"),
    "name twice": (lambda path: tar_of(path, *[("a.png", tarfile.REGTYPE, b"one")] * 2), r"holds 'a.png' twice"),
    "nothing in it": (lambda path: path.write_bytes(bytes(10_240)), "holds no files"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as an archive, or is damaged: expected a folder"),
    "missing": (lambda path: None, "does not exist: expected a folder, .tar"),
}


@pytest.mark.parametrize("kind", UNTRUSTED)
def test_what_is_no_archive_to_be_trusted_is_named(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sources, "MOST_PLAIN", 1 << 20)
    monkeypatch.setattr(sources, "MOST_RATIO", 0)
    make, message = UNTRUSTED[kind]
    make(tmp_path / "set.tar.xz")
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "set.tar.xz", tmp_path)


@BOTH
def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, make, monkeypatch):
    monkeypatch.setattr(sources, "MOST_PLAIN", 1 << 20)
    bomb = make(tmp_path / "bomb", {"train/cat/1.png": bytes(30 << 20)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(UserError, match="unpacks to more than 50 times its size: refused as a possible zip bomb"):
        open_source(bomb, tmp_path)
    assert (tmp_path / "unpacked").stat().st_size <= (1 << 20) + 50 * bomb.stat().st_size
