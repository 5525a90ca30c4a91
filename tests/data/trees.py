"""Small image trees, archives and CIFAR batches for tests."""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from data_scripts.catalogue import FAMILIES
from gendyn_lite import cli

CIFAR10 = FAMILIES["cifar10"].class_names


def main(arguments: list[str]) -> int:
    """Run ``gendyn data``."""
    return cli.main(["data", *arguments])


def picture(seed=0, size=(6, 5), mode="RGB"):
    """Random pixels, PIL size (width, height)."""
    channels = {"L": (), "RGB": (3,), "RGBA": (4,), "LA": (2,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    return Image.fromarray(pixels, mode=None) if mode in ("L", "RGB", "RGBA") else Image.fromarray(pixels).convert(mode)


def encoded(image, kind="PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def files(classes=("cat", "dog"), train=3, test=2, extension="png", **options) -> dict[str, bytes]:
    """Path → bytes of an image tree."""
    kind = {"png": "PNG", "jpg": "JPEG"}[extension]
    encoding = {"quality": 75} if kind == "JPEG" else {}
    out = {}
    for split, count in (("train", train), ("test", test)):
        for c, name in enumerate(classes):
            for i in range(count):
                image = picture(seed=1000 * c + i + (500 if split == "test" else 0), **options)
                out[f"{split}/{name}/{i:04}.{extension}"] = encoded(image, kind, **encoding)
    return out


def write(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def tar(path: Path, content: dict[str, bytes], mode="w:xz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def zipped(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def python_batch(x: np.ndarray, y: list[int], key=b"labels") -> bytes:
    """A batch as Python 2's cPickle wrote the original ones: its strings, and all text, are byte strings."""
    batch = {b"data": x.reshape(len(x), math.prod(x.shape[1:])), key: y, b"batch_label": b"x"}
    raw = bytearray(pickle.dumps(batch, protocol=3))
    for code, _, at in pickletools.genops(bytes(raw)):
        if code.name in PYTHON_2:
            raw[at] = ord(PYTHON_2[code.name])
    return bytes(raw)


PYTHON_2 = {"SHORT_BINBYTES": "U", "BINBYTES": "T", "BINUNICODE": "T"}  # as laid out, with the same lengths
