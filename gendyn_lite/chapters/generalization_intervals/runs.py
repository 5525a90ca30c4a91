"""Runs of chapter 5: how far a network keeps its class along a line, on true and random labels (Salman et al. 2019)."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.chapters import runner
from gendyn_lite.chapters.generalization_intervals import probes
from gendyn_lite.chapters.generalization_intervals.probes import Lines, bins_of, bound, norms, predicted
from gendyn_lite.chapters.generalization_intervals.tables import SPANS
from gendyn_lite.chapters.registry import CELLS, TABLE, Group, Part, parts_for, without
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import intervals
from gendyn_lite.results.runs import Run, check_profile

LINES, LINES_VERSION, IMAGE = "interval_lines", 1, 0  # experiment that records lines from one image; its number
# Seeds 0 to 14 had been run before components were given both signs.
NEW = {"seeds": 5, "first_seed": 15}


class Amount(NamedTuple):
    """How much is measured.

    Attributes:
        lines: Number of pairs of one class, and of triangles.
        others: Number of lines along each other kind of direction.
        method: The method of `gendyn_lite.measures.intervals.generalization_interval`.
    """

    lines: int
    others: int
    method: Any = "auto"


AMOUNTS = {"smoke": Amount(60, 20), "colab": Amount(300, 100), "full": Amount(500, 200)}
# Change a version when the probes change what they measure. Profiles share networks but measure them along different
# numbers of lines, so each profile has its own version.
PROBE_VERSION = {"smoke": 6, "colab": 5, "full": 4}
# Convolutional networks have tens of thousands of linear pieces on a line, and one line takes seconds.
CONVOLUTIONAL = Amount(50, 0, "certified")


def _mlp(*widths: int, **options: Any) -> dict[str, Any]:
    return {"model": "mlp", "model_options": {"widths": list(widths), **options}}


_BASE = {"learning_rate": 0.01, "schedule": "constant", "batch_size": 50}
_IMAGES = {**_BASE, "train_size": 1000, "test_size": 2000, "epochs": 150, "eval_every": 150}
_LONG = {**_IMAGES, "epochs": 400, "eval_every": 400}  # few pixels: random labels take longer
_MAIN = _mlp(128, 128, 128)
_WATCHED = {**_IMAGES, **_MAIN, "eval_every": 2}
# Beyond the paper: max-pooling, and batch-norm with residual sums.
_FEW_IMAGES = {**_IMAGES, "train_size": 300, "test_size": 500}
_POOLED = {**_FEW_IMAGES, "model": "alexnet_small", "model_options": {"response_norm": False}, "epochs": 60}
_RESNET = {**_FEW_IMAGES, "model": "resnet18", "learning_rate": 0.02, "epochs": 60}
_DIGITS = {**_BASE, **_MAIN, "train_size": 300, "epochs": 80, "eval_every": 80, "learning_rate": 0.03}
_MOONS = {**_BASE, **_MAIN, "standardize": "none", "epochs": 1500, "eval_every": 1500, "learning_rate": 0.03}
_FITTED_MOONS = {**_MOONS, **_mlp(512, 512, 512), "epochs": 4000, "eval_every": 4000, "schedule": "cosine"}
_TRUE = ({"label_corruption": 0.0},)
_BOTH = (*_TRUE, {"label_corruption": 1.0})


def _paper(beyond: dict[str, Any]) -> tuple[Part, ...]:
    """Return the paper's networks on a set of images, and a convolutional one."""
    return (
        Part({**_IMAGES, **_MAIN}, _BOTH, **NEW),
        Part(_WATCHED, _TRUE, **NEW),
        *(Part({**_IMAGES, **_mlp(*widths)}, _BOTH, **NEW) for widths in ((512,), (256, 256), (128,) * 4)),
        *(Part({**_LONG, **_mlp(128, 128, 128, downsample=side)}, _BOTH, **NEW) for side in (2, 4)),
        Part({**beyond, "eval_every": beyond["epochs"]}, _BOTH, **NEW),
    )


