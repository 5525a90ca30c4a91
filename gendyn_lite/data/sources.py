"""Read images from folders and archives in the same way, by the names of their files.

All members of an archive are unpacked into one scratch file, at different offsets. Their names are never used as paths,
so that none can be written outside of the folder. Suspicious names, links, devices and zip bombs are refused anyway.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import IO

import torch
from torch import Tensor

from gendyn_lite.data import prepared
from gendyn_lite.data.image_folder import Locate, decode_splits, describe, key, listing, locator, stamp, walk
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.decode import Item, read
from gendyn_lite.errors import UserError
from gendyn_lite.results.files import sha256

BLOCK = 1 << 20
LARGE_SIDE = 1024  # side in pixels beyond which a warning suggests a smaller size
KEPT_BYTES = 1 << 28  # largest size of decoded images that are cached for the next call
UNPACKED = "unpacked"  # name of the scratch file
MOST_PLAIN = 1 << 26  # an archive may unpack to this many bytes,
MOST_RATIO = 50  # plus this many times its own size
MEMBER_COST = 1024  # bytes that each member counts in addition to its content
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, NotImplementedError)
EXPECTED = "expected a folder, .tar, .tar.gz, .tar.xz, .tar.bz2 or .zip"


@dataclass(frozen=True)
class Source:
    """The files in a folder or an archive.

    Attributes:
        names: Relative paths of all files, with ``/``.
        locate: Function from the name of a file to its `Item`.
        where: Path of the folder or archive, for messages.
        sha256: SHA-256 of the archive; None for a folder.
    """

    names: list[str]
    locate: Locate
    where: str
    sha256: str | None = None

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            UserError: It cannot be read.
        """
        return read(self.locate(name))


