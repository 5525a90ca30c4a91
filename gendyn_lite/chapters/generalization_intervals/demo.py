"""Single lines of chapter 5: digits with their pictures, and the trap of a coarse grid."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.generalization_intervals.runs import plan
from gendyn_lite.chapters.generalization_intervals.tables import SPANS
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.measures import intervals
from gendyn_lite.threads import threads

THUMBNAILS = tuple(round(-1 + 0.25 * step, 2) for step in range(13))
KINDS = {
    "pair": "to another point of its class",
    "principal": "first principal component of its class",
    "means": "towards the mean of another class",
    "minor": "last principal component of its class",
    "random": "at random",
    "adversarial": "towards the nearest boundary",
}


class Trained(NamedTuple):
    """A network, its training inputs as it takes them, and the labels it was trained with."""

    model: nn.Module
    x: Tensor
    y: Tensor


@lru_cache(maxsize=8)
def trained(dataset: str = "digits", corruption: float = 0.0, widths: tuple[int, ...] = (128, 128, 128)) -> Trained:
    """The chapter's network on an embedded data set, trained in a second or two (once a session)."""
    planned = plan("smoke", seeds=1)
    base = next(run for run in planned if run.dataset == dataset and run.label_corruption == corruption)
    config = base.replace(model_options={"widths": list(widths)}, eval_every=base.epochs)
    loaded, _ = data.load_for_run(config)
    model = runner.build(config, loaded)
    with threads(1):
        train.fit(model, loaded, config, device="cpu")
    return Trained(model.eval(), *_inputs(config, loaded))


def _inputs(config: RunConfig, loaded: data.ImageData) -> tuple[Tensor, Tensor]:
    batches = list(data.batcher(loaded, config, split="train_eval").epoch(0))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return x, y


class Paths(NamedTuple):
    """Tables of lines from digits: logits at knots, intervals, and what the images on the way look like."""

    logits: pd.DataFrame
    intervals: pd.DataFrame
    images: pd.DataFrame


def paths(*, seed: int = 0) -> Paths:
    """One digit, six directions, true and random labels: logits of its class and of the strongest other one.

    Only embedded data: the pictures travel with the book.
    """
    parts = [_path(kind, corruption, seed=seed) for corruption in (0.0, 1.0) for kind in KINDS]
    return Paths(*(pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True)))


def _path(kind: str, corruption: float, *, seed: int) -> Paths:
    about = {"labels": "true labels" if corruption == 0 else "random labels", "towards": KINDS[kind]}
    return one_line(kind, image=seed, corruption=corruption, widths=(128, 128, 128), **about)


def one_line(
    kind: str, *, image: int = 0, corruption: float = 0.0, widths: tuple[int, ...] = (128, 128, 128), **about: str
) -> Paths:
    """One line from a digit.

    Args:
        kind: Kind of direction, one of `KINDS`.
        image: Which training image, from 0.
        corruption: 0 for a network of true labels, 1 for one of random labels.
        widths: Units of its hidden layers.
        **about: Columns of all three tables.

    Raises:
        UserError: There is no such image.
    """
    network = trained("digits", corruption, widths)
    if not 0 <= image < len(network.x):
        raise UserError(f"image is {image}, expected a number from 0 to {len(network.x) - 1}")
    x, y, origin = network.x, network.y, network.x[image : image + 1]
    own = x[y == y[image]]
    length = intervals.pair_distance(own)
    if kind == "pair":
        others = ((y == y[image]) & (torch.arange(len(y)) != image)).nonzero().squeeze(1)
        direction = x[others[:1]] - origin
    elif kind == "means":
        direction = intervals.between_means(x, y, int(y[image]), (int(y[image]) + 1) % 10)[None]
    elif kind == "random":
        direction = intervals.random_directions(origin, length=length, seed=image)
    elif kind == "adversarial":
        direction = intervals.adversarial_directions(network.model, origin, length=length)
    else:
        direction = intervals.components(own)[[0 if kind == "principal" else -1]]
    return line_tables(network.model, origin, direction, **about)


def line_tables(model: nn.Module, origin: Tensor, direction: Tensor, **about: str) -> Paths:
    """Logits at the knots of one line, its interval, and pictures along it.

    Args:
        model: A piecewise linear network.
        origin: [1, *in_shape].
        direction: [1, *in_shape].
        **about: Columns of all three tables.
    """
    low, high = SPANS["pair"]
    found = intervals.generalization_interval(model, origin, direction, low=low, high=high)
    (line,) = intervals.pieces(model, origin, direction, low=low, high=high)
    own = int(found.label[0])
    others = line.logits.clone()
    others[:, own] = -torch.inf
    values = {"its class": line.logits[:, own], "strongest other class": others.amax(1)}
    alpha = line.alpha.cpu().numpy().round(4)
    logits = [
        pd.DataFrame({**about, "alpha": alpha, "logit": value.cpu().numpy().round(3), "of": name})
        for name, value in values.items()
    ]
    ends = {"lower": round(float(found.lower[0]), 3), "upper": round(float(found.upper[0]), 3)}
    row = pd.DataFrame([{**about, **ends, "regions": line.regions, "class": own}])
    pictures = [
        {**about, "alpha": at, "image": _picture((origin + at * direction)[0], origin[0])}
        for at in THUMBNAILS
        if origin.dim() == 4
    ]
    return Paths(pd.concat(logits, ignore_index=True), row, pd.DataFrame(pictures))


def _picture(image: Tensor, like: Tensor) -> str:
    """A grey picture on the brightness scale of another one, as a PNG data URI."""
    low, high = float(like.min()), float(like.max())
    grey = ((image.mean(0) - low) / (high - low)).clamp(0, 1).cpu().numpy()
    buffer = io.BytesIO()
    picture = Image.fromarray((255 - 255 * grey).astype(np.uint8))
    picture.resize((32, 32), Image.Resampling.NEAREST).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def grid_trap(*, points: tuple[int, ...] = (4, 8, 16, 32, 64), lines: int = 400, seed: int = 0) -> pd.DataFrame:
    """Midlines of digits, by the exact method and by grids: what a coarse grid steps over, and what it does to a claim.

    Args:
        points: Points of each grid on a line, half of them on each side of α = 0.
        lines: Number of midlines, of true and of random labels each.
        seed: Of the triangles.

    Returns:
        A row per method: its points, on how many lines of random labels it stepped over another class, the mean
        lengths on true and on random labels, and their difference.
    """
    rows = {count: {} for count in (*points, 0)}
    for name, corruption in (("true", 0.0), ("random", 1.0)):
        network = trained("digits", corruption)
        triangles = intervals.same_class_tuples(network.y, lines, size=3, seed=seed)
        origin, direction = intervals.midlines(network.x, triangles)
        low, high = SPANS["midline"]
        exact = intervals.generalization_interval(network.model, origin, direction, low=low, high=high)
        rows[0] |= {name: float(exact.length.mean()), "stepped over": 0}
        for count in points:
            found = intervals.generalization_interval(
                network.model, origin, direction, low=low, high=high, method="grid", samples=count // 2, tolerance=1e-7
            )
            missed = int((found.length > exact.length + 1e-5).sum())
            rows[count] |= {name: float(found.length.mean()), "stepped over": missed}
    table = pd.DataFrame([{"method": f"{n} points" if n else "exact", **row} for n, row in rows.items()])
    return table.assign(difference=table["true"] - table["random"])
