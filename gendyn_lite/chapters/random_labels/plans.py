"""Chapter 1: which networks are trained on how much of which data, at each size of the experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gendyn_lite.chapters.plan import Part
from gendyn_lite.config import INPUTS
from gendyn_lite.results.tables import network_name

EXPERIMENT = "random_labels"
GRID_5 = (0.0, 0.25, 0.5, 0.75, 1.0)
GRID_11 = tuple(round(0.1 * step, 1) for step in range(11))


def _part(
    network: str,
    settings: Mapping[str, Any],
    *,
    corruptions: Sequence[float] = GRID_5,
    inputs: Sequence[str] = INPUTS[1:],
    seeds: int = 3,
) -> Part:
    """Runs of one network: fractions q on true inputs, and kinds of randomized inputs with true labels."""
    levels = ({"label_corruption": q} for q in corruptions)
    return Part({"model": network, **settings}, (*levels, *({"inputs": kind} for kind in inputs)), seeds)


def name_of(part: Part) -> str:
    """The network of a part with its options, as tables name it."""
    return network_name(part.settings["model"], part.settings.get("model_options", {}))


# Learning rates were chosen for fitting random labels, once, for all q, as the paper keeps one schedule for all; they
# are not tuned for test accuracy.
_SMALL = {"train_size": 1000, "batch_size": 50, "learning_rate": 0.05, "decay": 0.99, "stop_when_fitted": True}
_MNIST = {"learning_rate": 0.03, "decay": 0.98}
_MNIST_WHOLE = {"learning_rate": 0.05, "decay": 0.97, "stop_when_fitted": True}
_PAPER_MLP = {"learning_rate": 0.01, "decay": 0.95, "center_crop": 28}
_PAPER_CNN = {**_PAPER_MLP, "learning_rate": 0.1}
_WITHOUT_NORM = {"model_options": {"batch_norm": False}}
# A part of CIFAR-10, so that a processor without a GPU trains each run in a minute.
_CIFAR = {"center_crop": 28, "learning_rate": 0.01, "decay": 0.98, "stop_when_fitted": True}
_CIFAR_MLP = {**_CIFAR, "train_size": 5000, "batch_size": 50, "epochs": 80, "eval_every": 2}
_CIFAR_FEW = {**_CIFAR, "train_size": 500, "test_size": 1000, "batch_size": 50}
_CIFAR_CNN = {**_CIFAR_FEW, "epochs": 60, "eval_every": 3, "precision": "bfloat16"}
# Without batch-norm it takes well over a thousand small steps, whatever the number of images.
_PATIENT = {"train_size": 200, "batch_size": 10, "learning_rate": 0.003, "decay": 0.99, "epochs": 120, "eval_every": 10}
_ENDS = {"corruptions": (0.0, 1.0), "inputs": ()}

PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("smoke", "digits"): (
        _part("mlp_1x512", {**_SMALL, "epochs": 80}),
        _part("mlp_3x512", {**_SMALL, "train_size": 300, "epochs": 80}, corruptions=(0.0, 1.0), inputs=()),
    ),
    ("colab", "digits"): (
        _part("mlp_1x512", {**_SMALL, "epochs": 120}, corruptions=GRID_11, seeds=5),
        _part("mlp_3x512", {**_SMALL, "epochs": 80}, corruptions=GRID_11, seeds=5),
    ),
    ("colab", "mnist"): (
        _part("mlp_1x512", {**_MNIST, "train_size": 10_000, "epochs": 80}, seeds=3),
        _part("mlp_3x512", {**_MNIST_WHOLE, "epochs": 60}, corruptions=(0.0, 1.0), inputs=()),
    ),
    ("colab", "cifar10"): (
        _part("mlp_1x512", _CIFAR_MLP),
        _part("mlp_3x512", _CIFAR_MLP, **_ENDS),
        _part("alexnet_small", _CIFAR_CNN, **_ENDS),
        _part("inception_small", {**_CIFAR_CNN, "learning_rate": 0.03, "decay": 0.95}, **_ENDS),
        _part("inception_small", {**_CIFAR_CNN, **_WITHOUT_NORM, **_PATIENT}, **_ENDS),
    ),
    ("full", "mnist"): (
        _part("mlp_1x512", {**_MNIST, "epochs": 200}, corruptions=GRID_11, seeds=5),
        _part("mlp_3x512", {**_MNIST, "epochs": 100}, corruptions=GRID_11, seeds=5),
    ),
    ("full", "cifar10"): (
        _part("mlp_1x512", {**_PAPER_MLP, "epochs": 400}, corruptions=GRID_11, seeds=3),
        _part("mlp_3x512", {**_PAPER_MLP, "epochs": 200}, corruptions=GRID_11, seeds=3),
        _part("alexnet_small", {**_PAPER_MLP, "epochs": 200}, corruptions=GRID_11, seeds=3),
        _part("inception_small", {**_PAPER_CNN, "epochs": 120}, corruptions=GRID_11, seeds=3),
        _part("inception_small", {**_PAPER_CNN, **_WITHOUT_NORM, "epochs": 200}, corruptions=GRID_11, seeds=3),
    ),
}
DEFAULT_DATASET = {"smoke": "digits", "colab": "mnist", "full": "cifar10"}


def chosen_parts(parts: Sequence[Part], networks: Sequence[str]) -> list[Part]:
    """The plan's parts for the networks asked for; a network that the plan lacks takes the first part's settings."""
    planned = {name_of(part): part for part in parts}
    first = parts[0]
    return [
        planned.get(name) or replace(first, settings={**first.settings, "model": name})
        for name in (networks or planned)
    ]


def split(values: str | Sequence[Any]) -> list[Any]:
    """The items of a sequence, or of text with commas."""
    return [item.strip() for item in values.split(",") if item.strip()] if isinstance(values, str) else list(values)
