"""The prepared form of a data set: one memory-mapped array a split, its labels, and a small JSON that describes them.

``ROOT/NAME/`` holds ``train.npy`` and ``test.npy`` (uint8 [n, C, H, W]), ``train_labels.npy`` and ``test_labels.npy``
(int64 [n]) and ``data.json``. The arrays are mapped copy-on-write: they load at once, and processes share their memory.

Every byte is read and compared with the record at the first load, and again once a file has changed (its size, times or
inode); ``verified.json`` notes the state that was found right. The record holds a seal over itself. One that an earlier
version wrote has none: all of it that images and labels determine is computed again instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gendyn_lite.data.storage import disk_errors, interrupted
from gendyn_lite.data.types import ImageData, Split, channel_statistics, fingerprint
from gendyn_lite.errors import UserError

FORMAT = 1
RECORD, NOTE, SEAL = "data.json", "verified.json", "seal"
SPLITS = ("train", "test")
FILES = tuple(f"{split}{kind}.npy" for split in SPLITS for kind in ("", "_labels"))
FIELDS: dict[str, Any] = {  # a type, [the kind of each item], or {str: the kind of each value}
    "format": int,
    "name": str,
    "description": str,
    "class_names": [str],
    "counts": {str: [int]},
    "shape": [int],
    "mean": [float],
    "std": [float],
    "fingerprint": str,
    "files": {str: dict},
    "source": dict,
}
RESOLUTION = 1_000_000_000  # ns: a file that was written less long ago may change and keep its time
UNSEALED = "its description and class names cannot be checked; prepare it anew, and they are sealed"
_passed: dict[str, list[list[int]]] = {}  # by note: the state that this process knows to be right


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
        fields: All others of `FIELDS` that do not follow from these.

    Returns:
        The record.
    """
    for split, y in labels.items():
        np.save(folder / f"{split}_labels.npy", y.astype(np.int64))
    record: dict[str, Any] = {
        "format": FORMAT,
        **fields,
        "class_names": list(class_names),
        "counts": counts(class_names, **labels),
        "files": {file: {"bytes": (folder / file).stat().st_size, "sha256": sha256(folder / file)} for file in files},
    }
    record[SEAL] = seal(record)
    lines = (f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in record.items())
    (folder / RECORD).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return record


def seal(record: dict[str, Any]) -> str:
    """The SHA-256 of all other fields of a record."""
    rest = {key: value for key, value in record.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def find(folder: Path) -> Path | None:
    """Where a set is prepared: in its folder, or what a process that was killed while it replaced it left; None if not.

    What is there is whole, since it was renamed in.
    """
    with disk_errors(folder):
        if (folder / RECORD).is_file():
            return folder
        return interrupted(folder)


def read_record(folder: Path, *, name: str = "") -> dict[str, Any]:
    """The record of a prepared folder, which must be that of `name`, if one is given.

    Raises:
        UserError: It is no record that this version can read, was altered, or is of another set.
    """
    record = parse(folder)
    if name and record["name"] != name:
        raise UserError(f"{folder} holds {record['name']}, not {name}: rename it, or choose another place with --root")
    if SEAL in record and record[SEAL] != seal(record):
        raise UserError(f"{folder / RECORD} was altered since it was written: {again(folder)}")
    return record


def parse(folder: Path) -> dict[str, Any]:
    """The record of a prepared folder, whether or not it was altered.

    Raises:
        UserError: It is no record that this version can read.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}): {again(folder)}") from None
    fields = record if isinstance(record, dict) else {}
    problem = next((key for key, kind in FIELDS.items() if not _is_a(fields.get(key), kind)), None)
    if problem is not None:
        raise UserError(f"{path} has no valid {problem!r}: {again(folder)}")
    if record["format"] != FORMAT:
        raise UserError(f"{path} has format {record['format']}, expected {FORMAT}: {again(folder)}")
    return record


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a kind, as `FIELDS` has them."""
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is_a(item, kind[0]) for item in value)
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_is_a(item, kind[str]) for item in value.values())
    return type(value) is kind


def read(folder: Path, *, name: str) -> ImageData:
    """The data of a prepared folder, mapped into memory, once it is known to be as it was prepared.

    Raises:
        UserError: A file is missing or was altered, or the folder holds another set.
    """
    record = read_record(folder, name="" if name.startswith("folder:") else name)
    check_once(folder, record, FILES, lambda: check(folder, record, FILES, _measured))
    train, test = (_split(folder, split) for split in SPLITS)
    return ImageData.from_record(name, record, train=train, test=test)


