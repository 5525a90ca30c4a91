"""What a network shows without learning: frozen weights whose statistics lag, and weights moved at random as far."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Frozen:
    """A network whose weights stay while its running statistics are updated by the batches of training.

    Args:
        start: The network; it is copied.
        batches: Those of training: batches of an epoch, by its number.
    """

    def __init__(self, start: nn.Module, batches: Any) -> None:
        self._start, self._batches, self._epoch = copy.deepcopy(start), batches, 0
        self._network = copy.deepcopy(start)

    def __call__(self, epoch: int) -> nn.Module:
        """The network after an epoch, in eval mode; after an interruption, all epochs up to it are gone through."""
        if epoch < self._epoch:
            self._network, self._epoch = copy.deepcopy(self._start), 0
        self._network.train()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # dropout, if any, draws
            for each in range(self._epoch + 1, epoch + 1):
                for x, _ in self._batches.epoch(each):
                    self._network(x)
        self._epoch = epoch
        return self._network.eval()


def moved_as_far(start: nn.Module, model: nn.Module, *, seed: int) -> nn.Module:
    """The initial network with each parameter moved in a random direction, as far as training moved it; in eval mode.

    Args:
        start: The network before training; it is copied.
        model: The network after it.
        seed: Of the directions.

    >>> start, model = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> moved = moved_as_far(start, model, seed=0)
    >>> torch.allclose((moved.weight - start.weight).norm(), (model.weight - start.weight).norm())
    True
    """
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1))
    moved, after = copy.deepcopy(start), dict(model.named_parameters())
    with torch.no_grad():
        for name, value in moved.named_parameters():
            value.add_(random_like(after[name].detach().to(value) - value, generator))
    return moved.eval()


def random_like(step: Tensor, generator: torch.Generator) -> Tensor:
    """A normal vector as long as a step, of its shape.

    Args:
        step: What one parameter was moved by.
        generator: Draws the direction.
    """
    drawn = torch.randn(step.shape, generator=generator)
    return drawn * (step.norm() / drawn.norm())
