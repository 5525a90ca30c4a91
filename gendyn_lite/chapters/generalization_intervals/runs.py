"""Chapter 5: how far a network keeps its class along a line, on true and on random labels (Salman et al. 2019)."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.chapters import runner
from gendyn_lite.chapters.generalization_intervals.tables import BINS, NORM_RANGE, SPANS
from gendyn_lite.chapters.registry import CELLS, Group, Part, parts_for
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import intervals
from gendyn_lite.results.runs import Run, check_profile

Lines = tuple[Tensor, Tensor]
SMOOTH = ("alexnet_small",)  # not piecewise linear: followed by samples
NORM_LINES = 4  # whose pieces are all followed


class Amount(NamedTuple):
    """How much is measured.

    Attributes:
        lines: Pairs of one class, and triangles.
        others: Lines along each other kind of direction.
        samples: Points on each side of a line where the method is the grid.
        pieces: Most linear pieces of one line that are followed exactly.
    """

    lines: int
    others: int
    samples: int = 100
    pieces: int = 20_000


AMOUNTS = {"smoke": Amount(60, 20), "colab": Amount(300, 100), "full": Amount(500, 200)}
# Of what the probes measure: change it with every change of that, and old runs stay what they are. Networks of one
# profile that are those of another are measured along fewer lines: neither may be answered with the other.
PROBE_VERSION = {"smoke": 3, "colab": 2, "full": 1}
# Networks whose lines cost more: by samples, and with some 15,000 linear pieces a line, every one of them followed.
FEW = {"alexnet_small": Amount(30, 0, samples=60), "resnet18": Amount(4, 0, pieces=1_000_000)}


def _mlp(*widths: int, **options: Any) -> dict[str, Any]:
    return {"model": "mlp", "model_options": {"widths": list(widths), **options}}


_BASE = {"learning_rate": 0.01, "schedule": "constant", "batch_size": 50}
_IMAGES = {**_BASE, "train_size": 1000, "test_size": 2000, "epochs": 150, "eval_every": 150}
_LONG = {**_IMAGES, "epochs": 400, "eval_every": 400}  # few pixels: random labels take longer
_CNN = {**_IMAGES, "model": "alexnet_small", "train_size": 300, "epochs": 40, "eval_every": 40, "test_size": 500}
_MAIN = _mlp(128, 128, 128)
_DIGITS = {**_BASE, **_MAIN, "train_size": 300, "epochs": 80, "eval_every": 80, "learning_rate": 0.03}
_RESNET = {**_DIGITS, "model": "resnet18", "model_options": {}, "epochs": 60, "eval_every": 60}
_MOONS = {**_BASE, **_MAIN, "standardize": "none", "epochs": 1500, "eval_every": 1500, "learning_rate": 0.03}
_TRUE = ({"label_corruption": 0.0},)
_BOTH = (*_TRUE, {"label_corruption": 1.0})


def _paper(watched: float) -> tuple[Part, ...]:
    """The paper's networks on a set of images; those that are watched while training learn at a rate of their own."""
    return (
        Part({**_IMAGES, **_MAIN}, _BOTH, seeds=5),
        Part({**_IMAGES, **_MAIN, "epochs": 15, "eval_every": 1, "learning_rate": watched}, _TRUE, seeds=5),
        *(Part({**_IMAGES, **_mlp(*widths)}, _BOTH, seeds=5) for widths in ((512,), (256, 256), (128,) * 4)),
        *(Part({**_LONG, **_mlp(128, 128, 128, downsample=side)}, _BOTH, seeds=5) for side in (2, 4)),
        Part(_CNN, _BOTH, seeds=5),
    )


# The first part of each plan is the network that every comparison starts from.
PLANS: dict[tuple[str, str], tuple[Part, ...]] = {
    ("smoke", "digits"): (
        Part(_DIGITS, _BOTH, seeds=2),
        Part({**_DIGITS, **_mlp(128, 128, 128, downsample=2)}, _BOTH, seeds=2),
        Part({**_DIGITS, "epochs": 10, "eval_every": 1}, _TRUE, seeds=2),
    ),
    ("full", "mnist"): _paper(watched=0.001),
    ("full", "cifar10"): _paper(watched=0.003),
    # Beyond the paper: a network with batch-norm and residual sums, beside the paper's own on the same images.
    ("full", "digits"): (Part(_DIGITS, _BOTH, seeds=5), Part(_RESNET, _BOTH, seeds=5)),
}
MOONS = {
    "smoke": Part({**_MOONS, "epochs": 200, "eval_every": 200}, _BOTH, seeds=2),
    "full": Part(_MOONS, _BOTH, seeds=5),
}
DEFAULT_DATASET = {"smoke": "digits", "colab": "mnist", "full": "mnist"}


