"""MNIST, CIFAR-10 and CIFAR-100 from the files of their makers, or CIFAR from an image tree of the same classes."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from data_scripts import images
from data_scripts.sources import Source
from gendyn_lite.data import prepared
from gendyn_lite.data.image_folder import is_image, listing
from gendyn_lite.errors import UserError

# File: shape of its array and the SHA-256 of the decompressed bytes (MD5 6bbc9ace…, a25bea73…, 2646ac64…, 27ae3e4e…).
IDX_FILES = {
    "train-images-idx3-ubyte": ((60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": ((60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": ((10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": ((10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
UINT8 = 0x08  # the IDX code of unsigned bytes


def prepare_mnist(source: Path, to: Path) -> dict[str, Any]:
    """Write MNIST's prepared form from a folder of IDX files.

    Args:
        source: Folder with the four files, plain or ``.gz``, or with them under ``raw/`` or ``MNIST/raw/``.
        to: Empty folder to fill.

    Returns:
        The record.

    Raises:
        UserError: A file is missing, truncated, altered or no IDX file.
    """
    arrays = {}
    for file, (shape, sha256) in IDX_FILES.items():
        path = _find_idx(source, file)
        raw = read_bytes(path, limit=idx_size(shape))
        arrays[file] = parse_idx(raw, path)
        if arrays[file].shape != shape:
            raise UserError(f"{path} holds {list(arrays[file].shape)}, but MNIST's has {list(shape)}")
        if hashlib.sha256(raw).hexdigest() != sha256:
            raise UserError(f"{path} is altered or not MNIST: its SHA-256 is not {sha256[:16]}…; get a fresh copy")
    labels = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = arrays[f"{prefix}-images-idx3-ubyte"]
        prepared.allocate(to, split, (len(images), 1, 28, 28))[:, 0] = images
        labels[split] = arrays[f"{prefix}-labels-idx1-ubyte"]
    return prepared.finish(
        to,
        name="mnist",
        description="MNIST",
        class_names=[str(digit) for digit in range(10)],
        labels=labels,
        source={"kind": "IDX files", "sha256": {file: sha256 for file, (_, sha256) in IDX_FILES.items()}},
    )


def idx_size(shape: tuple[int, ...]) -> int:
    """Bytes of an IDX file of unsigned bytes.

    >>> idx_size((60_000, 28, 28))
    47040016
    """
    return 4 + 4 * len(shape) + math.prod(shape)


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The bytes of a file, decompressed if it is gzipped, and at most one more than `limit`.

    Raises:
        UserError: It cannot be read, or its compression is broken or cut.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            return file.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path} is truncated or damaged (broken gzip data): get a fresh copy") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def parse_idx(raw: bytes, path: Path) -> np.ndarray:
    """The array of an IDX file of unsigned bytes.

    Args:
        raw: Its bytes: 0, 0, type, number of dimensions, each dimension (32 bits, big-endian), then the values.
        path: Its name, for messages.

    Raises:
        UserError: It is no such file, or has too few or too many bytes.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]), Path("labels")).tolist()
    [7, 9]
    """
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != UINT8:
        raise UserError(f"{path} is no IDX file of unsigned bytes: it begins with {raw[:4].hex(' ') or 'nothing'}")
    header = 4 + 4 * raw[3]
    shape = tuple(np.frombuffer(raw[4:header], ">u4").tolist()) if len(raw) >= header else ()
    if len(shape) != raw[3] or len(raw) < header + math.prod(shape):
        raise UserError(
            f"{path} is truncated: {len(raw)} bytes, expected {header + math.prod(shape)}: get a fresh copy"
        )
    if len(raw) > header + math.prod(shape):
        raise UserError(f"{path} is longer than its header says ({header + math.prod(shape)} bytes): get a fresh copy")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _find_idx(source: Path, file: str) -> Path:
    """The file, plain or gzipped, under the names and folders that are in use."""
    if not source.is_dir():
        raise UserError(f"{source} is no folder: expected one with the four IDX files of MNIST (--from PATH)")
    dotted = file.replace("-idx", ".idx")
    for folder in (source, source / "raw", source / "MNIST" / "raw"):
        for name in (f"{file}.gz", file, f"{dotted}.gz", dotted):
            if (folder / name).is_file():
                return folder / name
    raise UserError(f"{source} has no {file} (or {file}.gz): expected the four IDX files {', '.join(IDX_FILES)}")


PIXELS = 3 * 32 * 32
COUNTS = {"train": 50_000, "test": 10_000}

# Copies in circulation that are not the original, by the SHA-256 of their archive.
KNOWN_COPIES = {
    "9dc4430239015db7641233240436b09a0715dc541db3d9dd2eccd53c6b021f73": "CIFAR-10 (JPEG q75)",
    "7e120f33f566d3dd290af0a5c43e7abebd5cdcf6934fcc63b42009993971c135": (
        "CIFAR-100 (JPEG q75, about 20 % train label noise)"
    ),
}


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())


@dataclass(frozen=True)
class Layout:
    """One of the original's archives.

    Attributes:
        kind: ``"Python"`` or ``"binary"``.
        files: Its files with their MD5 or SHA-256, by split.
        parse: Reads one: (bytes, where=name) → pixels and labels.
    """

    kind: str
    files: dict[str, dict[str, str]]
    parse: Callable[..., tuple[np.ndarray, np.ndarray]]

    @property
    def names(self) -> list[str]:
        """The names of all files."""
        return [name for files in self.files.values() for name in files]


@dataclass(frozen=True)
class Family:
    """CIFAR-10 or CIFAR-100: its name, classes in the order of the labels, and archives."""

    title: str
    class_names: tuple[str, ...]
    layouts: tuple[Layout, ...]


def parse_binary(raw: bytes, *, classes: int, label_bytes: int, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 [n, 3, 32, 32], and labels [n] of a binary batch: a label or two, then the pixels, for each image.

    Args:
        raw: The batch.
        classes: Number of classes.
        label_bytes: Bytes before the pixels of an image; the last of them is its label.
        where: Its name, for messages.

    Raises:
        UserError: Its length is no whole number of records, or a label is no class.
    """
    record = label_bytes + PIXELS
    if len(raw) == 0 or len(raw) % record:
        raise UserError(f"{where} is truncated: {len(raw)} bytes, expected a multiple of {record}")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, record)
    labels = rows[:, label_bytes - 1]
    _check_labels(labels, classes, where)
    return rows[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def parse_python(raw: bytes, *, classes: int, key: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, uint8 [n, 3, 32, 32], and labels [n] of a pickled Python batch, read without running any of it.

    Args:
        raw: The batch.
        classes: Number of classes.
        key: Key of the labels.
        where: Its name, for messages.

    Raises:
        UserError: It is truncated, or holds anything but plain values and one array of bytes.
    """
    try:
        batch = _ArraysOnly(io.BytesIO(raw), encoding="bytes").load()
        if not (isinstance(batch[key], list) and all(type(label) is int for label in batch[key])):
            raise pickle.UnpicklingError("its labels are no list of whole numbers")
        pixels, labels = batch[b"data"].bytes_array(), np.asarray(batch[key], dtype=np.int64)
        pixels = pixels.reshape(len(labels), 3, 32, 32)
    except pickle.UnpicklingError as error:
        raise UserError(f"{where} is refused: {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{where} is damaged or no CIFAR batch ({type(error).__name__}: {error})") from None
    _check_labels(labels, classes, where)
    return pixels, labels


def _check_labels(labels: np.ndarray, classes: int, where: str) -> None:
    if not len(labels):
        raise UserError(f"{where} holds no images: get a fresh copy")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{where} has labels {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")


class _Array:
    """Stands in for a pickled numpy array: keeps its state and runs nothing."""

    state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def bytes_array(self) -> np.ndarray:
        """The array, if it is one of unsigned bytes in C order."""
        _, shape, dtype, fortran, raw = self.state
        if fortran or not isinstance(dtype, _Dtype) or dtype.code not in (b"u1", "u1"):
            raise pickle.UnpicklingError("its array is not one of unsigned bytes")
        return np.frombuffer(raw, np.uint8).reshape(shape)


class _Dtype:
    """Stands in for a pickled numpy dtype."""

    def __init__(self, code: bytes | str, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: tuple) -> None:
        pass


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows arrays and dtypes only, through stand-ins of our own."""

    _KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, expected plain values and arrays only")
        return self._KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def _layout(kind: str, parse: Callable[..., tuple[np.ndarray, np.ndarray]], checksums: str) -> Layout:
    """A layout, from lines of a split, a file and its checksum."""
    files: dict[str, dict[str, str]] = {}
    for line in checksums.split("\n"):
        split, file, checksum = line.split()
        files.setdefault(split, {})[file] = checksum
    return Layout(kind, files, parse)


CIFAR10 = Family(
    "CIFAR-10",
    CIFAR10_CLASSES,
    (
        _layout(
            "Python",
            partial(parse_python, classes=10, key=b"labels"),
            """train data_batch_1 c99cafc152244af753f735de768cd75f
            train data_batch_2 d4bba439e000b95fd0a9bffe97cbabec
            train data_batch_3 54ebc095f3ab1f0389bbae665268c751
            train data_batch_4 634d18415352ddfa80567beed471001a
            train data_batch_5 482c414d41f54cd18b22e5b47cb7c3cb
            test test_batch 40351d587109b95175f43aff81a1287e""",
        ),
        _layout(
            "binary",
            partial(parse_binary, classes=10, label_bytes=1),
            """train data_batch_1.bin 5dd7e06a14cb22eb9f671a540d1b7c25
            train data_batch_2.bin 5ea93a67294ea407fff1d09f752e9692
            train data_batch_3.bin 942cd6a4bcdd0dd3c604fbe906cb4421
            train data_batch_4.bin ae636b3ba5c66a11e91e8cb52e771fcb
            train data_batch_5.bin 53f37980c15c3d472c316c40844f3f0d
            test test_batch.bin 803d5f7f4d78ea53de84dbe85f74fb6d""",
        ),
    ),
)
CIFAR100 = Family(
    "CIFAR-100",
    CIFAR100_CLASSES,
    (
        _layout(
            "Python",
            partial(parse_python, classes=100, key=b"fine_labels"),
            "train train 16019d7e3df5f24257cddd939b257f8d\ntest test f0ef6b0ae62326f3e7ffdfab6717acfc",
        ),
        _layout(
            "binary",
            partial(parse_binary, classes=100, label_bytes=2),
            """train train.bin f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29
            test test.bin d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a""",
        ),
    ),
)
FAMILIES = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def prepare_cifar(name: str, source: Source, to: Path, *, description: str | None) -> dict[str, Any]:
    """Write the prepared form of CIFAR-10 or CIFAR-100.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        source: The original's files, binary or Python, or an image tree of its classes.
        to: Empty folder to fill.
        description: What the images truly are; None to find out (only the original, byte for byte, is called by the
            plain name).

    Returns:
        The record.

    Raises:
        UserError: Files are missing, altered or not what they should be.
    """
    family = FAMILIES[name]
    for layout in family.layouts:
        if paths := _find(layout, source):
            labels = _write_original(family, layout, paths, source, to, check=description is None)
            return prepared.finish(
                to,
                name=name,
                description=description or family.title,
                class_names=family.class_names,
                labels=labels,
                source={
                    "kind": f"{layout.kind} files",
                    "archive_sha256": source.sha256,
                    "described_by": "the user" if description else "checksums of the original",
                },
            )
    return _prepare_tree(family, name, source, to, description)


def _find(layout: Layout, source: Source) -> dict[str, str]:
    """File → its path, if the source has any of them; the folder they are in does not matter."""
    paths = {path.rsplit("/", 1)[-1]: path for path in source.names}
    found = {name: paths[name] for name in layout.names if name in paths}
    if found and (missing := [name for name in layout.names if name not in paths]):
        raise UserError(f"{source.where} has {min(found)} but no {missing[0]}: get a fresh copy")
    return found


def _write_original(
    family: Family, layout: Layout, paths: dict[str, str], source: Source, to: Path, *, check: bool
) -> dict[str, np.ndarray]:
    """Fill the image arrays from the original's files; the labels by split."""
    labels = {}
    for split, hashes in layout.files.items():
        parts = []
        for file, expected in hashes.items():
            raw = source.read(paths[file])
            kind = "md5" if len(expected) == 32 else "sha256"
            if check and hashlib.new(kind, raw, usedforsecurity=False).hexdigest() != expected:
                raise UserError(
                    f"{source.where}: {file} is altered or not {family.title}'s: its checksum is not {expected[:16]}…; "
                    "get a fresh copy, or say with --description what it is"
                )
            parts.append(layout.parse(raw, where=f"{source.where}: {file}"))
        pixels = prepared.allocate(to, split, (sum(len(x) for x, _ in parts), 3, 32, 32))
        np.concatenate([x for x, _ in parts], out=pixels)
        labels[split] = np.concatenate([y for _, y in parts])
    return labels


def _prepare_tree(family: Family, name: str, source: Source, to: Path, description: str | None) -> dict[str, Any]:
    if not any(is_image(file) for file in source.names):
        files = ", or ".join(f"{', '.join(layout.names)} ({layout.kind})" for layout in family.layouts)
        raise UserError(f"{source.where} is no {family.title}: expected {files}, or an image tree of its classes")
    tree = listing(source.names, where=source.where)
    if tree.class_names != family.class_names:
        odd = sorted(set(tree.class_names) ^ set(family.class_names))[0]
        raise UserError(
            f"{source.where} has {len(tree.class_names)} classes that are not {family.title}'s "
            f"{len(family.class_names)} (for instance {odd!r}): import it as folder:{source.where}"
        )
    by = "the user" if description else "its SHA-256"
    description = description or KNOWN_COPIES.get(source.sha256 or "")
    if description is None:
        counts = {split: len(files) for split, files in tree.files.items()}
        odd_counts = "" if counts == COUNTS else f", {counts['train']:,} train and {counts['test']:,} test images"
        by, description = "image headers", f"{family.title} ({images.encoding(source, tree)}{odd_counts})"
    record = {"kind": "image tree", "archive_sha256": source.sha256, "described_by": by}
    return images.prepare_tree(source, to, name=name, description=description, record=record, side=(32, 32), tree=tree)
