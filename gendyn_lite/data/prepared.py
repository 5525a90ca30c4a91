"""The prepared form of a data set: a memory-mapped array per split, its labels, and a record that describes them.

``ROOT/NAME/`` holds ``train.npy`` and ``test.npy`` (uint8 [n, C, H, W]), ``train_labels.npy`` and ``test_labels.npy``
(int64 [n]) and the record ``data.json``. The arrays are mapped copy-on-write, so that they load instantly and processes
share their memory.

When a process first loads a set, all its files are hashed and compared with the record (about a second per GB); they
are hashed again only if the size, times or inode of a file have changed. The record is sealed by a hash of itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gendyn_lite.data.types import ImageData, Split, channel_statistics, fingerprint
from gendyn_lite.errors import UserError, disk_errors
from gendyn_lite.results.files import read_json, seal, sha256, standing

FORMAT = 1
RECORD = "data.json"
SPLITS = ("train", "test")
FILES = tuple(f"{split}{kind}.npy" for split in SPLITS for kind in ("", "_labels"))
_passed: dict[Path, list[list[int]]] = {}  # folder → state of its files (see `_state`) when they were last verified


def allocate(folder: Path, split: str, shape: Sequence[int]) -> np.memmap:
    """Create the file for the images of a split; returns its array, uint8 of the given shape, to be filled in place."""
    path = folder / f"{split}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):  # so that a full disk raises an error now instead of crashing the process later
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def finish(folder: Path, *, labels: dict[str, np.ndarray], **fields: Any) -> dict[str, Any]:
    """Write labels and record into a folder whose image arrays have been filled.

    Args:
        folder: The folder that `allocate` created the arrays in.
        labels: Whole numbers [n], by split (``"train"``, ``"test"``).
        fields: Entries of the record, JSON values: name (of the data set), description (what the images truly are),
            class_names (in the order of the labels) and source (where they came from).

    Returns:
        The record.
    """
    pixels = {split: _mapped(folder / f"{split}.npy") for split in SPLITS}
    train, test = (Split(pixels[split], torch.from_numpy(labels[split].astype(np.int64))) for split in SPLITS)
    mean, std = channel_statistics(train.x)
    fields |= {"shape": list(train.x.shape[1:]), "mean": mean, "std": std, "fingerprint": fingerprint(train, test)}
    return write_record(folder, FILES, labels=labels, **fields)


def write_record(
    folder: Path, files: Sequence[str], *, labels: dict[str, np.ndarray], class_names: Sequence[str], **fields: Any
) -> dict[str, Any]:
    """Write the labels of each split, and the sealed record ``data.json`` with one line per entry.

    Args:
        folder: A folder that contains all other `files`.
        files: Names of all files except the record.
        labels: Whole numbers [n], by split (``"train"``, ``"test"``).
        class_names: Names of the classes, in the order of the labels.
        fields: The other entries, JSON values: name, description, shape, mean, std, fingerprint and source.

    Returns:
        The record.
    """
    for split, y in labels.items():
        np.save(folder / f"{split}_labels.npy", y.astype(np.int64))
    record: dict[str, Any] = {
        "format": FORMAT,
        **fields,
        "class_names": list(class_names),
        "counts": {split: np.bincount(y, minlength=len(class_names)).tolist() for split, y in labels.items()},
        "files": {file: {"bytes": (folder / file).stat().st_size, "sha256": sha256(folder / file)} for file in files},
    }
    record["seal"] = seal(record)
    lines = (f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in record.items())
    (folder / RECORD).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return record


def find(folder: Path) -> Path | None:
    """The folder that holds a prepared set, or None if there is none.

    It is `folder`, or its old version aside, if a process was killed while it replaced the folder. Either is complete.
    """
    with disk_errors(folder):
        return next((place for place in (folder, standing(folder)) if (place / RECORD).is_file()), None)


def read_record(folder: Path, name: str = "") -> dict[str, Any]:
    """Read and verify the record of a prepared folder.

    Args:
        folder: The folder.
        name: Name that the set must have; empty for any. Names ``folder:PATH`` are not compared, because the same
            images may be loaded by another path than they were prepared by.

    Raises:
        UserError: The record was altered, has a format that this version cannot read, or is of another set.
    """
    path = folder / RECORD
    record = read_json(path, remedy=again(folder))
    if record.get("seal") != seal(record):
        raise UserError(f"{path} was altered since it was written: {again(folder)}")
    if record["format"] != FORMAT:
        raise UserError(f"{path} has format {record['format']}, expected {FORMAT}: {again(folder)}")
    if name and record["name"] != name and not name.startswith("folder:"):
        raise UserError(f"{folder} holds {record['name']}, not {name}: rename it, or choose another place with --root")
    return record


def read(folder: Path, *, name: str) -> ImageData:
    """Load a prepared set, memory-mapped, after verifying its files.

    Raises:
        UserError: A file is missing or was altered, or the folder holds another set.
    """
    record = read_record(folder, name)
    check_once(folder, record)
    train, test = (Split(_mapped(folder / f"{split}.npy"), _mapped(folder / f"{split}_labels.npy")) for split in SPLITS)
    return ImageData.from_record(name, record, train=train, test=test)


def check_once(folder: Path, record: dict[str, Any]) -> None:
    """Verify all files as `check` does, unless this process has done so before and no file has changed since."""
    state = _state(folder, record)
    if _passed.get(folder) != state:
        check(folder, record)
        _passed[folder] = state


def _state(folder: Path, record: dict[str, Any]) -> list[list[int]]:
    """The size, modification and change time (ns) and inode of each file, which change if a file is written to.

    Raises:
        UserError: A file is missing, or has another size than recorded.
    """
    try:
        found = [os.stat(folder / file) for file in (RECORD, *record["files"])]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: {error.strerror}: {again(folder)}") from None
    for (file, entry), each in zip(record["files"].items(), found[1:], strict=True):
        if each.st_size != entry["bytes"]:
            raise UserError(f"{folder / file} has {each.st_size} bytes, expected {entry['bytes']}: {again(folder)}")
    return [[each.st_size, each.st_mtime_ns, each.st_ctime_ns, each.st_ino] for each in found]


def check(folder: Path, record: dict[str, Any]) -> None:
    """Verify the hashes of all files of a prepared folder.

    Raises:
        UserError: A file is missing or was altered.
    """
    _state(folder, record)
    for file, entry in record["files"].items():
        if sha256(folder / file) != entry["sha256"]:
            raise UserError(f"{folder / file} was altered since it was prepared: {again(folder)}")


def _mapped(path: Path) -> torch.Tensor:
    """The array in a file, memory-mapped copy-on-write."""
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def again(folder: Path) -> str:
    """The advice about a damaged folder in error messages."""
    return f"remove {folder} and prepare it again with `gendyn data`"
