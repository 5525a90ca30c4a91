"""Measurements of chapter 5: directions from points of a class, norms, the bound, and the lines from one image."""

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
NORM_LINES = 4  # number of lines on which all pieces are followed
THUMBNAILS = tuple(-1 + 0.25 * step for step in range(13))  # α of the pictures
SIDE = 32  # pixels to which pictures are enlarged (by a whole factor), because browsers blur small ones
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
    """Return the predicted class of each input x [n, *in_shape], int64 [n]."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in x.split(500)])


def bins_of(values: Tensor, highest: float) -> str:
    """Count values in `BINS` bins from 0 to `highest`, as text that `tables.counts` reads."""
    return " ".join(map(str, torch.histc(values.cpu(), bins=BINS, min=0.0, max=highest).int().tolist()))


def class_directions(
    model: nn.Module, x: Tensor, y: Tensor, label: int, points: Tensor, *, other: int, seed: int
) -> dict[str, Tensor]:
    """Compute directions from points of a class, by kind; all have the typical distance of two points of the class.

    Args:
        model: The network, in eval mode.
        x: The training images [n, *in_shape].
        y: Their labels [n].
        label: The class, with at least three images.
        points: Where the lines start, [m, *in_shape].
        other: The class whose mean one direction points to; if it equals `label`, that direction is left out.
        seed: Seed of the random directions.

    Returns:
        For each kind one direction [*in_shape], or one for each point. The sign of a principal component is arbitrary
        but would matter, since lines reach further forward than back; so every other point gets the opposite sign.
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
        alpha: α of the knots, and of both ends of the range.
        own: The logit of the image's class at each α.
        other: The largest logit of another class at each α.
        lower: Lower end of the interval.
        upper: Upper end of the interval.
        images: Pictures at `THUMBNAILS`, as data URIs; empty if the points are not images.
    """

    alpha: list[float]
    own: list[float]
    other: list[float]
    lower: float
    upper: float
    images: list[str]


def of_image(model: nn.Module, x: Tensor, y: Tensor, image: int) -> dict[str, Line]:
    """Follow the lines of every kind from one training image, by the names in `KINDS`."""
    label, origin = int(y[image]), x[image : image + 1]
    others = (y == label) & (torch.arange(len(y), device=y.device) != image)
    options = {"other": (label + 1) % (int(y.max()) + 1), "seed": image}
    chosen = class_directions(model, x, y, label, origin, **options)
    chosen["pair"] = x[others][:1] - origin
    return {kind: along(model, origin, chosen[kind].expand_as(origin)) for kind in KINDS if kind in chosen}


def along(model: nn.Module, origin: Tensor, direction: Tensor) -> Line:
    """Follow one line, origin and direction [1, *in_shape], over the range of pairs."""
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
    """Encode a picture as a PNG data URI, dark on light, with the brightness scale of another picture."""
    grey = ((image.mean(0, keepdim=True) - like.min()) / (like.max() - like.min())).clamp(0, 1).cpu()
    larger = max(1, SIDE // grey.shape[-1])
    return data_uri((255 - 255 * grey).to(torch.uint8).repeat_interleave(larger, 1).repeat_interleave(larger, 2))


def recorded(model: nn.Module, x: Tensor, y: Tensor, *, image: int) -> dict[str, str]:
    """Return the lines of one image as JSON text, by kind, as `of_runs` reads them."""
    return {kind: json.dumps(line) for kind, line in of_image(model, x, y, image).items()}


class Frames(NamedTuple):
    """Tables of lines: logits at the knots, intervals, and pictures of images on the way."""

    logits: pd.DataFrame
    intervals: pd.DataFrame
    images: pd.DataFrame


def frames(lines: list[tuple[dict[str, Any], Line]]) -> Frames:
    """Turn lines into tables; each line comes with columns that identify it."""
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
    """Read the lines of runs of experiment ``"interval_lines"``, identified by the columns labels and towards."""
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
    """Count linear pieces along pairs, and divide the ∞-norms of their maps by that of the product of the weights."""
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
    """Test the bound |f(a) − f(b)|∞ ≤ ‖W‖∞ |a − b|∞ on all pairs of training images of one class.

    If the bound is true, a training image with margin m keeps its class at every point nearer than m / (2 ‖W‖∞): its
    *reach*. Distances are the largest difference of a pixel, after standardization.

    Args:
        model: The network; nothing is returned unless it is fully connected.
        train: Images and labels; images that are not fitted are left out.
        test: Images and labels; images that are misclassified are left out.

    Returns:
        ``bound_within``, the share of pairs for which the bound is true; ``bound_ratio``, the mean of the change of the
        outputs over the bound; ``bound_reach``, the mean reach; ``bound_nearest``, the mean distance from a test image
        to the nearest training image of its class; ``bound_covered``, the share of test images within reach of a
        training image of their class.

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
