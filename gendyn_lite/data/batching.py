"""Batches made on the device from 8-bit images, which are selected, cropped, flipped and standardized there."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gendyn_lite.config import RunConfig, check_range, check_type
from gendyn_lite.data import draws
from gendyn_lite.data.decoding import FolderImages
from gendyn_lite.data.types import ImageData, check_labels, standardize
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.threads import threads

Device = str | torch.device
SPLITS = ("train", "train_eval", "test")
# Size of a batch for evaluation: at least so many examples, and on a GPU enough to have so many input values, because
# smaller batches would not use all of it.
EVALUATION_BATCH, EVALUATION_VALUES = 1024, {"cpu": 0, "cuda": 1 << 24}
# Bytes of inputs that are prepared at once: several batches, to share fixed costs, but few enough for a CPU's cache.
CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 1 << 23}
AHEAD = 3  # number of batches that are read in advance, if the set is not on the device
SHARE = 0.5  # largest fraction of a GPU's free memory that one set may take

_copies = WeakTensorKeyDictionary()  # set → its copies by (device, version), which live only while they are used


def batcher(
    data: ImageData, config: RunConfig, *, split: str = "train", device: Device = "cpu", batch_size: int | None = None
) -> Batcher:
    """Make the batches of one split as the configuration says.

    Args:
        data: The data; labels and inputs are used as they are (already corrupted or randomized).
        config: Its seed, batch_size, center_crop, random_crop, flip and standardize are used.
        split: ``"train"`` (shuffled and augmented), ``"train_eval"`` (the training set in order, without
            augmentation) or ``"test"`` (in order, without augmentation).
        device: Where the batches are made.
        batch_size: Examples per batch; by default the configuration's for training, else at least 1,024 (more on a
            GPU).

    Returns:
        A `Batcher`.

    Raises:
        UserError: An option does not fit the data, or the data's inputs are not those that the configuration names.

    >>> from gendyn_lite.data import load
    >>> batches = batcher(load("digits"), RunConfig(experiment="demo", center_crop=6), split="test")
    >>> x, y = next(batches.epoch(0))
    >>> x.shape, y.shape, len(batches), batches.num_examples
    (torch.Size([355, 1, 6, 6]), torch.Size([355]), 1, 355)
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if data.inputs != config.inputs:
        told = f"the configuration has inputs={config.inputs!r}, but this {data.name} has {data.inputs!r} inputs"
        raise UserError(f"{told}: apply data.randomize(data, config.inputs, seed=config.seed) first")
    place = torch.device(device)
    if batch_size is None:
        many = EVALUATION_VALUES.get(place.type, 0) // max(1, math.prod(data.in_shape))
        batch_size = config.batch_size if split == "train" else max(config.batch_size, EVALUATION_BATCH, many)
    check_range("batch_size", check_type("batch_size", batch_size, int), 1, math.inf, True)
    return Batcher(data, config, split, place, batch_size)


