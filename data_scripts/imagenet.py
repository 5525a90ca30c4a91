"""ImageNet: an index of its image folder, which stays where it is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gendyn_lite.data import prepared
from gendyn_lite.data.decoding import FolderImages, Options
from gendyn_lite.data.image_folder import Listing, listing, walk
from gendyn_lite.data.loading import INDEX_FILES, check_index
from gendyn_lite.data.types import channel_statistics
from gendyn_lite.errors import UserError

RESIZE, CROP = 256, 224  # the shorter side, then the centre: as the field evaluates
COUNTS = {"train": 1_281_167, "test": 50_000}
CLASSES = 1000
SAMPLE = 2000  # training images from which mean and standard deviation are taken


def prepare(source: Path, to: Path, *, description: str | None) -> dict[str, Any]:
    """Register an image folder: names, sizes and classes are read, and a sample is decoded.

    Args:
        source: Folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG.
        to: Empty folder to fill.
        description: What it truly is; None to go by its counts.

    Returns:
        The record. Its fingerprint is of names and sizes: contents (150 GB) are read by ``--verify`` only.

    Raises:
        UserError: It is no such folder, or an image is empty or cannot be read.
    """
    source = source.absolute()
    tree = listing(walk(source), where=str(source))
    sizes = {split: _sizes(source, names, split) for split, names in tree.files.items()}
    images = _images(source, tree, "train")
    mean, std = channel_statistics(images[slice(None, None, -(-len(images) // SAMPLE))])
    for split, names in tree.files.items():
        (to / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
        np.save(to / f"{split}_labels.npy", tree.labels[split])
    record = {
        "format": prepared.FORMAT,
        "name": "imagenet",
        "description": description or _describe(tree),
        "class_names": list(tree.class_names),
        "counts": prepared.counts(tree.class_names, **tree.labels),
        "shape": [3, CROP, CROP],
        "mean": mean,
        "std": std,
        "fingerprint": _fingerprint(tree, sizes),
        "files": prepared.describe_files(to, INDEX_FILES),
        "source": {"kind": "image folder", "folder": str(source), "resize": RESIZE, "crop": CROP},
    }
    prepared.write_record(to, record)
    return record


def verify(folder: Path) -> dict[str, Any]:
    """Decode every image of a registered folder and compare names, sizes and labels with the record.

    Returns:
        The record.

    Raises:
        UserError: An image is missing, changed or cannot be read; the first one is named. Or the record was altered.
    """
    record = prepared.read_record(folder, name="imagenet")
    check_index(folder, record)
    source = Path(record["source"]["folder"])
    tree = listing(walk(source), where=str(source))
    sizes = {split: _sizes(source, names, split) for split, names in tree.files.items()}
    if _fingerprint(tree, sizes) != record["fingerprint"]:
        raise UserError(
            f"{source} has changed since it was registered (names or sizes): `gendyn data imagenet --from {source}`"
        )
    for split in tree.files:
        images = _images(source, tree, split)
        step = 16 * 32
        for start in tqdm(range(0, len(images), step), desc=f"verifying {split}", unit_scale=step, disable=None):
            images[start : start + step]
    return record


def _images(source: Path, tree: Listing, split: str) -> FolderImages:
    return FolderImages(str(source), np.array(tree.files[split]), Options(3, (CROP, CROP), RESIZE, CROP))


def _sizes(source: Path, names: list[str], split: str) -> list[int]:
    """The size of every file; none may be empty."""
    sizes = []
    for name in tqdm(names, desc=f"listing {split}", unit="img", disable=None):
        if "\n" in name:
            raise UserError(f"{source}/{name!r}: a file name must not hold a line break: rename it")
        sizes.append((source / name).stat().st_size)
        if not sizes[-1]:
            raise UserError(f"{source}/{name} is empty (0 bytes): remove or replace it")
    return sizes


def _fingerprint(tree: Listing, sizes: dict[str, list[int]]) -> str:
    """A hash of names, sizes and how images are cut: the same wherever the folder is."""
    total = hashlib.sha256(f"imagenet resize {RESIZE} crop {CROP}\n".encode())
    for split, names in tree.files.items():
        for name, size in zip(names, sizes[split], strict=True):
            total.update(f"{split} {'/'.join(name.split('/')[-2:])} {size}\n".encode())
    return total.hexdigest()[:16]


def _describe(tree: Listing) -> str:
    counts = {split: len(names) for split, names in tree.files.items()}
    if counts == COUNTS and len(tree.class_names) == CLASSES:
        return "ImageNet"
    number = f"{len(tree.class_names):,} classes, {counts['train']:,} train and {counts['test']:,} test images"
    return f"ImageNet, a part ({number})"
