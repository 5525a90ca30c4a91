"""Chapter 1: true, corrupted and random labels, inputs without structure, and regularizers (Zhang et al. 2017)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels import imagenet
from gendyn_lite.chapters.registry import CELLS, COMMAND, Group, Part, parts_for, seeds_of, without
from gendyn_lite.config import INPUTS, RunConfig
from gendyn_lite.data.loading import FOLDER, folder_sizes
from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.results.runs import check_profile
from gendyn_lite.results.tables import network_name

EXPERIMENT, REGULARIZERS = "random_labels", "regularizers"
MOST_RUNS = 2_000
GRID_5 = (0.0, 0.25, 0.5, 0.75, 1.0)
GRID_11 = tuple(round(0.1 * step, 1) for step in range(11))
DROPOUT = 0.5
# The sources at hand do not give the paper's coefficient. The short runs take a larger one, so that it can matter.
WEIGHT_DECAY = {"smoke": 2e-3, "colab": 2e-3, "full": 5e-4}


def _part(
    network: str, settings: dict[str, Any], *, q: Sequence[float] = GRID_5, kinds: bool = True, seeds: int = 3
) -> Part:
    """Runs of one network: fractions q on true inputs, and all kinds of randomized inputs with true labels."""
    levels = ({"label_corruption": level} for level in q)
    randomized = ({"inputs": kind} for kind in INPUTS[1:] if kinds)
    return Part({"model": network, **settings}, (*levels, *randomized), seeds)


# Learning rates were chosen for fitting random labels, once, for all q, as the paper keeps one schedule for all; they
# are not tuned for test accuracy.
_SMALL = {"train_size": 1000, "batch_size": 50, "learning_rate": 0.05, "decay": 0.99, "stop_when_fitted": True}
_MNIST = {"learning_rate": 0.03, "decay": 0.98}
_MNIST_WHOLE = {"learning_rate": 0.05, "decay": 0.97, "stop_when_fitted": True}
# All 50,000 images of CIFAR-10: settings that were seen on a GPU to fit true labels, and random ones but of two images.
_WHOLE = {"center_crop": 28, "eval_every": 2, "stop_when_fitted": True}
_WHOLE_CNN = {**_WHOLE, "precision": "bfloat16"}
_WITHOUT_NORM = {"model_options": {"batch_norm": False}}
# A part of CIFAR-10, so that a processor without a GPU trains each run in a minute.
_CIFAR = {"center_crop": 28, "learning_rate": 0.01, "decay": 0.98, "stop_when_fitted": True}
_CIFAR_MLP = {**_CIFAR, "train_size": 5000, "batch_size": 50, "epochs": 80, "eval_every": 2}
_CIFAR_FEW = {**_CIFAR, "train_size": 500, "test_size": 1000, "batch_size": 50}
_CIFAR_CNN = {**_CIFAR_FEW, "epochs": 60, "eval_every": 3, "precision": "bfloat16"}
# Without batch-norm it takes well over a thousand small steps, whatever the number of images.
_PATIENT = {"train_size": 200, "batch_size": 10, "learning_rate": 0.003, "decay": 0.99, "epochs": 120, "eval_every": 10}
_ENDS: dict[str, Any] = {"q": (0.0, 1.0), "kinds": False}

PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("smoke", "digits"): (
        _part("mlp_1x512", {**_SMALL, "epochs": 80}),
        _part("mlp_3x512", {**_SMALL, "train_size": 300, "epochs": 80}, **_ENDS),
    ),
    ("colab", "digits"): (
        _part("mlp_1x512", {**_SMALL, "epochs": 120}, q=GRID_11, seeds=5),
        _part("mlp_3x512", {**_SMALL, "epochs": 80}, q=GRID_11, seeds=5),
    ),
    ("colab", "mnist"): (
        _part("mlp_1x512", {**_MNIST, "train_size": 10_000, "epochs": 80}),
        _part("mlp_3x512", {**_MNIST_WHOLE, "epochs": 60}, **_ENDS),
    ),
    ("colab", "cifar10"): (
        _part("mlp_1x512", _CIFAR_MLP),
        _part("mlp_3x512", _CIFAR_MLP, **_ENDS),
        _part("alexnet_small", _CIFAR_CNN, **_ENDS),
        _part("inception_small", {**_CIFAR_CNN, "learning_rate": 0.03, "decay": 0.95}, **_ENDS),
        _part("inception_small", {**_CIFAR_CNN, **_WITHOUT_NORM, **_PATIENT}, **_ENDS),
    ),
    ("full", "mnist"): (
        _part("mlp_1x512", {**_MNIST_WHOLE, "decay": 0.985, "epochs": 200}, q=GRID_11, seeds=5),
        _part("mlp_3x512", {**_MNIST_WHOLE, "epochs": 60}, q=GRID_11, seeds=5),
    ),
    ("full", "cifar10"): (
        _part("mlp_1x512", {**_WHOLE, "learning_rate": 0.02, "decay": 0.985, "epochs": 200}, q=GRID_11),
        _part("mlp_3x512", {**_WHOLE, "learning_rate": 0.02, "decay": 0.98, "epochs": 150}, q=GRID_11),
        _part("alexnet_small", {**_WHOLE_CNN, "learning_rate": 0.01, "decay": 0.97, "epochs": 80}, q=GRID_11),
        _part("inception_small", {**_WHOLE_CNN, "learning_rate": 0.1, "decay": 0.95, "epochs": 60}, q=GRID_11),
        _part(
            "inception_small",
            {**_WHOLE_CNN, **_WITHOUT_NORM, "learning_rate": 0.01, "decay": 0.97, "epochs": 100},
            q=GRID_11,
        ),
    ),
}
# Of one's own images the smoke size takes the middle, in pixels (a smaller one for regularizers), and at most so many.
SMOKE_SIDE, TINY_SIDE, SMOKE_TRAIN = 24, 16, 150
DEFAULT_DATASET = {"smoke": "digits", "colab": "mnist", "full": "cifar10"}


class Row(NamedTuple):
    """Which regularizers are on, and whether the labels are random.

    `batch_norm` switches it on in a network that is trained without, all else as it is: its twin.
    """

    crop: bool = False
    weight_decay: bool = False
    dropout: bool = False
    random_labels: bool = False
    batch_norm: bool = False


_PLAIN = "inception_small without batch-norm"
NONE, RANDOM, DECAY = Row(), Row(random_labels=True), Row(weight_decay=True)
CROP, BOTH = Row(crop=True), Row(crop=True, weight_decay=True)
RANDOM_DECAY = Row(weight_decay=True, random_labels=True)
DROP, RANDOM_DROP = Row(dropout=True), Row(dropout=True, weight_decay=True, random_labels=True)
# The rows of Table 1, and below them ours: dropout (Fig. 2), and random labels fitted in spite of a regularizer.
GRID: dict[str, tuple[Row, ...]] = {
    "inception_small": (BOTH, CROP, DECAY, NONE, RANDOM, DROP, RANDOM_DROP),
    _PLAIN: (DECAY, NONE, RANDOM),
    "alexnet_small": (BOTH, CROP, DECAY, NONE, RANDOM, RANDOM_DECAY),
    "mlp_3x512": (DECAY, NONE, RANDOM, RANDOM_DECAY),
    "mlp_1x512": (DECAY, NONE, RANDOM, RANDOM_DECAY),
}
# Where the network without batch-norm is trained in its own way, it is compared with its twin.
_COLAB_GRID = {**GRID, _PLAIN: (*GRID[_PLAIN], Row(batch_norm=True))}
# The smoke size has networks and rows of its own: each kind of regularizer, in seconds.
_TINY = {"test_size": 100, "stop_when_fitted": True}
_TINY_MLP = {**_TINY, "train_size": 100, "batch_size": 20, "epochs": 30, "eval_every": 3, "learning_rate": 0.05}
_TINY_CNN = {**_TINY, "train_size": 40, "batch_size": 10, "epochs": 9, "eval_every": 3, "learning_rate": 0.02}
_SMOKE_PARTS = (
    Part({"model": "mlp_1x512", **_TINY_MLP}),
    Part({"model": "inception_small", **_TINY_CNN}, seeds=2),
    Part({"model": "inception_small", **_TINY_CNN, **_WITHOUT_NORM}, seeds=2),
)
_SMOKE_GRID = {
    "mlp_1x512": (BOTH, CROP, DECAY, NONE, RANDOM, RANDOM_DECAY),
    "inception_small": (NONE, DROP),
    _PLAIN: (NONE,),
}


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
    """The runs of Fig. 1 at one size: fractions of corrupted labels, and inputs without structure.

    Args:
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        dataset: Any data set (default: the profile's own). One without a plan takes that of the profile's own.
        networks: Only these networks, or others than the plan's with the settings of its first part. A sequence, or
            text with commas, as a notebook's parameter gives it.
        corruptions: These fractions q instead of the plan's, likewise.
        seeds: This many seeds (at most 200) instead of the plan's; 0 keeps it. Likewise `epochs` and `train_size`.
        epochs: Most epochs of a run.
        train_size: Number of training examples.

    Returns:
        One configuration per run, seeds innermost.

    Raises:
        UserError: An unknown profile, a value out of range, or more than 2,000 runs.

    >>> runs = plan("smoke", networks=["mlp_1x512"], corruptions=[0, 1], seeds=2)
    >>> [(run.inputs, run.label_corruption, run.seed) for run in runs[:4]]
    [('true', 0.0, 0), ('true', 0.0, 1), ('true', 1.0, 0), ('true', 1.0, 1)]
    """
    parts, changes = _asked(profile, dataset, epochs, train_size)
    if changes["dataset"] == "two_moons":
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
    """The runs of Table 1 and Fig. 2 at one size: regularizers switched on and off. Arguments as for `plan`.

    A row without any regularizer is a run of the experiment ``"random_labels"`` and shared with it.

    Returns:
        One configuration per network, row and seed, seeds innermost.

    >>> runs = regularizer_plan("full", networks="mlp_1x512", seeds=1)
    >>> [(run.experiment, run.weight_decay, run.label_corruption) for run in runs[:3]]
    [('regularizers', 0.0005, 0.0), ('random_labels', 0.0, 0.0), ('random_labels', 0.0, 1.0)]
    """
    parts, changes = _asked(profile, dataset, epochs, train_size)
    grid = {"smoke": _SMOKE_GRID, "colab": _COLAB_GRID, "full": GRID}[profile]
    smallest = _taken(_SMOKE_PARTS, profile, changes["dataset"], side=TINY_SIDE)
    wanted = _split(networks)
    for name in wanted:
        if name not in grid:
            raise unknown_name("network of Table 1", name, grid)
    return [
        _regularized(part, row, profile, changes).replace(seed=seed)
        for part in _chosen(smallest if profile == "smoke" else parts, wanted)
        for row in grid[_name(part)]
        for seed in seeds_of(seeds, part.seeds)
    ]


def crop_padding(center_crop: int | None) -> int:
    """Padding of the random crop: with a centre crop of 28, windows of 28x28 anywhere in images of 32x32."""
    return 1 if center_crop is None else 2


def _asked(profile: str, dataset: str, epochs: int, train_size: int) -> tuple[Sequence[Part], dict[str, Any]]:
    """The plan of a profile for a data set, and the fields of every run that differ from it."""
    check_profile(profile)
    changes = {name: value for name, value in (("epochs", epochs), ("train_size", train_size)) if value}
    for name, value in changes.items():
        if value < 0:
            raise UserError(f"{name} is {value}, expected a whole number of at least 1 (or 0 for the profile's own)")
    parts, name = parts_for(PLANS, profile, dataset, DEFAULT_DATASET[profile])
    return _taken(parts, profile, name), {"dataset": name, **changes}


def _taken(parts: Sequence[Part], profile: str, dataset: str, *, side: int = SMOKE_SIDE) -> Sequence[Part]:
    """Parts that take what a folder of images has: no more images than there are, at the smoke size of their middle."""
    if not dataset.startswith(FOLDER):
        return parts
    train, test, whole = folder_sizes(dataset)
    smoke = profile == "smoke"
    most = {"train_size": min(train, SMOKE_TRAIN) if smoke else train, "test_size": test}
    crop = {"center_crop": side} if smoke and whole > side else {}

    if smoke:
        told = f"the smoke size takes at most {most['train_size']:,} of {train:,} training images"
        pixels = f", and of each the middle {side}x{side} pixels" if crop else ""
        warnings.warn(f"{dataset}: {told}{pixels}: other sizes take them whole (profile=)", stacklevel=4)
    few = ({name: min(part.settings.get(name, size), size) for name, size in most.items()} for part in parts)
    return [replace(part, settings={**part.settings, **each, **crop}) for part, each in zip(parts, few, strict=True)]


def _chosen(parts: Sequence[Part], networks: Sequence[str]) -> list[Part]:
    """The plan's parts for the networks asked for; a network that the plan lacks takes the first part's settings."""
    planned = {_name(part): part for part in parts}
    found = []
    for name in networks or planned:
        model, plain, _ = name.partition(" without batch-norm")
        other = {"model": model, **(_WITHOUT_NORM if plain else {})}
        found.append(planned.get(name) or replace(parts[0], settings={**parts[0].settings, **other}))
    return found


def _name(part: Part) -> str:
    """The network of a part with its options, as tables name it."""
    return network_name(part.settings["model"], part.settings.get("model_options", {}))


def _split(values: str | Sequence[Any]) -> list[Any]:
    """The items of a sequence, or of text with commas."""
    return [item.strip() for item in values.split(",") if item.strip()] if isinstance(values, str) else list(values)


def _fraction(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        raise UserError(f"corruptions has {value!r}, expected numbers in [0, 1] separated by commas") from None


def _regularized(part: Part, row: Row, profile: str, changes: Mapping[str, Any]) -> RunConfig:
    """The run of a row, with seed 0."""
    settings = {**part.settings, **changes}
    options = dict(settings.pop("model_options", {}))
    if row.dropout:
        options["dropout"] = DROPOUT
    if row.batch_norm:
        del options["batch_norm"]
    return RunConfig(
        experiment=REGULARIZERS if any(row._replace(random_labels=False)) else EXPERIMENT,
        model_options=options,
        random_crop=crop_padding(settings.get("center_crop")) if row.crop else 0,
        weight_decay=WEIGHT_DECAY[profile] if row.weight_decay else 0.0,
        label_corruption=float(row.random_labels),
        **settings,
    )


run = runner.load_or_run  # no run of this chapter has probes of its own
GROUPS = (
    Group(CELLS, lambda profile, values: plan(profile, **values)),
    # The chapter's parameters `networks` and `corruptions` are of the other runs.
    Group(CELLS, lambda profile, values: regularizer_plan(profile, **without(values, "networks", "corruptions"))),
    Group(COMMAND, lambda profile, values: imagenet.plan()),
)
