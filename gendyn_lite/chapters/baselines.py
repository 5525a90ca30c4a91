"""Baselines that learn nothing: frozen weights with updated batch-norm statistics, and random moves of the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Frozen:
    """A network with fixed weights whose batch-norm running statistics are updated by the batches of training.

    Args:
        start: The network; it is copied.
        batches: The batches of training; ``batches.epoch(number)`` gives those of one epoch.
    """

    def __init__(self, start: nn.Module, batches: Any) -> None:
        self._start, self._batches, self._epoch = copy.deepcopy(start), batches, 0
        self._network = copy.deepcopy(start)

    def __call__(self, epoch: int) -> nn.Module:
        """Return the network after an epoch, in eval mode. After an interruption all earlier epochs are replayed."""
        if epoch < self._epoch:
            self._network, self._epoch = copy.deepcopy(self._start), 0
        self._network.train()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):  # dropout, if any, would change the global generator
            for each in range(self._epoch + 1, epoch + 1):
                for x, _ in self._batches.epoch(each):
                    self._network(x)
        self._epoch = epoch
        return self._network.eval()


def moved_as_far(start: nn.Module, model: nn.Module, *, seed: int) -> nn.Module:
    """Move each parameter of the initial network in a random direction, as far as training moved it.

    Args:
        start: The network before training; it is copied.
        model: The network after training.
        seed: Seed of the random directions.

    Returns:
        The moved copy, in eval mode.

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
    """Draw a random direction with the norm and shape of a step.

    Args:
        step: The change of one parameter.
        generator: The generator to draw from.
    """
    drawn = torch.randn(step.shape, generator=generator)
    return drawn * (step.norm() / drawn.norm())


def keep(place: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a temporary file and rename it, so that an interruption never leaves half a file.

    Args:
        place: The file to write; its folder is created if it does not exist.
        tensors: The tensors, by name.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, place.with_suffix(".part"))
    place.with_suffix(".part").replace(place)


class Walk:
    """A random walk of the weights: each epoch every parameter takes a random step as long as the run's own.

    Where an epoch of the run changes a parameter from W to W + D, the walk adds a random vector with the norm of D.

    Args:
        start: The initial network; it is copied.
        seed: Seed of the random directions.
        folder: Folder with the weights of the run and of the walk at the last epochs, to resume from.
    """

    def __init__(self, start: nn.Module, *, seed: int, folder: Path) -> None:
        self._network, self._seed, self._folder = copy.deepcopy(start), seed, folder
        self._start = {name: value.detach().clone() for name, value in start.named_parameters()}

    def __call__(self, model: nn.Module, epoch: int) -> nn.Module:
        """Return the network after the random step of an epoch, in eval mode.

        Args:
            model: The run's own network after that epoch.
            epoch: The epoch; call once for each epoch from 0 on, in order.
        """
        run = {name: value.detach().cpu().contiguous().clone() for name, value in model.named_parameters()}
        before, walked = self._load(epoch - 1) if epoch else (self._start, self._start)
        generator = torch.Generator().manual_seed(1_000_003 * (self._seed + 1) + epoch)
        if epoch:
            steps = {name: run[name] - before[name] for name in run}
            walked = {name: walked[name] + random_like(step, generator) for name, step in steps.items()}
        self._save(epoch, run, walked)
        with torch.no_grad():
            for name, value in self._network.named_parameters():
                value.copy_(walked[name])
        return self._network.eval()

    def _load(self, epoch: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        both = load_file(self._place(epoch))
        parts = ({k[4:]: v for k, v in both.items() if k.startswith(which)} for which in ("run.", "own."))
        run, walked = parts
        return run, walked

    def _save(self, epoch: int, run: Mapping[str, Tensor], walked: Mapping[str, Tensor]) -> None:
        both = {f"run.{k}": v for k, v in run.items()} | {f"own.{k}": v.clone() for k, v in walked.items()}
        keep(self._place(epoch), both)
        self._place(epoch - 3).unlink(missing_ok=True)

    def _place(self, epoch: int) -> Path:
        return self._folder / f"epoch_{epoch:04d}.safetensors"
