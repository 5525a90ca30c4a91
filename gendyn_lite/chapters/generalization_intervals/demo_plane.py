"""The two-dimensional picture of chapter 5: a network's regions over the plane, and lines through them."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.chapters.generalization_intervals.demo import trained
from gendyn_lite.measures import intervals

ANGLES = tuple(range(0, 360, 15))


class Plane(NamedTuple):
    """Tables of the two-dimensional picture.

    Attributes:
        cells: x, y, class and a shade of the linear region, of a grid of points.
        points: Training points: x, y, class.
        lines: For each start and angle: both ends of the line and of its interval, as words and as points.
        knots: Where those lines pass from one linear region to the next: x, y.
    """

    cells: pd.DataFrame
    points: pd.DataFrame
    lines: pd.DataFrame
    knots: pd.DataFrame


def plane(*, widths: tuple[int, ...] = (12, 12), starts: int = 8, resolution: int = 64) -> Plane:
    """A network on two moons: its regions, and exact intervals from some points in all directions.

    Args:
        widths: Units of its hidden layers: few, so that the regions can be seen.
        starts: Training points that lines start from.
        resolution: Cells in each direction.
    """
    network = trained("two_moons", 0.0, widths)
    x, y = network.x, network.y
    points = pd.DataFrame({"x": x[:, 0].numpy(), "y": x[:, 1].numpy(), "class": y.numpy()}).round(3)
    chosen = data.balanced_order(y, seed=2)[:starts]
    lines, knots = _rays(network.model, x[chosen])
    return Plane(_cells(network.model, x, resolution), points, lines, knots)


def _cells(model: nn.Module, x: Tensor, resolution: int) -> pd.DataFrame:
    """Class and region of the middles of a grid."""
    low, high = x.amin(0) - 0.5, x.amax(0) + 0.5
    size = (high - low) / resolution
    axes = [low[i] + (torch.arange(resolution) + 0.5) * size[i] for i in (0, 1)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 2)
    pattern, h = torch.zeros(len(grid), dtype=torch.float64), grid
    weight = torch.rand(512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        for layer in model.children():
            h = layer(h)
            if isinstance(layer, nn.ReLU):
                pattern += (h > 0).double() @ weight[: h.shape[1]] * 7.3
    sides = {"x": grid[:, 0] - size[0] / 2, "x2": grid[:, 0] + size[0] / 2}
    sides |= {"y": grid[:, 1] - size[1] / 2, "y2": grid[:, 1] + size[1] / 2}
    frame = pd.DataFrame({name: side.numpy().round(3) for name, side in sides.items()})
    return frame.assign(**{"class": h.argmax(1).numpy()}, shade=((pattern % 1).numpy() * 4).astype(int))


def _rays(model: nn.Module, starts: Tensor) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lines of every angle from every start, and their knots."""
    turn = torch.tensor(ANGLES).double().deg2rad()
    compass = torch.stack([turn.cos(), turn.sin()], dim=1).to(starts)
    origin = starts.repeat_interleave(len(ANGLES), dim=0)
    direction = compass.repeat(len(starts), 1)
    found = intervals.generalization_interval(model, origin, direction)
    pieces = intervals.pieces(model, origin, direction)
    rows, knots = [], []
    for i, line in enumerate(pieces):
        about = {"start": i // len(ANGLES) + 1, "angle": ANGLES[i % len(ANGLES)]}
        lower, upper = float(found.lower[i]), float(found.upper[i])
        row = {**about, "lower": round(lower, 3), "upper": round(upper, 3), "regions": line.regions}
        for name, alpha in (("whole", (-1.0, 2.0)), ("part", (lower, upper)), ("at", (0.0, 0.0))):
            for end, value in zip(("", "2"), alpha, strict=True):
                place = (origin[i] + value * direction[i]).tolist()
                row |= {f"{name}_x{end}": round(place[0], 3), f"{name}_y{end}": round(place[1], 3)}
        rows.append(row)
        for alpha in line.alpha[1:-1].tolist():
            place = (origin[i] + alpha * direction[i]).tolist()
            knots.append({**about, "alpha": round(alpha, 3), "x": round(place[0], 3), "y": round(place[1], 3)})
    return pd.DataFrame(rows), pd.DataFrame(knots)
