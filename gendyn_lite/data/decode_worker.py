"""Encoded images → 8-bit pixels. Also the program of the worker processes of `decoding`.

It imports Pillow and nothing of this package, so that a worker starts in a moment. Processes and not threads, since
most of the work on a small image is Python's own. A worker reads a request a line (JSON) from its standard input and
answers with a line (JSON) and, if all went well, the pixels.
"""

from __future__ import annotations

import io
import json
import mmap
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
            _check(opened, name)
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
    except Image.DecompressionBombError:
        raise BadImageError(f"{name} has far more than {MOST_PIXELS:,} pixels: make it smaller") from None
    except Image.UnidentifiedImageError:
        raise BadImageError(f"{name} is no image that can be read: remove or replace it") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise BadImageError(f"{name} is truncated or damaged ({error}): remove or replace it") from None


def _check(image: Image.Image, name: str) -> None:
    _check_size(image.size, f"{name} has")
    if image.mode.startswith(DEEP_MODES):
        raise BadImageError(f"{name} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits")


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


def answer(request: dict[str, Any], files: dict[str, Any]) -> bytes:
    """The pixels of the images of a request, one after the other.

    Args:
        request: ``items`` (each a path, an offset and a size, or -1 for the whole file, and a name), ``side`` (height
            and width that they must have) and the options of `decode`.
        files: Mapped files that are kept open between requests.

    Raises:
        BadImageError: One of them cannot be read or has another size.
        ColourMetError: As `decode`.
    """
    height, width = request["side"]
    options = {key: request[key] for key in ("channels", "resize", "crop")}
    parts = []
    for path, offset, size, name in request["items"]:
        found_height, found_width, pixels = decode(read(path, offset, size, files), name, **options)
        if (found_height, found_width) != (height, width):
            raise BadImageError(
                f"{name} has {found_height}x{found_width} pixels, expected {height}x{width} as the others: all must "
                "have one size; with --size N, `gendyn data` resizes each image's shorter side to N and cuts the centre"
            )
        parts.append(pixels)
    return b"".join(parts)


def read(path: str, offset: int, size: int, files: dict[str, Any]) -> bytes:
    """The bytes of a file, or of a part of one (which stays mapped).

    Raises:
        BadImageError: It cannot be read, is no plain file (another kind may have no end), or is far too large.
    """
    try:
        if size < 0:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise BadImageError(f"{path} is no plain file: remove it")
            _check_bytes(path, status.st_size)
            with open(path, "rb", buffering=0) as file:
                return file.read()
        _check_bytes(path, size)
        if path not in files:
            with open(path, "rb") as file:
                files[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return files[path][offset : offset + size]
    except OSError as error:
        raise BadImageError(f"{path} cannot be read: {error.strerror}") from None


def _check_bytes(path: str, size: int) -> None:
    if size > MOST_BYTES:
        raise BadImageError(f"{path}: an image of {size:,} bytes, expected at most {MOST_BYTES:,}: make it smaller")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    files: dict[str, Any] = {}
    for line in requests:
        pixels = b""
        try:
            pixels = answer(json.loads(line), files)
            head = {"bytes": len(pixels)}
        except BadImageError as error:
            head = {"error": str(error)}
        except ColourMetError:
            head = {"colour": True}
        answers.write(json.dumps(head).encode() + b"\n")
        answers.write(pixels)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    warnings.simplefilter("ignore")
    serve(sys.stdin.buffer, sys.stdout.buffer)
