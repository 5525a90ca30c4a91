"""What paths do without learning: batch-norm's lag on frozen weights, and random steps as long as those of the run."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.baselines import Frozen, random_like
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import relu_paths
from gendyn_lite.train.probes import Probe, reestimated_statistics, running_statistics

FEW = 6  # layers of a deep network that are recorded


def few_of(layers: list[str]) -> list[str]:
    """A few layers, evenly from the first to the last.

    >>> few_of([f"relu{i}" for i in range(17)])
    ['relu0', 'relu3', 'relu6', 'relu10', 'relu13', 'relu16']
    """
    return [layers[place] for place in sorted({round(i * (len(layers) - 1) / (FEW - 1)) for i in range(FEW)})]


def baselines(config: RunConfig, loaded: ImageData, x: Tensor, scratch: Path) -> dict[str, Probe]:
    """The probes of what stands beside the curves of a run: ``movement`` and, with batch-norm, ``running`` and ``lag``.

    ``running``: the run's own network with its running statistics, where ``paths`` has them re-estimated. ``lag``: the
    initial weights, frozen, with running statistics as training would update them. ``movement``: the initial weights
    moved by `Walk`, statistics re-estimated. With frozen weights and re-estimated statistics every similarity is 1.

    Args:
        config: The run's configuration.
        loaded: Its data, labels as trained with.
        x: The images that are followed.
        scratch: Folder of what they keep from epoch to epoch.
    """
    start = runner.build(config, loaded).eval()
    walk = Walk(start, seed=config.seed, folder=scratch / "walk")
    train_eval = data.batcher(loaded, config, split="train_eval")

    def moved(follow: Probe, model: nn.Module, epoch: int) -> Mapping[str, Any]:
        walked = walk(model, epoch)
        with reestimated_statistics(walked, train_eval.epoch(0)):
            return follow(walked, epoch)

    found: dict[str, Callable[[Probe, nn.Module, int], Mapping[str, Any]]] = {"movement": moved}
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in start.modules()):
        frozen = Frozen(start, data.batcher(loaded, config))

        def run_itself(follow: Probe, model: nn.Module, epoch: int) -> Mapping[str, Any]:
            with running_statistics(model):
                return follow(model, epoch)

        found |= {"running": run_itself, "lag": lambda follow, _, epoch: follow(frozen(epoch), epoch)}
    layers = few_of(list(relu_paths.gate_layers(start, x[:1])))
    return {name: _probe(make, followed(x, layers, scratch / name)) for name, make in found.items()}


def _probe(make: Callable[[Probe, nn.Module, int], Mapping[str, Any]], follow: Probe) -> Probe:
    return lambda model, epoch: make(follow, model, epoch)


def followed(x: Tensor, layers: list[str], folder: Path) -> Probe:
    """Mean self- and cross-path similarity with the epoch before: ``<layer>:self:mean``, ``<layer>:cross:mean``."""
    recorder = relu_paths.PathRecorder(x, layers=layers, folder=folder)
    return lambda model, epoch: {name: value for name, value in recorder(model, epoch).items() if name[-5:] == ":mean"}


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