class Batcher:
    """The batches of one split; made by `batcher`.

    Attributes:
        num_examples: Number of examples per epoch.
        in_shape: Shape of one input after the centre crop.
    """

    def __init__(self, data: ImageData, config: RunConfig, split: str, device: torch.device, batch_size: int) -> None:
        """Move the split to the device and check that the options fit its shape."""
        part = data.test if split == "test" else data.train
        if not len(part.y):
            raise UserError(f"{data.name} has no {'test' if split == 'test' else 'training'} examples")
        check_labels(part.y)  # not against num_classes: callers may put image numbers here, and `train.fit` checks
        self.num_examples = len(part.y)
        self._device = torch.empty(0, device=device).device  # turns "cuda" into "cuda:0"
        self._x, self._y = part.x, part.y.to(self._device)
        self._resident = resident(part.x, self._device)
        self._config, self._training, self._batch_size = config, split == "train", batch_size
        self._images = part.x.dtype == torch.uint8
        self._mean, self._std = (torch.tensor(values, device=self._device) for values in (data.mean, data.std))
        self.in_shape = _cropped_shape(data, config)

    def __len__(self) -> int:
        """Number of batches per epoch; the last one may be smaller than the others."""
        return math.ceil(self.num_examples / self._batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the batches of an epoch. Training batches depend only on the configuration's seed and the epoch.

        Args:
            epoch: Number of the epoch, at least 0.

        Yields:
            x, float32 [b, *in_shape], and y, int64 [b], on the device.
        """
        budget, size = CHUNK_BYTES.get(self._device.type, CHUNK_BYTES["cpu"]), self._batch_size
        step = size * max(1, budget // (size * math.prod(self._x.shape[1:]) * self._x.dtype.itemsize))
        chunks = [slice(start, start + step) for start in range(0, self.num_examples, step)]
        draw = None
        if self._training:
            order, draw = self._draw(epoch)
            there, draw = order.to(self._device), None if draw is None else draw.to(self._device)
            sources = [(order if self._resident is None else there)[chunk] for chunk in chunks]
            targets = [there[chunk] for chunk in chunks]
        else:
            sources = targets = chunks
        gathered = self._gather(sources)
        for chunk, target in zip(chunks, targets, strict=True):
            with threads(1):  # for such small operations, waiting for a busy core costs more than it saves
                x = self._finish(next(gathered), None if draw is None else draw[:, chunk])
            yield from zip(x.split(size), self._y[target].split(size), strict=True)

    def whole(self) -> tuple[Tensor, Tensor]:
        """All inputs, float32 [n, *in_shape], and labels, int64 [n], of the split; of "train", those of epoch 0."""
        x, y = zip(*self.epoch(0), strict=True)
        return torch.cat(x), torch.cat(y)

    def _gather(self, picks: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """The images with the given indices or slices, on the device."""
        if self._resident is not None:
            whole = self._resident
            return (whole[pick] if isinstance(pick, slice) else whole.index_select(0, pick) for pick in picks)
        return stream(self._x, picks, self._device)

    def _draw(self, epoch: int) -> tuple[Tensor, Tensor | None]:
        """The order of an epoch's examples, int64 [n], and their augmentation, int64 [3, n], or None without any.

        The rows of the latter are vertical shifts, horizontal shifts and flips.
        """
        count, seed, shifts = self.num_examples, self._config.seed, 2 * self._config.random_crop + 1
        order = torch.from_numpy(draws.permutation(count, seed, draws.ORDER, epoch))
        if not (self._config.random_crop or self._config.flip):
            return order, None
        key = (seed, draws.AUGMENT, epoch)
        rows = [draws.integers(count, bound, *key, i) for i, bound in enumerate((shifts, shifts, 2))]
        return order, torch.from_numpy(np.stack(rows))

    def _finish(self, x: Tensor, draw: Tensor | None) -> Tensor:
        """Crop, flip and standardize images; `draw` (see `_draw`) is None without augmentation."""
        if not self._images:
            return x
        pad = self._config.random_crop if draw is not None else 0
        x = cut_windows(x, self.in_shape[1:], pad, draw, flip=self._config.flip)
        return standardize(x, self._config.standardize, mean=self._mean, std=self._std)


def _cropped_shape(data: ImageData, config: RunConfig) -> tuple[int, ...]:
    """The shape of one input after the centre crop.

    Raises:
        UserError: An image option does not fit the data.
    """
    crop, shift = config.center_crop, config.random_crop
    if data.train.x.dtype != torch.uint8:
        for name, value in (("center_crop", crop), ("random_crop", shift), ("flip", config.flip)):
            if value:
                raise UserError(f"{name} is {value!r}, but {data.name} holds points, not images: leave it out")
        return data.in_shape
    channels, height, width = data.in_shape
    if crop is not None:
        if crop > min(height, width):
            raise UserError(f"center_crop is {crop}, expected at most {min(height, width)} for {height}x{width} images")
        height = width = crop
    if shift >= min(height, width):
        raise UserError(f"random_crop is {shift}, expected less than the side {min(height, width)}")
    return channels, height, width


def resident(x: Tensor | FolderImages, device: torch.device) -> Tensor | None:
    """The whole set on the device, or None if it does not fit there. Callers with the same set share one copy.

    Args:
        x: Inputs, [n, ...].
        device: The device.
    """
    if not isinstance(x, Tensor) or x.device == device:
        return x if isinstance(x, Tensor) else None
    copies: Any = _copies.setdefault(x, WeakValueDictionary())
    copy = copies.get((device, x._version))
    if copy is None and _fits(x, device):
        copy = copies[device, x._version] = x.to(device)
    return copy


def _fits(x: Tensor, device: torch.device) -> bool:
    """Whether a set takes at most half of a GPU's free memory; other devices are assumed to be large enough."""
    return device.type != "cuda" or x.numel() * x.element_size() <= SHARE * torch.cuda.mem_get_info(device)[0]


def stream(x: Tensor | FolderImages, picks: Sequence[Tensor | slice], device: torch.device) -> Iterator[Tensor]:
    """Iterate over batches of a set that is not on the device. A thread reads ahead, into pinned memory for a GPU.

    Args:
        x: Images on the CPU or in a folder.
        picks: For each batch its indices (int64, on the CPU) or its slice.
        device: Where the batches go.

    Yields:
        The images of each batch, uint8 [b, C, H, W], on the device.
    """

    def gather(pick: Tensor | slice) -> Tensor:
        batch = x[pick]
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as thread:
        jobs = (thread.submit(gather, pick) for pick in picks)
        waiting = deque(islice(jobs, AHEAD))
        try:
            while waiting:
                waiting.extend(islice(jobs, 1))
                yield waiting.popleft().result().to(device, non_blocking=True)
        finally:
            thread.shutdown(cancel_futures=True)


def cut_windows(x: Tensor, side: tuple[int, ...], pad: int, draw: Tensor | None, *, flip: bool) -> Tensor:
    """Cut a window from each image: the centre, shifted by at most `pad` pixels and perhaps mirrored.

    Pixels outside of the image are black.

    Args:
        x: Images, [b, C, H, W].
        side: Height and width of the window.
        pad: Largest shift in pixels.
        draw: Vertical shift + `pad`, horizontal shift + `pad`, and flip (0 or 1), int64 [3, b]; None for neither.
        flip: Whether images whose flip is 1 are mirrored.

    Returns:
        The windows, [b, C, *side].
    """
    height, width = side
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    if draw is None:
        return x[:, :, top : top + height, left : left + width]
    x = F.pad(x, (pad, pad, pad, pad))
    rows = top + draw[0][:, None] + torch.arange(height, device=x.device)  # [b, height]
    columns = left + draw[1][:, None] + torch.arange(width, device=x.device)  # [b, width]
    if flip:
        columns = torch.where(draw[2][:, None].bool(), columns.flip(1), columns)
    places = (rows[:, :, None] * x.shape[3] + columns[:, None, :]).flatten(1)[:, None]  # [b, 1, height · width]
    return x.flatten(2).gather(2, places.expand(-1, x.shape[1], -1)).unflatten(2, side)
