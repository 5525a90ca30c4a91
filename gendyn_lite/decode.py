"""Decode images to 8-bit pixels, in this process or in a worker process of `gendyn_lite.data.decoding`.

This module imports Pillow but not torch, so that workers start quickly. Workers are processes, not threads, because
most of the time for a small image is spent in Python: two threads reach 0.4 to 0.7 times the speed of two processes (at
224x224 and at 64x64 pixels).
"""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps

from gendyn_lite.errors import UserError

MOST_PIXELS = 89_478_485  # per image; Pillow's own limit
MOST_BYTES = 1 << 29  # per encoded image: more than `MOST_PIXELS` take uncompressed
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")  # 16 or 32 bits per pixel, which could be converted to 8 in several ways
ONE_PICTURE = ("MPO", "PSD")  # formats with several pictures of which only the first is meant: previews, layers
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values that swap width and height
Side = tuple[int, int]  # height and width


class Item(NamedTuple):
    """The location of an encoded image.

    Attributes:
        path: Path of the file that contains it.
        name: Name of the image in messages.
        offset: Offset of its first byte in the file.
        size: Number of bytes; -1 for the whole file.
    """

    path: str
    name: str
    offset: int = 0
    size: int = -1


class Options(NamedTuple):
    """How to decode images.

    Attributes:
        channels: 1 or 3; a grey image gets three equal channels.
        side: Height and width that each decoded image must have.
        resize: New length of the shorter side (bilinear with antialiasing); None to keep it.
        crop: Side of the square to cut out of the centre; None for the whole image.
    """

    channels: int
    side: Side
    resize: int | None = None
    crop: int | None = None


class ColourMetError(ValueError):
    """An image has colours, but grey ones were expected."""


def decode(
    item: Item,
    *,
    channels: int = 0,
    resize: int | None = None,
    crop: int | None = None,
    told: Counter[str] | None = None,
) -> Image.Image:
    """Decode one image.

    Palettes, CMYK and other colour spaces are converted to RGB. What is transparent is laid on white, as most programs
    show it (torchvision's ImageFolder shows the colours that it hides). The orientation that a camera recorded is
    applied. Of several frames or pages, the first is used.

    Args:
        item: The image.
        channels: As in `Options`; or 0, which means 1 if the image is grey and 3 if not.
        resize: As in `Options`.
        crop: As in `Options`.
        told: Counts, under ``"frames"`` and ``"transparent"``, the images of which some of the file is not used.

    Returns:
        The image, in mode L or RGB.

    Raises:
        UserError: It is missing, empty, truncated, not an image, too large, or has more than 8 bits per channel.
        ColourMetError: `channels` is 1, but the image has colours.
    """
    name, data = item.name, read(item)
    if not data:
        raise UserError(f"{name} is empty (0 bytes): remove or replace it")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            _check_size(opened.size, f"{name} has")
            if opened.mode.startswith(DEEP_MODES):
                raise UserError(f"{name} has more than 8 bits per channel (mode {opened.mode}): convert it to 8 bits")
            told = Counter() if told is None else told
            told["frames"] += getattr(opened, "is_animated", False) and opened.format not in ONE_PICTURE
            opened.load()
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
            image = ImageOps.exif_transpose(opened) if turned else opened
            mode = "L" if channels != 3 and image.mode in GREY_MODES else "RGB"
            if channels == 1 and mode == "RGB":
                raise ColourMetError
            clear = image.convert("RGBA") if image.has_transparency_data else None
            if clear and clear.getchannel("A").getextrema() != (255, 255):
                told["transparent"] += 1
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), clear)
            return _fit(image if image.mode == mode else image.convert(mode), name, resize, crop)
    except (UserError, ColourMetError):
        raise
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} cannot be read as an image: remove or replace it") from None
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error and more
        raise UserError(f"{name} is truncated or damaged ({error}): remove or replace it") from None


def _check_size(size: tuple[int, int], what: str) -> None:
    """Refuse an image with too many pixels."""
    width, height = size
    if width * height > MOST_PIXELS:
        raise UserError(f"{what} {width}x{height} pixels, expected at most {MOST_PIXELS:,} in all: make it smaller")


def _fit(image: Image.Image, name: str, resize: int | None, crop: int | None) -> Image.Image:
    """Resize and crop an image as in `Options`."""
    if resize is not None and min(image.size) != resize:
        scale = resize / min(image.size)
        width, height = (max(resize, round(side * scale)) for side in image.size)
        _check_size((width, height), f"{name}, its shorter side resized to {resize}, has")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    if crop is not None and image.size != (crop, crop):
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    return image


def image_size(item: Item) -> tuple[int, int]:
    """The width and height of an image, after its recorded orientation is applied; read without decoding it.

    Raises:
        UserError: It is missing or not an image.
    """
    try:
        with Image.open(item.path if item.size < 0 else io.BytesIO(read(item))) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(ORIENTATION, 1) in SIDEWAYS else (width, height)
    except (OSError, ValueError, SyntaxError):
        raise UserError(f"{item.name} cannot be read as an image") from None


def pixels(items: Sequence[Item], options: Options, told: Counter[str]) -> bytes:
    """The pixels of images of the same size: uint8 [n, height, width, channels] as bytes; `told` as for `decode`.

    Raises:
        UserError: An image cannot be read or has another size.
        ColourMetError: As for `decode`.
    """
    channels, (height, width), resize, crop = options
    parts = []
    for item in items:
        image = decode(item, channels=channels, resize=resize, crop=crop, told=told)
        if image.size != (width, height):
            what = f"{item.name} has {image.height}x{image.width} pixels, expected {height}x{width} like the others"
            advice = "`gendyn data` with --size N resizes each image's shorter side to N and cuts out the centre"
            raise UserError(f"{what}: all must have the same size; {advice}")
        parts.append(image.tobytes())
    return b"".join(parts)


def read(item: Item) -> bytes:
    """The encoded bytes of an image.

    Raises:
        UserError: The file cannot be read, is not a regular file (others may never end), or the image is far too large.
    """
    path = item.path
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is not a regular file: remove it")
        size = status.st_size if item.size < 0 else item.size
        if size > MOST_BYTES:
            raise UserError(f"{path}: an image of {size:,} bytes, expected at most {MOST_BYTES:,}: make it smaller")
        with open(path, "rb", buffering=0) as file:
            file.seek(item.offset)
            return file.read(size)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def serve() -> None:
    """Be a worker: read requests from standard input, each a line of JSON with the arguments of `pixels`.

    The answer to each is a line of JSON on standard output: either ``{"bytes": n, "told": counts}``, followed by n
    bytes of pixels, or ``{"error": message}``. The message is null for a ColourMetError.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent process decides what happens
    warnings.simplefilter("ignore")
    for line in sys.stdin.buffer:  # ends when the parent process closes it or ends
        items, options = json.loads(line)
        found, answer, told = b"", {}, Counter()
        try:
            found = pixels([Item(*each) for each in items], Options(*options), told)
            answer = {"bytes": len(found), "told": told}
        except UserError as error:
            answer["error"] = str(error)
        except ColourMetError:
            answer["error"] = None
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + found)
        sys.stdout.buffer.flush()
