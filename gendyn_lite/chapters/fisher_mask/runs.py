"""Runs of chapter 3: influence of one example's step during training, the gradient mask and its controls (Jiang).

ResNet-50 on ImageNet with and without the mask (Table 1) is a command outside the book, over several processes. After
``gendyn data imagenet``, the run without a mask and the one that keeps a quarter of the weights take days on 8 GPUs:

    torchrun --nproc-per-node 8 -m gendyn_lite.chapters.fisher_mask.runs --keep 1
    torchrun --nproc-per-node 8 -m gendyn_lite.chapters.fisher_mask.runs --keep 0.25

The same command resumes after an interruption. On your own images, on two processors:

    torchrun --nproc-per-node 2 -m gendyn_lite.chapters.fisher_mask.runs --keep 1 -p dataset=folder:PATH -p epochs=2
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite import data, train
from gendyn_lite.arguments import answer_one_run
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.fisher_mask import probes
from gendyn_lite.chapters.registry import CELLS, COMMAND, Group, Part, parts_for
from gendyn_lite.chapters.runner import inputs
from gendyn_lite.config import MASKS, RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.errors import unknown_name
from gendyn_lite.measures.fisher import GradientMask, StepLengths
from gendyn_lite.results.runs import Run, check_profile
from gendyn_lite.train.distributed import joined
from gendyn_lite.train.probes import Probe, reestimated_statistics

# Raise the version when the probes change what they measure. Version 2 added influence at every epoch, path lengths,
# right and wrong labels separately, and masks that keep exactly their share.
PROBE_VERSION = 2
BATCH = 200  # examples at a time for the Fisher information of a mask
Masks = tuple[tuple[str, float], ...]


def _part(network: str, settings: Mapping[str, Any], masks: Mapping[float, Masks], **seeds: int) -> Part:
    """Return the runs of one network: for each label corruption without a mask and with each mask (how, share kept)."""
    each = ((q, *mask) for q, some in masks.items() for mask in (("fisher", 1.0), *some))
    variants = tuple({"label_corruption": q, "mask_by": by, "mask_keep": keep} for q, by, keep in each)
    return Part({"model": network, **settings}, variants, **seeds)


def _masks(**keeps: tuple[float, ...]) -> Masks:
    return tuple((by, keep) for by, shares in keeps.items() for keep in shares)


_FIG_2 = _masks(fisher=(0.7, 0.8))
# Both readings of the paper's coefficients, and controls with the same shares.
_CONTROLS = ("magnitude", "random", "random_fixed", "shorter_steps")
_TABLE_1 = _masks(fisher=(0.25, 0.75), **dict.fromkeys(_CONTROLS, (0.25, 0.75)))
_QUARTERS = tuple(mask for mask in _TABLE_1 if mask[1] < 0.5)
_ENDS = _masks(**dict.fromkeys(("fisher", "magnitude", "random", "random_fixed"), (0.25, 0.75)))
_SMALL = {"learning_rate": 0.01, "decay": 0.98, "batch_size": 50}
# A quarter of the pixels and two small layers: a run takes seconds on one core, so that many seeds are possible.
_QUARTER = {"center_crop": 28, "model_options": {"widths": [256, 256], "downsample": 2}}
_MLP = {**_SMALL, **_QUARTER, "train_size": 1000, "test_size": 2000, "epochs": 30}
# The paper's network on a part of the data, with pixels averaged to 8x8: a run takes at most a minute on one core.
_SHORT = {"batch_size": 50, "train_size": 500, "test_size": 500, "epochs": 8, "precision": "bfloat16"}
_RESNET = {**_SHORT, "schedule": "cosine", "learning_rate": 0.02, "model_options": {"downsample": 4}}
_ANEW = {"batch_norm_statistics": "re-estimated"}
# The usual settings of ResNets, since the paper does not give its own. Nothing of this size has been run.
_USUAL = {"learning_rate": 0.1, "flip": True, "standardize": "per_channel", "precision": "bfloat16"}
_PAPER = {**_USUAL, "epochs": 60, "batch_size": 128, "schedule": "cosine", "weight_decay": 5e-4, "random_crop": 4}
_STEPS = {"epochs": 90, "schedule": "step", "decay": 0.1, "milestones": (30, 60, 80)}
_RESNET50 = {**_USUAL, **_STEPS, "batch_size": 256, "weight_decay": 1e-4, "random_crop": 28}
# Both readings of the paper's coefficient 0.25; these runs have their own command.
IMAGENET = _part("resnet50", {"experiment": "imagenet_mask", "dataset": "imagenet", **_RESNET50}, {0.0: _ENDS})
_DIGITS = {"train_size": 300, "epochs": 20, "batch_size": 30, "learning_rate": 0.02, "decay": 0.98}
_ONE_LAYER = {**_DIGITS, "model_options": {"widths": [64]}}
_BARE = {0.0: (), 0.5: (), 1.0: ()}
_WHOLE = _part("resnet18", {**_PAPER, **_ANEW}, {0.0: (*_FIG_2, *_TABLE_1), 0.5: _TABLE_1, 1.0: ()})
_NEW = 5  # the first seed; smaller ones were run under an earlier plan and earlier criteria

PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("smoke", "digits"): (_part("mlp", _ONE_LAYER, {0.0: (*_FIG_2, *_QUARTERS), 0.5: _QUARTERS, 1.0: ()}, seeds=2),),
    ("colab", "cifar10"): (
        _part("mlp", _MLP, {0.0: (*_FIG_2, *_TABLE_1), 0.5: _TABLE_1, 1.0: ()}, seeds=5, first_seed=_NEW),
        _part("resnet18", {**_RESNET, **_ANEW}, _BARE, seeds=5, first_seed=_NEW),
        _part("resnet18", _RESNET, _BARE, seeds=5, first_seed=_NEW),
    ),
    ("colab", "cifar100"): (
        _part("mlp", {**_MLP, "train_size": 2000}, {0.0: (*_FIG_2, *_TABLE_1), 1.0: ()}, seeds=5, first_seed=_NEW),
    ),
    ("full", "cifar100"): (_WHOLE,),
    ("full", "cifar10"): (_WHOLE,),
}
DEFAULT_DATASET = {"smoke": "digits", "colab": "cifar10", "full": "cifar100"}


def plan(profile: str = "smoke", *, dataset: str = "", network: str = "", seeds: int = 0) -> list[RunConfig]:
    """Plan the runs of the chapter at one size.

    Args:
        profile: ``"smoke"``, ``"colab"`` (small networks, parts of the data) or ``"full"`` (the paper's ResNet-18 on
            all of CIFAR-100).
        dataset: A data set; empty for the profile's default. Without a plan of its own it takes the default's plan.
        network: Only the runs of this network; empty for all.
        seeds: Number of seeds instead of the plan's; 0 keeps the plan's.

    Returns:
        One configuration per run. Seeds are outermost, so that an interrupted plan has complete pairs.

    Raises:
        UserError: The profile is unknown, or the network is not in the plan.

    >>> [(run.label_corruption, run.mask_by, run.mask_keep) for run in plan("smoke", seeds=1)][:3]
    [(0.0, 'fisher', 1.0), (0.0, 'fisher', 0.7), (0.0, 'fisher', 0.8)]
    """
    check_profile(profile)
    parts, name = parts_for(PLANS, profile, dataset, DEFAULT_DATASET[profile])
    networks = [part.settings["model"] for part in parts]
    if network and network not in networks:
        raise unknown_name("network of this plan", network, networks)
    common = {"experiment": "fisher_mask", "dataset": name, "probe_version": PROBE_VERSION}
    found = [part.configs(seeds=seeds, **common) for part in parts if network in ("", part.settings["model"])]
    return [config for configs in found for config in sorted(configs, key=lambda config: config.seed)]


def mask_for(config: RunConfig, examples: Any, **options: Any) -> GradientMask | None:
    """Return the gradient mask of a configuration, or None if it has none; the options are those of `GradientMask`."""
    if config.mask_keep == 1:
        return None
    by, _, layer = config.mask_by.partition("_per_")
    return GradientMask(config.mask_keep, examples, by=by, scope=layer or "network", seed=config.seed, **options)


def shared_mask(config: RunConfig, loaded: ImageData, device: torch.device) -> GradientMask | None:
    """Return the mask of a run with several processes, which share the images and add their sums of squares."""
    ranks = joined(device)
    batches = data.batcher(loaded, config, split="train_eval", device=device)

    def share() -> Iterator[tuple[Tensor, Tensor]]:
        return islice(batches.epoch(0), ranks.rank, None, ranks.world)

    precision = config.precision if device.type == "cuda" else "float32"
    return mask_for(config, share, reduce=ranks.sum, precision=precision)


def hook_for(config: RunConfig, loaded: ImageData, x: Tensor, y: Tensor) -> StepLengths | None:
    """Return the gradient hook of a run: its mask, which records step lengths, or steps as long as the masked ones."""
    if config.mask_keep == 1:
        return None
    if config.mask_by == "shorter_steps":
        return StepLengths(lengths=_masked_steps(config.replace(mask_by="fisher"), loaded, x, y))
    running = config.batch_norm_statistics == "running"

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        return zip(x.split(BATCH), y.split(BATCH), strict=True)

    return StepLengths(mask_for(config, batches, within=nullcontext if running else partial(_anew, x=x)))


def _masked_steps(config: RunConfig, loaded: ImageData, x: Tensor, y: Tensor) -> list[float]:
    """Return the lengths of the steps of a masked run; the run is trained for this, without evaluations."""
    hook = hook_for(config, loaded, x, y)
    assert hook is not None
    train.fit(runner.build(config, loaded), loaded, config.replace(eval_every=config.epochs), grad_hook=hook)
    return hook.taken


def _anew(model: nn.Module, *, x: Tensor) -> AbstractContextManager[None]:
    """Re-estimate batch-norm's statistics over some inputs, while the context is entered."""
    device = next(model.parameters()).device
    return reestimated_statistics(model, ((part.to(device), part) for part in x.split(probes.PART)))


