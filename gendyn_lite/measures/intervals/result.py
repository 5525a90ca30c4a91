"""What `generalization_interval` returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Method = Literal["exact", "certified", "grid"]


@dataclass(frozen=True)
class Intervals:
    """Generalization intervals of m lines, in units of α.

    Attributes:
        lower: Lower end of each, float64 [m], in [low, 0].
        upper: Upper end, float64 [m], in [0, high].
        label: Class at α = 0, int64 [m]: of several with the largest logit the first.
        tied: Whether α = 0 lies on a decision boundary, where several classes share the largest logit: bool [m].
        method: ``"exact"`` (every linear piece), ``"certified"`` (bisection with bounds) or ``"grid"`` (samples, then
            bisection).
        guarantee: What that method guarantees, in a sentence.
        certain_lower: α down to which the class is proved to stay, float64 [m]: `lower` for the exact method, 0 for the
            grid, which proves nothing.
        certain_upper: Likewise upwards.
        looked: Linear pieces followed and segments proved on each line, int64 [m], or None for other methods.
    """

    lower: Tensor
    upper: Tensor
    label: Tensor
    tied: Tensor
    method: Method
    guarantee: str
    certain_lower: Tensor
    certain_upper: Tensor
    looked: Tensor | None = None

    @property
    def exact(self) -> bool:
        """Whether the ends are exact up to rounding and no change of class inside can have been missed."""
        return self.method == "exact"

    @property
    def length(self) -> Tensor:
        """upper - lower, float64 [m]."""
        return self.upper - self.lower

    @property
    def ties(self) -> int:
        """How many lines start on a decision boundary."""
        return int(self.tied.sum())
