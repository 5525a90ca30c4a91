"""Computations of the page of chapter 2: digits and their neighbours, a weight history, a trap, the plane."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn_lite import data, models
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.baselines import Frozen
from gendyn_lite.chapters.path_functions.probes import few_of, followed
from gendyn_lite.chapters.path_functions.probes_pairs import ANCHORS, NEAREST
from gendyn_lite.chapters.path_functions.runs import plan
from gendyn_lite.config import RunConfig
from gendyn_lite.data.gallery import data_uri
from gendyn_lite.measures import relu_paths
from gendyn_lite.measures.per_example.lag import lag_is_wanted
from gendyn_lite.train.probes import reestimated_statistics

SHOWN = 16  # digits in the scatter
STEPS = (0, 8)  # epochs of the scatter
MOONS = RunConfig(
    experiment="path_plane", dataset="two_moons", model="mlp", model_options={"widths": [12, 12]}, standardize="none",
    train_size=200, batch_size=20, epochs=60, learning_rate=0.05, schedule="constant", eval_every=60,
)  # fmt: skip
LOOKS = (0, 1, 4, 8, 12, 20, 60)  # epochs at which the plane is drawn
POINTS = 4  # training points whose path and function are shown
RESOLUTION = 44  # cells along each side of the plane
LOW, HIGH = (-1.6, -1.1), (2.6, 1.6)  # corners of the drawn part of the plane


class Followed(NamedTuple):
    """A training run on digits, with the paths of some images ("followed" images) at every epoch.

    Attributes:
        model: The trained network.
        recording: The paths at every epoch.
        x: The followed images, preprocessed [n, *in_shape].
        labels: The labels that they were trained with [n].
        digits: Their true labels [n].
        pictures: The images as data URIs.
    """

    model: nn.Module
    recording: relu_paths.PathRecording
    x: Tensor
    labels: Tensor
    digits: Tensor
    pictures: tuple[str, ...]


@lru_cache(maxsize=4)
def trained(corruption: float = 0.0) -> Followed:
    """Train the chapter's network on digits with true or random labels, once a session; it takes a few seconds."""
    planned = plan("networks", "smoke", seeds=1)
    config = next(each for each in planned if each.label_corruption == corruption)
    loaded, _ = data.load_for_run(config.replace(label_corruption=0.0))
    given, _ = data.load_for_run(config)
    x, labels = followed(config, given)
    recording = relu_paths.PathRecording()

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        recording.add(epoch, relu_paths.record_packed(model, x))
        return {}

    model = runner.trained(config, given, probes={"recording": probe})
    # Dark on light, each pixel drawn as a square of four by four.
    large = (255 - loaded.train.x[: len(x)]).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return Followed(model, recording, x, labels, loaded.train.y[: len(x)], tuple(map(data_uri, large)))


def pictures(found: Followed, count: int) -> pd.DataFrame:
    """Return the first followed digits: image (its number), digit and picture (a data URI)."""
    digits = found.digits[:count].tolist()
    return pd.DataFrame({"image": range(count), "digit": digits, "picture": found.pictures[:count]})


