"""Stiffness over the plane: how stiff a network is at a point with the points around it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures._memory import refuse_if_too_large
from gendyn_lite.measures.stiffness.gram import WHOLE, gradient_gram
from gendyn_lite.measures.stiffness.matrices import cosine


class NeighbourhoodMap(NamedTuple):
    """Stiffness at the points of a grid.

    Attributes:
        points: [points, 2], row by row from the lowest corner.
        predicted: The network's class at each, int64 [points].
        stiffness: Mean cosine stiffness with the other grid points in the neighbourhood, [points].
        spacing: Distance of neighbouring grid points along each axis.
    """

    points: Tensor
    predicted: Tensor
    stiffness: Tensor
    spacing: tuple[float, float]


@torch.inference_mode(False)
def neighbourhood_map(
    model: nn.Module,
    *,
    low: tuple[float, float],
    high: tuple[float, float],
    radius: float,
    resolution: int = 40,
    layers: tuple[str, ...] = (),
) -> NeighbourhoodMap:
    """Mean cosine stiffness of each point of a grid with the grid points at most `radius` away.

    A point's label is the class that the network gives it, so that the map shows the learned function alone: where the
    neighbours belong to one class, their gradients agree; across the learned boundary they oppose each other.

    Args:
        model: A network of inputs [n, 2].
        low: Lowest corner of the grid.
        high: Highest corner.
        radius: Largest distance of a neighbour, in units of the inputs.
        resolution: Points along each side.
        layers: Only the gradient of these layers; all if empty.

    Raises:
        UserError: The radius reaches no other point, the corners are not in order, or the map would not fit in memory.

    Source:
        Walker, Sec. 2 and Fig. 1.

    >>> found = neighbourhood_map(nn.Linear(2, 2), low=(-1, -1), high=(1, 1), radius=0.6, resolution=5)
    >>> found.points.shape, found.stiffness.shape, found.spacing
    (torch.Size([25, 2]), torch.Size([25]), (0.5, 0.5))
    """
    if isinstance(resolution, bool) or not isinstance(resolution, int):
        raise UserError(f"resolution is {resolution!r}, expected a whole number of at least 2")
    if resolution < 2 or not all(a < b for a, b in zip(low, high, strict=True)):
        raise UserError(f"the grid from {low} to {high} with {resolution} points a side is empty")
    refuse_if_too_large(
        3 * 8 * resolution**4,
        f"a map of {resolution:,} by {resolution:,} points with each other",
        "take a smaller resolution",
    )
    spacing = (high[0] - low[0]) / (resolution - 1), (high[1] - low[1]) / (resolution - 1)
    if radius < min(spacing):
        raise UserError(f"radius is {radius:g}, expected at least {min(spacing):g}, the distance of grid points")
    first = next(model.parameters())
    sides = [torch.linspace(a, b, resolution, dtype=first.dtype) for a, b in zip(low, high, strict=True)]
    points = torch.cartesian_prod(*sides).to(first.device)
    with torch.no_grad():
        predicted = model(points).argmax(1)
    groups = {WHOLE: layers} if layers else None
    gram = gradient_gram(model, points, predicted, groups=groups)
    matrix = cosine(gram[WHOLE] if isinstance(gram, dict) else gram)
    # By differences: far from the origin torch's matrix product of points would lose the distance of neighbours.
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    near = (distances <= radius + 1e-6 * math.dist(low, high)).to(matrix.dtype).fill_diagonal_(0)
    return NeighbourhoodMap(points, predicted, (matrix * near).sum(1) / near.sum(1), spacing)
