"""Chapter 6, capacity without training: networks that fit anything, kernels, descent, widths and ridges.

There are four kinds of runs, each an experiment of its own; none of them trains a network:
    memorizing  the network of Theorem 1 and its versions of depth k, through all labels of real images
    kernels     single regressions over training set sizes, features, ridges and label corruptions
    descent     mini-batch descent towards the minimum-norm solution, evaluated over epochs
    ridges      every width of a kind of features with every ridge, through the interpolation threshold
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch

from gendyn_lite import data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.capacity import probes
from gendyn_lite.chapters.registry import Part
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import unknown_name
from gendyn_lite.results.runs import Run, check_profile, open_run, writing
from gendyn_lite.threads import threads

EXPERIMENTS = {
    "memorizing": "memorizing_networks",
    "kernels": "kernel_regression",
    "descent": "minimum_norm",
    "ridges": "ridge_paths",
}
MEASURES = {
    "memorizing_networks": probes.memorizing,
    "kernel_regression": probes.kernel,
    "minimum_norm": probes.descent,
    "ridge_paths": probes.ridges,
}
VERSIONS = {"ridge_paths": probes.PROBE_VERSION}
_BASE = {"epochs": 1, "standardize": "none"}
_RANDOM = {"label_corruption": 1.0}
_RIDGE, _NO_RIDGE = {"weight_decay": 0.1}, {}


def _gauss(features: str = "pixels", **options: Any) -> dict[str, Any]:
    return {"model": "gaussian_kernel", "model_options": {"features": features, **options}}


def _conv(filters: int, **options: Any) -> dict[str, Any]:
    return {"model": "linear_regression", "model_options": {"features": "random_conv", "filters": filters, **options}}


def _each(*choices: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return every combination of settings, one from each list."""
    return tuple({name: value for one in chosen for name, value in one.items()} for chosen in product(*choices))


def _sizes(*sizes: int) -> list[dict[str, Any]]:
    return [{"train_size": size} for size in sizes]


def _depths(*depths: int) -> list[dict[str, Any]]:
    return [{"model": "memorizing_network", "model_options": {"depth": depth}} for depth in depths]


