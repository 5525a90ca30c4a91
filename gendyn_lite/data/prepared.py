"""The prepared form of a data set: one memory-mapped array a split, its labels, and a small JSON that describes them.

``ROOT/NAME/`` holds ``train.npy`` and ``test.npy`` (uint8 [n, C, H, W]), ``train_labels.npy`` and ``test_labels.npy``
(int64 [n]) and ``data.json``. The arrays are mapped copy-on-write: they load at once, and processes share their memory.

Every byte is read and compared with the record at a process's first load (a second for 1 GB), and again once a file has
changed (its size, times or inode). The record holds a seal over itself.
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
_passed: dict[Path, list[list[int]]] = {}  # folder → the state of its files that this process knows to be right


def allocate(folder: Path, split: str, shape: Sequence[int]) -> np.memmap:
    """A new array file for the images of a split, uint8 `shape`, to be filled in place."""
    path = folder / f"{split}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=tuple(shape))
    if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and not a crash when a page is written
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def finish(folder: Path, *, labels: dict[str, np.ndarray], **fields: Any) -> dict[str, Any]:
    """Write the labels and the record of a folder whose image arrays are filled.

    Args:
        folder: Where `allocate` made the arrays.
        labels: ``"train"`` and ``"test"``, whole numbers [n].
        fields: Of the record: name (to load it by), description (what the images truly are), class_names (in the order
            of the labels) and source (where it came from), JSON values.

    Returns:
        The record, as in ``data.json``.
    """
    pixels = {split: _mapped(folder / f"{split}.npy") for split in SPLITS}
    train, test = (Split(pixels[split], torch.from_numpy(labels[split].astype(np.int64))) for split in SPLITS)
    mean, std = channel_statistics(train.x)
    fields |= {"shape": list(train.x.shape[1:]), "mean": mean, "std": std, "fingerprint": fingerprint(train, test)}
    return write_record(folder, FILES, labels=labels, **fields)


def write_record(
    folder: Path, files: Sequence[str], *, labels: dict[str, np.ndarray], class_names: Sequence[str], **fields: Any
) -> dict[str, Any]:
    """Write the labels of each split, int64 [n], and ``data.json``, a line a field, with a seal over the others.

    Args:
        folder: Holds the other `files`.
        files: All files but the record.
        labels: ``"train"`` and ``"test"``, whole numbers [n].
        class_names: In the order of the labels.
        fields: All others: name, description, shape, mean, std, fingerprint and source, JSON values.

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
    """Where a set is prepared: in its folder, or what a process that was killed while it replaced it left; None if not.

    What is there is whole, since it was renamed in.
    """
    with disk_errors(folder):
        return next((place for place in (folder, standing(folder)) if (place / RECORD).is_file()), None)


def read_record(folder: Path, name: str = "") -> dict[str, Any]:
    """The record of a prepared folder, which must be that of `name`, if one is given.

    One's own images may have been prepared by another path than they are loaded by.

    Raises:
        UserError: It is no record that this version can read, was altered, or is of another set.
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
    """The data of a prepared folder, mapped into memory, once it is known to be as it was prepared.

    Raises:
        UserError: A file is missing or was altered, or the folder holds another set.
    """
    record = read_record(folder, name)
    check_once(folder, record)
    train, test = (Split(_mapped(folder / f"{split}.npy"), _mapped(folder / f"{split}_labels.npy")) for split in SPLITS)
    return ImageData.from_record(name, record, train=train, test=test)


def check_once(folder: Path, record: dict[str, Any]) -> None:
    """As `check`, unless this process has read every byte before and no file has changed since."""
    state = _state(folder, record)
    if _passed.get(folder) != state:
        check(folder, record)
        _passed[folder] = state


def _state(folder: Path, record: dict[str, Any]) -> list[list[int]]:
    """Size, times of change (ns) and inode of all files, others once one was written to; sizes must be as recorded."""
    try:
        found = [os.stat(folder / file) for file in (RECORD, *record["files"])]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: {error.strerror}: {again(folder)}") from None
    for (file, entry), each in zip(record["files"].items(), found[1:], strict=True):
        if each.st_size != entry["bytes"]:
            raise UserError(f"{folder / file} has {each.st_size} bytes, expected {entry['bytes']}: {again(folder)}")
    return [[each.st_size, each.st_mtime_ns, each.st_ctime_ns, each.st_ino] for each in found]


def check(folder: Path, record: dict[str, Any]) -> None:
    """Read every byte of a prepared folder and compare it with the record.

    Raises:
        UserError: A file is missing or was altered.
    """
    _state(folder, record)
    for file, entry in record["files"].items():
        if sha256(folder / file) != entry["sha256"]:
            raise UserError(f"{folder / file} was altered since it was prepared: {again(folder)}")


def _mapped(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def again(folder: Path) -> str:
    """What to do about a damaged folder."""
    return f"remove {folder} and prepare it again with `gendyn data`"
