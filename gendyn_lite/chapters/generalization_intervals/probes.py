"""What the runs of chapter 5 measure: directions from points of a class, norms, the bound, one image's lines."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, NamedTuple, TypeGuard

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn_lite.chapters.generalization_intervals.tables import BINS, LABELS, NORM_RANGE, OTHER, OWN, SPANS
from gendyn_lite.data.gallery import data_uri
from gendyn_lite.measures import intervals

Lines = tuple[Tensor, Tensor]  # origins and directions, [m, *in_shape] each
NORM_LINES = 4  # whose pieces are all followed
THUMBNAILS = tuple(-1 + 0.25 * step for step in range(13))  # α of the pictures
SIDE = 32  # pixels of a picture, at least about half of that: browsers blur what is smaller
KINDS = {
    "pair": "to another point of its class",
    "principal": "first principal component of its class",
    "means": "towards the mean of another class",
    "minor": "last principal component of its class",
    "random": "at random",
    "varying": "at random, as pixels vary in its class",
    "span": "at random, in the span of its class",
    "adversarial": "towards the nearest boundary",
}


def predicted(model: nn.Module, x: Tensor) -> Tensor:
    """Class of each input x [n, *in_shape], in parts that fit memory: [n]."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(500)])


def bins_of(values: Tensor, highest: float) -> str:
    """Counts of `BINS` bins from 0 to `highest`, as `tables.counts` reads them."""
    return " ".join(map(str, torch.histc(values.cpu(), bins=BINS, min=0.0, max=highest).int().tolist()))


def class_directions(
    model: nn.Module, x: Tensor, y: Tensor, label: int, points: Tensor, *, other: int, seed: int
) -> dict[str, Tensor]:
    """Directions from points of a class, by kind: all as long as the distance between two points of the class.

    Args:
        model: In eval mode.
        x: The training images [n, *in_shape].
        y: Their labels.
        label: The class, of at least three images.
        points: Where the lines start, [m, *in_shape].
        other: The class towards whose mean one of them goes; the same class leaves that one out.
        seed: Of the random ones.

    Returns:
        For each kind one direction [*in_shape], or one for each point. A component has no sign of its own, and a range
        that reaches further forward than back would make it matter: from every other point it goes the other way.
    """
    own = x[y == label]
    length = intervals.pair_distance(own)
    found = intervals.components(own, length=length)
    draw = partial(intervals.random_directions, points, length=length, seed=seed)
    signs = torch.ones(len(points), *(1,) * (points.dim() - 1), dtype=points.dtype, device=points.device)
    signs[1::2] = -1
    chosen = {"principal": signs * found[0], "minor": signs * found[-1]}
    if other != label:
        chosen["means"] = intervals.between_means(x, y, label, other, length=length)
    chosen |= {"random": draw(), "varying": draw(weights=own.std(dim=0)), "span": draw(basis=found)}
    return chosen | {"adversarial": intervals.adversarial_directions(model, points, length=length)}


class Line(NamedTuple):
    """One line from an image, as it is recorded and drawn.

    Attributes:
        alpha: Places of the knots, and both ends of the range.
        own: The logit of the class of the image at each.
        other: The strongest logit of another class at each.
        lower: Lower end of the interval.
        upper: Upper end.
        images: Pictures at `THUMBNAILS`, as data URIs; none where points are no pictures.
    """

    alpha: list[float]
    own: list[float]
    other: list[float]
    lower: float
    upper: float
    images: list[str]


def of_image(model: nn.Module, x: Tensor, y: Tensor, image: int) -> dict[str, Line]:
    """The lines of every kind from one training image, by the names of `KINDS`."""
    label, origin = int(y[image]), x[image : image + 1]
    others = (y == label) & (torch.arange(len(y), device=y.device) != image)
    options = {"other": (label + 1) % (int(y.max()) + 1), "seed": image}
    chosen = class_directions(model, x, y, label, origin, **options)
    chosen["pair"] = x[others][:1] - origin
    return {kind: along(model, origin, chosen[kind].expand_as(origin)) for kind in KINDS if kind in chosen}


def along(model: nn.Module, origin: Tensor, direction: Tensor) -> Line:
    """One line, origin and direction [1, *in_shape], of a piecewise linear network, over the range of pairs."""
    low, high = SPANS["pair"]
    found = intervals.generalization_interval(model, origin, direction, low=low, high=high)
    (line,) = intervals.pieces(model, origin, direction, low=low, high=high)
    own = int(found.label[0])
    others = line.logits.clone()
    others[:, own] = -torch.inf
    shown = THUMBNAILS if origin.dim() == 4 else ()
    pictures = [_picture((origin + at * direction)[0], origin[0]) for at in shown]
    lower, upper = (round(float(end[0]), 3) for end in (found.lower, found.upper))
    logits = [_listed(each, 3) for each in (line.logits[:, own], others.amax(1))]
    return Line(_listed(line.alpha, 4), logits[0], logits[1], lower, upper, pictures)


def _listed(values: Tensor, decimals: int) -> list[float]:
    return values.double().cpu().numpy().round(decimals).tolist()


def _picture(image: Tensor, like: Tensor) -> str:
    """A picture, dark on light, on the brightness scale of another one, as a PNG data URI."""
    grey = ((image.mean(0, keepdim=True) - like.min()) / (like.max() - like.min())).clamp(0, 1).cpu()
    larger = max(1, SIDE // grey.shape[-1])
    return data_uri((255 - 255 * grey).to(torch.uint8).repeat_interleave(larger, 1).repeat_interleave(larger, 2))


def recorded(model: nn.Module, x: Tensor, y: Tensor, *, image: int) -> dict[str, str]:
    """The lines of one image as text, by kind, as `frames` reads them."""
    return {kind: json.dumps(line) for kind, line in of_image(model, x, y, image).items()}


class Frames(NamedTuple):
    """Tables of some lines: logits at knots, intervals, and what the images on the way look like."""

    logits: pd.DataFrame
    intervals: pd.DataFrame
    images: pd.DataFrame


def frames(lines: list[tuple[dict[str, Any], Line]]) -> Frames:
    """Lines as tables, each line with columns that say which it is."""
    logits = [pd.DataFrame({**about, "alpha": line.alpha, OWN: line.own, OTHER: line.other}) for about, line in lines]
    ends = [
        {**about, "lower": line.lower, "upper": line.upper, "regions": len(line.alpha) - 1} for about, line in lines
    ]
    pictures = [
        {**about, "alpha": at, "image": image}
        for about, line in lines
        for at, image in zip(THUMBNAILS if line.images else (), line.images, strict=True)
    ]
    return Frames(pd.concat(logits, ignore_index=True), pd.DataFrame(ends), pd.DataFrame(pictures))


def of_runs(table: pd.DataFrame) -> Frames:
    """The lines that the runs of experiment ``"interval_lines"`` recorded, with the columns labels and towards."""
    last = table.sort_values(["label_corruption", "epoch"], kind="stable").groupby("run_id", sort=False).tail(1)
    return frames(
        [
            ({"labels": LABELS[run["label_corruption"]], "towards": words}, Line(*json.loads(text)))
            for _, run in last.iterrows()
            for kind, words in KINDS.items()
            if isinstance(text := run.get(f"lines/{kind}"), str)
        ]
    )


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
        "norm_bins": bins_of(ratios, NORM_RANGE[1]),
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
    (x, y), (new, labels) = ((x[right], y[right]) for x, y in (train, test) for right in (predicted(model, x) == y,))
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