def plan(profile: str = "smoke", *, dataset: str = "", seeds: int = 0, moons: bool = True) -> list[RunConfig]:
    """The runs of the chapter at one size: a set of images, and two moons.

    Args:
        profile: ``"smoke"``, ``"colab"`` (as ``"full"``, with fewer lines) or ``"full"``.
        dataset: A set of images (default: the profile's own). One without a plan takes that of the profile's own.
        seeds: This many seeds instead of the plan's; 0 keeps it.
        moons: Whether two moons is among them.

    Returns:
        One configuration per run, seeds innermost.

    Raises:
        UserError: An unknown profile.

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


def run(config: RunConfig, *, profile: str, **options: Any) -> Run:
    """The complete run of a configuration: loaded, resumed, or trained and measured.

    Args:
        config: Of `plan`.
        profile: Size, for how much is measured.
        **options: For `gendyn_lite.chapters.runner.load_or_run`: root (folder of the runs), data_root and device.
    """
    amount = FEW.get(config.model, AMOUNTS[profile])
    if config.eval_every == 1:
        amount = amount._replace(others=0)

    def prepare(loaded: ImageData) -> dict[str, Any]:
        x, y = runner.inputs(config, loaded)

        def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
            device = next(model.parameters()).device
            method = "grid" if config.model in SMOOTH else "auto"
            return measured(model, x.to(device), y.to(device), amount, seed=config.seed, method=method)

        return {"probes": {"intervals": probe}}

    options |= {"prepare": prepare, "probe_version": PROBE_VERSION[profile]}
    return runner.load_or_run(config, profile=profile, **options)


run_all = partial(runner.one_by_one, run)
GROUPS = (Group(CELLS, lambda profile, values: plan(profile, **values)),)


def measured(model: nn.Module, x: Tensor, y: Tensor, amount: Amount, *, seed: int, method: Any) -> dict[str, Any]:
    """Intervals from training points that the network fits, by kind of direction.

    Returns:
        For each kind the mean length and, as counts of `BINS` bins between text spaces, how the lengths are
        distributed; the share of pairs and midlines whose whole range keeps its class; the method; for networks of
        fully connected layers linear pieces and norms of regions.
    """
    with torch.no_grad():
        fitted = torch.cat([model(part).argmax(1) for part in x.split(500)]) == y
    limits = {"samples": amount.samples, "max_pieces": amount.pieces}
    row: dict[str, Any] = {"fitted": float(fitted.float().mean())}
    x, y = x[fitted], y[fitted]
    for kind, (origin, direction) in directions(model, x, y, amount, seed=seed).items():
        low, high = SPANS[kind]
        found = intervals.generalization_interval(model, origin, direction, low=low, high=high, method=method, **limits)
        row |= {f"{kind}_mean": float(found.length.mean()), f"{kind}_bins": _bins(found.length, high - low)}
        row |= {f"{kind}_full": float((found.length >= high - low).float().mean()), "method": found.method}
    return row | norms(model, x, y, seed=seed)


def _bins(values: Tensor, highest: float) -> str:
    """Counts of `BINS` bins from 0 to `highest`, as `tables.counts` reads them."""
    return " ".join(map(str, torch.histc(values.cpu(), bins=BINS, min=0.0, max=highest).int().tolist()))


def directions(model: nn.Module, x: Tensor, y: Tensor, amount: Amount, *, seed: int) -> dict[str, Lines]:
    """Lines of every kind that these points allow, by the names of `SPANS`."""
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
        own = x[y == label]
        points = own[: max(1, amount.others // len(usable))]
        length = intervals.pair_distance(own)
        found = intervals.components(own, length=length)
        chosen = {"principal": found[0], "minor": found[-1]}
        if other != label:
            chosen["means"] = intervals.between_means(x, y, label, other, length=length)
        chosen["random"] = intervals.random_directions(points, length=length, seed=seed + label)
        chosen["adversarial"] = intervals.adversarial_directions(model, points, length=length)
        for kind, direction in chosen.items():
            parts[kind].append((points, direction.expand_as(points)))
    return lines | {
        kind: (torch.cat([points for points, _ in found]), torch.cat([direction for _, direction in found]))
        for kind, found in parts.items()
    }


def norms(model: nn.Module, x: Tensor, y: Tensor, *, seed: int) -> dict[str, Any]:
    """Linear pieces along pairs and midlines, and the ∞-norms of their maps over that of the weights' product."""
    other = any(isinstance(layer, nn.Conv2d | nn.AvgPool2d) for layer in model.modules())
    if other or not isinstance(model, nn.Sequential) or int(torch.bincount(y.cpu(), minlength=1).max()) < 2:
        return {}
    pairs = intervals.same_class_tuples(y, NORM_LINES, seed=seed).to(x.device)
    origin, direction = intervals.pair_lines(x, pairs)
    lines = intervals.pieces(model, origin, direction)
    shape = (-1, *(1,) * (x.dim() - 1))
    middles = (
        at + line.middles.to(x.dtype).view(shape) * step
        for line, at, step in zip(lines, origin, direction, strict=True)
    )
    maps = [intervals.infinity_norm(intervals.linear_maps(model, points)) for points in middles]
    ratios = torch.cat(maps) / intervals.weight_norms(model).without_relus
    return {
        "pieces": sum(line.regions for line in lines) / len(lines),
        "norm_ratio": float(ratios.mean()),
        "norm_within": float((ratios <= 1).float().mean()),
        "norm_bins": _bins(ratios, NORM_RANGE[1]),
    }
