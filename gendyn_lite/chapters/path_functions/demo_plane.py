"""Chapter 2 in two dimensions: the pieces of a small network, and the path and the function of single points."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn_lite import data, train
from gendyn_lite.chapters import runner
from gendyn_lite.config import RunConfig
from gendyn_lite.data.types import ImageData
from gendyn_lite.measures import relu_paths
from gendyn_lite.threads import threads

CONFIG = RunConfig(
    experiment="path_plane",
    dataset="two_moons",
    model="mlp",
    model_options={"widths": [12, 12]},
    standardize="none",
    train_size=200,
    batch_size=20,
    epochs=60,
    learning_rate=0.05,
    schedule="constant",
    eval_every=60,
)
EPOCHS = (0, 1, 2, 3, 4, 6, 8, 12, 20, 30, 45, 60)
POINTS = 4  # whose path and function are shown
RESOLUTION = 44
LOW, HIGH = (-1.6, -1.1), (2.6, 1.6)  # corners of the plane that is drawn


class Plane(NamedTuple):
    """Tables of the two-dimensional picture.

    Attributes:
        maps: A row per epoch: class and shade of the piece of every grid cell as digits (4 · class + shade), and the
            training accuracy.
        points: Training points: x, y, class.
        units: For each epoch, chosen point and unit: whether it is on, and whether it was so at the epoch drawn before.
        functions: For each epoch and chosen point: where the point lies, the ends of the line on which its own function
            is undecided (none where that line does not cross the plane), how many units are on and have switched.
    """

    maps: pd.DataFrame
    points: pd.DataFrame
    units: pd.DataFrame
    functions: pd.DataFrame


def plane(config: RunConfig = CONFIG, *, epochs: tuple[int, ...] = EPOCHS) -> Plane:
    """Train a small network on two moons and look at it at some epochs.

    Args:
        config: The training; two-dimensional points.
        epochs: When to look.
    """
    loaded, _ = data.load_for_run(config)
    model = runner.build(config, loaded)
    chosen = data.balanced_order(loaded.train.y, seed=1)[:POINTS]
    x = loaded.train.x[chosen]
    maps: list[dict[str, object]] = []
    units: list[pd.DataFrame] = []
    functions: list[dict[str, object]] = []
    before: dict[str, Tensor] = {}

    def probe(network: nn.Module, epoch: int) -> dict[str, float]:
        nonlocal before
        now = relu_paths.record_paths(network, x)
        with torch.no_grad():
            right = (network(loaded.train.x).argmax(1) == loaded.train.y).double().mean()
        maps.append({"epoch": epoch, "cells": _cells(network), "accuracy": round(float(right), 3)})
        units.append(_units(now, before or now, epoch))
        functions.extend(_functions(network, x, now, before or now, epoch))
        before = now
        return {}

    with threads(1):
        train.fit(model, loaded, config, probes={"plane": probe}, probe_epochs=epochs, device="cpu")
    return Plane(pd.DataFrame(maps), _points(loaded), pd.concat(units, ignore_index=True), pd.DataFrame(functions))


def _points(loaded: ImageData) -> pd.DataFrame:
    x, y = loaded.train
    return pd.DataFrame({"x": x[:, 0].numpy(), "y": x[:, 1].numpy(), "class": y.numpy()}).round(3)


def _grid() -> Tensor:
    """The middles of the grid's cells, x slowest, float32 [cells, 2]."""
    steps = (torch.arange(RESOLUTION) + 0.5) / RESOLUTION
    axes = [LOW[i] + steps * (HIGH[i] - LOW[i]) for i in (0, 1)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 2)


def _cells(network: nn.Module) -> str:
    """Class and shade of the piece of each cell: 4 · class + shade, one digit each."""
    grid = _grid()
    pattern = torch.cat(list(relu_paths.record_paths(network, grid).values()), dim=1).double()
    weight = torch.rand(pattern.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shade = ((pattern @ weight * 7.3) % 1 * 4).long()
    with torch.no_grad():
        classes = network(grid).argmax(1)
    return "".join(map(str, (4 * classes + shade).tolist()))


def _units(now: dict[str, Tensor], before: dict[str, Tensor], epoch: int) -> pd.DataFrame:
    """Each unit of each chosen point's path."""
    rows = []
    for number, (layer, paths) in enumerate(now.items(), start=1):
        for point in range(len(paths)):
            for unit, (on, was) in enumerate(zip(paths[point].tolist(), before[layer][point].tolist(), strict=True)):
                rows.append({"epoch": epoch, "point": point + 1, "layer": number, "unit": unit + 1,
                             "on": int(on), "switched": int(on != was)})  # fmt: skip
    return pd.DataFrame(rows)


def _functions(
    network: nn.Module, x: Tensor, now: dict[str, Tensor], before: dict[str, Tensor], epoch: int
) -> list[dict[str, object]]:
    """The function of each chosen point: the network's weights along its path, an affine function of the plane."""
    found = []
    for i in range(len(x)):
        path = {layer: paths[i : i + 1] for layer, paths in now.items()}
        corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        with torch.no_grad():
            logits = relu_paths.forward_with_paths(network, corners, path).double()
        margin = logits[:, 1] - logits[:, 0]
        ends = undecided(float(margin[1] - margin[0]), float(margin[2] - margin[0]), float(margin[0]))
        on = sum(int(paths[i].sum()) for paths in now.values())
        switched = sum(int((paths[i] != before[layer][i]).sum()) for layer, paths in now.items())
        row = {"epoch": epoch, "point": i + 1, "x": round(float(x[i, 0]), 3), "y": round(float(x[i, 1]), 3),
               "on": on, "switched": switched}  # fmt: skip
        found.append(row | dict(zip(("x1", "y1", "x2", "y2"), ends, strict=True)))
    return found


def undecided(a: float, b: float, c: float) -> tuple[float | None, ...]:
    """The ends of the line a·x + b·y + c = 0 within the drawn plane as (x, y, x, y); four None where it passes by.

    >>> undecided(1.0, 0.0, -0.5)
    (0.5, -1.1, 0.5, 1.6)
    >>> undecided(1.0, 0.0, -50.0)
    (None, None, None, None)
    """
    ends = []
    for x in (LOW[0], HIGH[0]):
        if b and LOW[1] <= (y := -(a * x + c) / b) <= HIGH[1]:
            ends.append((x, y))
    for y in (LOW[1], HIGH[1]):
        if a and LOW[0] <= (x := -(b * y + c) / a) <= HIGH[0]:
            ends.append((x, y))
    if len(ends) < 2:
        return None, None, None, None
    return tuple(round(value, 3) for end in (ends[0], ends[-1]) for value in end)