def run(config: RunConfig, *, profile: str, **options: Any) -> Run:
    """Return the complete run of a configuration: loaded, resumed, or trained and measured.

    Influence is measured in runs without a mask, and in those with the masks of Fig. 2.

    Args:
        config: A configuration of `plan`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``, which decides how much is measured.
        **options: Options of `gendyn_lite.chapters.runner.load_or_run`: root (folder of the runs) and data_root.
    """

    def prepare(loaded: ImageData) -> dict[str, Any]:
        x, y = inputs(config, loaded)
        hook = hook_for(config, loaded, x, y)
        wanted: dict[str, Probe] = {}
        if config.mask_keep == 1 or (config.mask_by, config.mask_keep) in _FIG_2:
            wanted["influence"] = probes.influence_during(config, x, y, profile)
        if 0 < config.label_corruption < 1:
            original, _ = data.load_for_run(config.replace(label_corruption=0.0), root=options.get("data_root"))
            wanted |= probes.by_part(config, x, y, original.train.y, profile)
        if hook is not None:
            wanted["mask"] = partial(probes.of_steps, hook)
        return {"probes": wanted, "grad_hook": hook}

    return runner.load_or_run(config, profile=profile, prepare=prepare, probe_version=PROBE_VERSION, **options)


run_all = partial(runner.one_by_one, run)
GROUPS = (
    Group(CELLS, lambda profile, values: plan(profile, **values)),
    Group(COMMAND, lambda profile, values: IMAGENET.configs()),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one configuration on ImageNet; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m gendyn_lite.chapters.fisher_mask.runs", description=main.__doc__)
    parser.add_argument("--keep", type=float, required=True, help="share of the weights that move (1: no mask)")
    parser.add_argument("--by", default="fisher", help=", ".join(MASKS))

    def train_one(given: argparse.Namespace, changes: dict[str, Any]) -> str:
        base = IMAGENET.configs(seeds=1)[0].replace(mask_keep=given.keep, mask_by=given.by, seed=given.seed)
        done = runner.run_distributed(base.replace(**changes), hook=shared_mask)
        best = max(row["test_accuracy"] for row in done.rows())
        return f"{done.path}: best top-1 {best:.4f}"

    return answer_one_run(parser, argv, train_one)


if __name__ == "__main__":
    sys.exit(main())
