"""All linear pieces of a network along lines: where they meet, and the logits there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals.checks import check_lines, check_network, check_range, logits_at
from gendyn_lite.measures.intervals.graph import Program, read
from gendyn_lite.measures.intervals.knots import segments
from gendyn_lite.measures.intervals.layers import NotPiecewiseLinearError
from gendyn_lite.measures.intervals.walk import TooManyKnotsError, Walk, along_lines

SAME = 1e-12  # knots that lie closer together than this share of the range are one


@dataclass(frozen=True)
class Line:
    """The linear pieces of a network along one line.

    Attributes:
        alpha: Ends of the range and every knot in between, rising, float64 [k].
        logits: At these, [k, C]; linear in between.
    """

    alpha: Tensor
    logits: Tensor

    @property
    def regions(self) -> int:
        """Linear regions that the line passes through."""
        return len(self.alpha) - 1

    @property
    def middles(self) -> Tensor:
        """A point of each region, float64 [k - 1]."""
        return (self.alpha[1:] + self.alpha[:-1]) / 2


@torch.no_grad()
def pieces(model: nn.Module, x: Tensor, direction: Tensor, *, low: float = -1.0, high: float = 2.0) -> tuple[Line, ...]:
    """Where each line x + α d passes from one linear region of the network to the next, and the logits there.

    A knot is a point at which some unit changes sides, whether or not that changes the logits.

    Args:
        model: A piecewise linear network, dropout and batch-norm in eval mode.
        x: Points, float32 or float64 [m, *in_shape].
        direction: One direction for each, same shape.
        low: Lowest α, below 0.
        high: Highest α, above 0.

    Returns:
        The pieces of each line.

    Raises:
        UserError: As for `generalization_interval`; a layer is not piecewise linear; there are too many knots.

    Source: Montúfar et al. 2014 (linear regions); Sotoudeh and Thakur 2019 (exact restriction to lines).

    >>> network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    >>> network[0].weight.data, network[0].bias.data = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    >>> pieces(network, torch.full((1, 1), -1.0), torch.ones(1, 1))[0].alpha.round(decimals=9).tolist()
    [-1.0, 1.0, 2.0]
    """
    check_range(low, high)
    check_network(model)
    check_lines(model, x, direction)
    logits_at(model, x[:1])
    try:
        program = read(model, x.dtype)
        return tuple(_line(program, x[i : i + 1], direction[i : i + 1], low, high) for i in range(len(x)))
    except NotPiecewiseLinearError as error:
        raise UserError(f"{error}: such a network has no linear pieces") from error
    except TooManyKnotsError as error:
        raise UserError(f"a line from {low} to {high} has too many knots for the memory: narrow the range") from error


def _line(program: Program, x: Tensor, direction: Tensor, low: float, high: float) -> Line:
    ends = torch.tensor([[low, high]], dtype=torch.float64, device=x.device)
    walk = Walk(program, along_lines(program, x, direction), segments(ends.new_zeros(1, dtype=torch.int64), ends))
    alpha = walk.knots.alpha
    keep = torch.ones(len(alpha), dtype=torch.bool, device=alpha.device)
    keep[1:] = alpha.diff() > SAME * (high - low)
    keep[-1] = True
    if len(alpha) > 2 and not bool(alpha[-1] - alpha[:-1][keep[:-1]][-1] > SAME * (high - low)):
        keep[:-1][keep[:-1].nonzero()[-1]] = False
    return Line(alpha[keep], walk.logits[keep])
