"""Every network fits random labels of 512 real images to the last one: the fact that the first paper starts from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, Split
from gendyn_lite.train import fit

IMAGES = 512


class Case(NamedTuple):
    """A network, the side of its images, how it is trained, its options and the channels of its images."""

    network: str
    side: int
    rate: float
    epochs: int
    settings: dict[str, Any]
    options: dict[str, Any]
    channels: int = 1

    def __str__(self) -> str:
        return self.network + "".join(f"-{key}={value}" for key, value in self.options.items() if key != "init")


CONSTANT = {"schedule": "constant", "batch_size": 64}
COSINE = {"schedule": "cosine", "batch_size": 64}
PATIENT = {"schedule": "cosine", "momentum": 0.5, "batch_size": 16}
HE = {"init": "he_normal"}
SECONDS = [
    Case("mlp", 8, 0.1, 100, CONSTANT, {"widths": [256, 256], "activation": "leaky_relu"}),
    Case("mlp_1x512", 8, 0.1, 100, CONSTANT, {}),
    Case("mlp_3x512", 8, 0.05, 60, CONSTANT, HE),
    Case("alexnet_small", 8, 0.02, 100, PATIENT, {}),
    Case("inception_small", 8, 0.01, 30, CONSTANT, {}),
    Case("resnet18", 8, 0.003, 30, CONSTANT, {}),
]
# Minutes each on two cores.
MINUTES = [
    Case("inception_small", 8, 0.002, 100, PATIENT, {"batch_norm": False}),
    Case("vgg19", 32, 0.001, 20, CONSTANT, {}),
    Case("vgg19", 32, 0.002, 60, PATIENT | {"batch_size": 32}, {"batch_norm": False}),
    Case("resnet18_imagenet", 32, 0.005, 30, CONSTANT, HE, 3),
    Case("resnet50", 32, 0.005, 120, COSINE, HE, 3),
    Case("inception_v3", 75, 0.003, 40, COSINE, HE | {"dropout": 0.0}, 3),
    Case("alexnet", 64, 0.001, 60, COSINE | {"batch_size": 16}, HE | {"dropout": 0.0}, 3),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", SECONDS, ids=str)
def test_fits_512_random_labels(case):
    memorize(case)


@pytest.mark.minutes("memorizing by the large networks")
@pytest.mark.parametrize("case", MINUTES, ids=str)
def test_large_networks_fit_512_random_labels(case):
    memorize(case)


def test_every_network_is_among_them():
    assert {case.network for case in (*SECONDS, *MINUTES)} == set(models.names())


def memorize(case: Case) -> None:
    """Train until the last label is fitted; the labels are all random, so the test accuracy stays at chance."""
    loaded = random_digits(case.side, case.channels)
    settings = case.settings | {"learning_rate": case.rate, "epochs": case.epochs, "stop_when_fitted": True}
    config = RunConfig(experiment="memorize", model=case.network, label_corruption=1.0, **settings)
    network = models.build(case.network, num_classes=10, in_shape=loaded.in_shape, seed=0, **case.options)
    history = fit(network, loaded, config)
    assert history.last["train_accuracy"] == 1
    assert history.last["test_accuracy"] < 0.3


def random_digits(side: int, channels: int) -> ImageData:
    """512 handwritten digits, enlarged, with random labels, and 100 others with true labels."""
    digits = data.load("digits", train_size=IMAGES)
    y, _ = data.corrupt_labels(digits.train.y, 1.0, num_classes=10, seed=0)

    def enlarged(x: torch.Tensor) -> torch.Tensor:
        larger = F.interpolate(x.float(), size=(side, side), mode="bilinear").round().to(torch.uint8)
        return larger.expand(-1, channels, -1, -1).contiguous()

    train, test = Split(enlarged(digits.train.x), y), Split(enlarged(digits.test.x[:100]), digits.test.y[:100])
    return replace(digits, train=train, test=test, mean=digits.mean * channels, std=digits.std * channels)