# The first part of each plan is the network that all others are compared with.
PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("smoke", "digits"): (
        Part(_DIGITS, _BOTH, seeds=2),
        Part({**_DIGITS, **_mlp(128, 128, 128, downsample=2)}, _BOTH, seeds=2),
        Part({**_DIGITS, "epochs": 10, "eval_every": 1}, _TRUE, seeds=2),
    ),
    ("full", "mnist"): _paper(_POOLED),
    ("full", "cifar10"): _paper(_RESNET),
    ("full", "digits"): (Part(_DIGITS, _BOTH, **NEW),),
}
MOONS = {
    "smoke": Part({**_MOONS, "epochs": 200, "eval_every": 200}, _BOTH, seeds=2),
    "full": Part(_FITTED_MOONS, _BOTH, **NEW),
}
DEFAULT_DATASET = {"smoke": "digits", "colab": "mnist", "full": "mnist"}


def plan(profile: str = "smoke", *, dataset: str = "", seeds: int = 0, moons: bool = True) -> list[RunConfig]:
    """Plan the runs of the chapter at one size: a set of images, and two moons.

    Args:
        profile: ``"smoke"``, ``"colab"`` (as ``"full"``, with fewer lines) or ``"full"``.
        dataset: A set of images; empty for the profile's default. Without a plan of its own it takes the default's.
        seeds: Number of seeds instead of the plan's; 0 keeps the plan's.
        moons: Whether to include the runs on two moons.

    Returns:
        One configuration per run, seeds innermost.

    Raises:
        UserError: The profile is unknown.

    >>> [(run.dataset, run.label_corruption) for run in plan("smoke", seeds=1)][:2]
    [('digits', 0.0), ('digits', 1.0)]
    """
    check_profile(profile)
    size = "smoke" if profile == "smoke" else "full"
    parts, name = parts_for(PLANS, size, dataset, DEFAULT_DATASET[profile])
    common = {"experiment": "generalization_intervals", "probe_version": PROBE_VERSION[profile]}
    found = [config for part in parts for config in part.configs(seeds=seeds, dataset=name, **common)]
    if moons:
        found += MOONS[size].configs(seeds=seeds, dataset="two_moons", **common)
    return found


def plan_lines(profile: str = "smoke", *, dataset: str = "") -> list[RunConfig]:
    """Plan the two runs, on true and on random labels, that record the lines of every kind from one image.

    Args:
        profile: ``"smoke"``, ``"colab"`` or ``"full"``.
        dataset: As for `plan`.
    """
    name, version = {"experiment": LINES}, {"probe_version": LINES_VERSION}
    return [run.replace(**name, **version) for run in plan(profile, dataset=dataset, seeds=1, moons=False)[:2]]


def run(config: RunConfig, *, profile: str, **options: Any) -> Run:
    """Return the complete run of a configuration: loaded, resumed, or trained and measured.

    Args:
        config: A configuration of `plan` or `plan_lines`.
        profile: ``"smoke"``, ``"colab"`` or ``"full"``, which decides how much is measured.
        **options: Options of `gendyn_lite.chapters.runner.load_or_run`: root (folder of the runs) and data_root.
    """
    if config.experiment == LINES:
        options |= {"prepare": partial(_line_probe, config), "probe_version": LINES_VERSION}
        return runner.load_or_run(config, profile=profile, **options)
    amount = AMOUNTS[profile] if config.model == "mlp" else CONVOLUTIONAL
    watched = config.eval_every < config.epochs
    if watched:
        amount = amount._replace(others=0)

    def prepare(loaded: ImageData) -> dict[str, Any]:
        splits = [runner.inputs(config, loaded, split) for split in ("train_eval", "test")]

        def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
            if amount is CONVOLUTIONAL and epoch < config.epochs:  # nothing is made of it, and it takes many minutes
                return {}
            device = next(model.parameters()).device
            train, test = ((x.to(device), y.to(device)) for x, y in splits)
            row = measured(model, *train, amount, seed=config.seed)
            if watched or amount is CONVOLUTIONAL:
                return row
            initial = runner.build(config, loaded).to(device).eval()
            return row | untrained(initial, train[0], amount, seed=config.seed) | bound(model, train, test)

        return {"probes": {"intervals": probe}}

    options |= {"prepare": prepare, "probe_version": PROBE_VERSION[profile]}
    return runner.load_or_run(config, profile=profile, **options)


