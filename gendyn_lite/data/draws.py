"""Random draws that are the same on every machine: subsets, corrupted labels, randomized inputs.

All of them are derived from the raw 64-bit output of a counter-based generator, which NumPy guarantees not to change,
instead of a library's ``randperm`` or ``normal``, whose algorithms have changed between versions. The generator's key
says what is drawn, so that different draws are independent, and no state has to be saved to resume a run.
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

# What is drawn; the second part of a key.
SUBSET, LABELS, INPUT_NOISE, ORDER, AUGMENT = range(1, 6)
KINDS = INPUTS[1:]
SPLITS = ("train", "test")
PerChannel = Sequence[float] | None
CHUNK = 1024  # number of images that are randomized at once


def source(*key: int) -> np.random.Philox:
    """The generator for a key such as ``(seed, ORDER, epoch)``; call its ``random_raw``."""
    # SeedSequence ignores trailing zeros: with its length in front, keys that differ only in these differ too.
    return np.random.Philox(np.random.SeedSequence((len(key), *key)))


def uniform(count: int, *key: int) -> NDArray[np.float64]:
    """Uniform random numbers in [0, 1), multiples of 2⁻⁵³: float64 [count].

    >>> uniform(3, 0, LABELS).round(3).tolist()
    [0.72, 0.535, 0.838]
    """
    return (source(*key).random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(count: int, bound: int, *key: int) -> NDArray[np.int64]:
    """Uniform random integers in [0, bound): int64 [count]."""
    return (uniform(count, *key) * bound).astype(np.int64)


def permutation(count: int, *key: int) -> NDArray[np.int64]:
    """A uniform random permutation of 0 … count−1: int64 [count]."""
    return np.argsort(source(*key).random_raw(count), kind="stable")


def balanced_order(y: Tensor, *, seed: int) -> Tensor:
    """A random order of the examples in which every prefix is as class-balanced as possible.

    Each class is shuffled; then the classes take turns, and a class that is used up is skipped.

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
    # The shuffled order is kept within a turn, so that no class always comes first.
    return torch.from_numpy(shuffled[np.argsort(turn[shuffled], kind="stable")])


def corrupt_labels(y: Tensor, fraction: float, *, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Redraw each label, with probability `fraction`, uniformly from all classes.

    Example i has a uniform random number u_i and a replacement label, which depend only on the seed and on i. Its label
    is replaced if u_i < fraction. So the labels that are redrawn at a smaller fraction are redrawn to the same labels
    at a larger one. A replacement may equal the true label: at fraction 1, about 1/num_classes of the labels stay true.

    Args:
        y: True training labels, int64 [n]. Test labels are never corrupted.
        fraction: Label corruption q in [0, 1].
        num_classes: Number of classes to draw from.
        seed: Seed of the draws, at least 0.

    Returns:
        The labels, int64 [n], and which of them were redrawn, bool [n], on the device of `y`. `y` is left as it was.

    Raises:
        UserError: An argument has the wrong type or is out of range, or a label is not a class.

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
    """Replace images by images without structure.

    A pixel is moved with all its channels.

    Args:
        x: Images, uint8 [n, C, H, W].
        kind: ``"shuffled_pixels"`` (one permutation of the pixels for every image, the same for training and test
            images), ``"random_pixels"`` (a fresh permutation for each image) or ``"gaussian"`` (noise with the data
            set's mean and standard deviation per channel, rounded and clipped to 0 … 255).
        seed: Seed of the draws, at least 0. Image i depends only on the seed, the split and i.
        mean: Mean per channel in [0, 1], for ``"gaussian"``; by default that of `x`. For test images, pass that of the
            training set.
        std: Standard deviation per channel, likewise.
        split: ``"train"`` or ``"test"``. Noise and fresh permutations of the two are drawn independently, so that no
            test image equals a training image.

    Returns:
        New images, uint8 [n, C, H, W], on the device of `x`.

    Raises:
        UserError: `x` does not hold images, or a name or number is not valid.

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
    """Randomize the training and test inputs of a data set; labels stay.

    Args:
        data: Images that have not been randomized.
        kind: A kind of `randomize_inputs`, or ``"true"`` to leave them unchanged.
        seed: Seed of the draws.

    Returns:
        The data with its `inputs` set to `kind`. Noise has the training set's `mean` and `std`.

    Raises:
        UserError: As for `randomize_inputs`, or the inputs have been randomized before.

    >>> from gendyn_lite.data import load
    >>> randomize(load("digits"), "gaussian", seed=0).inputs
    'gaussian'
    """
    if kind == data.inputs:
        return data
    if data.inputs != "true":
        raise UserError(f"the inputs of {data.name} are {data.inputs!r} already: load it again to randomize otherwise")
    if kind not in KINDS:
        raise unknown_name("kind of input randomization", kind, INPUTS)
    train, test = (
        Split(randomize_inputs(part.x, kind, seed=seed, mean=data.mean, std=data.std, split=name), part.y)
        for name, part in (("train", data.train), ("test", data.test))
    )
    return replace(data, train=train, test=test, inputs=kind)


def _in_chunks(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function to images, `CHUNK` at a time."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for images, changed in zip(x.split(CHUNK), out.split(CHUNK), strict=True):
        changed.copy_(change(images))
    return out


def _shuffle_each(images: Tensor, stream: np.random.Philox) -> Tensor:
    """Shuffle the pixels of each image by a permutation of its own."""
    count, channels, height, width = images.shape
    keys = stream.random_raw(count * height * width).reshape(count, 1, height * width)
    order = torch.from_numpy(np.argsort(keys, axis=-1)).to(images.device)
    return images.flatten(2).gather(2, order.expand(-1, channels, -1)).view(images.shape)


def _noise(images: Tensor, levels: Tensor, stream: np.random.Philox) -> Tensor:
    """Noise in the shape of the images: each 64-bit draw gives four ranks in the table of `_gaussian_levels`."""
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
    """The given mean and standard deviation per channel, else those of the images."""
    own_mean, own_std = channel_statistics(x) if mean is None or std is None else ((), ())
    mean, std = (own_mean if mean is None else mean), (own_std if std is None else std)
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != x.shape[1] or not all(0 <= value <= 1 for value in values):
            raise UserError(f"{name} is {tuple(values)}, expected {x.shape[1]} numbers in [0, 1], one per channel")
    return mean, std
