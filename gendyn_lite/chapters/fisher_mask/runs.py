"""Chapter 3: the influence of one example's step during training, and the gradient mask with its controls (Jiang)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gendyn_lite import data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.fisher_mask import imagenet
from gendyn_lite.chapters.fisher_mask.probes import PROBE_VERSION, influence_during, inputs, mask_for, mask_probe
from gendyn_lite.chapters.plan import CELLS, COMMAND, Group, Part, check_profile
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import unknown_name
from gendyn_lite.results.runs import Run

EXPERIMENT = "fisher_mask"
Masks = tuple[tuple[str, float], ...]


def _part(network: str, settings: Mapping[str, Any], masks: Mapping[float, Masks], *, seeds: int = 3) -> Part:
    """Runs of one network: at every label corruption without a mask, and with those masks (how, share kept)."""
    variants = (
        {"label_corruption": q, "mask_by": by, "mask_keep": keep}
        for q, some in masks.items()
        for by, keep in (("fisher", 1.0), *some)
    )
    return Part({"model": network, **settings}, tuple(variants), seeds)


def _masks(**keeps: tuple[float, ...]) -> Masks:
    return tuple((by, keep) for by, shares in keeps.items() for keep in shares)


_FIG_2 = _masks(fisher=(0.7, 0.8))
_TABLE_1 = _masks(
    fisher=(0.25, 0.5, 0.75), fisher_per_layer=(0.25, 0.75), magnitude=(0.25, 0.5, 0.75), random=(0.25, 0.5, 0.75)
)
_ENDS = _masks(fisher=(0.25, 0.75), magnitude=(0.25, 0.75), random=(0.25, 0.75))
_SMALL = {"batch_size": 50, "learning_rate": 0.01, "decay": 0.98}
# A quarter of the pixels and two small layers: a run takes seconds on one core, so that there are seeds enough.
_MLP = {
    **_SMALL,
    "model_options": {"widths": [256, 256], "downsample": 2},
    "center_crop": 28,
    "train_size": 1000,
    "test_size": 2000,
    "epochs": 30,
}
# The step size ends at 0, so that batch-norm's running statistics settle: Fisher information is taken with them.
_COSINE = {"schedule": "cosine", "learning_rate": 0.02}
# The paper's network on a part of the data and a quarter of the pixels: minutes a run on one core.
_RESNET = {
    **_COSINE,
    "batch_size": 50,
    "model_options": {"downsample": 2},
    "test_size": 1000,
    "epochs": 12,
    "precision": "bfloat16",
}
_ENDS_AND_HALF = (*_ENDS, *_masks(fisher=(0.5,), random=(0.5,)))
# The usual settings of ResNet-18 on CIFAR; the paper does not give its own. Nothing of this size has been run here.
_PAPER = {
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "schedule": "cosine",
    "weight_decay": 5e-4,
    "random_crop": 4,
    "flip": True,
    "standardize": "per_channel",
    "precision": "bfloat16",
}
_DIGITS = {"train_size": 300, "epochs": 20, "batch_size": 30, "learning_rate": 0.02, "decay": 0.98}

PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("smoke", "digits"): (
        _part(
            "mlp",
            {**_DIGITS, "model_options": {"widths": [64]}},
            {0.0: (*_FIG_2, *_masks(fisher=(0.25,), magnitude=(0.25,), random=(0.25,))), 1.0: ()},
            seeds=2,
        ),
    ),
    ("colab", "cifar10"): (
        _part("mlp", _MLP, {0.0: (*_FIG_2, *_TABLE_1), 0.2: _ENDS, 1.0: _FIG_2}, seeds=5),
        _part("resnet18", {**_RESNET, "train_size": 500}, {0.0: _ENDS_AND_HALF, 1.0: ()}),
    ),
    ("colab", "cifar100"): (
        _part("mlp", {**_MLP, "train_size": 2000}, {0.0: (*_FIG_2, *_ENDS), 1.0: ()}, seeds=5),
        _part("resnet18", {**_RESNET, "train_size": 1000}, {0.0: _ENDS, 1.0: ()}),
    ),
    ("colab", "digits"): (_part("resnet18", {**_DIGITS, "epochs": 10, **_COSINE}, {0.0: _ENDS, 1.0: ()}),),
    ("full", "cifar100"): (_part("resnet18", _PAPER, {0.0: (*_FIG_2, *_TABLE_1), 1.0: ()}),),
    ("full", "cifar10"): (_part("resnet18", _PAPER, {0.0: (*_FIG_2, *_TABLE_1), 0.2: _ENDS, 1.0: ()}),),
}
DEFAULT_DATASET = {"smoke": "digits", "colab": "cifar10", "full": "cifar100"}


def plan(profile: str = "smoke", *, dataset: str = "", network: str = "", seeds: int = 0) -> list[RunConfig]:
    """The runs of the chapter at one size.

    Args:
        profile: ``"smoke"``, ``"colab"`` (small networks, parts of the data) or ``"full"`` (the paper's ResNet-18 on
            all of CIFAR-100).
        dataset: A data set (default: the profile's own). One without a plan takes that of the profile's own.
        network: Only the parts of this network.
        seeds: This many seeds instead of the plan's; 0 keeps it.

    Returns:
        One configuration per run; seeds outermost, so that an interrupted plan has whole pairs.

    Raises:
        UserError: An unknown profile, or a network that is not in the plan.

    >>> [(run.label_corruption, run.mask_by, run.mask_keep) for run in plan("smoke", seeds=1)][:3]
    [(0.0, 'fisher', 1.0), (0.0, 'fisher', 0.7), (0.0, 'fisher', 0.8)]
    """
    check_profile(profile)
    name = dataset or DEFAULT_DATASET[profile]
    parts = PLANS.get((profile, name)) or PLANS[profile, DEFAULT_DATASET[profile]]
    networks = [part.settings["model"] for part in parts]
    if network and network not in networks:
        raise unknown_name("network of this plan", network, networks)
    chosen = [part for part in parts if network in ("", part.settings["model"])]
    common = {"experiment": EXPERIMENT, "dataset": name, "probe_version": PROBE_VERSION}
    found = [part.configs(seeds=seeds, **common) for part in chosen]
    return [config for configs in found for config in sorted(configs, key=lambda config: config.seed)]


def run(
    config: RunConfig,
    *,
    profile: str,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | None = None,
) -> Run:
    """The complete run of a configuration: loaded, resumed, or trained and measured.

    Args:
        config: Of `plan`.
        profile: Size, for how much is measured.
        root: Folder of the runs.
        data_root: Folder of the prepared data.
        device: Device to train on.
    """
    loaded, _ = data.load_for_run(config, root=data_root)
    x, y = inputs(config, loaded)
    hook = mask_for(config, (x, y))
    probes = {"influence": influence_during(config, x, y, profile)} | mask_probe(hook)
    options = {"root": root, "data_root": data_root, "device": device}
    return runner.load_or_run(
        config, profile=profile, probes=probes, grad_hook=hook, probe_version=PROBE_VERSION, **options
    )


def run_all(configs: Sequence[RunConfig], **options: Any) -> list[Run]:
    """The complete runs of some configurations, in their order: `run` of each, with its options."""
    return [run(config, **options) for config in configs]


GROUPS = (
    Group(CELLS, lambda profile, values: plan(profile, **values)),
    Group(COMMAND, lambda profile, values: imagenet.plan()),
)
