"""CIFAR's two formats: binary batches, and pickled Python batches read by an unpickler that runs nothing."""

from __future__ import annotations

import io
import pickle
from typing import Any, ClassVar

import numpy as np

from gendyn_lite.errors import UserError

PIXELS = 3 * 32 * 32


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
