"""Prepare image trees: decode them into arrays or, for ImageNet, write an index of a folder that stays where it is."""

from __future__ import annotations

import hashlib
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from gendyn_lite.data import prepared
from gendyn_lite.data.decoding import FolderImages
from gendyn_lite.data.image_folder import INDEX_FILES, Listing, decode_splits, listing, walk
from gendyn_lite.data.sources import Source
from gendyn_lite.data.types import channel_statistics
from gendyn_lite.decode import Options, Side
from gendyn_lite.errors import UserError

RESIZE, CROP = 256, 224  # of ImageNet: length of the shorter side, and side of the centre crop, as is usual
COUNTS, CLASSES = {"train": 1_281_167, "test": 50_000}, 1000  # of the whole ImageNet
LOOKED_AT = 200  # number of images whose format is determined
STEP = 512  # number of images that are decoded at once for verification
SAMPLE = 2000  # number of training images for mean and standard deviation


def prepare_tree(
    files: Source, tree: Listing, to: Path, *, size: int | None = None, side: Side | None = None, **fields: Any
) -> dict[str, Any]:
    """Decode an image tree and write its prepared form.

    Args:
        files: The files of the tree.
        tree: Its listing.
        to: An empty folder.
        size: Side to resize and crop every image to; None to leave them.
        side: Height and width that the images must have; None for those of the first one.
        fields: Name, description and source, as for `prepared.finish`.

    Returns:
        The record.

    Raises:
        UserError: An image cannot be read or has another size.
    """

    def out(split: str, shape: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(prepared.allocate(to, split, shape))

    decode_splits(tree, files.locate, out, size=size, side=side)
    return prepared.finish(to, class_names=tree.class_names, labels=tree.labels, **fields)


def encoding(source: Source, tree: Listing) -> str:
    """The format of the images, such as ``"JPEG q75"`` or ``"PNG"``, from the headers of about 200 of them."""
    files = tree.files["train"] + tree.files["test"]
    kinds = set()
    for name in files[:: max(1, len(files) // LOOKED_AT)]:
        try:
            with Image.open(io.BytesIO(source.read(name))) as image:
                tables = getattr(image, "quantization", None)
                quality = jpeg_quality(tuple(tables[0])) if tables else None
                kinds.add(f"{image.format} q{quality}" if quality else str(image.format))
        except Exception as error:
            raise UserError(f"{name} cannot be read as an image ({error}): remove or replace it") from None
    if len(kinds) > 1:
        kinds = {kind.split()[0] for kind in kinds}
    return kinds.pop() if len(kinds) == 1 else "mixed formats"


@cache
def jpeg_quality(table: tuple[int, ...]) -> int | None:
    """The quality setting with which libjpeg, and so most programs, writes this quantization table of luminance.

    Returns:
        The quality, 1 to 100, or None if no quality gives this table.

    >>> jpeg_quality((8, 6, 5, 8, 12, 20, 26, 31, 6, 6, 7, 10, 13, 29, 30, 28, 7, 7, 8, 12, 20, 29, 35, 28, 7, 9, 11,
    ... 15, 26, 44, 40, 31, 9, 11, 19, 28, 34, 55, 52, 39, 12, 18, 28, 32, 41, 52, 57, 46, 25, 32, 39, 44, 52, 61, 60,
    ... 51, 36, 46, 48, 49, 56, 50, 52, 50))
    75
    """
    for quality in range(1, 101):
        out = io.BytesIO()
        Image.new("L", (1, 1)).save(out, "JPEG", quality=quality)
        written: Any = Image.open(out)
        if tuple(written.quantization[0]) == table:
            return quality
    return None


def register_imagenet(source: Path, to: Path, *, description: str | None) -> dict[str, Any]:
    """Register an image folder: read the names, sizes and classes of all images, and decode a sample.

    Args:
        source: Folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG.
        to: An empty folder for the index.
        description: What it truly is; None to determine it from the numbers of images and classes.

    Returns:
        The record. Its fingerprint is of names and sizes; the images themselves (150 GB) are read only by ``--verify``.

    Raises:
        UserError: It is not such a folder, its classes are not ImageNet's, or an image is empty or cannot be read.
    """
    source = source.absolute()
    tree = listing(walk(source), where=str(source))
    tree.tell()
    strange = [name for name in tree.class_names if not re.fullmatch(r"n\d{8}", name)]
    if strange and description is None:
        told = f"{source} has the class {strange[0]!r}, expected ImageNet's (such as n01440764)"
        raise UserError(f"{told}: load your own images as folder:PATH, or say what these are with --description")
    fingerprint = _fingerprint(source, tree)
    images = _images(source, tree, "train")
    mean, std = channel_statistics(images[slice(None, None, -(-len(images) // SAMPLE))])
    for split, names in tree.files.items():
        (to / f"{split}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    kept = {"kind": "image folder", "folder": str(source), "resize": RESIZE, "crop": CROP}
    found = {"shape": [3, CROP, CROP], "mean": mean, "std": std, "fingerprint": fingerprint, "source": kept}
    named = {"name": "imagenet", "description": description or _describe(tree), "class_names": tree.class_names}
    return prepared.write_record(to, INDEX_FILES, labels=tree.labels, **named, **found)


def verify_imagenet(record: dict[str, Any]) -> None:
    """Compare the names and sizes of all images in a registered folder with its record, and decode every image.

    Raises:
        UserError: The names or sizes have changed, or an image cannot be read; it is named.
    """
    source = Path(record["source"]["folder"])
    tree = listing(walk(source), where=str(source))
    tree.tell()
    if _fingerprint(source, tree) != record["fingerprint"]:
        raise UserError(
            f"{source} has changed since it was registered (names or sizes): `gendyn data imagenet --from {source}`"
        )
    for split in tree.files:
        images = _images(source, tree, split)
        for start in tqdm(range(0, len(images), STEP), desc=f"verifying {split}", unit_scale=STEP, disable=None):
            images[start : start + STEP]


def _images(source: Path, tree: Listing, split: str) -> FolderImages:
    """The images of a split, resized and cropped."""
    return FolderImages(str(source), np.array(tree.files[split]), Options(3, (CROP, CROP), RESIZE, CROP))


def _fingerprint(source: Path, tree: Listing) -> str:
    """A hash of the names and sizes of all images and of how they are cropped; it does not depend on the folder's path.

    Raises:
        UserError: A file is empty, or its name contains a line break.
    """
    total = hashlib.sha256(f"imagenet resize {RESIZE} crop {CROP}\n".encode())
    for split, names in tree.files.items():
        for name in tqdm(names, desc=f"listing {split}", unit="img", disable=None):
            if "\n" in name:
                raise UserError(f"{source}/{name!r}: the file name contains a line break: rename it")
            size = (source / name).stat().st_size
            if not size:
                raise UserError(f"{source}/{name} is empty (0 bytes): remove or replace it")
            total.update(f"{split} {'/'.join(name.split('/')[-2:])} {size}\n".encode())
    return total.hexdigest()[:16]


def _describe(tree: Listing) -> str:
    """The description of a registered folder, from its numbers of images and classes."""
    counts = {split: len(names) for split, names in tree.files.items()}
    if counts == COUNTS and len(tree.class_names) == CLASSES:
        return "ImageNet"
    number = f"{len(tree.class_names):,} classes, {counts['train']:,} train and {counts['test']:,} test images"
    return f"ImageNet, a part ({number})"
