"""Batches made on the device from 8-bit images: gathered, cropped, flipped and standardized there, and seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from gendyn_lite.config import RunConfig, check_range, check_type
from gendyn_lite.data import draws
from gendyn_lite.data.augmentation import cut_windows, standardize
from gendyn_lite.data.device import resident, stream
from gendyn_lite.data.types import ImageData, check_labels
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.threads import threads

SPLITS = ("train", "train_eval", "test")
EVALUATION_BATCH = 1024
# 8-bit pixels that are made ready at once: several batches, so that fixed costs are shared, within a CPU's cache.
CHUNK_BYTES = {"cpu": 1 << 20, "cuda": 1 << 23}


def batcher(
    data: ImageData,
    config: RunConfig,
    *,
    split: str = "train",
    device: str | torch.device = "cpu",
    batch_size: int | None = None,
) -> Batcher:
    """The batches of one split, as the configuration wants them.

    Args:
        data: What `load` gave; its labels and inputs are taken as they are (corrupted, randomized).
        config: Its seed, batch_size, center_crop, random_crop, flip and standardize are used.
        split: ``"train"`` (shuffled and augmented), ``"train_eval"`` (the training set in order, without
            augmentation) or ``"test"`` (likewise).
        device: Where the batches are made.
        batch_size: Examples a batch; by default the configuration's for ``"train"`` and at least 1,024 otherwise.

    Returns:
        A `Batcher`.

    Raises:
        UserError: An option does not fit the data, or the data's inputs are not the configuration's.

    >>> from gendyn_lite.data import load
    >>> batches = batcher(load("digits"), RunConfig(experiment="demo", center_crop=6), split="test")
    >>> x, y = next(batches.epoch(0))
    >>> x.shape, y.shape, len(batches), batches.num_examples
    (torch.Size([355, 1, 6, 6]), torch.Size([355]), 1, 355)
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if data.inputs != config.inputs:
        raise UserError(
            f"the configuration has inputs={config.inputs!r}, but this {data.name} has {data.inputs!r} inputs: "
            "apply data.randomize(data, config.inputs, seed=config.seed) first"
        )
    if batch_size is None:
        batch_size = config.batch_size if split == "train" else max(config.batch_size, EVALUATION_BATCH)
    check_range("batch_size", check_type("batch_size", batch_size, int), 1, math.inf, True)
    return Batcher(data, config, split=split, device=torch.device(device), batch_size=batch_size)


class Batcher:
    """Batches of one split; make it with `batcher`.

    Attributes:
        num_examples: Examples an epoch.
        in_shape: Shape of one input after the centre crop.
    """

    def __init__(
        self, data: ImageData, config: RunConfig, *, split: str, device: torch.device, batch_size: int
    ) -> None:
        """Put the split on the device and check the options against its shape."""
        part = data.test if split == "test" else data.train
        check_labels(part.y)  # numbers of images may stand in their place: `train.fit` checks the classes
        self.num_examples = len(part.y)
        self._device = torch.empty(0, device=device).device  # "cuda" and "cuda:0" are one
        self._x, self._y = part.x, part.y.to(self._device)
        self._resident = resident(part.x, self._device)
        self._config, self._training, self._batch_size = config, split == "train", batch_size
        self._images = part.x.dtype == torch.uint8
        self._mean, self._std = (torch.tensor(values, device=self._device) for values in (data.mean, data.std))
        self.in_shape = _cropped_shape(data, config)

    def __len__(self) -> int:
        """Batches an epoch; the last one may be smaller."""
        return math.ceil(self.num_examples / self._batch_size)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, in an order that depends on the configuration's seed and the epoch only.

        Args:
            epoch: Number of the epoch, at least 0.

        Yields:
            x, float32 [b, *in_shape], and y, int64 [b], on the device.
        """
        budget = CHUNK_BYTES.get(self._device.type, CHUNK_BYTES["cpu"])
        step = self._batch_size * max(1, budget // (self._batch_size * math.prod(self._x.shape[1:])))
        chunks = [slice(start, start + step) for start in range(0, self.num_examples, step)]
        for x, y in self._augmented(epoch, chunks) if self._training else self._plain(chunks):
            for start in range(0, len(y), self._batch_size):
                yield x[start : start + self._batch_size], y[start : start + self._batch_size]

    def _plain(self, chunks: list[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Examples in order, not augmented."""
        gathered = self._gather(chunks)
        for chunk in chunks:
            with threads(1):  # small operations: waiting for a busy core costs more than it saves
                x = self._finish(next(gathered), None)
            yield x, self._y[chunk]

    def _augmented(self, epoch: int, chunks: list[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Examples in the epoch's order, augmented."""
        order = self._order(epoch)
        there, draw = order.to(self._device), self._draw(epoch).to(self._device)
        picks = [(order if self._resident is None else there)[chunk] for chunk in chunks]
        gathered = self._gather(picks)
        for chunk in chunks:
            with threads(1):
                x = self._finish(next(gathered), draw[:, chunk])
            yield x, self._y[there[chunk]]

    def _gather(self, picks: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """The images of each pick, on the device."""
        if self._resident is not None:
            whole = self._resident
            return (whole[pick] if isinstance(pick, slice) else whole.index_select(0, pick) for pick in picks)
        return stream(self._x, picks, self._device)

    def _order(self, epoch: int) -> Tensor:
        """The order of an epoch, int64 [n]."""
        return torch.from_numpy(draws.permutation(self.num_examples, self._config.seed, draws.ORDER, epoch))

    def _draw(self, epoch: int) -> Tensor:
        """Vertical and horizontal shift, and flip, of every example of an epoch, int64 [3, n]."""
        count, seed, shifts = self.num_examples, self._config.seed, 2 * self._config.random_crop + 1
        bounds = (shifts, shifts, 2)
        rows = [draws.integers(count, bound, seed, draws.AUGMENT, epoch, i) for i, bound in enumerate(bounds)]
        return torch.from_numpy(np.stack(rows))

    def _finish(self, x: Tensor, draw: Tensor | None) -> Tensor:
        """Crop, flip and standardize; `draw` is None where nothing is augmented."""
        if not self._images:
            return x
        pad = self._config.random_crop if draw is not None else 0
        x = cut_windows(x, self.in_shape[1:], pad, draw, flip=self._config.flip)
        return standardize(x, self._config.standardize, mean=self._mean, std=self._std)


def _cropped_shape(data: ImageData, config: RunConfig) -> tuple[int, ...]:
    """Shape of one input after the centre crop, once every image option is known to fit."""
    options = {"center_crop": config.center_crop, "random_crop": config.random_crop, "flip": config.flip}
    if data.train.x.dtype != torch.uint8:
        for name, value in options.items():
            if value:
                raise UserError(f"{name} is {value!r}, but {data.name} holds points, not images: leave it out")
        return data.in_shape
    channels, height, width = data.in_shape
    crop = config.center_crop
    if crop is not None and crop > min(height, width):
        raise UserError(f"center_crop is {crop}, expected at most {min(height, width)} for {height}x{width} images")
    height, width = (height, width) if crop is None else (crop, crop)
    if config.random_crop >= min(height, width):
        raise UserError(f"random_crop is {config.random_crop}, expected less than the side {min(height, width)}")
    return channels, height, width
