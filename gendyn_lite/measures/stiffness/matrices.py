"""From the Gram matrix of gradients to sign and cosine stiffness of each pair of examples."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn_lite.errors import UserError


def sign(gram: Tensor) -> Tensor:
    """sign(g_i · g_j): 1 if a small step on one example lowers the other's loss, −1 if it raises it, 0 if neither.

    Args:
        gram: [n, n] or [n, m], of `gradient_gram`.

    Source:
        Fort et al. (2019), Eq. 4; Walker, Definition 1.1.

    >>> sign(torch.tensor([[2.0, -1.0], [-1.0, 3.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    _check(gram)
    return gram.sign()


def cosine(gram: Tensor, *, norms: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """cos(g_i, g_j) = g_i · g_j / (‖g_i‖ ‖g_j‖); 0 where a gradient is zero (`zero_gradients` counts them).

    Args:
        gram: [n, n], or [n, m] with `norms`.
        norms: Squared norms [n] and [m] of the gradients (`squared_norms`) of a matrix between two sets.

    Raises:
        UserError: The matrix is not square and no norms are given, they do not fit it, or a value is not finite.

    Source:
        Fort et al. (2019), Eq. 5; Walker, Definition 1.2.

    >>> cosine(torch.tensor([[4.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    tensor([[ 1.0000, -0.5000,  0.0000],
            [-0.5000,  1.0000,  0.0000],
            [ 0.0000,  0.0000,  0.0000]])
    """
    _check(gram)
    if norms is None:
        if gram.shape[0] != gram.shape[1]:
            raise UserError(
                f"the Gram matrix is {list(gram.shape)}, between two sets: give norms=(squared_norms of the rows, of "
                "the columns)"
            )
        norms = gram.diagonal(), gram.diagonal()
    if tuple(map(len, norms)) != tuple(gram.shape):
        raise UserError(f"norms have {len(norms[0])} and {len(norms[1])} values, the matrix is {list(gram.shape)}")
    for part in norms:
        _check_finite(part, "norms")
    left, right = (torch.where(part > 0, part.clamp(min=0).rsqrt(), part.new_zeros(())) for part in norms)
    return (gram * left[:, None] * right[None]).clamp(-1, 1)


def zero_gradients(gram: Tensor) -> int:
    """How many examples have a zero gradient: their loss is at its least, and their stiffness is defined as 0.

    >>> zero_gradients(torch.diag(torch.tensor([1.0, 0.0, 0.0])))
    2
    """
    _check(gram)
    return int((gram.diagonal() <= 0).sum())


def _check(gram: Tensor) -> None:
    if not isinstance(gram, Tensor):
        raise UserError(f"gram is a {type(gram).__name__}, expected a matrix; of a dict of layers take one")
    if gram.dim() != 2:
        raise UserError(f"gram has shape {tuple(gram.shape)}, expected a matrix [n, n] or [n, m]")
    _check_finite(gram, "gram")


def _check_finite(values: Tensor, name: str) -> None:
    if not torch.isfinite(values).all():
        raise UserError(f"{name} has values that are not finite: take it of gradients that are")
