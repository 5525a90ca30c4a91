"""How long a run would take, before it starts."""

from __future__ import annotations

import copy
import time
import warnings
from itertools import islice

import torch
from torch import nn

from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData
from gendyn_lite.train.batches import Batches
from gendyn_lite.train.device import choose_device, own_generator
from gendyn_lite.train.evaluation import totals
from gendyn_lite.train.precision import Precision
from gendyn_lite.train.step import Step, make_optimizer


def estimate_seconds(
    model: nn.Module, data: ImageData, config: RunConfig, *, device: str | torch.device | None = None, steps: int = 3
) -> float:
    """Seconds that `fit` would take, from a few steps and one evaluation batch on a copy of the model.

    Probes, hooks and checkpoints are not counted. Model, data and random generators are left as they were.

    Args:
        model: The network.
        data: The data.
        config: The configuration.
        device: As for `fit`.
        steps: Steps to time, after one to warm up.

    >>> from gendyn_lite import data, models
    >>> digits, config = data.load("digits"), RunConfig(experiment="demo", epochs=5)
    >>> network = models.build("mlp_1x512", num_classes=10, in_shape=digits.in_shape)
    >>> 0 < estimate_seconds(network, digits, config, device="cpu") < 60
    True
    """
    place = choose_device(device)
    with own_generator(config.seed, place):
        twin = copy.deepcopy(model).to(place)
        batches, precision = Batches(data, config, place), Precision(config.precision, place)
        step = Step(twin.train(), make_optimizer(twin.parameters(), config), precision)
        trained = list(islice(batches.training(1), steps + 1))
        step(*trained[0], epoch=1, step=1)
        _wait(place)
        started = time.perf_counter()
        for number, (x, y) in enumerate(trained[1:] or trained, start=2):
            step(x, y, epoch=1, step=number)
        _wait(place)
        a_step = (time.perf_counter() - started) / max(len(trained) - 1, 1)
        twin.eval()
        first = next(iter(batches.evaluation("train_eval")))
        started = time.perf_counter()
        totals(twin, [first], precision, place)
        _wait(place)
        an_evaluation = (time.perf_counter() - started) * (batches.num_train + batches.num_test) / len(first[1])
    evaluations = 2 + config.epochs // config.eval_every
    return config.epochs * batches.steps * a_step + evaluations * an_evaluation


def warn_without_gpu(model: nn.Module, data: ImageData, config: RunConfig) -> None:
    """Warn that there is no GPU, with the estimated time on this CPU."""
    seconds = estimate_seconds(model, data, config, device="cpu")
    warnings.warn(
        f"no GPU found: {config.epochs} epochs of {config.model} on {data.name} take about {in_words(seconds)} on this "
        "CPU; use a machine with a GPU, or a smaller profile",
        stacklevel=3,
    )


def in_words(seconds: float) -> str:
    """A duration for people.

    >>> in_words(40), in_words(600), in_words(7200), in_words(400_000)
    ('40 seconds', '10 minutes', '2.0 hours', '4.6 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
