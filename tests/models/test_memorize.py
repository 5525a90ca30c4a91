"""Every network fits random labels of 512 real images to the last one: the fact that the first paper starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, Split
from gendyn_lite.train import fit

IMAGES = 512


@dataclass(frozen=True)
class Case:
    """A network, the size of its images, its options and how it is trained."""

    network: str
    side: int
    settings: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    channels: int = 1

    def __str__(self) -> str:
        return self.network + "".join(f"-{key}={value}" for key, value in self.options.items() if key != "init")


CONSTANT = {"schedule": "constant", "batch_size": 64}
COSINE = {"schedule": "cosine", "batch_size": 64}
PATIENT = {"schedule": "cosine", "momentum": 0.5}
HE = {"init": "he_normal"}
SECONDS = [
    Case(
        "mlp", 8, CONSTANT | {"learning_rate": 0.1, "epochs": 100}, {"widths": [256, 256], "activation": "leaky_relu"}
    ),
    Case("mlp_1x512", 8, CONSTANT | {"learning_rate": 0.1, "epochs": 100}),
    Case("mlp_3x512", 8, CONSTANT | {"learning_rate": 0.05, "epochs": 60}, HE),
    Case("alexnet_small", 8, PATIENT | {"learning_rate": 0.02, "epochs": 100, "batch_size": 16}),
    Case("inception_small", 8, CONSTANT | {"learning_rate": 0.01, "epochs": 30}),
    Case("resnet18", 8, CONSTANT | {"learning_rate": 0.003, "epochs": 30}),
]
# Minutes each on two cores.
MINUTES = [
    Case(
        "inception_small", 8, PATIENT | {"learning_rate": 0.002, "epochs": 100, "batch_size": 16}, {"batch_norm": False}
    ),
    Case("vgg19", 32, CONSTANT | {"learning_rate": 0.001, "epochs": 20}),
    Case("vgg19", 32, PATIENT | {"learning_rate": 0.002, "epochs": 60, "batch_size": 32}, {"batch_norm": False}),
    Case("resnet18_imagenet", 32, CONSTANT | {"learning_rate": 0.005, "epochs": 30}, HE, 3),
    Case("resnet50", 32, COSINE | {"learning_rate": 0.005, "epochs": 120}, HE, 3),
    Case("inception_v3", 75, COSINE | {"learning_rate": 0.003, "epochs": 40}, HE | {"dropout": 0.0}, 3),
    Case("alexnet", 64, COSINE | {"learning_rate": 0.001, "epochs": 60, "batch_size": 16}, HE | {"dropout": 0.0}, 3),
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
    config = RunConfig(
        experiment="memorize", model=case.network, label_corruption=1.0, stop_when_fitted=True, **case.settings
    )
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

    return replace(
        digits,
        train=Split(enlarged(digits.train.x), y),
        test=Split(enlarged(digits.test.x[:100]), digits.test.y[:100]),
        mean=digits.mean * channels,
        std=digits.std * channels,
    )
