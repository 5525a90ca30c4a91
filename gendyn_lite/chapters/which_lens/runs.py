"""Runs of 'Which lens?': networks that differ in settings that affect generalization, all trained to one loss."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from gendyn_lite import data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.registry import CELLS, Group, Part
from gendyn_lite.chapters.which_lens.probes import PROBE_VERSION, lens_probe
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData, Split
from gendyn_lite.results.runs import Run, check_profile, open_run

EXPERIMENT = "which_lens"
LOSS = 0.05  # mean training loss on images without augmentation, in nats, at which training stops
WATCHED, JUDGING = 300, 6000  # number of test images evaluated after every epoch, and at the end
SCRATCH = "paths"  # subfolder of an incomplete run
RATES = (0.003, 0.01, 0.03)
CORRUPTED = (0.1, 0.25, 0.5)
# Mirrored photographs and shifted digits. Shifting photographs too made them too hard to fit: of the first 41 networks
# on CIFAR-10 18 never reached the loss, nearly all of them with shifts. Nothing else had been looked at by then.
AUGMENTED: Mapping[str, Mapping[str, Any]] = {"cifar10": {"flip": True}, "mnist": {"random_crop": 2}}


def _grid(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    """Return every combination of values of some settings.

    >>> _grid(batch_size=(32, 128), weight_decay=(0.0,))
    [{'batch_size': 32, 'weight_decay': 0.0}, {'batch_size': 128, 'weight_decay': 0.0}]
    """
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def _dense(widths: Sequence[int], depths: Sequence[int]) -> list[dict[str, Any]]:
    return [{"model": "mlp", "model_options": {"widths": [width] * depth}} for width, depth in product(widths, depths)]


def _crossed(*each: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return every combination of partial settings, one from each list."""
    return tuple({key: value for part in parts for key, value in part.items()} for parts in product(*each))


_SETTINGS = {"experiment": EXPERIMENT, "schedule": "constant", "stop_at_loss": LOSS, "probe_version": PROBE_VERSION}
_IMAGES = {**_SETTINGS, "test_size": WATCHED, "epochs": 200, "center_crop": 28}
_TRUE, _RANDOM = [{}], [{"label_corruption": share} for share in CORRUPTED]
# The primary analysis has true labels; it also varies the number of images and augmentation.
_AMOUNTS = [{"train_size": 1000}, {"train_size": 2000}]
_FEW = [{"train_size": 1000}]
_DENSE = _dense((128, 256, 512), (2, 3, 4))
_STEPS = _grid(batch_size=(32, 128), learning_rate=(0.01, 0.03), weight_decay=(0.0, 1e-3))
_CONV = [{"model": "alexnet_small", "model_options": {"response_norm": False}}]
_CONV_STEPS = _grid(batch_size=(25, 50, 100), learning_rate=(0.005, 0.01, 0.02), weight_decay=(0.0, 1e-3))
_DIGITS = {**_SETTINGS, "dataset": "digits", "train_size": 200, "test_size": 300, "epochs": 60, "batch_size": 20}


def _parts(dataset: str) -> tuple[Part, ...]:
    """Return the networks on one set of images: dense ones, then convolutional ones."""
    images = {**_IMAGES, "dataset": dataset}
    ways = [{}, AUGMENTED[dataset]]
    return (
        Part(images, _crossed(_DENSE, _STEPS, _AMOUNTS, ways), seeds=2),
        Part(images, _crossed(_DENSE, _STEPS, _FEW, _RANDOM), seeds=2),
        Part(images, _crossed(_CONV, _CONV_STEPS, _FEW, ways), seeds=2),
        Part(images, _crossed(_CONV, _CONV_STEPS, _FEW, _RANDOM), seeds=2),
    )


PLANS: dict[str, tuple[Part, ...]] = {
    "smoke": (Part(_DIGITS, _crossed(_dense((32, 64), (2, 3)), _grid(learning_rate=RATES)), seeds=1),),
    # A tenth of the dense networks, for an hour on one GPU or two cores.
    "colab": (
        Part({**_IMAGES, "dataset": "mnist"}, _crossed(_dense((128, 512), (2, 4)), _STEPS, _FEW), seeds=2),
        Part({**_IMAGES, "dataset": "cifar10"}, _crossed(_dense((128, 512), (2, 4)), _STEPS, _FEW), seeds=2),
    ),
    "full": (*_parts("cifar10"), *_parts("mnist")),
}


def plan(profile: str = "smoke", *, dataset: str = "", seeds: int = 0) -> list[RunConfig]:
    """Plan the networks at one size, the seeds of each setting one after another.

    Args:
        profile: ``"smoke"`` (12 small networks on digits), ``"colab"`` or ``"full"``.
        dataset: Only networks on this data set; empty for all. One outside the plan takes the settings of its first
            part.
        seeds: Number of seeds instead of the plan's; 0 keeps the plan's.

    Raises:
        UserError: The profile is unknown.

    >>> len(plan("smoke")), len(plan("full"))
    (12, 2376)
    """
    check_profile(profile)
    parts: Sequence[Part] = PLANS[profile]
    if dataset:
        own = [part for part in parts if part.settings["dataset"] == dataset]
        parts = own or [Part({**parts[0].settings, "dataset": dataset}, parts[0].variants, parts[0].seeds)]
    return [config for part in parts for config in part.configs(seeds=seeds)]


def _judging(config: RunConfig, data_root: str | Path | None) -> Split:
    """Return the test images for the final accuracy: the same for every network, and more than during training."""
    test = data.load(config.dataset, root=data_root).test
    chosen = torch.randperm(len(test.y), generator=torch.Generator().manual_seed(0))[:JUDGING]
    return Split(test.x[chosen], test.y[chosen])


def run(config: RunConfig, *, profile: str, root: str | Path | None = None, **options: Any) -> Run:
    """Return the complete run of a network with all measurements: loaded, resumed or trained.

    Args:
        config: A configuration of `plan`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        root: Folder of the runs.
        **options: Options of `gendyn_lite.chapters.runner.load_or_run`: data_root.
    """

    def prepare(loaded: ImageData) -> dict[str, Any]:
        scratch = open_run(config, loaded.fingerprint, root=root).path / SCRATCH
        test = _judging(config, options.get("data_root"))
        return {"probes": {"lens": lens_probe(config, loaded, scratch, test=test)}}

    options |= {"root": root, "probe_version": PROBE_VERSION}
    done = runner.load_or_run(config, profile=profile, prepare=prepare, **options)
    shutil.rmtree(done.path / SCRATCH, ignore_errors=True)
    return done


run_all = partial(runner.one_by_one, run)
GROUPS = (Group(CELLS, lambda profile, values: plan(profile, **values)),)
