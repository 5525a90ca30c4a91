"""The generalization interval of a point in a direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.intervals.bounds import certified_ends
from gendyn_lite.measures.intervals.exact import Network, TooManyPiecesError, class_at_origin, exact_ends, sides_changed
from gendyn_lite.measures.intervals.graph import Program, read
from gendyn_lite.measures.intervals.knots import segments
from gendyn_lite.measures.intervals.layers import NotPiecewiseLinearError
from gendyn_lite.measures.intervals.lines import (
    Intervals,
    Lines,
    Method,
    check_lines,
    check_network,
    check_range,
    chunks,
    logits_at,
)
from gendyn_lite.measures.intervals.walk import Walk, along_lines
from gendyn_lite.measures.per_example.checks import check_whole

POINTS = 4096  # in one forward pass


@torch.no_grad()
def grid_ends(
    network: Callable[[Tensor], Tensor],
    lines: Lines,
    *,
    samples: int,
    tolerance: float,
    between: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The first sampled change of class on both sides, bisected.

    A stretch of another class that lies between two samples is stepped over.

    Args:
        network: From [n, *in_shape] to logits [n, C].
        lines: The lines.
        samples: Points on each side.
        tolerance: To which a change is bisected.
        between: Where to sample, from and to, float64 [m, 2] each; from 0 to the range's ends unless given.

    Returns:
        Ends, float64 [m, 2].
    """
    begin, limit = between or (torch.zeros_like(lines.limits), lines.limits)
    begin, limit = begin.flatten(), limit.flatten()
    line = torch.arange(len(lines), device=limit.device).repeat_interleave(2)
    share = torch.linspace(0, 1, samples + 1, dtype=torch.float64, device=limit.device)[1:]
    ends = []
    for part in chunks(len(line), max(1, POINTS // samples)):
        places = begin[part, None] + share * (limit[part] - begin[part])[:, None]
        same = keeps(network, lines, line[part, None].expand_as(places), places)
        first = torch.where(same.all(1), samples, (~same).int().argmax(1))
        padded = torch.cat([begin[part, None], places, places[:, -1:]], dim=1)
        pair = padded.gather(1, torch.stack([first, first + 1], dim=1))
        ends.append(_bisect(network, lines, line[part], pair, tolerance))
    return torch.cat(ends).view(-1, 2)


def keeps(network: Callable[[Tensor], Tensor], lines: Lines, line: Tensor, alpha: Tensor) -> Tensor:
    """Whether each point x + α d has the line's class (a tie counts), bool like `alpha`."""
    out = []
    for part in chunks(alpha.numel(), POINTS):
        at = line.flatten()[part]
        logits = network(lines.points(at, alpha.flatten()[part]))
        out.append(logits.gather(1, lines.label[at, None]).squeeze(1) >= logits.amax(1))
    return torch.cat(out).view_as(alpha)


def _bisect(network: Callable[[Tensor], Tensor], lines: Lines, line: Tensor, pair: Tensor, tolerance: float) -> Tensor:
    """Halve [same, other] until it is narrower than the tolerance; both ends equal where nothing changed."""
    same, other = pair.unbind(1)
    while bool(((other - same).abs() > tolerance).any()):
        middle = (same + other) / 2
        stays = keeps(network, lines, line, middle)
        same, other = torch.where(stays, middle, same), torch.where(stays, other, middle)
    return same


METHODS = ("auto", "exact", "certified", "grid")
EXACT = "every linear piece was followed: no change of class is missed, ends are right up to rounding"
CERTIFIED = "between certain_lower and certain_upper no change of class is missed; beyond that samples, then bisection"
GRID = "samples, then bisection: a stretch of another class that lies between two samples is missed"


@torch.no_grad()
def generalization_interval(
    model: nn.Module,
    x: Tensor,
    direction: Tensor,
    *,
    low: float = -1.0,
    high: float = 2.0,
    method: Literal["auto", "exact", "certified", "grid"] = "auto",
    max_pieces: int = 20_000,
    samples: int = 300,
    tolerance: float = 1e-6,
    max_steps: int = 200,
) -> Intervals:
    """The connected interval of α around 0 on which x + α d keeps the class of x, for many lines at once.

    The class at α = 0 is kept while its logit is among the largest: touching or sharing the largest logit does not end
    the interval. Networks of affine layers, ReLU and its piecewise linear relatives, average- and max-pooling, maxout,
    batch-norm in eval mode, sums and concatenations are followed exactly, linear piece by linear piece; ends of float32
    networks that rounding leaves in doubt are settled in float64.

    Args:
        model: A network with finite weights, dropout and batch-norm in eval mode.
        x: Points, float32 or float64 [m, *in_shape], on the model's device.
        direction: One direction for each, same shape; for a pair of points their difference, so that α = 1 is the
            second one.
        low: Lowest α, below 0.
        high: Highest α, above 0.
        method: ``"exact"``, ``"certified"`` (bisection with proved bounds, for networks with very many pieces),
            ``"grid"`` (samples and bisection: any network) or ``"auto"``: exact where it can be and a line has at most
            `max_pieces` pieces, then certified, and the grid for layers that are not piecewise linear.
        max_pieces: Most linear pieces of one line that the exact method follows.
        samples: Points on each side for the grid, and where a certificate ends.
        tolerance: To which certified ends and those of the grid are bisected.
        max_steps: Most segments that certified bisection looks at on each side of a line.

    Returns:
        Ends in units of α, with the method used and what it guarantees.

    Raises:
        UserError: The range does not contain 0, a direction is zero, shapes, types or devices do not match, weights are
            not finite, dropout or batch-norm is in train mode, or a layer does not allow the method asked for.

    Source: Salman et al. 2019, Towards Quantifying Intrinsic Generalization of Deep ReLU Networks, equation 6.

    >>> network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))  # to be |x| against 1
    >>> network[0].weight.data, network[2].weight.data = torch.tensor([[1.0], [-1]]), torch.tensor([[1.0, 1], [0, 0]])
    >>> network[2].bias.data = torch.tensor([0.0, 1.0])
    >>> found = generalization_interval(network, torch.zeros(1, 1), torch.ones(1, 1))
    >>> found.lower.tolist(), found.upper.tolist(), found.exact
    ([-1.0], [1.0], True)
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    check_range(low, high)
    for name, count in (("max_pieces", max_pieces), ("samples", samples), ("max_steps", max_steps)):
        check_whole(name, count)
    if not isinstance(tolerance, int | float) or not 1e-12 <= tolerance <= 1:
        raise UserError(f"tolerance is {tolerance!r}, expected a number from 1e-12 to 1")
    check_network(model)
    check_lines(model, x, direction)
    logits = torch.cat([logits_at(model, x[part]) for part in chunks(len(x), POINTS)])
    label, tied = class_at_origin(logits)
    lines = Lines(x, direction, label, (float(low), float(high)))
    look = _Look(model, lines, tied, samples, tolerance)
    if method == "grid":
        return look.grid()
    try:
        program = read(model, x.dtype)
        network = Network(model, program, _check_reading(program, x[:2], logits[:2]))
        first = next(lines.parts(4))
        if method == "certified" or (method == "auto" and sides_changed(program, first) > max_pieces):
            return look.certified(network, max_steps)
        try:
            return look.exact(network, max_pieces)
        except TooManyPiecesError as error:
            if method == "exact":
                raise UserError(
                    f"a line has {error} linear pieces or more, expected at most max_pieces={max_pieces}: raise it, "
                    "narrow the range, or use method='certified'"
                ) from error
            return look.certified(network, max_steps)
    except NotPiecewiseLinearError as error:
        if method == "auto":
            return look.grid(reason=str(error))
        raise UserError(f"{error}: use method='grid', which takes any network, without a guarantee") from error


@dataclass(frozen=True)
class _Look:
    """The lines of one call, and each method over them."""

    model: nn.Module
    lines: Lines
    tied: Tensor
    samples: int
    tolerance: float

    def exact(self, network: Network, max_pieces: int) -> Intervals:
        ends, looked = exact_ends(network, self.lines, max_pieces)
        return self._found(ends, "exact", EXACT, ends, looked)

    def certified(self, network: Network, max_steps: int) -> Intervals:
        between = certified_ends(network.program, self.lines, tolerance=self.tolerance, max_steps=max_steps,
                                 at_a_time=max(1, network.rows // 4))  # fmt: skip
        ends = grid_ends(self.model, self.lines, samples=self.samples, tolerance=self.tolerance, between=between)
        return self._found(ends, "certified", CERTIFIED, between[0])

    def grid(self, reason: str | None = None) -> Intervals:
        ends = grid_ends(self.model, self.lines, samples=self.samples, tolerance=self.tolerance)
        says = GRID if reason is None else f"{GRID} ({reason})"
        return self._found(ends, "grid", says, torch.zeros_like(ends))

    def _found(
        self, ends: Tensor, method: Method, guarantee: str, certain: Tensor, looked: Tensor | None = None
    ) -> Intervals:
        (lower, upper), (down, up) = ends.unbind(1), certain.unbind(1)
        return Intervals(lower, upper, self.lines.label, self.tied, method, guarantee, down, up, looked)


def _check_reading(program: Program, x: Tensor, logits: Tensor) -> int:
    """Bytes of the largest layer for one input; refused is a network that does something else than its traced steps."""
    start = along_lines(program, x, torch.zeros_like(x))
    line = torch.arange(len(x), device=x.device)
    walk = Walk(
        program, start, segments(line, torch.zeros(len(x), 1, dtype=torch.float64, device=x.device)), refine=False
    )
    allowed = (1e-3 if x.dtype == torch.float32 else 1e-9) * float(logits.abs().max().clamp(min=1e-30))
    if float((walk.logits - logits).abs().max()) > allowed:
        raise NotPiecewiseLinearError("the network's forward depends on its input in ways that torch.fx cannot trace")
    return walk.widest