def _line_probe(config: RunConfig, loaded: ImageData) -> dict[str, Any]:
    """Make the probe of a run of `plan_lines`."""
    x, y = runner.inputs(config, loaded)

    def probe(model: nn.Module, epoch: int) -> dict[str, str]:
        device = next(model.parameters()).device
        return probes.recorded(model, x.to(device), y.to(device), image=IMAGE) if epoch == config.epochs else {}

    return {"probes": {"lines": probe}}


run_all = partial(runner.one_by_one, run)
GROUPS = (
    Group(CELLS, lambda profile, values: plan(profile, **values)),
    Group(TABLE, lambda profile, values: plan_lines(profile, **without(values, "seeds"))),
)


def measured(model: nn.Module, x: Tensor, y: Tensor, amount: Amount, *, seed: int) -> dict[str, Any]:
    """Measure intervals from training points that the network fits, by kind of direction.

    Returns:
        For each kind: ``_mean``, the mean length; ``_bins``, counts of lengths in `BINS` bins, as text; ``_full``, the
        share of lines that keep their class over the whole range; and for certified intervals ``_certain``, the mean
        length that is certain. Also ``fitted``, the share of points that are fitted; the ``method``; and for fully
        connected networks the values of `norms`.
    """
    fitted = predicted(model, x) == y
    row: dict[str, Any] = {"fitted": float(fitted.float().mean())}
    x, y = x[fitted], y[fitted]
    for kind, (origin, direction) in directions(model, x, y, amount, seed=seed).items():
        low, high = SPANS[kind]
        found = intervals.generalization_interval(model, origin, direction, low=low, high=high, method=amount.method)
        row |= {f"{kind}_mean": float(found.length.mean()), f"{kind}_bins": bins_of(found.length, high - low)}
        row |= {f"{kind}_full": float((found.length >= high - low).float().mean()), "method": found.method}
        certain = found.certain_upper - found.certain_lower
        row |= {f"{kind}_certain": float(certain.mean())} if found.method == "certified" else {}
    return row | norms(model, x, y, seed=seed)


def untrained(model: nn.Module, x: Tensor, amount: Amount, *, seed: int) -> dict[str, Any]:
    """Measure mean lengths of the initial network, with its own predictions as labels."""
    row = measured(model, x, predicted(model, x), amount, seed=seed)
    return {f"untrained_{name}": value for name, value in row.items() if name.endswith("_mean")}


def directions(model: nn.Module, x: Tensor, y: Tensor, amount: Amount, *, seed: int) -> dict[str, Lines]:
    """Return lines of every kind that these points allow, by the names in `SPANS`."""
    lines: dict[str, Lines] = {}
    sizes = torch.bincount(y.cpu(), minlength=1)
    for kind, size, through in (("pair", 2, intervals.pair_lines), ("midline", 3, intervals.midlines)):
        if int(sizes.max()) >= size:
            tuples = intervals.same_class_tuples(y, amount.lines, size=size, seed=seed)
            lines[kind] = through(x, tuples.to(x.device))
    usable = (sizes >= 3).nonzero().squeeze(1).tolist()
    if not usable or not amount.others:
        return lines
    parts: dict[str, list[Lines]] = defaultdict(list)
    for label, other in zip(usable, usable[1:] + usable[:1], strict=True):
        points = x[y == label][: max(1, amount.others // len(usable))]
        chosen = probes.class_directions(model, x, y, label, points, other=other, seed=seed + label)
        for kind, direction in chosen.items():
            parts[kind].append((points, direction.expand_as(points)))
    return lines | {
        kind: (torch.cat([points for points, _ in found]), torch.cat([direction for _, direction in found]))
        for kind, found in parts.items()
    }
