"""Every network fits random labels of real images to the last one: the fact that the first paper starts from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gendyn_lite import data, models
from gendyn_lite.config import RunConfig
from gendyn_lite.data import ImageData, Split
from gendyn_lite.train import fit

CONSTANT = {"schedule": "constant", "batch_size": 64}
COSINE = {"schedule": "cosine", "batch_size": 64}
PATIENT = {"schedule": "cosine", "momentum": 0.5, "batch_size": 16}
HE, HE_PLAIN = {"init": "he_normal"}, {"init": "he_normal", "dropout": 0.0}
MLP, NO_NORM = {"widths": [256, 256], "activation": "leaky_relu"}, {"batch_norm": False}
MINUTES = pytest.mark.minutes("memorizing by the large networks")
CASES = [  # 256 images: network, their shape, learning rate, epochs, how it is trained, its options
    ("mlp", (1, 8), 0.1, 100, CONSTANT, MLP),
    ("mlp_1x512", (1, 8), 0.1, 100, CONSTANT, {}),
    ("mlp_3x512", (1, 8), 0.05, 60, CONSTANT, HE),
    ("alexnet_small", (1, 8), 0.02, 100, PATIENT, {}),
    ("inception_small", (1, 8), 0.01, 30, CONSTANT, {}),
    ("resnet18", (1, 8), 0.003, 30, CONSTANT, {}),
]
LARGE = [  # 512 images, minutes each on two cores
    ("inception_small", (1, 8), 0.002, 100, PATIENT, NO_NORM),
    ("vgg19", (1, 32), 0.001, 20, CONSTANT, {}),
    ("vgg19", (1, 32), 0.002, 60, PATIENT | {"batch_size": 32}, NO_NORM),
    ("resnet18_imagenet", (3, 32), 0.005, 30, CONSTANT, HE),
    ("resnet50", (3, 32), 0.005, 120, COSINE, HE),
    ("inception_v3", (3, 75), 0.003, 40, COSINE, HE_PLAIN),
    ("alexnet", (3, 64), 0.001, 60, COSINE | {"batch_size": 16}, HE_PLAIN),
]


def test_every_network_is_among_them():
    assert {case[0] for case in CASES + LARGE} == set(models.names())


MARKED = [pytest.param(case, 256, marks=pytest.mark.slow) for case in CASES]
MARKED += [pytest.param(case, 512, marks=MINUTES) for case in LARGE]


@pytest.mark.parametrize(("case", "images"), MARKED, ids=lambda given: given[0] if isinstance(given, tuple) else None)
def test_fits_random_labels(case, images):
    """Until the last label is fitted; the labels are all random, so the test accuracy stays at chance."""
    network, (channels, side), rate, epochs, training, options = case
    loaded = random_digits(images, side, channels)
    training = training | {"learning_rate": rate, "epochs": epochs, "stop_when_fitted": True}
    config = RunConfig(experiment="memorize", model=network, label_corruption=1.0, **training)
    model = models.build(network, num_classes=10, in_shape=loaded.in_shape, seed=0, **options)
    history = fit(model, loaded, config)
    assert history.last["train_accuracy"] == 1
    assert history.last["test_accuracy"] < 0.3


def random_digits(images: int, side: int, channels: int) -> ImageData:
    """Handwritten digits, enlarged, with random labels, and 100 others with true labels."""
    digits = data.load("digits", train_size=images)
    y, _ = data.corrupt_labels(digits.train.y, 1.0, num_classes=10, seed=0)

    def enlarged(x: torch.Tensor) -> torch.Tensor:
        larger = F.interpolate(x.float(), size=(side, side), mode="bilinear").round().to(torch.uint8)
        return larger.expand(-1, channels, -1, -1).contiguous()

    train, test = Split(enlarged(digits.train.x), y), Split(enlarged(digits.test.x[:100]), digits.test.y[:100])
    return replace(digits, train=train, test=test, mean=digits.mean * channels, std=digits.std * channels)