def _starts(*networks: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the settings of each kind of features, started at zero and started at random."""
    both = product(networks, ("zero", "random"))
    return [{**each, "model_options": {**each["model_options"], "start": start}} for each, start in both]


_MNIST, _CIFAR = {"dataset": "mnist"}, {"dataset": "cifar10"}
_LABELS = ({}, _RANDOM)
_DESCENT = {"batch_size": 10, "epochs": 500, "train_size": 500, "test_size": 200}
_SWEPT = {"train_size": 1500}  # 1,000 are fitted, and 500 choose the ridge
_SHORT = {"test_size": 2000}

PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("memorizing", "smoke"): (Part({"dataset": "digits"}, _each(_depths(2, 5), _LABELS), 2),),
    ("memorizing", "colab"): (Part({"train_size": 10_000}, _each((_MNIST, _CIFAR), _depths(2, 10), _LABELS), 5),),
    ("memorizing", "full"): (Part({}, _each((_MNIST, _CIFAR), _depths(2, 10), _LABELS), 1),),
    ("kernels", "smoke"): (
        Part({"dataset": "digits"}, _each((_NO_RIDGE, _RIDGE, _RANDOM), _sizes(100, 300, 800), [_gauss()]), 2),
    ),
    ("kernels", "colab"): (
        Part(_MNIST, _each([_gauss()], _sizes(1000, 3000, 10_000), (_NO_RIDGE, _RIDGE, _RANDOM))),
        Part(_MNIST, _each([_gauss("gabor")], _sizes(1000, 3000, 10_000))),
        Part(_MNIST, _each([_gauss()], _sizes(20_000))),
        Part(_CIFAR, _each([_gauss()], _sizes(1000, 3000, 5000, 10_000))),
    ),
    ("kernels", "full"): (
        # In float32 Gabor features of the whole set are singular; float64 takes 15 GB of memory.
        Part(_MNIST, _each([_gauss(tolerance=0.003), _gauss("gabor")]), 1),
        Part(_CIFAR, _each([_gauss(tolerance=0.003)]), 1),
    ),
    ("descent", "smoke"): (
        Part(
            {"dataset": "digits", **_DESCENT, "train_size": 60, "test_size": None, "epochs": 100},
            tuple(_starts(_gauss())),
            2,
        ),
    ),
    ("descent", "colab"): (
        Part({**_MNIST, **_DESCENT}, tuple(_starts(_gauss(), _gauss("gabor"))), 5),
        Part({**_CIFAR, **_DESCENT}, tuple(_starts(_gauss(), _conv(500))), 5),
    ),
    ("ridges", "smoke"): (Part({"dataset": "digits", "train_size": 700}, (_gauss(), _conv(400)), 2),),
    ("ridges", "colab"): (
        # Seeds 0 to 4 were seen before the criteria on double descent were changed.
        Part({**_MNIST, **_SWEPT, "test_size": 5000}, (_gauss(), _gauss("gabor"), _conv(2000) | _SHORT), 5, 5),
        Part({**_CIFAR, **_SWEPT, **_SHORT}, (_gauss(), _gauss("gabor"), _conv(2000)), 5, 5),
    ),
}
# Nothing larger than a thousand images is planned for these kinds.
PLANS |= {(kind, "full"): PLANS[kind, "colab"] for kind in ("descent", "ridges")}


def plan(kind: str, profile: str = "smoke", *, dataset: str = "", seeds: int = 0) -> list[RunConfig]:
    """Plan the runs of one kind at one size, seeds innermost.

    Args:
        kind: ``"memorizing"``, ``"kernels"``, ``"descent"`` or ``"ridges"``.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        dataset: A data set to use with the settings of the first part; empty for the whole plan.
        seeds: Number of seeds instead of the plan's; 0 keeps the plan's.

    >>> [run.model_options["depth"] for run in plan("memorizing", seeds=1)]
    [2, 2, 5, 5]
    """
    check_profile(profile)
    if kind not in EXPERIMENTS:
        raise unknown_name("kind of runs", kind, EXPERIMENTS)
    parts: Sequence[Part] = PLANS[kind, profile]
    if dataset:
        parts = [replace(parts[0], variants=tuple({**each, "dataset": dataset} for each in parts[0].variants))]
    name = EXPERIMENTS[kind]
    changes = {**_BASE, "experiment": name, "probe_version": VERSIONS.get(name, 1)}
    return [run for part in parts for run in replace(part, settings={**changes, **part.settings}).configs(seeds=seeds)]


def run(config: RunConfig, *, profile: str, root: runner.Root = None, data_root: runner.Root = None) -> Run:
    """Return the complete run of a configuration: loaded if it exists, else computed from the start and recorded.

    A regression is recorded like a training run: train_size is n, weight_decay is the ridge, features and filters are
    model options. The width of a Gaussian kernel is the multiple of the median distance with the smallest leave-one-out
    error on at most 2,000 training examples with their given labels; test examples are not used.
    """
    loaded, _ = data.load_for_run(config, root=data_root)
    found = open_run(config, loaded.fingerprint, root=root)
    if found.complete:
        return found
    runner.check_version(config, VERSIONS.get(config.experiment, 1))
    env = runner.provenance(config, loaded, profile, torch.device("cpu"))
    few = len(loaded.train.y) <= 3_000  # several threads are slower than one on so few examples
    with threads(1 if few else torch.get_num_threads()), writing(found, env) as writer:
        if writer is not None:
            started = time.perf_counter()
            for number, row in enumerate(MEASURES[config.experiment](config, loaded)):
                seconds = {"seconds": time.perf_counter() - started}
                writer.write({"epoch": number, "step": 0, "learning_rate": 0.0, **seconds, **row})
            writer.finish(wall_seconds=round(time.perf_counter() - started, 2))
    return found


run_all = partial(runner.of_kind, plan, run)
