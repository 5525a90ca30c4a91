"""Kernel regression when a factor of K does not fit in memory: preconditioned conjugate gradients on K in float32."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn_lite.errors import Failed
from gendyn_lite.measures.capacity import given
from gendyn_lite.measures.capacity.kernels import KernelRegression, gaussian_kernel
from gendyn_lite.measures.per_example.checks import check_number, check_whole, refuse_if_too_large

ROWS = 2048  # rows of the kernel matrix at a time in float32
FEW = 512  # rows at a time in float64


def conjugate_gradient_regression(
    x: Tensor,
    y: Tensor,
    *,
    width: float,
    ridge: float = 0.0,
    num_classes: int | None = None,
    tolerance: float = 1e-4,
    centres: int = 2000,
    most_steps: int = 1000,
    seed: int = 0,
) -> KernelRegression:
    """Solve `kernel_regression` to a tolerance, with a quarter of its memory and a fraction of its time.

    The lower triangle of K is stored in float32 (2 n² bytes: 7.2 GB for 60,000 points). The preconditioner removes the
    largest eigenvalues, which are estimated from `centres` random columns of K.

    Args:
        x: As for `kernel_regression`.
        y: As for `kernel_regression`.
        width: Standard deviation of the kernel.
        ridge: Added to the diagonal.
        num_classes: Number of classes, or None for the largest label plus one.
        tolerance: Largest ‖y − (K + ridge I) α‖ relative to ‖y‖, for each output. It is checked with a residual that is
            computed anew from the points in float64; if that is too large, the iteration restarts from it.
        centres: Number of columns of K for the preconditioner.
        most_steps: Most steps over all restarts.
        seed: Seed of the random columns.

    Returns:
        The regression, on the device of x.

    Raises:
        UserError: As for `kernel_regression`; or the tolerance is not in (0, 1).
        Failed: The tolerance was not reached.

    Source: Frangella, Tropp and Udell (2023), "Randomized Nyström Preconditioning"; here of random columns.

    >>> x = torch.linspace(0, 6, 50)[:, None]
    >>> found = conjugate_gradient_regression(x, torch.sin(x[:, 0]), width=0.1, tolerance=1e-5, centres=20)
    >>> bool((found.predict(x) - torch.sin(x[:, 0])).abs().max() < 1e-4)
    True
    """
    check_number("width", width, "a number above 0 in the units of x (choose_width finds one)")
    check_number("tolerance", tolerance, "a number in (0, 1)", lambda value: 0 < value < 1)
    check_whole("centres", centres)
    given.check_ridge(ridge)
    points = given.as_points(x)
    given.check_length(points, y)
    given.check_distinct(points, ridge)
    n, centres = len(points), min(centres, len(points))
    what = f"the lower triangle of the Gram matrix of {n:,} points in float32"
    refuse_if_too_large(2 * n * n + 24 * n * centres, what, "take fewer points or centres", device=points.device)
    targets = given.as_targets(y, num_classes).to(points)
    chosen = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:centres].to(points.device)
    precondition = _Nystrom(points, points[chosen], width, ridge)
    lengths = targets.norm(dim=0).clamp(min=1e-300)
    gram, alpha, left, steps = _Triangle(points, width, ridge), torch.zeros_like(targets), targets, 0
    share, before = 1.0, float("inf")
    while not share <= tolerance:  # also if the share is NaN
        if steps >= most_steps or not share <= before / 2:  # the rest is rounding of K
            told = f"{steps} steps leave {share:.1g} of the labels, expected {tolerance:g}"
            raise Failed(f"{told}: take a ridge or more centres")
        more, taken = _solve(gram, precondition, left, tolerance * lengths, most_steps - steps)
        alpha, steps = alpha + more, steps + taken
        left = targets - _products(points, alpha, width, ridge)
        share, before = float((left.norm(dim=0) / lengths).max()), share
    squared_norm = ((alpha * targets).sum(0) - ridge * alpha.square().sum(0)).sum()
    fitted = points, alpha, float(width), float(ridge), squared_norm
    return KernelRegression(*given.kind_of(y), *fitted, pixels=x.dtype == torch.uint8)


def _products(points: Tensor, alpha: Tensor, width: float, ridge: float) -> Tensor:
    """Compute (K + ridge I) α from the points in float64, a few rows of K at a time."""
    parts = [gaussian_kernel(rows, points, width) @ alpha for rows in points.split(FEW)]
    return torch.cat(parts) + ridge * alpha


def _solve(gram: _Triangle, precondition: _Nystrom, targets: Tensor, goal: Tensor, most: int) -> tuple[Tensor, int]:
    """Run conjugate gradients for all columns of targets at once, in float64 except for the products with the matrix.

    Returns:
        The solution and the number of steps, at most `most`. It stops when the updated residual reaches the goal, which
        does not include the rounding of the products, or where rounding leaves the matrix no curvature.
    """
    alpha, residual = torch.zeros_like(targets), targets.clone()
    z = precondition(residual)
    direction, product = z, (residual * z).sum(0)
    for taken in range(most):
        if bool((residual.norm(dim=0) <= goal).all()):
            return alpha, taken
        ahead = gram(direction)
        curvature = (direction * ahead).sum(0)
        if bool(((curvature <= 0) & (residual.norm(dim=0) > goal)).any()):  # below the rounding of the products
            return alpha, taken
        step = product / curvature.clamp(min=1e-300)
        alpha, residual = alpha + step * direction, residual - step * ahead
        z = precondition(residual)
        before, product = product, (residual * z).sum(0)
        direction = z + product / before.clamp(min=1e-300) * direction
    return alpha, most


class _Triangle:
    """K + ridge I, stored as blocks of rows of its lower triangle in float32."""

    def __init__(self, points: Tensor, width: float, ridge: float) -> None:
        self.blocks = []
        single = points.to(torch.float32)
        for start in range(0, len(points), ROWS):
            stop = min(start + ROWS, len(points))
            block = gaussian_kernel(single[start:stop], single[:stop], width)
            block[:, start:].diagonal().fill_(1 + ridge)
            self.blocks.append(block)

    def __call__(self, v: Tensor) -> Tensor:
        """Multiply with v [n, k]; it is transposed first, since products with rows are several times faster."""
        given_rows = v.T.to(torch.float32).contiguous()
        found = torch.zeros_like(given_rows)
        for index, block in enumerate(self.blocks):
            start, stop = index * ROWS, block.shape[1]
            found[:, start:stop] += given_rows[:, :stop] @ block.T
            found[:, :start] += given_rows[:, start:stop] @ block[:, :start]
        return found.T.to(v.dtype)


class _Nystrom:
    """An approximate inverse of K + ridge I, by the leading eigenvectors of a Nyström approximation."""

    def __init__(self, points: Tensor, centres: Tensor, width: float, ridge: float) -> None:
        small = gaussian_kernel(centres, centres, width)
        small.diagonal().fill_(1 + 1e-8)  # regular in float64, however close the centres are
        factor = torch.linalg.cholesky(small)
        parts = [gaussian_kernel(part, centres, width) for part in points.split(ROWS)]
        half = torch.cat([torch.linalg.solve_triangular(factor.T, part, upper=True, left=False) for part in parts])
        values, vectors = torch.linalg.eigh(half.T @ half)
        kept = values > 1e-8 * values[-1]
        self.values = values[kept] + ridge
        self.vectors = (half @ vectors[:, kept] / values[kept].sqrt()).to(torch.float32)
        self.least = float(self.values[0])

    def __call__(self, v: Tensor) -> Tensor:
        """Compute P⁻¹ v, [n, k], scaled so that vectors orthogonal to the eigenvectors are unchanged."""
        along = self.vectors.T @ v.to(torch.float32)
        scale = (self.least / self.values - 1).to(torch.float32)
        return v + (self.vectors @ (scale[:, None] * along)).to(v.dtype)
