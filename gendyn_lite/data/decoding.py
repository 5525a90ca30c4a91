"""One encoded image → 8-bit tensor, and many of them over all cores; what cannot be read is named."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import decode_jpeg
from tqdm.auto import tqdm

from gendyn_lite.errors import UserError

JPEG = b"\xff\xd8\xff"
LARGE = 1 << 20  # bytes from which an image's dimensions are checked before it is decoded
MOST_PIXELS = 1 << 27  # of one image: 134 million
GREY_MODES = {"1", "L", "LA", "La"}
DEEP_MODES = ("I", "F")  # 16 or 32 bits a pixel: no one way to make them 8
CHUNK = 64

Bytes = NDArray[np.uint8]


class ColourMetError(Exception):
    """A colour image among grey ones: decode again with three channels."""


def read_file(path: str) -> Bytes:
    """The bytes of a file, uint8 [bytes], writable (as torch wants them).

    Raises:
        UserError: It cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return np.frombuffer(bytearray(file.read()), dtype=np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def workers() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decode(data: Bytes, name: str) -> Tensor:
    """One image as uint8 [1 or 3, H, W].

    Grey images have one channel. Palettes, CMYK and other colour spaces become RGB, an alpha channel is left out (as
    torchvision's ImageFolder does); the orientation that a camera recorded is applied; of an animation the first frame
    is taken.

    Args:
        data: The bytes of the file, uint8 [bytes], writable.
        name: Its name, for messages.

    Raises:
        UserError: The file is empty, truncated, no image, too large, or has more than 8 bits a channel.
    """
    if not len(data):
        raise UserError(f"{name} is empty (0 bytes): remove or replace it")
    if data[:3].tobytes() == JPEG and len(data) < LARGE:
        try:
            image = decode_jpeg(torch.from_numpy(data), apply_exif_orientation=True)
        except RuntimeError:
            raise UserError(f"{name} is truncated or damaged (JPEG): remove or replace it") from None
        if isinstance(image, Tensor) and len(image) in (1, 3):
            return image
    return _decode_other(data, name)


def _decode_other(data: Bytes, name: str) -> Tensor:
    """Any format that Pillow knows, and the JPEGs that need care."""
    try:
        with Image.open(io.BytesIO(data.data)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UserError(f"{name} has {image.width}x{image.height} pixels, expected at most {MOST_PIXELS:,}")
            if image.mode.startswith(DEEP_MODES):
                raise UserError(f"{name} has more than 8 bits a channel (mode {image.mode}): convert it to 8 bits")
            image.load()
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(upright.convert("L" if upright.mode in GREY_MODES else "RGB"))
    except UserError:
        raise
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} is no image that can be read: remove or replace it") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        raise UserError(f"{name} is truncated or damaged ({error}): remove or replace it") from None
    return torch.from_numpy(np.atleast_3d(pixels).transpose(2, 0, 1).copy())


def fit(image: Tensor, resize: int | None, crop: int | None) -> Tensor:
    """Resize the shorter side to `resize` (bilinear with antialiasing), then cut a centre square of side `crop`.

    Args:
        image: uint8 [C, H, W].
        resize: New length of the shorter side; None to leave it.
        crop: Side of the square; None for the whole image.

    >>> fit(torch.zeros(3, 20, 40, dtype=torch.uint8), 10, 8).shape
    torch.Size([3, 8, 8])
    """
    height, width = image.shape[1:]
    if resize is not None and min(height, width) != resize:
        scale = resize / min(height, width)
        width, height = max(resize, round(width * scale)), max(resize, round(height * scale))
        planes = [Image.fromarray(plane.numpy()).resize((width, height), Image.Resampling.BILINEAR) for plane in image]
        image = torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))
    if crop is not None:
        top, left = (height - crop) // 2, (width - crop) // 2
        image = image[:, top : top + crop, left : left + crop]
    return image


def decode_many(
    names: Sequence[str],
    read: Callable[[str], Bytes],
    out: Callable[[tuple[int, ...]], Tensor],
    *,
    channels: int,
    size: int | None = None,
    side: tuple[int, int] | None = None,
    label: str = "images",
) -> Tensor:
    """Decode images over all cores into one array.

    All images must have one size, unless `size` is given.

    Args:
        names: Names of the images.
        read: Gives the bytes of one.
        out: Makes the array, uint8 of the shape that it is given.
        channels: 1, or 3, of which grey images get three equal ones.
        size: Make every image a square of this side: shorter side resized, centre cut out.
        side: Height and width that the images must have; by default those of the first.
        label: What the progress bar says.

    Returns:
        What `out` made, filled, uint8 [n, C, H, W].

    Raises:
        UserError: An image cannot be read or has another size; it is named.
        ColourMetError: `channels` is 1 and an image has colours.
    """
    if side is None:
        first = fit(decode(read(names[0]), names[0]), size, size)
        side = int(first.shape[1]), int(first.shape[2])
    target = (channels, *side)
    images = out((len(names), *target))
    pixels = images.numpy()  # the same memory; assigning through it is five times faster

    def chunk(start: int) -> int:
        for i in range(start, min(start + CHUNK, len(names))):
            image = fit(decode(read(names[i]), names[i]), size, size)
            _check_shape(image, target, names[i])
            pixels[i] = image.numpy()  # one channel is broadcast to three
        return min(CHUNK, len(names) - start)

    with ThreadPoolExecutor(workers()) as pool, tqdm(total=len(names), desc=label, unit="img", disable=None) as bar:
        try:
            for done in pool.map(chunk, range(0, len(names), CHUNK)):
                bar.update(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return images


def _check_shape(image: Tensor, target: tuple[int, int, int], name: str) -> None:
    channels, height, width = image.shape
    if channels > target[0]:
        raise ColourMetError
    if (height, width) != target[1:]:
        raise UserError(
            f"{name} has {height}x{width} pixels, expected {target[1]}x{target[2]} as the images before it: all must "
            "have one size; with --size N, `gendyn data` resizes each image's shorter side to N and cuts out the centre"
        )
