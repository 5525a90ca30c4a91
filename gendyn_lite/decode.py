"""Encoded images → 8-bit pixels, in this process or in a worker process of `gendyn_lite.data.decoding`.

It imports Pillow and not torch, so a worker starts at once. Processes, not threads: most of the work on a small image
is Python's own, and two threads have 0.4 to 0.7 times the speed of two processes (at 224x224 and at 64x64 pixels).
"""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from PIL import ExifTags, Image, ImageOps

from gendyn_lite.errors import UserError

MOST_PIXELS = 89_478_485  # of one image; Pillow's own limit
MOST_BYTES = 1 << 29  # of one encoded image: more than that many pixels take, uncompressed
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")  # 16 or 32 bits a pixel: there is no one way to make them 8
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # what a camera notes: those by which width and height change places
Side = tuple[int, int]  # height and width


class Item(NamedTuple):
    """Where an encoded image is: a file, its name for messages, and which `size` bytes from `offset` on (-1: all)."""

    path: str
    name: str
    offset: int = 0
    size: int = -1


class Options(NamedTuple):
    """What to make of images.

    Attributes:
        channels: 1, or 3, of which a grey image gets three equal ones.
        side: Height and width that each must have in the end.
        resize: New length of the shorter side (bilinear with antialiasing); None to leave it.
        crop: Side of the square to cut from the centre; None for the whole image.
    """

    channels: int
    side: Side
    resize: int | None = None
    crop: int | None = None


class ColourMetError(ValueError):
    """A colour image where grey ones were expected."""


def decode(item: Item, *, channels: int = 0, resize: int | None = None, crop: int | None = None) -> Image.Image:
    """One image.

    Palettes, CMYK and other colour spaces become RGB, an alpha channel is left out (as torchvision's ImageFolder does);
    the orientation that a camera recorded is applied; of an animation the first frame is taken.

    Args:
        item: Where it is.
        channels: As `Options` has it; 0 for 1 if the image is grey, else 3.
        resize: Likewise.
        crop: Likewise.

    Returns:
        The image, in mode L or RGB.

    Raises:
        UserError: It is missing, empty, truncated, no image, too large, or has more than 8 bits a channel.
        ColourMetError: `channels` is 1 and the image has colours.
    """
    name, data = item.name, read(item)
    if not data:
        raise UserError(f"{name} is empty (0 bytes): remove or replace it")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            _check_size(opened.size, f"{name} has")
            if opened.mode.startswith(DEEP_MODES):
                raise UserError(f"{name} has more than 8 bits a channel (mode {opened.mode}): convert it to 8 bits")
            opened.load()
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
            image = ImageOps.exif_transpose(opened) if turned else opened
            mode = "L" if channels != 3 and image.mode in GREY_MODES else "RGB"
            if channels == 1 and mode == "RGB":
                raise ColourMetError
            return _fit(image if image.mode == mode else image.convert(mode), name, resize, crop)
    except (UserError, ColourMetError):
        raise
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} cannot be read as an image: remove or replace it") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise UserError(f"{name} is truncated or damaged ({error}): remove or replace it") from None


def _check_size(size: tuple[int, int], what: str) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise UserError(f"{what} {width}x{height} pixels, expected at most {MOST_PIXELS:,} in all: make it smaller")


def _fit(image: Image.Image, name: str, resize: int | None, crop: int | None) -> Image.Image:
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
    """Width and height of an image, as its file says without being decoded, upright.

    Raises:
        UserError: It is missing, or no image.
    """
    try:
        with Image.open(item.path if item.size < 0 else io.BytesIO(read(item))) as image:
            width, height = image.size
            return (height, width) if image.getexif().get(ORIENTATION, 1) in SIDEWAYS else (width, height)
    except (OSError, ValueError, SyntaxError):
        raise UserError(f"{item.name} cannot be read as an image") from None


def pixels(items: Sequence[Item], options: Options) -> bytes:
    """The pixels of images of one size, one after the other: rows of places of channels, one byte each.

    Raises:
        UserError: One of them cannot be read or has another size.
        ColourMetError: As `decode`.
    """
    channels, (height, width), resize, crop = options
    parts = []
    for item in items:
        image = decode(item, channels=channels, resize=resize, crop=crop)
        if image.size != (width, height):
            told = f"{item.name} has {image.height}x{image.width} pixels, expected {height}x{width} as the others"
            advice = "with --size N, `gendyn data` resizes each image's shorter side to N and cuts the centre"
            raise UserError(f"{told}: all must have one size; {advice}")
        parts.append(image.tobytes())
    return b"".join(parts)


def read(item: Item) -> bytes:
    """The encoded bytes of an item.

    Raises:
        UserError: It cannot be read, is not a regular file (another kind may have no end), or is far too large.
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
    """Be a worker: answer each request on standard input, the arguments of `pixels` as a line of JSON.

    The answer is a line of JSON, what it raises (a colour met has no message), or else how many bytes follow.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.simplefilter("ignore")
    for line in sys.stdin.buffer:  # until the parent closes it, or ends
        items, options = json.loads(line)
        found, answer = b"", {}
        try:
            found = pixels([Item(*each) for each in items], Options(*options))
            answer["bytes"] = len(found)
        except UserError as error:
            answer["error"] = str(error)
        except ColourMetError:
            answer["error"] = None
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + found)
        sys.stdout.buffer.flush()
