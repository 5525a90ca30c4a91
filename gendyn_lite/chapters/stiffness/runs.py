"""Runs of chapter 4: stiffness by layer, over the plane, during training, in deep networks (Fort et al. 2019; Walker).

There are four kinds of runs, each an experiment of its own:
    layers    small networks on two-class point sets; cosine stiffness of each layer before and after training
    maps      the same networks; stiffness with the neighbours over the plane, during training
    training  networks on images; train-train and train-test stiffness and critical length, during training
    deep      ResNet-18 and VGG-19; cosine stiffness of each layer before and after training
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

from gendyn_lite.chapters import runner
from gendyn_lite.chapters.registry import CELLS, TABLE, Group, Part, without
from gendyn_lite.chapters.stiffness.probes import PROBE_VERSIONS, probes_for
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import unknown_name
from gendyn_lite.results.runs import Run, check_profile

KINDS = ("layers", "maps", "training", "deep")
PLANAR = ("two_moons", "rings", "spirals", "nested_rings")
POINTS = (*PLANAR, "linked_rings")


def _mlp(width: int, depth: int = 4, activation: str = "relu") -> dict[str, Any]:
    return {"model": "mlp", "model_options": {"widths": [width] * depth, "activation": activation}}


def _part(
    datasets: Sequence[str],
    networks: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    variants: Sequence[Mapping[str, Any]] = ({},),
    *,
    seeds: int = 5,
    first_seed: int = 0,
) -> Part:
    """Return the runs of every network on every data set, in every variant."""
    each = ({"dataset": name, **network, **variant} for name, network, variant in product(datasets, networks, variants))
    return Part(settings, tuple(each), seeds, first_seed)


_POINTS = {"standardize": "none", "schedule": "constant", "learning_rate": 0.05, "batch_size": 50}
_MAIN = tuple(_mlp(32, activation=kind) for kind in ("relu", "tanh", "leaky_relu"))  # claims are judged by these
_OTHERS = tuple(_mlp(width, activation=kind) for kind in ("relu", "tanh", "leaky_relu") for width in (8, 128))
_OTHERS += (_mlp(32, depth=2), _mlp(32, depth=8))
_FORT = {"model": "mlp", "model_options": {"widths": [500, 300, 100]}}
_TWO_LAYERS = {"model": "mlp", "model_options": {"widths": [64, 32]}}
_ALEXNET = {"model": "alexnet_small"}
_IMAGES = {"batch_size": 32, "schedule": "constant", "eval_schedule": "early"}
_CENTRE = {**_IMAGES, "train_size": 1000, "test_size": 1000, "epochs": 40, "learning_rate": 0.01}
_MANY = {**_IMAGES, "train_size": 10_000, "test_size": 10_000, "epochs": 60, "learning_rate": 0.01}
# Batch-norm's running statistics lag behind the weights, so they are re-estimated before each measurement.
_DEEP = {"batch_size": 10, "schedule": "cosine", "learning_rate": 0.02, "batch_norm_statistics": "re-estimated"}
_FIFTY = {**_DEEP, "train_size": 50, "test_size": 50}
_THOUSAND = {**_DEEP, "train_size": 1000, "test_size": 1000, "epochs": 30, "precision": "bfloat16"}
_RESNET, _VGG = {"model": "resnet18"}, {"model": "vgg19"}
_RANDOM, _HALF = {"label_corruption": 1.0}, {"label_corruption": 0.5}
_RATES = tuple({"learning_rate": rate} for rate in (0.0003, 0.003, 0.03))
_FACTORS = ({}, _RANDOM, _HALF, *_RATES)  # one changed at a time, from the centre
_LARGE_RATES = ({"learning_rate": 0.01}, {"learning_rate": 0.05}, {"learning_rate": 0.05, **_RANDOM})
_LABELS = ({}, _RANDOM)
_NEW = 5  # the first seed that had not been run when the criteria were written

PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("layers", "smoke"): (
        _part(("two_moons", "spirals"), (_mlp(32), _mlp(32, activation="tanh")), {**_POINTS, "epochs": 60}, seeds=3),
    ),
    ("layers", "colab"): (
        _part(POINTS, _MAIN, {**_POINTS, "epochs": 200}, first_seed=_NEW),
        _part(POINTS, _OTHERS, {**_POINTS, "epochs": 200}),
    ),
    ("maps", "smoke"): (_part(("two_moons", "spirals"), (_mlp(32),), {**_POINTS, "epochs": 60}, seeds=2),),
    ("maps", "colab"): (_part(PLANAR, (_mlp(32),), {**_POINTS, "epochs": 200}, first_seed=_NEW),),
    ("training", "smoke"): (
        _part(("digits",), (_TWO_LAYERS,), {**_IMAGES, "train_size": 300, "epochs": 24}, _LARGE_RATES, seeds=3),
    ),
    ("training", "colab"): (
        _part(("mnist", "cifar10"), (_FORT,), _CENTRE, _FACTORS, first_seed=_NEW),
        _part(("mnist", "cifar10"), (_FORT,), {**_CENTRE, "train_size": 3000}, first_seed=_NEW),
        _part(("cifar10",), (_ALEXNET,), _CENTRE, _LABELS, first_seed=_NEW),
    ),
    ("deep", "smoke"): (_part(("digits",), (_RESNET,), {**_DEEP, "train_size": 50, "epochs": 6}, seeds=2),),
    ("deep", "colab"): (
        _part(("cifar10",), (_RESNET,), {**_FIFTY, "epochs": 20}, _LABELS, first_seed=_NEW),
        _part(("cifar10",), (_VGG,), {**_FIFTY, "epochs": 30, "learning_rate": 0.001}, _LABELS, first_seed=_NEW),
    ),
}
PLANS |= {
    # Points and maps have no larger size, because the sets have 1,000 points.
    ("layers", "full"): PLANS["layers", "colab"],
    ("maps", "full"): PLANS["maps", "colab"],
    ("training", "full"): (
        _part(("mnist", "cifar10"), (_FORT,), _MANY, _FACTORS, first_seed=_NEW),
        _part(("cifar10",), (_ALEXNET,), {**_MANY, "epochs": 40, "precision": "bfloat16"}, _FACTORS, first_seed=_NEW),
    ),
    ("deep", "full"): (
        _part(("cifar10",), (_RESNET,), _THOUSAND, _LABELS, first_seed=_NEW),
        _part(("cifar10",), (_VGG,), {**_THOUSAND, "learning_rate": 0.001}, _LABELS, first_seed=_NEW),
    ),
}


def experiment(kind: str) -> str:
    """Return the name of the experiment of one kind of runs.

    >>> experiment("layers")
    'stiffness_layers'
    """
    if kind not in KINDS:
        raise unknown_name("kind of runs", kind, KINDS)
    return f"stiffness_{kind}"


def plan(kind: str, profile: str = "smoke", *, dataset: str = "", seeds: int = 0, epochs: int = 0) -> list[RunConfig]:
    """Plan the runs of one kind at one size, seeds innermost.

    Args:
        kind: ``"layers"``, ``"maps"``, ``"training"`` or ``"deep"``.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        dataset: Only this data set; empty for all. One outside the plan takes the settings of the first part.
        seeds: Number of seeds instead of the plan's; 0 keeps the plan's.
        epochs: Epochs of each run instead of the plan's; 0 keeps the plan's.

    >>> [run.dataset for run in plan("maps", seeds=1)]
    ['two_moons', 'spirals']
    """
    check_profile(profile)
    name = experiment(kind)
    parts: Sequence[Part] = PLANS[kind, profile]
    if dataset:
        parts = [_on(dataset, part) for part in parts if dataset in _datasets(part)] or [_on(dataset, parts[0])]
    changes = {"experiment": name, "probe_version": PROBE_VERSIONS[kind], **({"epochs": epochs} if epochs else {})}
    found = [config for part in parts for config in part.configs(seeds=seeds, **changes)]
    if kind == "training":
        return found
    times = 5 if kind == "maps" else 1
    return [config.replace(eval_every=max(1, config.epochs // times)) for config in found]


def _datasets(part: Part) -> list[str]:
    """Return the data sets of a part, in order."""
    return list(dict.fromkeys(variant["dataset"] for variant in part.variants))


def _on(dataset: str, part: Part) -> Part:
    """Return a part restricted to one data set, or moved to it."""
    first = _datasets(part)[0]
    kept = tuple({**variant, "dataset": dataset} for variant in part.variants if variant["dataset"] == first)
    return replace(part, variants=kept)


def run(config: RunConfig, *, profile: str, **options: Any) -> Run:
    """Return the complete run of a configuration of this chapter, with its probes: loaded, resumed or trained.

    Args:
        config: A configuration of `plan`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        **options: Options of `gendyn_lite.chapters.runner.load_or_run`: root (folder of the runs) and data_root.
    """
    version = PROBE_VERSIONS[config.experiment.removeprefix("stiffness_")]
    options |= {"probe_version": version, "prepare": lambda loaded: {"probes": probes_for(config, loaded)}}
    return runner.load_or_run(config, profile=profile, **options)


run_all = partial(runner.of_kind, plan, run)


def _group(asked_by: str, kind: str, *, planar: bool = False) -> Group:
    """Return the group of one kind; the page's parameter `dataset` applies only to the sets of points (`planar`)."""
    left_out = () if planar else ("dataset",)
    return Group(asked_by, lambda profile, values: plan(kind, profile, **without(values, *left_out)))


GROUPS = (
    _group(CELLS, "maps", planar=True),
    _group(CELLS, "layers", planar=True),
    _group(CELLS, "training"),
    _group(TABLE, "deep"),
)
