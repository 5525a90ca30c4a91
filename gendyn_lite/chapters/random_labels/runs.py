"""Runs of chapter 1: true, corrupted and random labels, inputs without structure, regularizers (Zhang et al. 2017)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels import imagenet, runs_plans
from gendyn_lite.chapters.random_labels.runs_plans import PLANS, WITHOUT_NORM, Row
from gendyn_lite.chapters.registry import CELLS, COMMAND, TABLE, Group, Part, parts_for, seeds_of, without
from gendyn_lite.config import RunConfig
from gendyn_lite.data.loading import FOLDER, folder_sizes
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.runs import Run, check_profile
from gendyn_lite.results.tables import network_name
from gendyn_lite.train.device import Precision
from gendyn_lite.train.probes import totals

EXPERIMENT, REGULARIZERS, VARIANTS = "random_labels", "regularizers", "augmented_labels"
PROBE_VERSION = 2  # of runs with regularizers; in version 1 the halves of the test images had different classes
MOST_RUNS = 2_000
DROPOUT = 0.5
# Of a folder of images the smoke size takes a centre crop (pixels; smaller for regularizers) of at most SMOKE_TRAIN.
SMOKE_SIDE, TINY_SIDE, SMOKE_TRAIN = 24, 16, 150
SEVERAL_SIDE = 32  # pixels to which images of several sizes are resized first
DEFAULT_DATASET = {"smoke": "digits", "colab": "mnist", "full": "cifar10"}


def plan(
    profile: str = "smoke",
    *,
    dataset: str = "",
    networks: str | Sequence[str] = (),
    corruptions: str | Sequence[float] = (),
    seeds: int = 0,
    epochs: int = 0,
    train_size: int = 0,
) -> list[RunConfig]:
    """Plan the runs of Fig. 1 at one size: fractions of corrupted labels, and inputs without structure.

    Args:
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        dataset: A data set; empty for the profile's default. Without a plan of its own it takes the default's plan.
        networks: Networks to train, as a sequence or as text separated by commas; empty for those of the plan. Networks
            outside the plan take the settings of its first part.
        corruptions: Fractions q instead of the plan's, as a sequence or as text separated by commas.
        seeds: Number of seeds (at most 200) instead of the plan's; 0 keeps the plan's.
        epochs: Largest number of epochs of a run instead of the plan's; 0 keeps the plan's.
        train_size: Number of training examples instead of the plan's; 0 keeps the plan's.

    Returns:
        One configuration per run, seeds innermost.

    Raises:
        UserError: The profile is unknown, a value is out of range, or there are more than 2,000 runs.

    >>> runs = plan("smoke", networks=["mlp_1x512"], corruptions=[0, 1], seeds=2)
    >>> [(run.inputs, run.label_corruption, run.seed) for run in runs[:4]]
    [('true', 0.0, 0), ('true', 0.0, 1), ('true', 1.0, 0), ('true', 1.0, 1)]
    """
    changes = _changes(profile, dataset, epochs, train_size)
    parts, name = parts_for(PLANS, profile, dataset, DEFAULT_DATASET[profile])
    parts = _taken(parts, profile, changes["dataset"])
    if name == "two_moons":
        changes["standardize"] = "none"  # points of the plane are no images
    levels = [{"label_corruption": _fraction(text)} for text in _split(corruptions)]
    planned = _chosen(parts, _split(networks))
    if levels:
        kinds = [[variant for variant in part.variants if "inputs" in variant] for part in planned]
        planned = [replace(part, variants=(*levels, *same)) for part, same in zip(planned, kinds, strict=True)]
    count = sum(len(part.variants) * len(seeds_of(seeds, part.seeds)) for part in planned)
    if count > MOST_RUNS:
        raise UserError(f"the plan has {count:,} runs, at most {MOST_RUNS:,}: take fewer networks, q or seeds")
    return [config for part in planned for config in part.configs(seeds=seeds, experiment=EXPERIMENT, **changes)]


def regularizer_plan(
    profile: str = "smoke",
    *,
    dataset: str = "",
    networks: str | Sequence[str] = (),
    seeds: int = 0,
    epochs: int = 0,
    train_size: int = 0,
) -> list[RunConfig]:
    """Plan the runs of Table 1 and Fig. 2 at one size: regularizers on and off. Arguments as for `plan`.

    All rows of a network have the same number of epochs, whether their labels are fitted or not.

    Returns:
        One configuration per network, row and seed, seeds innermost.

    >>> runs = regularizer_plan("full", networks="mlp_1x512", seeds=1)
    >>> [(run.weight_decay, run.label_corruption) for run in runs if not run.random_crop]
    [(0.0005, 0.0), (0.0, 0.0), (0.0, 1.0), (0.0005, 1.0), (0.0, 0.5)]
    """
    changes = _changes(profile, dataset, epochs, train_size)
    parts = _taken(runs_plans.SWITCHED[profile], profile, changes["dataset"], side=TINY_SIDE)
    grid = runs_plans.SMOKE_GRID if profile == "smoke" else runs_plans.GRID
    if profile != "smoke" and not changes["dataset"].startswith("cifar"):
        changes["center_crop"] = None  # the crop is for the paper's images only
    wanted = _split(networks)
    for name in wanted:
        if name not in grid:
            raise unknown_name("network of Table 1", name, grid)
    return [
        _regularized({**part.settings, **changes}, row).replace(seed=seed)
        for part in _chosen(parts, wanted)
        for row in grid[_name(part)]
        for seed in seeds_of(seeds, part.seeds)
    ]


def augmented_plan(profile: str = "smoke", *, seeds: int = 0, epochs: int = 0) -> list[RunConfig]:
    """Plan the runs on random labels with growing numbers of variants of each image; every profile has the same size.

    Args:
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        seeds: Number of seeds instead of five; 0 keeps five.
        epochs: Largest number of epochs of a run instead of the plan's; 0 keeps the plan's.

    >>> [(run.random_crop, run.flip) for run in augmented_plan(seeds=1)]
    [(0, False), (0, True), (1, True), (2, True)]
    """
    changes = _changes(profile, "digits", epochs, 0)
    return runs_plans.AUGMENTED.configs(seeds=seeds, experiment=VARIANTS, **changes)


def crop_padding(center_crop: int | None) -> int:
    """Return the padding of the random crop. With a centre crop of 28 the windows lie anywhere in images of 32x32."""
    return 1 if center_crop is None else 2


def _changes(profile: str, dataset: str, epochs: int, train_size: int) -> dict[str, Any]:
    """Return the fields that replace those of a profile's plan in every run."""
    check_profile(profile)
    changes = {name: value for name, value in (("epochs", epochs), ("train_size", train_size)) if value}
    for name, value in changes.items():
        if value < 0:
            raise UserError(f"{name} is {value}, expected a whole number of at least 1 (or 0 for the profile's own)")
    return {"dataset": _named(dataset or DEFAULT_DATASET[profile], profile), **changes}


