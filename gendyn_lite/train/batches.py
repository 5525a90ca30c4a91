"""The batches of a run: from a Batcher, or gathered from inputs that were standardized once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, batcher, draws

RESIDENT_BYTES = 512 * 2**20  # float32 inputs up to this size are kept, so that they are standardized only once

Batch = tuple[Tensor, Tensor]


class Batches:
    """Training and evaluation batches on the device, the same as those of `gendyn_lite.data.batcher`.

    Attributes:
        steps: Training batches an epoch.
        num_train: Training examples.
        num_test: Test examples.
        in_shape: Shape of one input.
    """

    def __init__(self, data: ImageData, config: RunConfig, device: torch.device) -> None:
        """Put the data on the device; what is not augmented and small enough is standardized here, once."""
        self._config = config
        self._train = batcher(data, config, split="train", device=device)
        evaluations = {split: batcher(data, config, split=split, device=device) for split in ("train_eval", "test")}
        self.steps, self.num_train = len(self._train), self._train.num_examples
        self.num_test, self.in_shape = evaluations["test"].num_examples, self._train.in_shape
        size = 4 * math.prod(self.in_shape) * (self.num_train + self.num_test)
        keep = size <= RESIDENT_BYTES
        self._evaluations = {
            split: list(batches.epoch(0)) if keep else batches for split, batches in evaluations.items()
        }
        self._inputs: Tensor | None = None
        self._labels = data.train.y.to(device)
        if keep and not (config.random_crop or config.flip):
            parts = [x for x, _ in self.evaluation("train_eval")]
            self._inputs = torch.cat(parts)
            # The evaluation batches become views: one copy in memory.
            views = zip(self._inputs.split(len(parts[0])), self._labels.split(len(parts[0])), strict=True)
            self._evaluations["train_eval"] = list(views)

    def training(self, epoch: int, *, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch, from batch number `first` on."""
        if self._inputs is None:
            return islice(self._train.epoch(epoch), first, None)
        return self._gathered(self._inputs, epoch, first)

    def evaluation(self, split: str) -> Iterable[Batch]:
        """Every example of ``"train_eval"`` or ``"test"``, in order and without augmentation."""
        batches = self._evaluations[split]
        return batches if isinstance(batches, list) else batches.epoch(0)

    def inputs(self, split: str) -> Tensor:
        """All inputs of ``"train_eval"`` or ``"test"`` at once, float32 [n, *in_shape]."""
        return torch.cat([x for x, _ in self.evaluation(split)])

    def _gathered(self, inputs: Tensor, epoch: int, first: int) -> Iterator[Batch]:
        order = draws.permutation(self.num_train, self._config.seed, draws.ORDER, epoch)
        chosen = torch.from_numpy(order).to(inputs.device).split(self._config.batch_size)
        for indices in chosen[first:]:
            yield inputs.index_select(0, indices), self._labels.index_select(0, indices)
