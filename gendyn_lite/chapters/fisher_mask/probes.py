"""What is measured while networks of chapter 3 train, and the mask of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures.fisher import GradientMask, influence_probe
from gendyn_lite.train import log_spaced

PROBE_VERSION = 1  # of what the probes measure: raise it with every change of that, and old runs stay what they are
EXAMPLES = {"smoke": (10, 40), "colab": (20, 50), "full": (20, 50)}
FEW = {"alexnet_small": (10, 40), "resnet18": (4, 16)}  # examples stepped on and inputs watched, of slow networks
MOMENTS = 6  # epochs at which influence is measured, log-spaced


def inputs(config: RunConfig, loaded: ImageData) -> tuple[Tensor, Tensor]:
    """All training inputs, standardized as in training and without augmentation, and their labels."""
    batches = list(data.batcher(loaded, config, split="train_eval").epoch(0))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return x, y


def mask_for(config: RunConfig, examples: Any, **options: Any) -> GradientMask | None:
    """The gradient mask of a configuration, None where it has none.

    Args:
        config: The configuration.
        examples: For `GradientMask`.
        **options: For `GradientMask`.
    """
    if config.mask_keep == 1:
        return None
    by, _, layer = config.mask_by.partition("_per_")
    return GradientMask(config.mask_keep, examples, by=by, scope=layer or "network", seed=config.seed, **options)


def mask_probe(hook: GradientMask | None) -> dict[str, Callable[[nn.Module, int], dict[str, float]]]:
    """A probe that records the share of weights that the mask lets move in the next epoch."""
    return {} if hook is None else {"mask": lambda model, epoch: {"kept": round(hook.kept, 6)}}


def influence_during(
    config: RunConfig, x: Tensor, y: Tensor, profile: str
) -> Callable[[nn.Module, int], dict[str, float]]:
    """The influence probe of a run, at epochs that are evenly spaced on a logarithmic scale.

    The step size is that of the first epoch. Examples and watched inputs are the first of a class-balanced order.
    """
    stepped, watched = FEW.get(config.model, EXAMPLES[profile])
    order = data.balanced_order(y, seed=config.seed)[: stepped + watched]
    first, rest = order[:stepped], order[stepped:]
    measure = influence_probe(x[first], y[first], x[rest], y[rest], eps=config.learning_rate)
    epochs = set(log_spaced(config.epochs, MOMENTS))
    return lambda model, epoch: measure(model, epoch) if epoch in epochs else {}