def _taken(parts: Sequence[Part], profile: str, dataset: str, *, side: int = SMOKE_SIDE) -> Sequence[Part]:
    """Fit parts to a folder of images: no more images than there are, and at the smoke size only a centre crop."""
    if not dataset.startswith(FOLDER):
        return parts
    there, smoke = folder_sizes(dataset), profile == "smoke"
    most = {"train_size": min(there.train, SMOKE_TRAIN) if smoke else there.train, "test_size": there.test}
    crop = {"center_crop": side} if smoke and there.side > side else {}
    few = ({name: min(part.settings.get(name, size), size) for name, size in most.items()} for part in parts)
    taken = [replace(part, settings={**part.settings, **each, **crop}) for part, each in zip(parts, few, strict=True)]
    if smoke:
        told = f"the smoke size takes at most {most['train_size']:,} of {there.train:,} training images"
        tests = max(part.settings["test_size"] for part in taken)
        whole = f", resized to a shorter side of {there.side} pixels," if dataset.endswith(f"@{there.side}") else ""
        pixels = f", and of each{whole} the middle {side}x{side} pixels" if crop else ""
        told = f"{told}{pixels}; {tests:,} of {there.test:,} test images; {there.classes} classes"
        warnings.warn(f"{dataset}: {told}: other sizes take them whole (profile=)", stacklevel=4)
    return taken


