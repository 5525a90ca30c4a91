"""Tiny real data and networks: every run here takes a blink."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData


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
    return models.build(
        config.model, num_classes=10, in_shape=digits.in_shape, seed=config.seed, **config.model_options
    )


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def plain(rows: list[dict]) -> list[dict]:
    """Rows without the one thing that differs from run to run."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: there is no GPU here"),
]
