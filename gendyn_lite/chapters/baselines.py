"""What a network shows without learning: frozen weights whose statistics lag, and weights moved at random as far."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
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


def keep(place: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors aside, then rename: what goes on after an interruption finds a whole file or none.

    Args:
        place: The file, in a folder that is made if absent.
        tensors: By name.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, place.with_suffix(".part"))
    place.with_suffix(".part").replace(place)


class Walk:
    """The initial network moved at each epoch by random steps as long as the run's own, parameter by parameter.

    The run goes from W to W + D in an epoch; the walk adds to each parameter a normal vector of the norm of D there.

    Args:
        start: The initial network; it is copied.
        seed: Of the directions.
        folder: Where both networks of the last two epochs are kept, to go on from after an interruption.
    """

    def __init__(self, start: nn.Module, *, seed: int, folder: Path) -> None:
        self._network, self._seed, self._folder = copy.deepcopy(start), seed, folder
        self._start = {name: value.detach().clone() for name, value in start.named_parameters()}

    def __call__(self, model: nn.Module, epoch: int) -> nn.Module:
        """The network after the step of an epoch, in eval mode.

        Args:
            model: The run's own network after that epoch.
            epoch: Every epoch from 0 on, in order.
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
