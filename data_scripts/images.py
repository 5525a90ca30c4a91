"""Import an image tree into the prepared form, and say truly what its images are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data_scripts.sources import Source
from gendyn_lite.data import prepared
from gendyn_lite.data.image_folder import Listing, decode_splits, listing
from gendyn_lite.errors import UserError

SAMPLE = 200  # images whose format is looked at

# The luminance table of the JPEG standard (Annex K.1), sorted; encoders scale it by a quality from 1 to 100.
# fmt: off
LUMINANCE = [
    10, 11, 12, 12, 13, 14, 14, 14, 16, 16, 16, 17, 18, 19, 22, 22, 24, 24, 24, 26, 29, 35, 37, 40, 40, 49, 51, 51, 55,
    55, 56, 56, 57, 58, 60, 61, 62, 64, 64, 68, 69, 72, 77, 78, 80, 81, 87, 87, 92, 92, 95, 98, 99, 100, 101, 103, 103,
    103, 104, 109, 112, 113, 120, 121,
]
# fmt: on


def prepare(
    source: Source,
    to: Path,
    *,
    name: str,
    description: str,
    record: dict[str, Any],
    size: int | None = None,
    side: tuple[int, int] | None = None,
    tree: Listing | None = None,
) -> dict[str, Any]:
    """Write the prepared form of an image tree.

    Args:
        source: The tree.
        to: Empty folder to fill.
        name: Name to load it by.
        description: What it truly is.
        record: Where it came from.
        size: Side to resize and cut every image to.
        side: Height and width that the images must have.
        tree: Its listing, if it is known already.

    Returns:
        The record.
    """
    tree = tree or listing(source.names, where=source.where)
    decode_splits(
        tree,
        source.locate,
        lambda split, shape: torch.from_numpy(prepared.allocate(to, split, shape)),
        size=size,
        side=side,
    )
    return prepared.finish(
        to,
        name=name,
        description=description,
        class_names=tree.class_names,
        labels=tree.labels,
        source={**record, "ignored_files": tree.ignored} if tree.ignored else record,
    )


def encoding(source: Source, tree: Listing) -> str:
    """How the images are encoded, from the headers of up to 200 of them: for instance ``"JPEG q75"``, ``"PNG"``."""
    files = tree.files["train"] + tree.files["test"]
    some = files[:: max(1, len(files) // SAMPLE)]
    kinds = sorted({_encoding(source.read(name), name) for name in some})
    same = len({kind.split()[0] for kind in kinds}) == 1
    return kinds[0] if len(kinds) == 1 else kinds[0].split()[0] if same else "mixed formats"


def _encoding(data: bytes, name: str) -> str:
    try:
        with Image.open(io.BytesIO(data)) as image:
            tables = getattr(image, "quantization", None)
            quality = jpeg_quality(tables[0]) if tables else None
            return f"{image.format}" + (f" q{quality}" if quality else "")
    except Exception as error:
        raise UserError(f"{name} is no image that can be read ({error}): remove or replace it") from None


def jpeg_quality(table: list[int]) -> int | None:
    """The quality of a standard JPEG encoder that has this luminance table; None if none has.

    >>> jpeg_quality([8, 6, 5, 8, 12, 20, 26, 31, 6, 6, 7, 10, 13, 29, 30, 28, 7, 7, 8, 12, 20, 29, 35, 28, 7, 9, 11,
    ... 15, 26, 44, 40, 31, 9, 11, 19, 28, 34, 55, 52, 39, 12, 18, 28, 32, 41, 52, 57, 46, 25, 32, 39, 44, 52, 61, 60,
    ... 51, 36, 46, 48, 49, 56, 50, 52, 50])
    75
    """
    base = np.array(LUMINANCE)
    for quality in range(1, 101):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        if np.array_equal(np.clip((base * scale + 50) // 100, 1, 255), sorted(table)):
            return quality
    return None
