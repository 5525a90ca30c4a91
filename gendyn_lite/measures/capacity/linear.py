"""The linear model: its minimum-norm solution, and gradient descent from zero, which converges to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.given import as_points, as_targets, check_length, kind_of
from gendyn_lite.measures.per_example.checks import check_number, check_whole

Probe = Callable[[Tensor], dict[str, float]]
Start = Tensor | Callable[[Tensor], Tensor]


def minimum_norm_solution(x: Tensor, y: Tensor, *, num_classes: int | None = None) -> Tensor:
    """Return the w with the smallest ‖w‖ among all that minimize ‖X w − y‖: X⁺ y.

    If the rows are independent (more dimensions than points) it fits exactly, and w = Xᵀ(X Xᵀ)⁻¹ y.

    Args:
        x: [n, ...] points, flattened to the rows of X; uint8 is read as pixels and divided by 255.
        y: [n] integer classes (one-hot columns), or real targets [n] or [n, k].
        num_classes: Number of classes, or None for the largest label plus one.

    Returns:
        float64 [d, k], or [d] for real targets [n].

    Raises:
        UserError: x or y is invalid, or they do not match.

    Source: Zhang et al. (2017), Sec. 5, Eq. 3: the solution that stochastic gradient descent converges to.

    >>> minimum_norm_solution(torch.tensor([[3.0, 4.0]]), torch.tensor([5.0]))
    tensor([0.6000, 0.8000], dtype=torch.float64)
    """
    points, targets = _problem(x, y, num_classes)
    return _shaped(_pseudo_solve(_svd(points), targets), y)


class Descent(NamedTuple):
    """Gradient descent on ½‖X w − y‖²/n, where each step takes all examples or a mini-batch.

    Attributes:
        weights: The final weights, float64 [d, k] (or [d]).
        best: The minimum-norm solution w*, of the same shape.
        learning_rate: The step size.
        rows: For each recorded step: step, loss, distance (‖w − w*‖), relative_distance (‖w − w*‖/‖w*‖), norm (‖w‖),
            outside (norm of the part of w outside the span of the rows of X), and the values of the probe.
    """

    weights: Tensor
    best: Tensor
    learning_rate: float
    rows: list[dict[str, float]]


def gradient_descent_from_zero(
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 1000,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    start: Start | None = None,
    records: int = 50,
    num_classes: int | None = None,
    probe: Probe | None = None,
    seed: int = 0,
) -> Descent:
    """Run (stochastic) gradient descent on least squares, and measure the distance to the minimum-norm solution.

    Every gradient, also of a mini-batch, is a combination of rows of X, so w stays in their span if it starts at zero.
    The only interpolating solution in the span is the one of smallest norm. With another start, the part of w outside
    the span never changes. If all examples can be fitted, mini-batches converge with a constant step size, because at
    the solution the gradient of every batch is zero.

    Args:
        x: [n, ...] points.
        y: [n] integer classes (one-hot columns), or real targets [n] or [n, k].
        steps: Number of steps.
        batch_size: Examples b in a step, in a new order each epoch; None for all examples.
        learning_rate: Step size; None for b/(β + (b − 1) λ) with the largest eigenvalue λ of XᵀX/n and the largest
            β = ‖x_i‖², or 1/λ if a step takes all examples.
        start: Initial weights [d, k] or [d] instead of zero, or a function that returns them, given w*.
        records: Approximate number of recorded steps, equally spaced in log(step).
        num_classes: Number of classes, or None for the largest label plus one.
        probe: Called with the weights [d, k] at each recorded step.
        seed: Seed of the order of the examples.

    Returns:
        The final weights, the minimum-norm solution, and the recorded steps.

    Raises:
        UserError: A number is out of range, or the descent diverged because the learning rate is too large.

    Source: Zhang et al. (2017), Sec. 5; the step size of mini-batches is that of Ma, Bassily and Belkin (2018), "The
        Power of Interpolation".

    >>> path = gradient_descent_from_zero(torch.tensor([[1.0, 1.0]]), torch.tensor([2.0]), steps=3)
    >>> [row["step"] for row in path.rows], path.rows[-1]["distance"] < 1e-12
    ([0, 1, 2, 3], True)
    """
    points, targets = _problem(x, y, num_classes)
    if steps < 1 or records < 2:
        raise UserError(f"steps is {steps}, records {records}: expected at least 1 and 2")
    if batch_size is not None:
        check_whole("batch_size", batch_size, most=len(points), why=", the number of points")
    factors = _svd(points)
    best, span = _pseudo_solve(factors, targets), factors[2]
    safe = _safe_rate(points, factors[1], batch_size)
    rate = safe if learning_rate is None else float(learning_rate)
    check_number("learning_rate", rate, "a number above 0")
    w = torch.zeros_like(best)
    if start is not None:
        given = start if isinstance(start, Tensor) else start(_shaped(best, y))
        w = given.to(w).reshape(w.shape).clone()
    recorded = {0, *(round(steps ** (i / (records - 1))) for i in range(records))}
    measured: Probe = probe or (lambda w: {})
    rows = [_record(0, points, targets, w=w, best=best, span=span) | measured(w)]
    batches = _batches(len(points), batch_size, seed)
    for step in range(1, steps + 1):
        batch = next(batches)
        x_b, y_b = points[batch], targets[batch]
        w.addmm_(x_b.T, x_b @ w - y_b, alpha=-rate / len(x_b))
        if step in recorded:
            rows.append(_record(step, points, targets, w=w, best=best, span=span) | measured(w))
            if not math.isfinite(rows[-1]["loss"]) or rows[-1]["loss"] > 1e6 * max(1.0, rows[0]["loss"]):
                told = f"gradient descent diverged at step {step}: learning_rate is {rate:g}"
                raise UserError(f"{told}, expected below {2 * safe:g}" + " (2/λ)" * (batch_size is None))
    return Descent(_shaped(w, y), _shaped(best, y), rate, rows)


def _problem(x: Tensor, y: Tensor, num_classes: int | None) -> tuple[Tensor, Tensor]:
    """Return points [n, d] and targets [n, k] in float64 on one device."""
    points = as_points(x)
    check_length(points, y)
    return points, as_targets(y, num_classes).to(points.device)


def _shaped(weights: Tensor, y: Tensor) -> Tensor:
    """Return the weights as [d, k], or as [d] for real targets [n]."""
    return weights.squeeze(1) if kind_of(y)[1] else weights


def _svd(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular value decomposition without values that are rounding errors: U [n, r], s [r], V [d, r]."""
    left, values, right = torch.linalg.svd(points, full_matrices=False)
    cut = float(values.max()) * max(points.shape) * torch.finfo(torch.float64).eps
    rank = int((values > cut).sum())
    return left[:, :rank], values[:rank], right[:rank].T


