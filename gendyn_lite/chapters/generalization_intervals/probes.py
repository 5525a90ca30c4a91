"""What the runs of chapter 5 record: intervals along every kind of direction, pieces and norms of regions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.chapters.generalization_intervals.tables import BINS, NORM_RANGE, SPANS
from gendyn_lite.chapters.runner import inputs
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import intervals

Lines = tuple[Tensor, Tensor]
SMOOTH = ("alexnet_small",)  # not piecewise linear: followed by samples
NORM_LINES = 4  # whose pieces are all followed


@dataclass(frozen=True)
class Amount:
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


def probes_for(config: RunConfig, loaded: ImageData, amount: Amount) -> dict[str, Callable[..., dict[str, Any]]]:
    """The probe of a run of this chapter.

    Args:
        config: Its configuration.
        loaded: Its data, labels as trained with.
        amount: How much to measure.
    """
    x, y = inputs(config, loaded)
    method = "grid" if config.model in SMOOTH else "auto"

    def probe(model: nn.Module, epoch: int) -> dict[str, Any]:
        del epoch
        device = next(model.parameters()).device
        return measured(model, x.to(device), y.to(device), amount, seed=config.seed, method=method)

    return {"intervals": probe}


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
