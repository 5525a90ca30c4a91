"""Tiny real data and networks, every run of which takes a blink; and runs that are stopped and gone on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData
from gendyn_lite.train import History, fit

Make = Callable[[RunConfig, ImageData], nn.Module]


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(
        experiment="test", train_size=150, label_corruption=0.5, model="mlp", model_options={"widths": [16]}, epochs=4,
        batch_size=32, learning_rate=0.02, seed=3,
    )  # fmt: skip


@pytest.fixture
def digits(config) -> ImageData:
    return data.load_for_run(config)[0]


@pytest.fixture
def network(config, digits) -> nn.Module:
    return make_network(config, digits)


def make_network(config: RunConfig, digits: ImageData) -> nn.Module:
    settings = {"num_classes": digits.num_classes, "in_shape": digits.in_shape, "seed": config.seed}
    return models.build(config.model, **settings, **config.model_options)


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plain(rows: list[dict]) -> list[dict]:
    """Rows without the one thing that differs from run to run."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


class Trained(NamedTuple):
    """A network after a run."""

    model: nn.Module
    history: History
    weights: dict[str, torch.Tensor]

    def same_as(self, other: Trained) -> bool:
        """Whether every number is the same to the bit."""
        rows = [plain(each.history.rows) for each in (self, other)]
        return same(self.weights, other.weights) and rows[0] == rows[1]


def trained(config: RunConfig, digits: ImageData, model: nn.Module | None = None, **options: Any) -> Trained:
    """The network of a configuration, or another one, after a run on the CPU."""
    model = make_network(config, digits) if model is None else model
    history = fit(model, digits, config, **{"device": "cpu", **options})
    return Trained(model, history, weights(model))


class Stop(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


class StopAt:
    """A gradient hook that stops the run before a step is taken."""

    def __init__(self, step=0):
        self.step = step

    def __call__(self, model, *, epoch, step):
        if step == self.step:
            raise Stop


def stop_and_go_on(
    config: RunConfig, digits: ImageData, folder: Path, *stops: int, make: Make = make_network, hook: Any = StopAt,
    **options: Any,
) -> Trained:  # fmt: skip
    """A run that is stopped before each of some steps, and gone on with by a network that is made anew."""
    options = {"checkpoint_dir": folder, "checkpoint_seconds": 0} | options
    for stop in stops:
        with pytest.raises(Stop):
            trained(config, digits, make(config, digits), grad_hook=hook(stop), **options)
    return trained(config, digits, make(config, digits), grad_hook=hook(), **options)


needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: there is no GPU here"),
]
