"""The Cholesky factor of a Gram matrix of which only the lower triangle ever exists, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gendyn_lite.errors import UserError


class SingularGramError(UserError):
    """A Gram matrix without a Cholesky factor in float64."""


def triangle_bytes(n: int, block: int) -> int:
    """Bytes of the factor of n points in float64, with the work space of one block.

    >>> round(triangle_bytes(60_000, 2048) / 1e9, 1)
    15.0
    """
    block = min(block, n)
    return 8 * (n * (n + block) // 2 + 3 * block * block)


class Cholesky:
    """K = L Lᵀ in place, in blocks of rows of the lower triangle: half of the memory of K, a quarter of K and a copy.

    Row block I is asked for once, when it is factored (left-looking): L_IJ = (K_IJ − Σ_k<J L_Ik L_Jkᵀ) L_JJ⁻ᵀ. Nearly
    all of the n³/3 multiplications are matrix products with a long inner dimension.

    Args:
        rows: ``rows(start, stop)`` gives K[start:stop, :stop], a new float64 tensor that becomes the factor's storage.
        n: Number of points.
        block: Rows a block.

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
        """Turn K[start:stop, :stop] into L[start:stop, :stop], where it is."""
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
            told = f"the Gram matrix is singular to float64 at point {start + int(info) - 1}"
            advice = "take ridge > 0 (or a smaller kernel width, or more features)"
            raise SingularGramError(f"{told}: it is (nearly) determined by the points before it; {advice}")
        corner.copy_(factor)
        self.blocks.append(row)

    def solve(self, targets: Tensor) -> Tensor:
        """K⁻¹ times targets.

        Args:
            targets: float64 [n, k].

        Returns:
            float64 [n, k].
        """
        solved = self.whiten(targets)
        for start, row in zip(reversed(self.starts), reversed(self.blocks), strict=True):
            part = solved[start : start + len(row)]
            part.copy_(torch.linalg.solve_triangular(row[:, start:].T, part, upper=True))
            if start > 0:
                solved[:start].addmm_(row[:, :start].T, part, alpha=-1)
        return solved

    def whiten(self, targets: Tensor) -> Tensor:
        """L⁻¹ times targets, [n, k]: the squares of its entries add up to tᵀ K⁻¹ t, column by column."""
        solved = targets.clone()
        for start, row in zip(self.starts, self.blocks, strict=True):
            part = solved[start : start + len(row)]
            if start > 0:
                part.addmm_(row[:, :start], solved[:start], alpha=-1)
            part.copy_(torch.linalg.solve_triangular(row[:, start:], part, upper=False))
        return solved
