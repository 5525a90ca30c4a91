"""Least squares with many ridges from one eigendecomposition of the Gram matrix, singular or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.given import as_targets, check_length, check_ridge


class RidgeSolution(NamedTuple):
    """f = Σ_i α_i k(x_i, ·) for one ridge.

    Attributes:
        ridge: What was added to the diagonal of the Gram matrix.
        alpha: Coefficients, float64 [n, k]; predictions are k(x, x_i) @ alpha.
        squared_norm: ‖f‖², summed over the k outputs.
    """

    ridge: float
    alpha: Tensor
    squared_norm: float


def ridge_path(
    gram: Tensor, y: Tensor, ridges: Sequence[float], *, num_classes: int | None = None
) -> list[RidgeSolution]:
    """(K + ridge I) α = y for several ridges, where ridge 0 is the least-squares solution of smallest norm, K⁺ y.

    Args:
        gram: K = Φ Φᵀ, float64 [n, n], of any rank: of a kernel, or of features whether fewer or more than examples.
        y: [n] integer classes (one-hot columns), or real targets [n] or [n, k].
        ridges: Each at least 0.
        num_classes: Number of classes, or None for the largest label plus one.

    Returns:
        A solution for each ridge. Eigenvalues below n · 2⁻⁵² of the largest are rounding, and count as zero.

    Raises:
        UserError: The matrix is not square, symmetric and finite, or zero; a ridge is negative; or y are no labels.

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