def scatter(*, count: int = SHOWN, epochs: tuple[int, ...] = STEPS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute path overlap and distance for every pair of some digits, by layer and epoch.

    Returns:
        The pairs (layer, epoch, i, j, distance, overlap: share of the layer's units that are on for both, same: whether
        both show the same digit), and the digits of `pictures`.
    """
    found = trained()
    layers = found.recording.layers
    parts = []
    for number in (2, len(layers)):
        for epoch in epochs:
            packed = found.recording.packed(epoch, layers[number - 1])[layers[number - 1]]
            pairs = relu_paths.overlap_and_distance(packed[:count], found.x[:count])
            same = (found.digits[pairs.i] == found.digits[pairs.j]).long()
            about = {"layer": f"{number}: {layers[number - 1]}", "epoch": epoch, "i": pairs.i, "j": pairs.j}
            distance, overlap = pairs.distance.numpy().round(2), (pairs.overlap.double() / packed.units).numpy()
            parts.append(pd.DataFrame({**about, "distance": distance, "overlap": overlap.round(4), "same": same}))
    return pd.concat(parts, ignore_index=True), pictures(found, count)


def neighbours(*, anchors: tuple[int, ...] = ANCHORS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank over epochs the digits whose paths end nearest to some digits (the anchors), by layer.

    Returns:
        Rows (layer, epoch, anchor, neighbour, rank), and the digits of `pictures`.
    """
    found = trained()
    parts = []
    for number, layer in enumerate(found.recording.layers, start=1):
        ranks = relu_paths.ranks_over_time(found.recording.path_grams(layer), anchors)
        parts.append(pd.DataFrame(ranks.table(NEAREST)).assign(layer=f"{number}: {layer}"))
    rows = pd.concat(parts, ignore_index=True)
    used = sorted(set(rows["neighbour"]) | set(anchors))
    return rows, pictures(found, max(used) + 1).loc[used].reset_index(drop=True)


def history(*, epochs: int = 3, momentum: float = 0.0) -> tuple[relu_paths.WeightHistory, nn.Module]:
    """Train a small network by SGD, and return the image functions of every step and the trained network."""
    config = RunConfig(
        experiment="path_history", model="mlp", model_options={"widths": [24, 16]}, train_size=100, batch_size=20,
        epochs=epochs, learning_rate=0.05, momentum=momentum, eval_every=epochs,
    )  # fmt: skip
    loaded, _ = data.load_for_run(config)
    model = runner.build(config, loaded)
    numbered = data.batcher(loaded.with_train_labels(torch.arange(len(loaded.train.y))), config)
    kept = relu_paths.WeightHistory(model, batches=numbered, labels=loaded.train.y)
    return kept, runner.trained(config, loaded, model, grad_hook=kept)


def bend(name: str) -> float:
    """Measure how far a network is from affine along a fixed path: its second difference on a line over its first.

    Args:
        name: Name of a network for small images; it is built untrained, in float64.

    Returns:
        0 up to rounding, if only ReLUs make the network nonlinear.

    >>> bend("mlp_1x512") < 1e-9 < 1e-3 < bend("alexnet_small")
    True
    """
    model = models.build(name, num_classes=10, in_shape=(1, 8, 8), seed=0).double().eval()
    x = data.load("digits").train.x[:4].double() / 16
    path = relu_paths.record_paths(model, x)
    away = x.flip(0) - x
    with torch.no_grad():
        a, b, c = (relu_paths.forward_with_paths(model, x + step * away, path) for step in (0.0, 0.5, 1.0))
    return float((a - 2 * b + c).norm() / (a - c).norm())


def lag_trap(*, epochs: int = 6) -> pd.DataFrame:
    """Measure cross-path similarity of a ResNet-18 with fixed weights, with running and re-estimated statistics.

    Returns:
        A row for each epoch: epoch, running, reestimated (means over pairs and six layers).
    """
    config = plan("deep", "smoke", seeds=1)[0].replace(test_size=20, epochs=epochs, milestones=(epochs - 1,))
    loaded, _ = data.load_for_run(config)
    x, _ = followed(config, loaded, 32)
    start = runner.build(config, loaded).eval()
    layers = few_of(list(relu_paths.gate_layers(start, x[:1])))
    frozen, batches = Frozen(start, data.batcher(loaded, config)), data.batcher(loaded, config, split="train_eval")
    follow = {name: relu_paths.PathRecorder(x, layers=layers) for name in ("running", "reestimated")}
    rows = []
    for epoch in range(epochs + 1):
        network = frozen(epoch)
        with lag_is_wanted():
            found = {"running": follow["running"](network, epoch)}
        with reestimated_statistics(network, batches.epoch(0)):
            found["reestimated"] = follow["reestimated"](network, epoch)
        means = {k: [v for name, v in values.items() if name.endswith("cross:mean")] for k, values in found.items()}
        rows.append({"epoch": epoch} | {name: sum(each) / max(len(each), 1) for name, each in means.items()})
    return pd.DataFrame(rows[1:])


class Plane(NamedTuple):
    """Tables of the two-dimensional picture.

    Attributes:
        maps: A row per epoch: class and shade of the piece of every grid cell as digits (4 · class + shade), and the
            training accuracy.
        points: The training points: x, y, class.
        units: For each epoch, chosen point and unit: whether it is on, and whether it has switched since the previous
            drawn epoch.
        functions: For each epoch and chosen point: where the point lies, the ends of its function's decision boundary
            (missing where the boundary does not cross the plane), and how many units are on and have switched.
    """

    maps: pd.DataFrame
    points: pd.DataFrame
    units: pd.DataFrame
    functions: pd.DataFrame


def plane(config: RunConfig = MOONS, *, epochs: tuple[int, ...] = LOOKS) -> Plane:
    """Train a small network on two moons and describe it at some epochs.

    Args:
        config: The training run, on two-dimensional points.
        epochs: The epochs to describe.
    """
    loaded, _ = data.load_for_run(config)
    x = loaded.train.x[data.balanced_order(loaded.train.y, seed=1)[:POINTS]]
    maps: list[dict[str, Any]] = []
    units: list[dict[str, Any]] = []
    functions: list[dict[str, Any]] = []
    before: dict[str, Tensor] = {}

    def probe(network: nn.Module, epoch: int) -> dict[str, float]:
        nonlocal before
        now = relu_paths.record_paths(network, x)
        before = before or now
        with torch.no_grad():
            right = (network(loaded.train.x).argmax(1) == loaded.train.y).double().mean()
        maps.append({"epoch": epoch, "cells": _cells(network), "accuracy": round(float(right), 3)})
        units.extend(_units(epoch, now, before))
        for i in range(len(x)):
            path, was = ({layer: paths[i] for layer, paths in each.items()} for each in (now, before))
            place = {"epoch": epoch, "point": i + 1, "x": round(float(x[i, 0]), 3), "y": round(float(x[i, 1]), 3)}
            functions.append(place | _function(network, path, was))
        before = now
        return {}

    runner.trained(config, loaded, probes={"plane": probe}, probe_epochs=epochs)
    points, labels = loaded.train.x.numpy(), loaded.train.y.numpy()
    table = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "class": labels}).round(3)
    return Plane(pd.DataFrame(maps), table, pd.DataFrame(units), pd.DataFrame(functions))