def verify(folder: Path) -> dict[str, Any]:
    """The record of a prepared folder, once every byte has been read and compared with it.

    Raises:
        UserError: A file was altered.
    """
    record = read_record(folder)
    _state(folder, record, FILES)
    check(folder, record, FILES, _measured)
    return record


def check_once(folder: Path, record: dict[str, Any], files: Sequence[str], check: Callable[[], None]) -> None:
    """Compare sizes with the record, and call `check` unless it passed before, here or in another process.

    It passed if no file has changed since. Where the folder cannot be written, each process checks for itself.

    Args:
        folder: Where the files are.
        record: Its record.
        files: All of them but the record.
        check: Raises a `UserError` if something was altered.

    Raises:
        UserError: As `check`; or a file is missing or has another size.
    """
    note, state, known = folder / NOTE, _state(folder, record, files), None
    if _passed.get(str(note)) == state:
        return
    with suppress(OSError, ValueError, RecursionError):
        known = json.loads(note.read_bytes())
    if known != state:
        check()
        if SEAL not in record:
            sys.stderr.write(f"{folder / RECORD} is of an earlier version: {UNSEALED}\n")
        if max(changed for _, changed, *_ in state) > time.time_ns() - RESOLUTION:
            return
        with suppress(OSError):
            note.write_text(json.dumps(state), encoding="utf-8")
    _passed[str(note)] = state


def _state(folder: Path, record: dict[str, Any], files: Sequence[str]) -> list[list[int]]:
    """Size, times of change (ns) and inode of all files, others once one was written to; sizes must be as recorded."""
    try:
        found = [os.stat(folder / file) for file in (RECORD, *files)]
    except FileNotFoundError as error:
        raise UserError(f"{error.filename}: {error.strerror}: {again(folder)}") from None
    for file, each in zip(files, found[1:], strict=True):
        expected = record["files"].get(file, {}).get("bytes")
        if each.st_size != expected:
            raise UserError(f"{folder / file} has {each.st_size} bytes, expected {expected}: {again(folder)}")
    return [[each.st_size, each.st_mtime_ns, each.st_ctime_ns, each.st_ino] for each in found]


def check(
    folder: Path, record: dict[str, Any], files: Sequence[str], measure: Callable[[Path, dict[str, Any]], dict]
) -> None:
    """Compare the SHA-256 of each file with the record, and the record with what the files determine.

    Args:
        folder: Where the files are.
        record: Its record.
        files: All of them but the record.
        measure: (folder, record) → the fields that the files determine.

    Raises:
        UserError: A file or a field was altered.
    """
    for file in files:
        if sha256(folder / file) != record["files"][file].get("sha256"):
            raise UserError(f"{folder / file} was altered since it was prepared: {again(folder)}")
    try:
        odd = [key for key, value in measure(folder, record).items() if record[key] != value]
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder} does not hold the images of its record ({error}): {again(folder)}") from None
    if odd:
        raise UserError(f"{folder / RECORD} was altered (another {odd[0]}): {again(folder)}")


def _measured(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    train, test = (_split(folder, split) for split in SPLITS)
    fields: dict[str, Any] = {
        "fingerprint": fingerprint(train, test),
        "shape": list(train.x.shape[1:]),
        "counts": counts(record["class_names"], train=train.y.numpy(), test=test.y.numpy()),
    }
    if SEAL not in record:  # to the last digit but one: sums differ between processors
        for key, value in zip(("mean", "std"), channel_statistics(train.x), strict=True):
            near = len(record[key]) == len(value) and np.allclose(record[key], value, rtol=0, atol=1e-9)
            fields[key] = record[key] if near else value
    return fields


def counts(class_names: Sequence[str], **labels: np.ndarray) -> dict[str, list[int]]:
    """The number of examples of each class, by split."""
    return {split: np.bincount(y, minlength=len(class_names)).tolist() for split, y in labels.items()}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _split(folder: Path, split: str) -> Split:
    return Split(_mapped(folder / f"{split}.npy"), _mapped(folder / f"{split}_labels.npy"))


def _mapped(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def again(folder: Path) -> str:
    """What to do about a damaged folder."""
    return f"remove {folder} and prepare it again with `gendyn data`"
