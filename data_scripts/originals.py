"""Prepare MNIST, CIFAR-10 and CIFAR-100 from their original files, or CIFAR from an image tree of the same classes."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import pickle
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data_scripts import images
from data_scripts.catalogue import FAMILIES, IDX_FILES, KNOWN_COPIES, Family
from gendyn_lite.data import prepared
from gendyn_lite.data.image_folder import is_image, listing
from gendyn_lite.data.sources import Source
from gendyn_lite.errors import UserError

COUNTS = {"train": 50_000, "test": 10_000}


def prepare_mnist(source: Source, to: Path) -> dict[str, Any]:
    """Write the prepared form of MNIST from its IDX files.

    Args:
        source: A folder or an archive that contains the four files, plain or ``.gz``, in any subfolder.
        to: An empty folder.

    Returns:
        The record.

    Raises:
        UserError: A file is missing, truncated or altered.
    """
    paths = _find(IDX_FILES, source)
    if not paths:
        raise UserError(f"{source.where} is not MNIST: expected the four IDX files {', '.join(IDX_FILES)}")
    arrays = {}
    for file, (shape, sha256) in IDX_FILES.items():
        where = f"{source.where}: {file}"
        arrays[file] = read_idx(source.read(paths[file]), shape=shape, sha256=sha256, where=where)
    labels = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = arrays[f"{prefix}-images-idx3-ubyte"]
        prepared.allocate(to, split, (len(pixels), 1, 28, 28))[:, 0] = pixels
        labels[split] = arrays[f"{prefix}-labels-idx1-ubyte"]
    kind = {"kind": "IDX files", "sha256": {file: sha256 for file, (_, sha256) in IDX_FILES.items()}}
    return prepared.finish(to, name="mnist", description="MNIST", class_names="0123456789", labels=labels, source=kind)


def read_idx(raw: bytes, *, shape: tuple[int, ...], sha256: str, where: str) -> np.ndarray:
    """Read the array in an IDX file of unsigned bytes.

    Args:
        raw: Content of the file, perhaps gzipped: 0, 0, type, number of dimensions, each dimension (32 bits,
            big-endian), values.
        shape: Shape of the array; the header need not be parsed, because the SHA-256 determines it.
        sha256: SHA-256 of the (decompressed) file.
        where: Name of the file, for messages.

    Returns:
        The array, uint8 of that shape.

    Raises:
        UserError: The file has the wrong size or content, or its compression is damaged.
    """
    header = 4 + 4 * len(shape)
    size = header + math.prod(shape)
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.GzipFile(fileobj=io.BytesIO(raw)).read(size + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise UserError(f"{where} is truncated or damaged (broken gzip data): get a fresh copy") from None
    if len(raw) != size:
        wrong = f"is truncated: {len(raw)} bytes" if len(raw) < size else "is longer than MNIST's"
        raise UserError(f"{where} {wrong}, expected {size}: get a fresh copy")
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise UserError(f"{where} is altered or not MNIST: its SHA-256 is not {sha256[:16]}…; get a fresh copy")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)


def _find(files: Iterable[str], source: Source) -> dict[str, str]:
    """The paths of files in a source, by name; empty if it has none of them. They may be gzipped, in any folder.

    Raises:
        UserError: The source has only some of the files.
    """
    # In some copies of MNIST, files are called train-images.idx3-ubyte.
    paths = {path.rsplit("/", 1)[-1].removesuffix(".gz").replace(".idx", "-idx"): path for path in source.names}
    found = {name: paths[name] for name in files if name in paths}
    if found and (missing := [name for name in files if name not in paths]):
        raise UserError(f"{source.where} has {min(found)} but no {missing[0]}: get a fresh copy")
    return found


def parse_python(raw: bytes, family: Family, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a pickled batch of CIFAR safely: no code in the pickle is executed.

    Args:
        raw: Content of the file.
        family: CIFAR-10 or CIFAR-100.
        where: Name of the file, for messages.

    Returns:
        Pixels, uint8 [n, 3, 32, 32], and labels, int64 [n].

    Raises:
        UserError: It is damaged, or contains anything other than plain values and an array of bytes.
    """
    try:
        batch = _ArraysOnly(io.BytesIO(raw), encoding="bytes").load()
        labels, (_, shape, dtype, fortran, pixels) = batch[family.key.encode()], batch[b"data"].state
        if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
            raise pickle.UnpicklingError("its labels are not a list of whole numbers")
        if fortran or dtype.given[0] not in (b"u1", "u1"):
            raise pickle.UnpicklingError("its array is not one of unsigned bytes")
        labels = np.array(labels, dtype=np.int64)
        pixels = np.frombuffer(pixels, np.uint8).reshape(shape).reshape(len(labels), 3, 32, 32)
    except pickle.UnpicklingError as error:
        raise UserError(f"{where} is refused: {error}") from None
    except Exception as error:  # a damaged pickle can raise almost any error
        raise UserError(f"{where} is damaged or not a CIFAR batch ({type(error).__name__}: {error})") from None
    if not len(labels):
        raise UserError(f"{where} contains no images: get a fresh copy")
    classes = len(family.class_names)
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{where} has labels {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return pixels, labels


class _Inert:
    """A stand-in for numpy's arrays and dtypes in a pickle, which stores its arguments and state and does nothing."""

    def __init__(self, *given: Any) -> None:
        self.given = given

    def __setstate__(self, state: tuple) -> None:
        self.state = state


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that allows only numpy's arrays and dtypes, which it replaces by stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module.replace('_core', 'core')}.{name}" not in ARRAY_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, expected plain values and arrays only")
        return _Inert


ARRAY_NAMES = ("numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype")


def prepare_cifar(name: str, source: Source, to: Path, *, description: str | None) -> dict[str, Any]:
    """Write the prepared form of CIFAR-10 or CIFAR-100.

    Args:
        name: ``"cifar10"`` or ``"cifar100"``.
        source: The original files (Python version), or an image tree with the same classes.
        to: An empty folder.
        description: What the images truly are; None to determine it from the files. Only byte-identical original files
            get the plain name of the data set.

    Returns:
        The record.

    Raises:
        UserError: Files are missing, altered or of another kind.
    """
    family = FAMILIES[name]
    if not (paths := _find(family.files, source)):
        return _prepare_tree(family, name, source, to, description)
    labels = _write_original(family, paths, source, to, check=description is None)
    by = "the user" if description else "checksums of the original"
    record = {"kind": "Python files", "archive_sha256": source.sha256, "described_by": by}
    title, names = description or family.title, family.class_names
    return prepared.finish(to, name=name, description=title, class_names=names, labels=labels, source=record)


def _write_original(
    family: Family, paths: dict[str, str], source: Source, to: Path, *, check: bool
) -> dict[str, np.ndarray]:
    """Write the image arrays from the original files; returns the labels, by split.

    Raises:
        UserError: A file is damaged or, if `check` is set, has another checksum than the original.
    """
    labels = {}
    for split, hashes in (("train", family.train), ("test", family.test)):
        parts = []
        for file, md5 in hashes.items():
            raw = source.read(paths[file])
            if check and hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5:
                told = f"{file} is altered or not {family.title}'s: its checksum is not {md5[:16]}…"
                raise UserError(f"{source.where}: {told}; get a fresh copy, or say with --description what it is")
            parts.append(parse_python(raw, family, f"{source.where}: {file}"))
        pixels = prepared.allocate(to, split, (sum(len(x) for x, _ in parts), 3, 32, 32))
        np.concatenate([x for x, _ in parts], out=pixels)
        labels[split] = np.concatenate([y for _, y in parts])
    return labels


def _prepare_tree(family: Family, name: str, source: Source, to: Path, description: str | None) -> dict[str, Any]:
    """Write the prepared form of CIFAR from an image tree; returns the record.

    Raises:
        UserError: The source has no images, or other classes.
    """
    if not any(is_image(file) for file in source.names):
        files = ", ".join(family.files)
        raise UserError(f"{source.where} is not {family.title}: expected {files}, or an image tree of its classes")
    tree = listing(source.names, where=source.where)
    if list(tree.class_names) != family.class_names:
        odd = sorted(set(tree.class_names) ^ set(family.class_names))[0]
        theirs = f"{family.title}'s {len(family.class_names)} (for instance {odd!r})"
        told = f"{source.where} has {len(tree.class_names)} classes that are not {theirs}"
        raise UserError(f"{told}: import it as folder:{source.where}")
    by = "the user" if description else "its SHA-256"
    description = description or KNOWN_COPIES.get(source.sha256 or "")
    if description is None:
        counts = {split: len(files) for split, files in tree.files.items()}
        odd_counts = "" if counts == COUNTS else f", {counts['train']:,} train and {counts['test']:,} test images"
        by, description = "image headers", f"{family.title} ({images.encoding(source, tree)}{odd_counts})"
    record = {"kind": "image tree", "archive_sha256": source.sha256, "described_by": by}
    return images.prepare_tree(source, tree, to, side=(32, 32), name=name, description=description, source=record)
