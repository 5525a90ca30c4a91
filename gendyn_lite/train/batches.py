"""The batches of a run, of inputs standardized once where they fit; and whether a network takes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor, nn

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, Split, batcher
from gendyn_lite.errors import UserError

RESIDENT_BYTES = 512 * 2**20  # float32 inputs up to this size are kept, so that they are standardized only once

SPLITS = ("train", "train_eval", "test")
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
        self._batchers = {split: batcher(data, config, split=split, device=device) for split in SPLITS}
        train, test = self._batchers["train"], self._batchers["test"]
        self.steps, self.num_train = len(train), train.num_examples
        self.num_test, self.in_shape = test.num_examples, train.in_shape
        if 4 * math.prod(self.in_shape) * (self.num_train + self.num_test) > RESIDENT_BYTES:
            return
        parts = [Split(self.inputs(name), y) for name, y in (("train_eval", data.train.y), ("test", data.test.y))]
        ready = replace(data, train=parts[0], test=parts[1])
        augmented = config.random_crop or config.flip
        config = config.replace(center_crop=None, random_crop=0, flip=False)
        for split in SPLITS[1:] if augmented else SPLITS:
            self._batchers[split] = batcher(ready, config, split=split, device=device)

    def training(self, epoch: int, *, first: int = 0) -> Iterator[Batch]:
        """The training batches of an epoch, from batch number `first` on."""
        return islice(self._batchers["train"].epoch(epoch), first, None)

    def evaluation(self, split: str) -> Iterator[Batch]:
        """Every example of ``"train_eval"`` or ``"test"``, in order and without augmentation."""
        return self._batchers[split].epoch(0)

    def inputs(self, split: str) -> Tensor:
        """All inputs of ``"train_eval"`` or ``"test"`` at once, float32 [n, *in_shape]."""
        return torch.cat([x for x, _ in self.evaluation(split)])


def check_fits(model: nn.Module, data: ImageData, x: Tensor) -> None:
    """Refuse a network that does not take the data's inputs, or whose logits are not its classes.

    Args:
        model: The network; it is left in eval mode.
        data: The data.
        x: A batch of its inputs as the run will see them, [b, *in_shape], on the model's device.

    Raises:
        UserError: A split is empty or has labels beyond the classes; nothing is trainable, or a parameter is an
            expanded tensor; or shapes do not fit.
    """
    for name, y in (("training", data.train.y), ("test", data.test.y)):
        if len(y) == 0:
            raise UserError(f"{data.name} has no {name} examples")
    data.check_labels()
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError("the network has no parameter that requires a gradient: there is nothing to train")
    for name, parameter in model.named_parameters():
        if any(size > 1 and stride == 0 for size, stride in zip(parameter.shape, parameter.stride(), strict=True)):
            raise UserError(f"{name} is an expanded tensor, whose entries share memory: clone it before training")
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(x[:1]).shape)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the network does not take inputs of shape {tuple(x.shape[1:])}: {reason}") from error
    if shape != (1, data.num_classes):
        named = f"{data.name} has {data.num_classes} classes: build it with num_classes={data.num_classes}"
        raise UserError(f"the network gives outputs of shape {shape[1:]}, but {named}")
