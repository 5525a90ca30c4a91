"""Encoded images → 8-bit pixels. Also the program of the worker processes of `decoding`.

It imports Pillow and nothing of this package, so a worker starts at once. Processes, not threads: most of the work on a
small image is Python's own, and large ones decode faster too. A worker reads requests from its standard input, one line
of JSON each, and answers with a line of JSON followed by the pixels, if all went well.
"""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import sys
import warnings
from typing import Any, BinaryIO

from PIL import ExifTags, Image, ImageOps

MOST_PIXELS = 89_478_485  # of one image; Pillow's own limit
MOST_BYTES = 1 << 29  # of one encoded image: more than that many pixels take, uncompressed
GREY_MODES = ("1", "L", "LA", "La")
DEEP_MODES = ("I", "F")  # 16 or 32 bits a pixel: there is no one way to make them 8


class BadImageError(ValueError):
    """An image that cannot be read or does not fit, in one line."""


class ColourMetError(ValueError):
    """A colour image where grey ones were expected."""


def decode(
    data: bytes, name: str, *, channels: int, resize: int | None = None, crop: int | None = None
) -> tuple[int, int, bytes]:
    """One image.

    Palettes, CMYK and other colour spaces become RGB, an alpha channel is left out (as torchvision's ImageFolder does);
    the orientation that a camera recorded is applied; of an animation the first frame is taken.

    Args:
        data: The bytes of the file.
        name: Its name, for messages.
        channels: 1, or 3, of which a grey image gets three equal ones.
        resize: New length of the shorter side (bilinear with antialiasing); None to leave it.
        crop: Side of the square to cut from the centre; None for the whole image.

    Returns:
        Height, width, and the pixels: rows of places of channels, one byte each.

    Raises:
        BadImageError: The file is empty, truncated, no image, too large, or has more than 8 bits a channel.
        ColourMetError: `channels` is 1 and the image has colours.
    """
    if not data:
        raise BadImageError(f"{name} is empty (0 bytes): remove or replace it")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            _check_size(opened.size, f"{name} has")
            if opened.mode.startswith(DEEP_MODES):
                raise BadImageError(f"{name} has more than 8 bits a channel (mode {opened.mode}): convert it to 8 bits")
            opened.load()
            turned = opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
            image = ImageOps.exif_transpose(opened) if turned else opened
            if channels == 1 and image.mode not in GREY_MODES:
                raise ColourMetError
            mode = "L" if channels == 1 else "RGB"
            image = _fit(image if image.mode == mode else image.convert(mode), name, resize, crop)
            return image.height, image.width, image.tobytes()
    except (BadImageError, ColourMetError):
        raise
    except Image.UnidentifiedImageError:
        raise BadImageError(f"{name} cannot be read as an image: remove or replace it") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise BadImageError(f"{name} is truncated or damaged ({error}): remove or replace it") from None


def _check_size(size: tuple[int, int], what: str) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        raise BadImageError(f"{what} {width}x{height} pixels, expected at most {MOST_PIXELS:,} in all: make it smaller")


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


def answer(request: dict[str, Any]) -> bytes:
    """The pixels of the images of a request, one after the other.

    Args:
        request: ``items`` (the arguments of `read` for each), ``side`` (height and width that they must have) and the
            options of `decode`.

    Raises:
        BadImageError: One of them cannot be read or has another size.
        ColourMetError: As `decode`.
    """
    height, width = request["side"]
    options = {key: request[key] for key in ("channels", "resize", "crop")}
    parts = []
    for path, name, offset, size in request["items"]:
        found_height, found_width, pixels = decode(read(path, offset, size), name, **options)
        if (found_height, found_width) != (height, width):
            raise BadImageError(
                f"{name} has {found_height}x{found_width} pixels, expected {height}x{width} as the others: all must "
                "have one size; with --size N, `gendyn data` resizes each image's shorter side to N and cuts the centre"
            )
        parts.append(pixels)
    return b"".join(parts)


def read(path: str, offset: int = 0, size: int = -1) -> bytes:
    """The bytes of a file (`size` is -1), or of a part of one.

    Raises:
        BadImageError: It cannot be read, is not a regular file (another kind may have no end), or is far too large.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise BadImageError(f"{path} is not a regular file: remove it")
        size = status.st_size if size < 0 else size
        if size > MOST_BYTES:
            raise BadImageError(f"{path}: an image of {size:,} bytes, expected at most {MOST_BYTES:,}: make it smaller")
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise BadImageError(f"{path} cannot be read: {error.strerror}") from None


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        pixels, head = b"", {}
        try:
            pixels = answer(json.loads(line))
        except BadImageError as error:
            head = {"error": str(error)}
        except ColourMetError:
            head = {"colour": True}
        answers.write(json.dumps({"bytes": len(pixels), **head}).encode() + b"\n" + pixels)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.simplefilter("ignore")
    serve(sys.stdin.buffer, sys.stdout.buffer)
