"""What `load` returns: images, labels and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gendyn_lite.errors import UserError


class Split(NamedTuple):
    """Inputs and labels: x is uint8 [n, C, H, W] for images, float32 [n, 2] for two_moons; y is int64 [n].

    ImageNet's x is a `FolderImages`, which reads like such a tensor: it has shape, dtype and length, and x[indices]
    decodes those images.
    """

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Attributes:
        name: The name it was loaded by, for instance ``"digits"``.
        description: What it truly is, for instance ``"CIFAR-10 (JPEG q75)"``: the name to show beside a result.
        train: Training inputs and labels.
        test: Test inputs and labels.
        num_classes: Number of classes.
        class_names: Their names, in the order of the labels.
        mean: Mean of the whole training set's inputs per channel, in [0, 1] for images.
        std: Standard deviation per channel, likewise.
        fingerprint: Hash of the whole data set's inputs and labels, 16 hexadecimal digits: the same on every machine
            and for every subset, so that runs that differ in the seed alone share it.
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
        """A prepared data set: its splits, and the JSON record that lies beside them."""
        return cls(
            name=name,
            description=record["description"],
            train=train,
            test=test,
            num_classes=len(record["class_names"]),
            class_names=tuple(record["class_names"]),
            mean=tuple(record["mean"]),
            std=tuple(record["std"]),
            fingerprint=record["fingerprint"],
        )

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input: (C, H, W) for images, (2,) for two_moons."""
        return tuple(self.train.x.shape[1:])

    def check_labels(self) -> None:
        """Refuse labels that are no classes, before they are used as places in a table."""
        for part in (self.train, self.test):
            check_labels(part.y, num_classes=self.num_classes)

    def with_train_labels(self, y: Tensor) -> ImageData:
        """The same data with other training labels; the test labels are never touched."""
        return replace(self, train=Split(self.train.x, y))


def check_labels(y: Tensor, *, num_classes: int | None = None) -> None:
    """Refuse what are no labels: they are int64 [n], from 0 to num_classes - 1 if that is known.

    >>> check_labels(torch.tensor([0, -1]))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: labels span -1 to 0, expected 0 or more
    """
    if y.ndim != 1 or y.dtype != torch.int64:
        raise UserError(f"labels are {y.dtype} {list(y.shape)}, expected int64 [n]")
    low, high = map(int, torch.aminmax(y)) if len(y) else (0, -1)
    if low < 0 or (num_classes is not None and high >= num_classes):
        expected = "0 or more" if num_classes is None else f"0 to {num_classes - 1} (num_classes - 1)"
        raise UserError(f"labels span {low} to {high}, expected {expected}")
