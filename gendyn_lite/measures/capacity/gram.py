"""Linear equations with a Gram matrix: its Cholesky factor in blocks of rows, and least squares with many ridges.

The factor is computed in place, and only the lower triangle is ever stored. Many ridges are solved by one
eigendecomposition; that matrix may be singular.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.given import as_targets, check_length, check_ridge
from gendyn_lite.measures.per_example.checks import dtype_name


class SingularGramError(UserError):
    """A Gram matrix without a Cholesky factor in the precision that it is given in."""


def triangle_bytes(n: int, block: int, dtype: torch.dtype = torch.float64) -> int:
    """Return the bytes of the factor of n points, with the workspace of one block.

    >>> round(triangle_bytes(60_000, 2048) / 1e9, 1), round(triangle_bytes(60_000, 2048, torch.float32) / 1e9, 1)
    (15.0, 7.5)
    """
    block = min(block, n)
    return dtype.itemsize * (n * (n + block) // 2 + 3 * block * block)


class Cholesky:
    """Factor K = L Lᵀ in place, in blocks of rows of the lower triangle. It takes half of the memory of K.

    Each block of rows I is computed once, when it is factored (left-looking): L_IJ = (K_IJ − Σ_k<J L_Ik L_Jkᵀ) L_JJ⁻ᵀ.
    Nearly all of the n³/3 multiplications are matrix products with a long inner dimension.

    Args:
        rows: ``rows(start, stop)`` gives K[start:stop, :stop], a new tensor in float32 or float64 that becomes the
            factor's storage.
        n: Number of points.
        block: Rows in a block.

    Raises:
        SingularGramError: A pivot is not positive: the matrix is singular to working precision.

    >>> K = torch.tensor([[4.0, 2.0], [2.0, 5.0]], dtype=torch.float64)
    >>> Cholesky(lambda start, stop: K[start:stop, :stop].clone(), 2, block=1).solve(torch.eye(2).double())
    tensor([[ 0.3125, -0.1250],
            [-0.1250,  0.2500]], dtype=torch.float64)
    """

    def __init__(self, rows: Callable[[int, int], Tensor], n: int, *, block: int = 2048) -> None:
        self.starts = list(range(0, n, block))
        self.blocks: list[Tensor] = []
        for start in self.starts:
            self._factor(rows(start, min(start + block, n)), start)

    def _factor(self, row: Tensor, start: int) -> None:
        """Turn K[start:stop, :stop] into L[start:stop, :stop], in place."""
        for at, done in zip(self.starts, self.blocks, strict=False):
            size = len(done)
            part = row[:, at : at + size]
            if at > 0:
                part.addmm_(row[:, :at], done[:, :at].T, alpha=-1)
            part.copy_(torch.linalg.solve_triangular(done[:, at:].T, part, upper=True, left=False))
        corner = row[:, start:]
        if start > 0:
            corner.addmm_(row[:, :start], row[:, :start].T, alpha=-1)
        factor, info = torch.linalg.cholesky_ex(corner)
        if int(info) != 0:
            told = f"the Gram matrix is singular to {dtype_name(row)} at point {start + int(info) - 1}"
            advice = "take ridge > 0 (or a smaller kernel width, or more features)"
            advice = advice if row.dtype == torch.float64 else f"take float64 (tolerance=None), or {advice[5:]}"
            raise SingularGramError(f"{told}: it is (nearly) determined by the points before it; {advice}")
        corner.copy_(factor)
        self.blocks.append(row)

    def solve(self, targets: Tensor) -> Tensor:
        """Compute K⁻¹ times targets.

        Args:
            targets: float64 [n, k].

        Returns:
            float64 [n, k], rounded as the factor is.
        """
        solved = self.whiten(targets.to(self.blocks[0].dtype))
        for start, row in zip(reversed(self.starts), reversed(self.blocks), strict=True):
            part = solved[start : start + len(row)]
            part.copy_(torch.linalg.solve_triangular(row[:, start:].T, part, upper=True))
            if start > 0:
                solved[:start].addmm_(row[:, :start].T, part, alpha=-1)
        return solved.to(targets.dtype)

    def whiten(self, targets: Tensor) -> Tensor:
        """Compute L⁻¹ times targets [n, k], as precise as the factor; the squares of a column sum to tᵀ K⁻¹ t."""
        solved = targets.clone()
        for start, row in zip(self.starts, self.blocks, strict=True):
            part = solved[start : start + len(row)]
            if start > 0:
                part.addmm_(row[:, :start], solved[:start], alpha=-1)
            part.copy_(torch.linalg.solve_triangular(row[:, start:], part, upper=False))
        return solved


class RidgeSolution(NamedTuple):
    """The function f = Σ_i α_i k(x_i, ·) for one ridge.

    Attributes:
        ridge: The ridge, which was added to the diagonal of the Gram matrix.
        alpha: Coefficients, float64 [n, k]; predictions are k(x, x_i) @ alpha.
        squared_norm: ‖f‖², summed over the k outputs.
    """

    ridge: float
    alpha: Tensor
    squared_norm: float


def ridge_path(
    gram: Tensor, y: Tensor, ridges: Sequence[float], *, num_classes: int | None = None
) -> list[RidgeSolution]:
    """Solve (K + ridge I) α = y for several ridges; ridge 0 gives the minimum-norm least-squares solution K⁺ y.

    Args:
        gram: K = Φ Φᵀ, float64 [n, n] of any rank: of a kernel, or of fewer or more features than examples.
        y: [n] integer classes (one-hot columns), or real targets [n] or [n, k].
        ridges: The ridges, each at least 0.
        num_classes: Number of classes, or None for the largest label plus one.

    Returns:
        A solution for each ridge. Eigenvalues below n · 2⁻⁵² of the largest one are rounding errors and count as zero.

    Raises:
        UserError: The matrix is not square, symmetric and finite, or is zero; a ridge is negative; or y does not match.

    >>> x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    >>> (found,) = ridge_path(x @ x.T, torch.tensor([1.0, 2.0]), [0.0])
    >>> round(found.squared_norm, 12), (x.T @ found.alpha).round(decimals=12).tolist()
    (1.0, [[1.0]])
    """
    square = gram.ndim == 2 and gram.shape[0] == gram.shape[1]
    if not (square and torch.isfinite(gram).all() and torch.allclose(gram, gram.T)):
        raise UserError(f"gram has shape {tuple(gram.shape)}, expected a symmetric [n, n] of finite numbers")
    check_length(gram, y)
    for ridge in ridges:
        check_ridge(ridge)
    values, vectors = torch.linalg.eigh(gram.to(torch.float64))
    kept = values > len(gram) * torch.finfo(torch.float64).eps * values[-1].abs()
    if not kept.any():
        raise UserError("gram is zero: its features do not tell the examples apart")
    values, vectors = values[kept], vectors[:, kept]
    along = vectors.T @ as_targets(y, num_classes).to(vectors)
    found = []
    for ridge in ridges:
        scaled = along / (values + ridge)[:, None]
        norm = float((scaled.square() * values[:, None]).sum())
        found.append(RidgeSolution(float(ridge), vectors @ scaled, norm))
    return found
