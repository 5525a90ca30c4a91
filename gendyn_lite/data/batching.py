"""Batches made on the device from 8-bit images: gathered, cropped, flipped and standardized there, and seeded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gendyn_lite.config import RunConfig, check_range, check_type
from gendyn_lite.data import draws
from gendyn_lite.data.device import resident, stream
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import UserError, unknown_name

SPLITS = ("train", "train_eval", "test")
EVALUATION_BATCH = 1024


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
        places = [slice(start, start + self._batch_size) for start in range(0, self.num_examples, self._batch_size)]
        if not self._training:
            for place, x in zip(places, self._gather(places), strict=True):
                yield self._finish(x, None), self._y[place]
            return
        order = self._order(epoch)
        there, draw = order.to(self._device), self._draw(epoch).to(self._device)
        picks = [(order if self._resident is None else there)[place] for place in places]
        for place, x in zip(places, self._gather(picks), strict=True):
            yield self._finish(x, draw[:, place]), self._y[there[place]]

    def _gather(self, picks: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """The images of each pick, on the device."""
        if self._resident is not None:
            return (self._resident[pick] for pick in picks)
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
        """Crop, flip and standardize a batch; `draw` is None where nothing is augmented."""
        if not self._images:
            return x
        pad = self._config.random_crop if draw is not None else 0
        x = _crop(x, self.in_shape[1], self.in_shape[2], pad, draw)
        if draw is not None and self._config.flip:
            x = torch.where(draw[2].bool()[:, None, None, None], x.flip(-1), x)
        return standardize(x, self._config.standardize, mean=self._mean, std=self._std)


def _crop(x: Tensor, height: int, width: int, pad: int, draw: Tensor | None) -> Tensor:
    """The centre window of each image, moved by at most `pad` pixels; outside the image it is black.

    Args:
        x: Images [b, C, H, W].
        height: Height of the window.
        width: Width of the window.
        pad: Largest move.
        draw: Moves plus `pad`, vertical and horizontal, int64 [2 or more, b]; None for no move.
    """
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    if draw is None or pad == 0:
        return x[:, :, top : top + height, left : left + width]
    x = F.pad(x, (pad, pad, pad, pad))[:, :, top : top + height + 2 * pad, left : left + width + 2 * pad]
    windows = x.unfold(2, height, 1).unfold(3, width, 1)  # [b, C, 2 pad + 1, 2 pad + 1, height, width], a view
    return windows[torch.arange(len(x), device=x.device), :, draw[0], draw[1]]


def standardize(x: Tensor, kind: str, *, mean: Tensor, std: Tensor) -> Tensor:
    """8-bit images as float32 [b, C, H, W].

    Args:
        x: Images, uint8 [b, C, H, W].
        kind: ``"per_image"``: (x − mean)/max(std, 1/√N) over the N values of each image, with grey levels 0 … 255 as
            Zhang et al. (2017) had them (TensorFlow's per_image_standardization). ``"per_channel"``: x/255, minus
            `mean`, over `std`. ``"none"``: x/255.
        mean: Mean per channel in [0, 1], float32 [C].
        std: Standard deviation per channel, float32 [C]; where it is 0 the channel is only centred.

    >>> standardize(torch.tensor([[[[0, 255]]]], dtype=torch.uint8), "per_image", mean=None, std=None).tolist()
    [[[[-1.0, 1.0]]]]
    """
    x = x.float()
    if kind == "none":
        return x / 255
    if kind == "per_channel":
        scale = torch.where(std > 0, std, torch.ones_like(std))
        return (x / 255 - mean[:, None, None]) / scale[:, None, None]
    centred = x - x.mean(dim=(1, 2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt_()
    return centred.div_(deviation.clamp_min_(x[0].numel() ** -0.5))


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
