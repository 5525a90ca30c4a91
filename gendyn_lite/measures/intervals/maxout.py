"""Maxout: units that are the largest of several linear pieces."""

from __future__ import annotations

from torch import Tensor, nn

from gendyn_lite.errors import UserError


class Maxout(nn.Module):
    """The largest of each `pieces` neighbouring features: [n, units * pieces, ...] to [n, units, ...].

    Args:
        pieces: Linear pieces of one unit, at least 1.

    Raises:
        UserError: `pieces` is no positive whole number, or the features are no multiple of it.

    Source: Goodfellow et al. 2013, Maxout Networks, equation 1.

    >>> import torch
    >>> Maxout(2)(torch.tensor([[1.0, 3.0, -2.0, -5.0]])).tolist()
    [[3.0, -2.0]]
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        if isinstance(pieces, bool) or not isinstance(pieces, int) or pieces < 1:
            raise UserError(f"pieces is {pieces!r}, expected a positive whole number such as 2")
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        """[n, units * pieces, ...] to [n, units, ...]."""
        if x.shape[1] % self.pieces:
            raise UserError(f"Maxout got {x.shape[1]} features, expected a multiple of its {self.pieces} pieces")
        return x.unflatten(1, (-1, self.pieces)).amax(2)

    def extra_repr(self) -> str:
        """Shown in the network's listing."""
        return f"pieces={self.pieces}"
