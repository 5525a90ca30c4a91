"""Seeded draws and what is made of them, the same on every machine: subsets, corrupted labels, randomized inputs.

Everything is derived from the raw 64-bit output of a counter-based generator, which NumPy guarantees to keep, and not
from a library's `randperm` or `normal`, whose algorithms have changed between versions. The key names what is drawn,
so no two draws share a stream and no generator state has to be stored to resume a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from gendyn_lite.config import INPUTS, check_range, check_type
from gendyn_lite.data.types import ImageData, Split, channel_statistics, check_labels
from gendyn_lite.errors import UserError, unknown_name

# The second part of a key: what is drawn.
SUBSET, LABELS, INPUT_NOISE, ORDER, AUGMENT = range(1, 6)
KINDS = INPUTS[1:]
SPLITS = ("train", "test")
PerChannel = Sequence[float] | None
CHUNK = 1024  # images whose draws are held at once


def source(*key: int) -> np.random.Philox:
    """The generator of a key such as ``(seed, ORDER, epoch)``; call its ``random_raw``."""
    return np.random.Philox(np.random.SeedSequence((len(key), *key)))  # its length, as zeros at the end do not count


def uniform(count: int, *key: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), multiples of 2⁻⁵³.

    >>> uniform(3, 0, LABELS).round(3).tolist()
    [0.72, 0.535, 0.838]
    """
    return (source(*key).random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(count: int, bound: int, *key: int) -> NDArray[np.int64]:
    """Uniform whole numbers in [0, bound)."""
    return (uniform(count, *key) * bound).astype(np.int64)


def permutation(count: int, *key: int) -> NDArray[np.int64]:
    """A uniform permutation of 0 … count−1."""
    return np.argsort(source(*key).random_raw(count), kind="stable")


def balanced_order(y: Tensor, *, seed: int) -> Tensor:
    """An order of the examples in which every prefix is as class-balanced as it can be.

    Each class is shuffled, then the classes take turns; a class that has run out is skipped.

    Args:
        y: Labels, int64 [n].
        seed: Seed of the shuffle.

    Returns:
        A permutation of 0 … n−1, int64 [n].

    Raises:
        UserError: `y` holds no labels.

    >>> y = torch.tensor([0, 0, 0, 1, 1, 2])
    >>> y[balanced_order(y, seed=0)][:3].sort().values.tolist()
    [0, 1, 2]
    """
    check_labels(y)
    labels = y.cpu().numpy()
    shuffled = permutation(len(labels), seed, SUBSET)
    turn = np.empty(len(labels), dtype=np.int64)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    turn[by_class] = np.concatenate([np.arange(count) for count in counts])
    # Within a turn the shuffled order decides, so that no class is preferred.
    return torch.from_numpy(shuffled[np.argsort(turn[shuffled], kind="stable")])


def corrupt_labels(y: Tensor, fraction: float, *, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Redraw each label with probability `fraction` uniformly from all classes.

    Example i has one uniform number u_i and one replacement label, which depend on the seed and on i only. Its label is
    replaced where u_i < fraction. So the labels redrawn at a smaller fraction are redrawn, to the same labels, at a
    larger one. A replacement may equal the true label: at fraction 1 about 1/num_classes of the labels stay true.

    Args:
        y: True training labels, int64 [n]. Test labels are never corrupted.
        fraction: Label corruption q in [0, 1].
        num_classes: Number of classes to draw from.
        seed: Seed of the draws, at least 0.

    Returns:
        The labels, int64 [n], and which of them were redrawn, bool [n], on the device of `y`. `y` is left as it was.

    Raises:
        UserError: An argument has the wrong type or is out of range, or a label is no class.

    Source: Zhang et al. (2017), Sec. 2.1 ("partially corrupted labels").

    >>> labels, redrawn = corrupt_labels(torch.arange(8), 0.5, num_classes=8, seed=0)
    >>> labels.tolist()
    [1, 0, 4, 3, 6, 5, 6, 7]
    >>> redrawn.sum().item()
    4
    """
    fraction = check_type("fraction", fraction, float)
    check_range("fraction", fraction, 0, 1, True)
    check_range("num_classes", check_type("num_classes", num_classes, int), 1, float("inf"), True)
    check_range("seed", check_type("seed", seed, int), 0, 2**31 - 1, True)
    check_labels(y, num_classes=num_classes)
    redrawn = torch.from_numpy(uniform(len(y), seed, LABELS, 0) < fraction).to(y.device)
    other = torch.from_numpy(integers(len(y), num_classes, seed, LABELS, 1)).to(y.device)
    return torch.where(redrawn, other, y), redrawn


def randomize_inputs(
    x: Tensor, kind: str, *, seed: int, mean: PerChannel = None, std: PerChannel = None, split: str = "train"
) -> Tensor:
    """Replace images by images without their structure.

    A pixel is a place with all its channels; pixels move whole.

    Args:
        x: Images, uint8 [n, C, H, W].
        kind: ``"shuffled_pixels"`` (one permutation of the pixels for every image, the same for training and test
            images), ``"random_pixels"`` (a fresh permutation for each image) or ``"gaussian"`` (noise with the data
            set's mean and standard deviation per channel, rounded and clipped to 0 … 255).
        seed: Seed of the draws, at least 0. Image i depends on the seed, the split and i only.
        mean: Mean per channel in [0, 1], for ``"gaussian"``; that of `x` by default. Give the training set's for the
            test images.
        std: Standard deviation per channel, likewise.
        split: ``"train"`` or ``"test"``: their noise and fresh permutations are drawn apart, so that no test image is
            a training image again.

    Returns:
        New images, uint8 [n, C, H, W], on the device of `x`.

    Raises:
        UserError: `x` holds no images, or a name or number is not valid.

    Source: Zhang et al. (2017), Sec. 2.1. The normal distribution is drawn to a resolution of 2⁻¹⁶ in probability.

    >>> x = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2)
    >>> randomize_inputs(x, "shuffled_pixels", seed=3).flatten().tolist()
    [1, 2, 0, 3]
    """
    if kind not in KINDS:
        raise unknown_name("kind of input randomization", kind, KINDS)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    check_range("seed", check_type("seed", seed, int), 0, 2**31 - 1, True)
    if x.dtype != torch.uint8 or x.ndim != 4:
        raise UserError(f"input randomization needs images, uint8 [n, C, H, W]; this is {x.dtype} {list(x.shape)}")
    if not isinstance(x, Tensor):
        raise UserError("input randomization needs images in memory; these are read from their folder")
    key = (seed, INPUT_NOISE, KINDS.index(kind))
    if kind == "shuffled_pixels":
        order = torch.from_numpy(permutation(x.shape[2] * x.shape[3], *key)).to(x.device)
        return x.flatten(2)[:, :, order].view(x.shape)
    stream = source(*key, SPLITS.index(split))
    if kind == "random_pixels":
        return _in_chunks(x, lambda images: _shuffle_each(images, stream))
    levels = torch.from_numpy(_gaussian_levels(*_mean_std(x, mean, std)))
    return _in_chunks(x, lambda images: _noise(images, levels, stream))


def randomize(data: ImageData, kind: str, *, seed: int) -> ImageData:
    """A data set with its training and test inputs randomized; labels stay.

    Args:
        data: Images with their true inputs.
        kind: A kind of `randomize_inputs`, or ``"true"`` to leave them.
        seed: Seed of the draws.

    Returns:
        The data with `inputs` set to `kind`. Noise follows the training set's `mean` and `std`.

    Raises:
        UserError: As `randomize_inputs`, or the inputs have been randomized before.

    >>> from gendyn_lite.data import load
    >>> randomize(load("digits"), "gaussian", seed=0).inputs
    'gaussian'
    """
    if kind == data.inputs:
        return data
    if data.inputs != "true":
        raise UserError(f"the inputs of {data.name} are {data.inputs!r} already; load it again to randomize otherwise")
    if kind not in KINDS:
        raise unknown_name("kind of input randomization", kind, INPUTS)
    train, test = (
        Split(randomize_inputs(part.x, kind, seed=seed, mean=data.mean, std=data.std, split=name), part.y)
        for name, part in (("train", data.train), ("test", data.test))
    )
    return replace(data, train=train, test=test, inputs=kind)


def _in_chunks(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for images, changed in zip(x.split(CHUNK), out.split(CHUNK), strict=True):
        changed.copy_(change(images))
    return out


def _shuffle_each(images: Tensor, stream: np.random.Philox) -> Tensor:
    """A fresh permutation of the pixels for each image, the same for its channels."""
    count, channels, height, width = images.shape
    keys = stream.random_raw(count * height * width).reshape(count, 1, height * width)
    order = torch.from_numpy(np.argsort(keys, axis=-1)).to(images.device)
    return images.flatten(2).gather(2, order.expand(-1, channels, -1)).view(images.shape)


def _noise(images: Tensor, levels: Tensor, stream: np.random.Philox) -> Tensor:
    """Noise from four 16-bit draws of each 64-bit one, through the table of `_gaussian_levels`."""
    count, channels = images.shape[:2]
    raw = stream.random_raw(-(-images[0].numel() // 4) * count).astype("<u8").view("<u2")
    ranks = torch.from_numpy(raw.astype(np.int64)).view(count, -1)[:, : images[0].numel()]
    ranks = ranks.reshape(count, channels, -1)
    noise = torch.stack([levels[c][ranks[:, c]] for c in range(channels)], dim=1)
    return noise.view(images.shape).to(images.device)


def _gaussian_levels(mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The grey level at each of 2¹⁶ equally probable ranks of N(mean, std²), uint8 [C, 65536]."""
    normal = ndtri((np.arange(2**16) + 0.5) / 2**16)
    levels = 255 * (np.asarray(mean)[:, None] + np.asarray(std)[:, None] * normal)
    return np.clip(np.round(levels), 0, 255).astype(np.uint8)


def _mean_std(x: Tensor, mean: PerChannel, std: PerChannel) -> tuple[Sequence[float], Sequence[float]]:
    """The given mean and standard deviation per channel, or those of the images."""
    own_mean, own_std = channel_statistics(x) if mean is None or std is None else ((), ())
    mean, std = (own_mean if mean is None else mean), (own_std if std is None else std)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != x.shape[1] or not all(0 <= value <= 1 for value in values):
            raise UserError(f"{name} is {tuple(values)}, expected {x.shape[1]} numbers in [0, 1], one a channel")
    return mean, std
