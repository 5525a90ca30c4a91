"""The prepared form of a data set: one memory-mapped array a split, its labels, and a small JSON that describes them.

``ROOT/NAME/`` holds ``train.npy`` and ``test.npy`` (uint8 [n, C, H, W]), ``train_labels.npy`` and ``test_labels.npy``
(int64 [n]) and ``data.json``. The arrays are mapped copy-on-write: they load at once, and processes share their memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gendyn_lite.data.embedded import fingerprint
from gendyn_lite.data.randomization import channel_statistics
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.errors import UserError

FORMAT = 1
RECORD = "data.json"
SPLITS = ("train", "test")
FILES = tuple(f"{split}{kind}.npy" for split in SPLITS for kind in ("", "_labels"))
FIELDS = {
    "format": int,
    "name": str,
    "description": str,
    "class_names": list,
    "counts": dict,
    "shape": list,
    "mean": list,
    "std": list,
    "fingerprint": str,
    "files": dict,
    "source": dict,
}


def allocate(folder: Path, split: str, shape: Sequence[int]) -> np.memmap:
    """A new array file for the images of a split, uint8 `shape`, to be filled in place."""
    path = folder / f"{split}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and not a crash when a page is written
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def finish(
    folder: Path,
    *,
    name: str,
    description: str,
    class_names: Sequence[str],
    labels: dict[str, np.ndarray],
    source: dict[str, Any],
) -> dict[str, Any]:
    """Write the labels and the record of a folder whose image arrays are filled.

    Args:
        folder: Where `allocate` made the arrays.
        name: Name to load it by.
        description: What the images truly are.
        class_names: In the order of the labels.
        labels: ``"train"`` and ``"test"``, whole numbers [n].
        source: Where it came from, JSON values.

    Returns:
        The record, as in ``data.json``.
    """
    for split in SPLITS:
        np.save(folder / f"{split}_labels.npy", labels[split].astype(np.int64))
    parts = {split: _split(folder, split) for split in SPLITS}
    mean, std = channel_statistics(parts["train"].x)
    record = {
        "format": FORMAT,
        "name": name,
        "description": description,
        "class_names": list(class_names),
        "counts": {s: part.y.bincount(minlength=len(class_names)).tolist() for s, part in parts.items()},
        "shape": list(parts["train"].x.shape[1:]),
        "mean": mean,
        "std": std,
        "fingerprint": fingerprint(parts["train"], parts["test"]),
        "files": describe_files(folder, FILES),
        "source": source,
    }
    write_record(folder, record)
    return record


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``data.json``, a line a field."""
    lines = (f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in record.items())
    (folder / RECORD).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def exists(folder: Path) -> bool:
    """Whether something is prepared there; it is whole, since it was renamed in."""
    return (folder / RECORD).is_file()


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a prepared folder.

    Raises:
        UserError: It is no record that this version can read.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        problem = next((key for key, kind in FIELDS.items() if not isinstance(record.get(key), kind)), None)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read ({error}): {_again(folder)}") from None
    if problem is not None:
        raise UserError(f"{path} has no valid {problem!r}: {_again(folder)}")
    if record["format"] != FORMAT:
        raise UserError(f"{path} has format {record['format']}, expected {FORMAT}: {_again(folder)}")
    return record


def read(folder: Path, *, name: str) -> ImageData:
    """The data of a prepared folder, mapped into memory; sizes and shapes are checked, contents are not read.

    Raises:
        UserError: A file is missing, cut, or does not fit the record.
    """
    record = read_record(folder)
    check_sizes(folder, record, FILES)
    parts = {split: _split(folder, split) for split in SPLITS}
    for split, part in parts.items():
        count = sum(record["counts"][split])
        if list(part.x.shape) != [count, *record["shape"]] or list(part.y.shape) != [count]:
            raise UserError(f"{folder / split}.npy is {list(part.x.shape)}, unlike its record: {_again(folder)}")
    return ImageData.from_record(name, record, train=parts["train"], test=parts["test"])


def verify(folder: Path) -> dict[str, Any]:
    """Read every byte of a prepared folder and compare it with its record.

    Returns:
        The record.

    Raises:
        UserError: A file was altered.
    """
    record = read_record(folder)
    check_sizes(folder, record, FILES)
    for file in FILES:
        if sha256(folder / file) != record["files"][file]["sha256"]:
            raise UserError(f"{folder / file} was altered since it was prepared: {_again(folder)}")
    if fingerprint(*(_split(folder, split) for split in SPLITS)) != record["fingerprint"]:
        raise UserError(f"{folder / RECORD} was altered (another fingerprint): {_again(folder)}")
    return record


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _split(folder: Path, split: str) -> Split:
    x, y = (
        torch.from_numpy(np.load(folder / f"{split}{kind}.npy", mmap_mode="c", allow_pickle=False))
        for kind in ("", "_labels")
    )
    return Split(x, y)


def describe_files(folder: Path, files: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of each file, for the record."""
    return {file: {"bytes": (folder / file).stat().st_size, "sha256": sha256(folder / file)} for file in files}


def check_sizes(folder: Path, record: dict[str, Any], files: Sequence[str]) -> None:
    """Compare the size of each file with the record.

    Raises:
        UserError: One is missing or has another size.
    """
    for file in files:
        try:
            size = (folder / file).stat().st_size
        except OSError as error:
            raise UserError(f"{folder / file}: {error.strerror}: {_again(folder)}") from None
        expected = record["files"].get(file, {}).get("bytes")
        if size != expected:
            raise UserError(f"{folder / file} has {size} bytes, expected {expected}: {_again(folder)}")


def _again(folder: Path) -> str:
    """What to do about a damaged folder."""
    return f"remove {folder} and prepare it again with `gendyn data`"
