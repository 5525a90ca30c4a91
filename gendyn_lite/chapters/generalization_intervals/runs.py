"""Chapter 5: how far a network keeps its class along a line, on true and on random labels (Salman et al. 2019)."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any, NamedTuple, TypeGuard

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
NORM_LINES = 4  # whose pieces are all followed
# Runs of seeds 0 to 9 were known when the claims of today were written down.
NEW = {"seeds": 5, "first_seed": 10}


class Amount(NamedTuple):
    """How much is measured.

    Attributes:
        lines: Pairs of one class, and triangles.
        others: Lines along each other kind of direction.
        method: How each end is found, as `gendyn_lite.measures.intervals.generalization_interval` takes it.
    """

    lines: int
    others: int
    method: Any = "auto"


AMOUNTS = {"smoke": Amount(60, 20), "colab": Amount(300, 100), "full": Amount(500, 200)}
# Of what the probes measure: change it with every change of that, and old runs stay what they are. Networks of one
# profile that are those of another are measured along fewer lines: neither may be answered with the other.
PROBE_VERSION = {"smoke": 5, "colab": 4, "full": 3}
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
    """The paper's networks on a set of images, and a convolutional one."""
    return (
        Part({**_IMAGES, **_MAIN}, _BOTH, **NEW),
        Part(_WATCHED, _TRUE, **NEW),
        *(Part({**_IMAGES, **_mlp(*widths)}, _BOTH, **NEW) for widths in ((512,), (256, 256), (128,) * 4)),
        *(Part({**_LONG, **_mlp(128, 128, 128, downsample=side)}, _BOTH, **NEW) for side in (2, 4)),
        Part({**beyond, "eval_every": beyond["epochs"]}, _BOTH, **NEW),
    )


# The first part of each plan is the network that every comparison starts from.
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
        **options: For `gendyn_lite.chapters.runner.load_or_run`: root (folder of the runs) and data_root.
    """
    amount = AMOUNTS[profile] if config.model == "mlp" else CONVOLUTIONAL
    watched = config.eval_every < config.epochs
    if watched:
        amount = amount._replace(others=0)

    def prepare(loaded: ImageData) -> dict[str, Any]:
        splits = [runner.inputs(config, loaded, split) for split in ("train_eval", "test")]

        def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
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


run_all = partial(runner.one_by_one, run)
GROUPS = (Group(CELLS, lambda profile, values: plan(profile, **values)),)


def measured(model: nn.Module, x: Tensor, y: Tensor, amount: Amount, *, seed: int) -> dict[str, Any]:
    """Intervals from training points that the network fits, by kind of direction.

    Returns:
        For each kind the mean length and, as counts of `BINS` bins between text spaces, how the lengths are
        distributed; the share of lines whose whole range keeps its class, and of those where that is certain; the
        method; for networks of fully connected layers linear pieces and norms of regions.
    """
    fitted = _predicted(model, x) == y
    row: dict[str, Any] = {"fitted": float(fitted.float().mean())}
    x, y = x[fitted], y[fitted]
    for kind, (origin, direction) in directions(model, x, y, amount, seed=seed).items():
        low, high = SPANS[kind]
        found = intervals.generalization_interval(model, origin, direction, low=low, high=high, method=amount.method)
        row |= {f"{kind}_mean": float(found.length.mean()), f"{kind}_bins": _bins(found.length, high - low)}
        row |= {f"{kind}_full": float((found.length >= high - low).float().mean()), "method": found.method}
        certain = found.certain_upper - found.certain_lower
        row |= {f"{kind}_certain": float(certain.mean())} if found.method == "certified" else {}
    return row | norms(model, x, y, seed=seed)


def untrained(model: nn.Module, x: Tensor, amount: Amount, *, seed: int) -> dict[str, Any]:
    """Mean lengths that need no training: of the initial network, which fits labels that are its own predictions."""
    row = measured(model, x, _predicted(model, x), amount, seed=seed)
    return {f"untrained_{name}": value for name, value in row.items() if name.endswith("_mean")}


def _predicted(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(500)])


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
        draw = partial(intervals.random_directions, points, length=length, seed=seed + label)
        chosen |= {"random": draw(), "varying": draw(weights=own.std(dim=0)), "span": draw(basis=found)}
        chosen["adversarial"] = intervals.adversarial_directions(model, points, length=length)
        for kind, direction in chosen.items():
            parts[kind].append((points, direction.expand_as(points)))
    return lines | {
        kind: (torch.cat([points for points, _ in found]), torch.cat([direction for _, direction in found]))
        for kind, found in parts.items()
    }


def norms(model: nn.Module, x: Tensor, y: Tensor, *, seed: int) -> dict[str, Any]:
    """Linear pieces along pairs, and the ∞-norms of their maps over that of the weights' product."""
    if not _fully_connected(model) or int(torch.bincount(y.cpu(), minlength=1).max()) < 2:
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


def _fully_connected(model: nn.Module) -> TypeGuard[nn.Sequential]:
    other = any(isinstance(layer, nn.Conv2d | nn.AvgPool2d) for layer in model.modules())
    return isinstance(model, nn.Sequential) and not other


@torch.no_grad()
def bound(model: nn.Module, train: Lines, test: Lines) -> dict[str, float]:
    """The bound |f(a) − f(b)|∞ ≤ ‖W‖∞ |a − b|∞ on all pairs of training images of one class, and what follows from it.

    A training image with a margin m keeps its class at every point that is nearer than m / (2 ‖W‖∞), if the bound is
    true: its *reach*. Distances are largest differences of a pixel, after standardization.

    Args:
        model: Other networks than fully connected ones give nothing.
        train: Images and labels; those that are not fitted are left out.
        test: Images and labels; those that are not classified correctly are left out.

    Returns:
        ``bound_within``, the share of pairs for which it is true; ``bound_ratio``, its mean change of the outputs over
        the bound; ``bound_reach``, the mean reach; ``bound_nearest``, the mean distance from a test image to the
        nearest training image of its class; ``bound_covered``, the share of test images within reach of one.

    Source: Salman et al. (2019), App. A.
    """
    if not _fully_connected(model):
        return {}
    norm = intervals.weight_norms(model).without_relus
    (x, y), (new, labels) = ((x[right], y[right]) for x, y in (train, test) for right in (_predicted(model, x) == y,))
    ratios, covered, nearest, reaches = [], [], [], []
    for label in y.unique():
        own, outputs = x[y == label].flatten(1), model(x[y == label])
        others, apart = new[labels == label].flatten(1), torch.cdist(own, own, p=torch.inf)
        pairs = torch.ones_like(apart).triu(1).bool() & (apart > 0)
        ratios.append((torch.cdist(outputs, outputs, p=torch.inf) / (norm * apart))[pairs])
        first, second = outputs.topk(2).values.unbind(1)
        reaches.append((first - second) / (2 * norm))
        distances = torch.cdist(others, own, p=torch.inf)
        nearest.append(distances.amin(1))
        covered.append((distances < reaches[-1]).any(1))
    found = {"ratio": ratios, "reach": reaches, "nearest": nearest, "covered": covered}
    found["within"] = [ratio <= 1 for ratio in ratios]
    return {
        f"bound_{name}": float(torch.cat(parts).float().mean())
        for name, parts in found.items()
        if len(torch.cat(parts))
    }