def open_source(path: Path, scratch: Path) -> Source:
    """Open a folder, or an archive, which is unpacked into one file in the folder `scratch`.

    Raises:
        UserError: `path` does not exist, is not a folder or archive, or is damaged or suspicious.
    """
    if path.is_dir():
        return Source(list(walk(path)), locator(path), str(path))
    if not path.is_file():
        raise UserError(f"{path} {'is not a regular file' if path.exists() else 'does not exist'}: {EXPECTED}")
    unpacked = scratch / UNPACKED
    try:
        index = unpack(path, unpacked)
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk; those of decompressors have no errno
        raise UserError(f"{path} is truncated or damaged ({error}): get a fresh copy") from None
    if not index:
        raise UserError(f"{path} holds no files")
    return Source(list(index), lambda name: Item(str(unpacked), name, *index[name]), str(path), sha256(path))


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open a folder or an archive as `open_source` does; what is unpacked is deleted after the block."""
    with TemporaryDirectory(prefix="gendyn-") as scratch:
        yield open_source(path, Path(scratch)) if path.is_file() else Source(list(walk(path)), locator(path), str(path))


def load_images(path: Path, *, name: str, root: Path, size: int | None = None) -> ImageData:
    """Load the images of a folder or an archive: from their prepared form, if there is one, else by decoding them.

    Args:
        path: The folder or archive.
        name: Name of the data set.
        root: Folder of the prepared data.
        size: If given, each image's shorter side is resized to `size` and the centre square is cut out, and a prepared
            form is ignored.

    Raises:
        UserError: The folder does not have the expected structure, an image cannot be read, or the folder has changed
            since it was prepared.
    """
    if size is None and (folder := prepared.find(root / key(path))):
        if path.exists() and prepared.read_record(folder, name)["source"].get("stamp") != stamp(path):
            raise UserError(f"{path} has changed since it was prepared: run `gendyn data {name}` again")
        return prepared.read(folder, name=name)
    found, twice = _decoded(path, name, size, stamp(path))
    if twice:
        warnings.warn(f"{path}: {twice:,} of the test images are among the training images", stacklevel=2)
    if size is None and max(found.train.x.shape[2:]) > LARGE_SIDE:
        shape = "{}x{}".format(*found.train.x.shape[2:])
        advice = f"`gendyn data {name} --size 224` makes them smaller"
        warnings.warn(f"{path}: the images have {shape} pixels: {advice}", stacklevel=2)
    if found.train.x.nbytes + found.test.x.nbytes > KEPT_BYTES:
        _decoded.cache_clear()
        return found
    train, test = (Split(part.x.clone(), part.y.clone()) for part in (found.train, found.test))
    return replace(found, train=train, test=test)


@lru_cache(maxsize=1)  # because a chapter loads its images for every run
def _decoded(path: Path, name: str, size: int | None, stamp: str) -> tuple[ImageData, int]:
    """Decode images; returns the data set and the number of test images that are training images too.

    The stamp of the folder is an argument so that the cached result is not used once the folder has changed.
    """
    del stamp
    with opened(path) as source:
        tree = listing(source.names, where=source.where)
        x = decode_splits(tree, source.locate, lambda _, shape: torch.empty(shape, dtype=torch.uint8), size=size)
    train, test = (Split(x[split], torch.from_numpy(tree.labels[split])) for split in ("train", "test"))
    found = ImageData.measured(name, describe(path, size=size), tree.class_names, train=train, test=test)
    return found, repeated(train.x, test.x)


def repeated(x: Tensor, others: Tensor) -> int:
    """How many of `others` are equal, pixel by pixel, to an image of `x`; both are uint8 [n, C, H, W].

    >>> one = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
    >>> repeated(one, torch.cat([one, one + 1]))
    1
    """
    known = {hashlib.sha256(image.numpy().tobytes()).digest() for image in x}
    return sum(hashlib.sha256(image.numpy().tobytes()).digest() in known for image in others)


def unpack(path: Path, into: Path) -> dict[str, tuple[int, int]]:
    """Unpack all files of an archive into one file.

    Args:
        path: The archive.
        into: The file to write.

    Returns:
        Offset and size of each file, by name.

    Raises:
        UserError: It is not an archive; a name is absolute, leads outside or appears twice; a member is a link, a
            device or encrypted; or everything together exceeds 64 MiB plus 50 times the size of the archive.
        tarfile.ReadError: The end of a tar is missing because it was truncated or a header is damaged.
    """
    with path.open("rb") as file:
        members = _zip_members if file.read(4) == b"PK\x03\x04" else _tar_members
    left = MOST_PLAIN + MOST_RATIO * path.stat().st_size
    index: dict[str, tuple[int, int]] = {}
    with into.open("wb") as out:
        for stored, content in members(path):
            name = _checked_name(stored, path)
            if name in index:
                raise UserError(f"{path} holds {name!r} twice: refused, the archive cannot be trusted")
            start = out.tell()
            _check_left(left := left - MEMBER_COST, path)
            while block := content.read(BLOCK):
                _check_left(left := left - len(block), path)
                out.write(block)
            index[name] = start, out.tell() - start
    return index


def _check_left(left: int, path: Path) -> None:
    """Refuse an archive once less than 0 of the bytes that it may unpack to are left."""
    if left < 0:
        told = f"unpacks to more than {MOST_RATIO} times its size: refused as a possible zip bomb"
        raise UserError(f"{path} {told}; if you trust it, unpack it yourself and give the folder")


def _tar_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The name and content of every file in a tar, which may be compressed."""
    try:
        archive = tarfile.open(path, tarinfo=_Header)  # noqa: SIM115 (it is closed below)
    except tarfile.ReadError:
        raise UserError(f"{path} cannot be read as an archive, or is damaged: {EXPECTED}") from None
    with archive:
        for member in archive:
            if member.isdir():
                _checked_name(member.name, path)
                continue
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                kind = "a link" if member.islnk() or member.issym() else "not a regular file"
                raise UserError(f"{path}: {member.name!r} is {kind}: refused; give an archive of plain files")
            yield member.name, content
        while archive.fileobj.read(BLOCK):  # type: ignore[union-attr]
            pass  # read to the end, where the checksum is verified


class _Header(tarfile.TarInfo):
    """A tar header that raises an error if it is damaged; tarfile itself would take it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """Parse the header."""
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf and not any(buf) and len(buf) == tarfile.BLOCKSIZE:  # the regular end of a tar
                raise
            raise tarfile.ReadError(f"no header where one should be: {error}") from None


def _zip_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The name and content of every file in a zip."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.flag_bits & 1:
                raise UserError(f"{path}: {member.filename!r} is encrypted: unpack it yourself and give the folder")
            if (member.external_attr >> 16) & 0o170000 == 0o120000:
                raise UserError(f"{path}: {member.filename!r} is a link: refused; give an archive of plain files")
            if not member.is_dir():
                with archive.open(member) as file:
                    yield member.filename, file


def _checked_name(name: str, path: Path) -> str:
    """A member's name without empty parts and ``.``.

    Raises:
        UserError: As a path, on any operating system, it would lead outside of the folder of the archive.
    """
    parts = name.replace("\\", "/").split("/")
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or PureWindowsPath(name).root
    if absolute or os.pardir in parts or "\0" in name:
        raise UserError(f"{path}: the name {name!r} leads outside: refused, the archive cannot be trusted")
    return "/".join(part for part in name.split("/") if part not in ("", "."))