def _named(dataset: str, profile: str) -> str:
    """Return the name of the data set; at the smoke size a folder with images of several sizes is resized."""
    if profile != "smoke" or not dataset.startswith(FOLDER) or folder_sizes(dataset).side:
        return dataset
    return f"{dataset}@{SEVERAL_SIDE}"


def _chosen(parts: Sequence[Part], networks: Sequence[str]) -> list[Part]:
    """Choose the parts of the networks asked for; a network outside the plan takes the settings of the first part."""
    planned = {_name(part): part for part in parts}
    found = []
    for name in networks or planned:
        model, plain, _ = name.partition(" without batch-norm")
        other = {"model": model, **(WITHOUT_NORM if plain else {})}
        found.append(planned.get(name) or replace(parts[0], settings={**parts[0].settings, **other}))
    return found


def _name(part: Part) -> str:
    """Return the network of a part with its options, as tables name it."""
    return network_name(part.settings["model"], part.settings.get("model_options", {}))


def _split(values: str | Sequence[Any]) -> list[Any]:
    """Return the items of a sequence, or of text separated by commas."""
    return [item.strip() for item in values.split(",") if item.strip()] if isinstance(values, str) else list(values)


def _fraction(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"corruptions has {value!r}, expected numbers in [0, 1] separated by commas") from None


def _regularized(settings: dict[str, Any], row: Row) -> RunConfig:
    """Return the run of a row of Table 1, with seed 0."""
    decay, options = settings.pop("weight_decay"), dict(settings.pop("model_options", {}))
    if row.dropout:
        options["dropout"] = DROPOUT
    if row.batch_norm:
        del options["batch_norm"]
    return RunConfig(
        experiment=REGULARIZERS,
        probe_version=PROBE_VERSION,
        model_options=options,
        random_crop=crop_padding(settings.get("center_crop")) if row.crop else 0,
        weight_decay=decay if row.weight_decay else 0.0,
        label_corruption=row.corruption,
        **settings,
    )


def run(config: RunConfig, *, profile: str, **options: Any) -> Run:
    """Return the complete run of a configuration: loaded, resumed or trained. Runs with regularizers have a probe.

    Args:
        config: A configuration of `plan`, `regularizer_plan` or `augmented_plan`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        **options: Options of `gendyn_lite.chapters.runner.load_or_run`: root (folder of the runs) and data_root.
    """
    if config.experiment == REGULARIZERS:
        options |= {"prepare": partial(_watched, config), "probe_version": PROBE_VERSION}
    return runner.load_or_run(config, profile=profile, **options)


def _watched(config: RunConfig, loaded: ImageData) -> dict[str, Any]:
    """Make a probe of the weight norm and the accuracy on two halves of the test images.

    One half serves to choose an epoch (early stopping), the other to judge it.
    """
    x, y = runner.inputs(config, loaded, "test")
    by_class = y.argsort(stable=True)  # every other image of each class, because images may be ordered by class

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        place = next(model.parameters()).device
        precision, found = Precision(config.precision, place), dict[str, float]()
        for half, name in enumerate(("validation_accuracy", "test_accuracy")):
            chosen = by_class[half::2]
            inputs, labels = (of[chosen].to(place).split(500) for of in (x, y))
            right = totals(model, zip(inputs, labels, strict=True), precision, place)[1]
            found[name] = float(right) / len(chosen)
        norms = [parameter.detach().norm() for parameter in model.parameters()]
        return {**found, "weight_norm": float(torch.stack(norms).norm())}

    return {"probes": {"watched": probe}}


def _lengths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the parameters of the chapter that every plan takes."""
    return {name: value for name, value in values.items() if name in ("seeds", "epochs")}


run_all = partial(runner.one_by_one, run)
GROUPS = (
    Group(CELLS, lambda profile, values: plan(profile, **values)),
    # The chapter's parameters `networks` and `corruptions` are for the other runs.
    Group(CELLS, lambda profile, values: regularizer_plan(profile, **without(values, "networks", "corruptions"))),
    Group(TABLE, lambda profile, values: augmented_plan(profile, **_lengths(values))),
    Group(COMMAND, lambda profile, values: imagenet.plan()),
)