def _cells(network: nn.Module) -> str:
    """Encode class and shade of the piece of each cell as one digit, 4 · class + shade; x varies slowest."""
    steps = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION
    axes = [LOW[i] + steps * (HIGH[i] - LOW[i]) for i in (0, 1)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 2)
    pattern = torch.cat(list(relu_paths.record_paths(network, grid).values()), dim=1).double()
    weight = torch.rand(pattern.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shade = ((pattern @ weight * 7.3) % 1 * 4).long()
    with torch.no_grad():
        classes = network(grid).argmax(1)
    return "".join(map(str, (4 * classes + shade).tolist()))


def _units(epoch: int, now: dict[str, Tensor], before: dict[str, Tensor]) -> Iterator[dict[str, int]]:
    """Yield a row for each unit of each point's path."""
    for number, (layer, paths) in enumerate(now.items(), start=1):
        on, switched = paths.int().tolist(), (paths != before[layer]).int().tolist()
        for i, j in product(*map(range, paths.shape)):
            yield {"epoch": epoch, "point": i + 1, "layer": number, "unit": j + 1,
                   "on": on[i][j], "switched": switched[i][j]}  # fmt: skip


def _function(network: nn.Module, path: dict[str, Tensor], before: dict[str, Tensor]) -> dict[str, Any]:
    """Describe a point's own function, the network along its path, which is affine since only ReLUs are nonlinear."""
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        logits = relu_paths.forward_with_paths(network, corners, {k: on[None] for k, on in path.items()}).double()
    constant, right, up = (logits[:, 1] - logits[:, 0]).tolist()
    ends = undecided(right - constant, up - constant, constant)
    return {
        "on": sum(int(on.sum()) for on in path.values()),
        "switched": sum(int((on != before[layer]).sum()) for layer, on in path.items()),
        **dict(zip(("x1", "y1", "x2", "y2"), ends, strict=True)),
    }


def undecided(a: float, b: float, c: float) -> tuple[float | None, ...]:
    """Return the ends of the line a·x + b·y + c = 0 in the drawn plane as (x, y, x, y), or four None if it misses it.

    >>> undecided(1.0, 0.0, -0.5)
    (0.5, -1.1, 0.5, 1.6)
    >>> undecided(1.0, 0.0, -50.0)
    (None, None, None, None)
    """
    sides = [(x, -(a * x + c) / b) for x in (LOW[0], HIGH[0]) if b]
    sides += [(-(b * y + c) / a, y) for y in (LOW[1], HIGH[1]) if a]
    ends = [(x, y) for x, y in sides if LOW[0] <= x <= HIGH[0] and LOW[1] <= y <= HIGH[1]]
    if len(ends) < 2:
        return None, None, None, None
    return tuple(round(value, 3) for end in (ends[0], ends[-1]) for value in end)