def _pseudo_solve(factors: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    """Compute X⁺ y from the decomposition of X, [d, k]."""
    left, values, right = factors
    return right @ ((left.T @ targets) / values[:, None])


def _batches(n: int, batch_size: int | None, seed: int) -> Iterator[Tensor | slice]:
    """Yield the indices of the examples of each step, endlessly; all examples if there is no batch size."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from [slice(None)] if batch_size is None else torch.randperm(n, generator=generator).split(batch_size)


def _safe_rate(points: Tensor, values: Tensor, batch_size: int | None) -> float:
    """Return a step size that does not overshoot on average over batches: see `gradient_descent_from_zero`.

    Args:
        points: [n, d].
        values: Their nonzero singular values.
        batch_size: Examples in a step; None for all.
    """
    top = float(values.max()) ** 2 / len(points) if len(values) else 0.0
    largest = top if batch_size is None else float(points.square().sum(1).max())
    size = batch_size or 1
    return size / (largest + (size - 1) * top) if largest > 0 else 1.0


def _record(step: int, points: Tensor, targets: Tensor, *, w: Tensor, best: Tensor, span: Tensor) -> dict[str, float]:
    """Return the recorded values of one step."""
    distance, scale = float((w - best).norm()), float(best.norm())
    return {
        "step": step,
        "loss": float((points @ w - targets).square().sum()) / (2 * len(points)),
        "distance": distance,
        "relative_distance": distance / scale if scale > 0 else distance,
        "norm": float(w.norm()),
        "outside": float((w - span @ (span.T @ w)).norm()),
    }
