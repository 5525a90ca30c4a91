"""Regression with a Gaussian kernel: K α = y by a Cholesky factor, with or without a ridge."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gendyn_lite.errors import Failed, UserError
from gendyn_lite.measures.capacity import given
from gendyn_lite.measures.capacity.gram import Cholesky, triangle_bytes
from gendyn_lite.measures.per_example.checks import available_memory, check_number, dtype_name, refuse_if_too_large

WIDTH = "a number above 0, of a finite square, in the units of x (choose_width finds one)"
BLOCK = {"cpu": 1024, "cuda": 4096}  # rows of the kernel matrix to compute and factor at a time
REFINED = 512  # rows at a time for a residual in float64
ROUNDED = {torch.float64: 1e-6, torch.float32: 1e-3}  # largest rounding error of an exponent
WIDEST, NARROWEST = 1e150, 1e-150  # widths whose squares are normal numbers


def kernel_regression(
    x: Tensor, y: Tensor, *, width: float, num_classes: int | None = None, **options: Any
) -> KernelRegression:
    """Fit f = Σ_i α_i k(x_i, ·) with (K + ridge I) α = y, where k(x, x') = exp(−‖x − x'‖²/(2 width²)).

    With ridge 0 it interpolates, f(x_i) = y_i, and has the smallest norm in the kernel's space of all functions that
    do.

    Args:
        x: [n, ...] training inputs; uint8 is read as pixels and divided by 255.
        y: [n] integer classes (fitted as one-hot columns), or real targets [n] or [n, k].
        width: Standard deviation of the kernel, in the units of x; `choose_width` finds one.
        num_classes: Number of classes, or None for the largest label plus one.
        **options: Options of `KernelFactor`: ridge, tolerance, device.

    Returns:
        The regression, with its tensors on the device.

    Raises:
        UserError: The width is not positive, the ridge is negative, the tolerance is not in (0, 1), the triangle of the
            Gram matrix would not fit in memory, equal points make it singular (they are named), or labels are not
            integers from 0.
        Failed: The tolerance was not reached.

    Source: Zhang et al. (2017), Sec. 5 ("Kα = y", Gaussian kernel on pixels, no regularization).

    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> kernel_regression(x, torch.tensor([0, 1, 0]), width=0.5, device="cpu").classify(torch.tensor([[0.9], [2.2]]))
    tensor([1, 0])
    """
    return KernelFactor(x, width=width, **options).fit(y, num_classes=num_classes)


class KernelFactor:
    """The factored Gram matrix of a Gaussian kernel, for solving with many sets of labels (true, corrupted, random).

    Args:
        x: As for `kernel_regression`, with the same errors.
        width: Standard deviation of the kernel.
        ridge: Added to the diagonal of the Gram matrix.
        tolerance: None factors in float64, which takes 4 n² bytes. A number factors in float32, in half of the memory
            (7.2 GB for 60,000 points) and of the time; each solution is then refined until ‖y − (K + ridge I) α‖,
            computed anew from the points in float64, is at most this share of ‖y‖, for each output.
        device: Where to solve; None is the GPU if there is one, else the CPU.

    >>> factor = KernelFactor(torch.tensor([[0.0], [1.0]]), width=1.0, device="cpu")
    >>> [float(factor.fit(torch.tensor(y)).squared_norm) for y in ([1.0, 1.0], [1.0, -1.0])]
    [1.24..., 5.08...]
    """

    def __init__(
        self,
        x: Tensor,
        *,
        width: float,
        ridge: float = 0.0,
        tolerance: float | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_number("width", width, WIDTH, lambda value: NARROWEST < value < WIDEST)
        given.check_ridge(ridge)
        if tolerance is not None:
            check_number("tolerance", tolerance, "a number in (0, 1)", lambda value: 0 < value < 1)
        given.check_points(x)
        x = x.detach()
        self.device = given.solving_device(device)
        self.width, self.ridge, block = float(width), float(ridge), _block(self.device)
        self.tolerance, self._dtype = tolerance, torch.float64 if tolerance is None else torch.float32
        _refuse_large_gram(len(x), x[0].numel(), block, self.device, self._dtype)
        points = given.as_points(x)
        self._pixels = x.dtype == torch.uint8
        given.check_distinct(points, ridge)
        self.points = points.to(self.device)
        self._cholesky = Cholesky(partial(self._rows, self.points.to(self._dtype)), len(points), block=block)

    def _rows(self, points: Tensor, start: int, stop: int) -> Tensor:
        """Compute (K + ridge I)[start:stop, :stop]."""
        rows = gaussian_kernel(points[start:stop], points[:stop], self.width)
        rows[:, start:].diagonal().fill_(1 + self.ridge)
        return rows

    def fit(self, y: Tensor, *, num_classes: int | None = None) -> KernelRegression:
        """Fit one set of labels, in O(n²)."""
        targets = self._targets(y, num_classes)
        alpha = self._cholesky.solve(targets) if self.tolerance is None else self._refined(targets, self.tolerance)
        squared_norm = ((alpha * targets).sum(0) - self.ridge * alpha.square().sum(0)).sum()
        fitted = self.points, alpha, self.width, self.ridge, squared_norm
        return KernelRegression(*given.kind_of(y), *fitted, pixels=self._pixels)

    def _refined(self, targets: Tensor, tolerance: float) -> Tensor:
        """Solve by the rounded factor for what is left of the targets, again and again."""
        scale = targets.abs().amax(0).clamp(min=torch.finfo(torch.float64).tiny)
        targets = targets / scale  # squares of small targets would vanish
        lengths = targets.norm(dim=0).clamp(min=1e-300)
        alpha, left, share, solved = torch.zeros_like(targets), targets, 1.0, 0
        while not share <= tolerance:  # also if the share is NaN
            alpha = alpha + self._cholesky.solve(left)
            parts = [gaussian_kernel(rows, self.points, self.width) @ alpha for rows in self.points.split(REFINED)]
            left = targets - torch.cat(parts) - self.ridge * alpha
            share, before, solved = float((left.norm(dim=0) / lengths).max()), share, solved + 1
            if not (share <= tolerance or share <= before / 2):
                told = f"after {solved} solutions in float32, {share:.1g} of the labels is left, expected {tolerance:g}"
                raise Failed(f"{told}: take a ridge > 0, or float64 (tolerance=None)")
        return alpha * scale

    def _targets(self, y: Tensor, num_classes: int | None) -> Tensor:
        given.check_length(self.points, y)
        return given.as_targets(y, num_classes).to(self.device)

    def leave_one_out(self, y: Tensor, *, num_classes: int | None = None) -> Tensor:
        """Predict each x_i by the regression without example i: y_i − α_i/(K⁻¹)_ii. It takes O(n³).

        Args:
            y: As for `kernel_regression`.
            num_classes: As for `kernel_regression`.

        Returns:
            float64 [n, k].

        Raises:
            UserError: The factor is in float32.
        """
        if self.tolerance is not None:
            raise UserError("leave-one-out predictions need the factor in float64: tolerance=None")
        targets = self._targets(y, num_classes)
        identity = torch.eye(len(self.points), dtype=torch.float64, device=self.device)
        inverse_diagonal = self._cholesky.whiten(identity).square().sum(0)
        return targets - self._cholesky.solve(targets) / inverse_diagonal[:, None]


@dataclass(frozen=True)
class KernelRegression(given.Fitted):
    """A solved kernel regression.

    Attributes:
        points: Training inputs, float64 [n, d].
        alpha: Coefficients, float64 [n, k].
        width: Width of the kernel.
        ridge: The ridge, which was added to the diagonal.
        squared_norm: ‖f‖² in the kernel's space, summed over the k outputs.
    """

    points: Tensor
    alpha: Tensor
    width: float
    ridge: float
    squared_norm: Tensor

    def _scores(self, x: Tensor) -> Tensor:
        inputs = given.as_points(x).to(self.points.device)
        if inputs.shape[1] != self.points.shape[1]:
            expected = f"the {self.points.shape[1]} of the training inputs"
            raise UserError(f"x has {inputs.shape[1]} dimensions, expected {expected}")
        parts = inputs.split(_block(inputs.device))
        return torch.cat([gaussian_kernel(part, self.points, self.width) @ self.alpha for part in parts])


def gaussian_kernel(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Compute exp(−‖a_i − b_j‖²/(2 width²)).

    Args:
        a: Floating-point [n, d].
        b: [m, d], in the same precision.
        width: Standard deviation.

    Returns:
        [n, m], in that precision.

    >>> gaussian_kernel(torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [3.0, 4.0]]), width=5.0)
    tensor([[1.0000, 0.6065]])
    """
    largest = ROUNDED[a.dtype] * width**2 / torch.finfo(a.dtype).eps
    return given.squared_distances(a, b, largest=largest).mul_(-0.5 / width**2).exp_()


def _block(device: torch.device) -> int:
    return BLOCK.get(device.type, BLOCK["cuda"])


def _refuse_large_gram(n: int, dimensions: int, block: int, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse a Gram matrix that would not fit in memory; the message says how many points would."""

    def needed(n: int) -> int:
        """Return the bytes of the triangle of the matrix, the points in float64 and one block."""
        return triangle_bytes(n, block, dtype) + 8 * n * dimensions + 8 * min(block, n) * n

    fitting = bisect.bisect_right(range(n), available_memory(device), key=needed) - 1
    half = ", float32 (tolerance=1e-6)" if dtype == torch.float64 else ""
    what = f"the lower triangle of the Gram matrix of {n:,} points in {dtype_name(dtype)}"
    advice = f"take at most {max(fitting, 0):,} points{half}, or random features (feature_regression)"
    refuse_if_too_large(needed(n), what, advice, device=device)
