"""The width of a Gaussian kernel, chosen by leaving one example out."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity import given
from gendyn_lite.measures.capacity.gram import SingularGramError
from gendyn_lite.measures.capacity.kernels import KernelFactor

FACTORS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)


class WidthChoice(NamedTuple):
    """A width and how it was found.

    Attributes:
        width: The chosen width.
        median_distance: Median distance between two points.
        rows: A row for each width that was tried: width, factor, loss (leave-one-out mean squared error; NaN if the
            Gram matrix was singular in float64), error (leave-one-out share of wrong classes; NaN for real targets).
    """

    width: float
    median_distance: float
    rows: list[dict[str, float]]


def choose_width(
    x: Tensor,
    y: Tensor,
    *,
    ridge: float = 0.0,
    num_classes: int | None = None,
    factors: tuple[float, ...] = FACTORS,
    max_points: int = 2000,
    seed: int = 0,
    device: torch.device | str | None = None,
) -> WidthChoice:
    """Choose the multiple of the median distance with the smallest leave-one-out squared error on a random subset.

    Test examples are not used. The leave-one-out error is exact and costs one factorization for each width.

    Args:
        x: [n, ...] training inputs.
        y: Labels as in `kernel_regression`.
        ridge: Added to the diagonal of the Gram matrix.
        num_classes: Number of classes, or None for the largest label plus one.
        factors: Multiples of the median distance to try.
        max_points: Size of the subset.
        seed: Seed of the subset.
        device: Where to solve; None is the GPU if there is one.

    Returns:
        The width, the median distance, and a row for each width that was tried.

    Raises:
        UserError: There are fewer than two distinct points, or no width gives a regular Gram matrix in float64.

    >>> x = torch.linspace(0, 6, 40)[:, None]
    >>> choice = choose_width(x, torch.sin(x[:, 0]), ridge=1e-6, device="cpu")
    >>> len(choice.rows), choice.width in [row["width"] for row in choice.rows]
    (7, True)
    """
    points = given.as_points(x)
    given.check_length(points, y)
    targets = given.as_targets(y, num_classes)
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:max_points].to(points.device)
    points, targets = points[chosen], targets[chosen.to(targets.device)]
    median = median_distance(points)
    classes = not y.is_floating_point()
    options = {"ridge": ridge, "device": device}
    rows = [{"factor": each, **_score(points, targets, classes, width=each * median, **options)} for each in factors]
    usable = [row for row in rows if row["loss"] == row["loss"]]
    if not usable:
        raise UserError("no width gives a Gram matrix that is regular in float64: drop equal points or take ridge > 0")
    return WidthChoice(min(usable, key=lambda row: row["loss"])["width"], median, rows)


def median_distance(x: Tensor) -> float:
    """Return the median distance of all pairs of points of x [n, ...]; it takes O(n²) memory.

    >>> median_distance(torch.tensor([[0.0], [1.0], [3.0]]))
    2.0
    """
    points = given.as_points(x)
    if len(points) < 2:
        raise UserError(f"{len(points)} point has no distances, expected at least two points")
    pairs = torch.triu_indices(len(points), len(points), 1, device=points.device)
    median = float(given.squared_distances(points, points)[pairs[0], pairs[1]].sqrt().median())
    if median == 0:
        raise UserError("at least half of all pairs of points are equal, expected distinct points")
    return median


def _score(points: Tensor, targets: Tensor, classes: bool, *, width: float, **options: Any) -> dict[str, float]:
    """Return the leave-one-out errors of one width; the options are those of `KernelFactor`."""
    row = {"width": width, "loss": float("nan"), "error": float("nan")}
    try:
        predicted = KernelFactor(points, width=width, **options).leave_one_out(targets)
    except SingularGramError:
        return row
    targets = targets.to(predicted.device)
    row["loss"] = float((predicted - targets).square().sum(1).mean())
    if classes:
        row["error"] = float((predicted.argmax(1) != targets.argmax(1)).double().mean())
    return row
