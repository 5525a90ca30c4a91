"""The type that `load` returns, with inputs, labels, statistics and fingerprint; and standardization of images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gendyn_lite.errors import UserError


class Split(NamedTuple):
    """Inputs and labels of one split.

    Attributes:
        x: Inputs: uint8 [n, C, H, W] for images, float32 [n, 2] or [n, 3] for points. ImageNet's are a `FolderImages`,
            which can be used like a tensor: it has shape, dtype and length, and indexing decodes images.
        y: Labels, int64 [n].
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class ImageData:
    """A data set.

    Attributes:
        name: The name that it was loaded by, for instance ``"digits"``.
        description: What the data truly are, for instance ``"CIFAR-10 (JPEG q75)"``; shown beside results.
        train: Training inputs and labels.
        test: Test inputs and labels.
        num_classes: Number of classes.
        class_names: Names of the classes, in the order of the labels.
        mean: Mean of the whole training set per channel (or coordinate of points), in [0, 1] for images.
        std: Standard deviation of the whole training set per channel, likewise.
        fingerprint: Hash of all inputs and labels of the whole set, 16 hexadecimal digits. It is the same on every
            machine and for every subset, so that runs which differ only in the seed share it.
        inputs: ``"true"``, or the kind of `randomize` that was applied.
    """

    name: str
    description: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    inputs: str = "true"

    @classmethod
    def from_record(cls, name: str, record: Mapping[str, Any], *, train: Split, test: Split) -> ImageData:
        """Make a data set of its splits and the record of its prepared form."""
        names, mean, std = (tuple(record[key]) for key in ("class_names", "mean", "std"))
        return cls(name, record["description"], train, test, len(names), names, mean, std, record["fingerprint"])

    @classmethod
    def measured(
        cls, name: str, description: str, class_names: Sequence[str], *, train: Split, test: Split
    ) -> ImageData:
        """Make a data set and compute its statistics and fingerprint from its inputs and labels."""
        if train.x.dtype == torch.uint8:
            mean, std = channel_statistics(train.x)
        else:
            std, mean = (tuple(stat.tolist()) for stat in torch.std_mean(train.x.double(), dim=0, correction=0))
        names = tuple(class_names)
        return cls(name, description, train, test, len(names), names, mean, std, fingerprint(train, test))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input: (C, H, W) for images, (2,) or (3,) for points."""
        return tuple(self.train.x.shape[1:])

    def check_labels(self) -> None:
        """Check that all labels are classes.

        Raises:
            UserError: One is not.
        """
        for name, part in (("training ", self.train), ("test ", self.test)):
            check_labels(part.y, num_classes=self.num_classes, name=name)

    def with_train_labels(self, y: Tensor) -> ImageData:
        """The same data with other training labels, int64 [n]; the test labels stay."""
        return replace(self, train=Split(self.train.x, y))


def check_labels(y: Tensor, *, num_classes: int | None = None, name: str = "") -> None:
    """Check that labels are int64 [n] of at least 0 and, if `num_classes` is given, less than that.

    Args:
        y: The labels.
        num_classes: Number of classes.
        name: Word before "labels" in the message.

    Raises:
        UserError: They are not.

    >>> check_labels(torch.tensor([0, -1]))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: labels span -1 to 0, expected 0 or more
    """
    if y.ndim != 1 or y.dtype != torch.int64:
        raise UserError(f"{name}labels are {y.dtype} {list(y.shape)}, expected int64 [n]")
    low, high = map(int, torch.aminmax(y)) if len(y) else (0, -1)
    if low < 0 or (num_classes is not None and high >= num_classes):
        expected = "0 or more" if num_classes is None else f"0 to {num_classes - 1} (num_classes - 1)"
        raise UserError(f"{name}labels span {low} to {high}, expected {expected}")


def channel_statistics(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of images scaled to [0, 1], computed from exact integer histograms.

    Args:
        x: Images, uint8 [n, C, H, W], n at least 1.

    Returns:
        C means and C standard deviations, in [0, 1].

    >>> channel_statistics(torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1))
    ((0.5,), (0.5,))
    """
    level = np.arange(256) / 255
    means, stds = [], []
    for c in range(x.shape[1]):
        share = np.bincount(x[:, c].cpu().reshape(-1).numpy(), minlength=256) / (x.numel() / x.shape[1])
        means.append(float(share @ level))
        stds.append(float(np.sqrt(share @ (level - means[-1]) ** 2)))
    return tuple(means), tuple(stds)


def standardize(x: Tensor, kind: str, *, mean: Tensor, std: Tensor) -> Tensor:
    """Convert 8-bit images to standardized floats.

    Args:
        x: Images, uint8 [b, C, H, W].
        kind: ``"per_image"``: (x − mean)/max(std, 1/√N) over the N values of each image, which are 0 … 255 as in
            TensorFlow's per_image_standardization. ``"per_channel"``: (x/255 − `mean`)/`std`. ``"none"``: x/255.
        mean: Mean per channel in [0, 1], float32 [C].
        std: Standard deviation per channel, float32 [C]; a channel whose std is 0 is only centred.

    Returns:
        The images, float32 [b, C, H, W].

    Source: Zhang et al. (2017), Appendix A (``"per_image"``).

    >>> standardize(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), "per_image", mean=None, std=None).tolist()
    [[[[-1.0, 1.0]]]]
    """
    x = x.float()  # a copy, which is changed in place below
    if kind == "none":
        return x.div_(255)
    if kind == "per_channel":
        scale = torch.where(std > 0, std, torch.ones_like(std))
        return x.sub_(255 * mean[:, None, None]).div_(255 * scale[:, None, None])
    flat = x.flatten(1)
    flat -= flat.mean(1, keepdim=True)
    deviation = torch.linalg.vector_norm(flat, dim=1, keepdim=True) / flat.shape[1] ** 0.5
    flat /= deviation.clamp_min_(flat.shape[1] ** -0.5)
    return flat.unflatten(1, x.shape[1:])


def fingerprint(train: Split, test: Split) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of both splits' shapes, inputs and labels.

    >>> part = Split(torch.zeros(1, 1, 1, 1, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    >>> fingerprint(part, part)
    'e399d7acf2b3b7c3'
    """
    total = hashlib.sha256()
    for part in (train, test):
        total.update(f"{str(part.x.dtype).removeprefix('torch.')} {list(part.x.shape)}".encode())
        total.update(_little_endian(part.x))
        total.update(_little_endian(part.y))
    return total.hexdigest()[:16]


def _little_endian(values: Tensor) -> memoryview:
    """The bytes of a tensor in little-endian order."""
    array = np.ascontiguousarray(values.cpu().numpy())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8).data
