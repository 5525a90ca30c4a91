"""MNIST from its IDX files, plain or gzipped."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np

from gendyn_lite.data import prepared
from gendyn_lite.errors import UserError

# File: shape of its array and the SHA-256 of the decompressed bytes (MD5 6bbc9ace…, a25bea73…, 2646ac64…, 27ae3e4e…).
FILES = {
    "train-images-idx3-ubyte": (
        (60_000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": ((60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": ((10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": ((10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
SPLITS = {"train": "train", "test": "t10k"}
UINT8 = 0x08  # the IDX code of unsigned bytes


def prepare(source: Path, to: Path) -> dict:
    """Write MNIST's prepared form from a folder of IDX files.

    Args:
        source: Folder with the four files, plain or ``.gz``, or with them under ``raw/`` or ``MNIST/raw/``.
        to: Empty folder to fill.

    Returns:
        The record.

    Raises:
        UserError: A file is missing, truncated, altered or no IDX file.
    """
    arrays = {}
    for file, (shape, sha256) in FILES.items():
        path = _find(source, file)
        raw = read_bytes(path, limit=idx_size(shape))
        arrays[file] = parse_idx(raw, path)
        if arrays[file].shape != shape:
            raise UserError(f"{path} holds {list(arrays[file].shape)}, but MNIST's has {list(shape)}")
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise UserError(f"{path} is altered or not MNIST: its SHA-256 is not {sha256[:16]}…; get a fresh copy")
    labels = {}
    for split, prefix in SPLITS.items():
        images = arrays[f"{prefix}-images-idx3-ubyte"]
        prepared.allocate(to, split, (len(images), 1, 28, 28))[:, 0] = images
        labels[split] = arrays[f"{prefix}-labels-idx1-ubyte"]
    return prepared.finish(
        to,
        name="mnist",
        description="MNIST",
        class_names=[str(digit) for digit in range(10)],
        labels=labels,
        source={"kind": "IDX files", "sha256": {file: sha256 for file, (_, sha256) in FILES.items()}},
    )


def idx_size(shape: tuple[int, ...]) -> int:
    """Bytes of an IDX file of unsigned bytes.

    >>> idx_size((60_000, 28, 28))
    47040016
    """
    return 4 + 4 * len(shape) + math.prod(shape)


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The bytes of a file, decompressed if it is gzipped, and at most one more than `limit`.

    Raises:
        UserError: It cannot be read, or its compression is broken or cut.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path} is truncated or damaged (broken gzip data): get a fresh copy") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def parse_idx(raw: bytes, path: Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    Args:
        raw: Its bytes: 0, 0, type, number of dimensions, each dimension (32 bits, big-endian), then the values.
        path: Its name, for messages.

    Raises:
        UserError: It is no such file, or has too few or too many bytes.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), Path("labels")).tolist()
    [7, 9]
    """
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != UINT8:
        raise UserError(f"{path} is no IDX file of unsigned bytes: it begins with {raw[:4].hex(' ') or 'nothing'}")
    header = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw[4:header], ">u4").tolist()) if len(raw) >= header else ()
    if len(shape) != raw[3] or len(raw) < header + math.prod(shape):
        raise UserError(
            f"{path} is truncated: {len(raw)} bytes, expected {header + math.prod(shape)}: get a fresh copy"
        )
    if len(raw) > header + math.prod(shape):
        raise UserError(f"{path} is longer than its header says ({header + math.prod(shape)} bytes): get a fresh copy")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _find(source: Path, file: str) -> Path:
    """The file, plain or gzipped, under the names and folders that are in use."""
    if not source.is_dir():
        raise UserError(f"{source} is no folder: expected one with the four IDX files of MNIST (--from PATH)")
    dotted = file.replace("-idx", ".idx")
    for folder in (source, source / "raw", source / "MNIST" / "raw"):
        for name in (f"{file}.gz", file, f"{dotted}.gz", dotted):
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"{source} has no {file} (or {file}.gz): expected the four IDX files {', '.join(FILES)}")
