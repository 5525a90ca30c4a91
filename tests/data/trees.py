"""Small image trees, archives and CIFAR batches for tests."""

from __future__ import annotations

import io
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
    """A batch as Python 2's cPickle wrote the original ones (protocol 2, byte strings)."""
    code = {"uint8": b"u1", "float32": b"f4"}[str(x.dtype)]
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
        + b"(K\x01" + _number(len(y)) + _number(x[0].size) + b"\x86"
        + b"cnumpy\ndtype\nq\x06" + _string(code) + b"K\x00K\x01\x87Rq\x07"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + _string(x.tobytes()) + b"tb"
    )  # fmt: skip
    labels = b"](" + b"".join(map(_number, y)) + b"e"
    return b"\x80\x02}q\x01(" + _string(b"data") + array + _string(key) + labels + _string(b"batch_label") + b"U\x01xu."


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _string(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
