"""The generalization interval of a point in a direction, and the linear pieces of a network along a line."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures.intervals import grid, search
from gendyn_lite.measures.intervals.bounds import beyond_bounds
from gendyn_lite.measures.intervals.knots import Lines, chunks, segments
from gendyn_lite.measures.intervals.layers import NotPiecewiseLinearError
from gendyn_lite.measures.intervals.network import Program, check_lines, logits_at, no_nan, read
from gendyn_lite.measures.intervals.walk import TooManyKnotsError, Walk, along_lines
from gendyn_lite.measures.per_example.apart import own_outputs
from gendyn_lite.measures.per_example.checks import check_name, check_number, check_whole
from gendyn_lite.measures.per_example.guards import Output, given, reading
from gendyn_lite.threads import keep_freed_memory

Method = Literal["exact", "certified", "grid"]


class Intervals(NamedTuple):
    """Generalization intervals of m lines, in units of α.

    Attributes:
        lower: Lower end of each, float64 [m], in [low, 0].
        upper: Upper end, float64 [m], in [0, high].
        label: Class at α = 0, int64 [m]; if several share the largest logit, the first of them.
        tied: Whether α = 0 lies on a decision boundary, where several classes share the largest logit: bool [m].
        method: ``"exact"`` (every linear piece), ``"certified"`` (bisection with bounds) or ``"grid"`` (samples, then
            bisection).
        guarantee: What that method guarantees, in a sentence.
        certain_lower: Lowest α down to which it is proved that the class does not change, float64 [m]: `lower` for the
            exact method, 0 for the grid, which proves nothing.
        certain_upper: Highest α up to which this is proved, float64 [m].
    """

    lower: Tensor
    upper: Tensor
    label: Tensor
    tied: Tensor
    method: Method
    guarantee: str
    certain_lower: Tensor
    certain_upper: Tensor

    @property
    def exact(self) -> bool:
        """Whether the ends are exact up to rounding, so that no change of class between them can have been missed."""
        return self.method == "exact"

    @property
    def length(self) -> Tensor:
        """Lengths upper − lower of the intervals, float64 [m]."""
        return self.upper - self.lower


METHODS = ("auto", "exact", "certified", "grid")
GUARANTEES: dict[Method, str] = {
    "exact": "every linear piece was followed: no change of class is missed, ends are right up to rounding",
    "certified": "between certain_lower and certain_upper no change of class is missed; beyond that samples, then "
    "bisection",
    "grid": "samples, then bisection: a stretch of another class that lies between two samples is missed",
}


@torch.no_grad()
def generalization_interval(
    model: nn.Module,
    x: Tensor | DataLoader[Any],
    direction: Tensor,
    *,
    low: float = -1.0,
    high: float = 2.0,
    method: Literal["auto", "exact", "certified", "grid"] = "auto",
    max_pieces: int = 20_000,
    samples: int = 300,
    tolerance: float = 1e-6,
    seconds: float = math.inf,
    progress: bool = False,
    output: Output = None,
) -> Intervals:
    """Find the connected interval of α around 0 on which x + α d keeps the class of x, for many lines at once.

    The class at α = 0 is kept as long as no other logit is larger: touching or sharing the largest logit does not end
    the interval. Networks of affine layers, ReLU and its piecewise linear relatives, average- and max-pooling, maxout,
    batch-norm in eval mode, sums and concatenations are followed exactly, one linear piece after the other. If rounding
    in a float32 network leaves an end in doubt, it is settled in float64.

    Args:
        model: A network with finite weights; its dropout and batch-norm are in eval mode.
        x: Points, float32 or float64 [m, *in_shape], on the model's device; or a DataLoader of them and their labels.
        direction: One direction for each point, same shape as x. For a pair of points it is their difference, so that
            α = 1 is the second point.
        low: Lowest α, below 0.
        high: Highest α, above 0.
        method: ``"exact"``, ``"certified"`` (bisection with proved bounds, for networks with very many pieces),
            ``"grid"`` (samples and bisection, for any network) or ``"auto"``: exact if no line has more than
            `max_pieces` pieces, otherwise certified; the grid for layers that are not piecewise linear.
        max_pieces: Most linear pieces of one line that the exact method follows.
        samples: Samples on each side for the grid, and beyond the range that the certified method proves.
        tolerance: Width in α to which the ends are bisected, by the certified method and the grid.
        seconds: Time limit of the exact and the certified method. After it ``"auto"`` turns to the grid.
        progress: Whether to show a progress bar.
        output: Function that takes the network's output and returns the logits, for a network that returns a tuple or
            a dict. Only the grid can measure such a network.

    Returns:
        Ends in units of α, with the method used and what it guarantees.

    Raises:
        UserError: The range does not contain 0; a direction is zero; shapes, types or devices do not match; weights are
            not finite; dropout or batch-norm is in train mode; the network mixes points or draws random numbers; a
            layer does not allow the requested method, or the time does not suffice for it.

    Source: Salman et al. (2019), Eq. 6.

    >>> network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))  # to be |x| against 1
    >>> network[0].weight.data, network[2].weight.data = torch.tensor([[1.0], [-1]]), torch.tensor([[1.0, 1], [0, 0]])
    >>> network[2].bias.data = torch.tensor([0.0, 1.0])
    >>> found = generalization_interval(network, torch.zeros(1, 1), torch.ones(1, 1))
    >>> found.lower.tolist(), found.upper.tolist(), found.exact
    ([-1.0], [1.0], True)
    """
    check_name("method", method, METHODS)
    check_whole("max_pieces", max_pieces)
    check_whole("samples", samples)
    check_number("tolerance", tolerance, "a number from 1e-12 to 1", lambda value: 1e-12 <= value <= 1)
    check_number("seconds", seconds, "a number above 0", lambda value: value > 0)
    points = given(x, None)[0]
    check_lines(model, points, direction, low, high)
    keep_freed_memory()
    until = time.monotonic() + seconds
    with reading(model, output):
        parts = [points[part] for part in chunks(len(points), grid.POINTS)]
        logits = no_nan(torch.cat([own_outputs(model, part, partial(logits_at, model)) for part in parts]))
        label, tied = search.class_at_origin(logits)
        lines = Lines(points, direction, label, (float(low), float(high)))
        way = _Way(method, max_pieces, samples, tolerance, until, progress)
        ends, certain, used, reason = _ends(model, lines, way)
    (lower, upper), (down, up) = ends.unbind(1), certain.unbind(1)
    return Intervals(lower, upper, label, tied, used, GUARANTEES[used] + reason, down, up)


class _Way(NamedTuple):
    """Options of the search, as in `generalization_interval`; `until` is its deadline on the monotonic clock."""

    method: str
    max_pieces: int
    samples: int
    tolerance: float
    until: float
    progress: bool


def _ends(model: nn.Module, lines: Lines, way: _Way) -> tuple[Tensor, Tensor, Method, str]:
    """Return the ends [m, 2], the certain ends [m, 2], the method, and why no method with a guarantee was used."""

    def network_at(points: Tensor) -> Tensor:
        return no_nan(logits_at(model, points))

    sampled = partial(grid.grid_ends, network_at, lines, samples=way.samples, tolerance=way.tolerance)
    reason = ""
    if way.method != "grid":
        try:
            network = replace(_read(model, lines), until=way.until, progress=way.progress)
            exact = _exact_ends(network, lines, way)
            if exact is not None:
                return exact, exact, "exact", ""
            between = search.certified_ends(network, lines, tolerance=way.tolerance)
            return sampled(between=between), between[0], "certified", ""
        except (NotPiecewiseLinearError, search.OutOfTimeError) as error:
            if way.method != "auto":
                told = f"{error}: use method='grid', which takes any network, without a guarantee"
                raise UserError(told) from error
            reason = f" ({error})"
    ends = sampled()
    return ends, torch.zeros_like(ends), "grid", reason


def _exact_ends(network: search.Network, lines: Lines, way: _Way) -> Tensor | None:
    """Return the exact ends [m, 2]; None if another method is requested, or if ``"auto"`` finds too many pieces."""
    if way.method == "certified" or (
        way.method == "auto" and search.sides_changed(network.program, lines) > way.max_pieces
    ):
        return None
    try:
        return search.exact_ends(network, lines, way.max_pieces)
    except search.TooManyPiecesError as error:
        if way.method == "exact":
            told = f"a line has {error} linear pieces or more, expected at most max_pieces={way.max_pieces}"
            raise UserError(f"{told}: raise it, narrow the range, or use method='certified'") from error
        return None


def _spread(lines: Lines) -> Tensor:
    """Return the points at α = 0 and at both ends of the range, on the first and the last line."""
    line = torch.tensor([0, len(lines) - 1] * 3, device=lines.x.device)
    alpha = torch.tensor([0.0, 0.0, *(2 * [lines.span[0]]), *(2 * [lines.span[1]])], dtype=torch.float64)
    return lines.points(line, alpha.to(lines.x.device))


def _read(model: nn.Module, lines: Lines) -> search.Network:
    """Trace a network as steps; refuse it if steps or bounds disagree with the network at some points of the lines."""
    x = _spread(lines)
    program, logits = read(model, x.dtype), logits_at(model, x)
    origins = torch.zeros(len(x), 1, dtype=torch.float64, device=x.device)
    knots = segments(torch.arange(len(x), device=x.device), origins)
    size = logits.abs().amax(0)  # of each class: a class that is masked by a huge logit must not hide errors of others
    allowed = (1e-3 if x.dtype == torch.float32 else 1e-9) * torch.maximum(size, size.median()).clamp(min=1e-30)
    try:
        walk = Walk(program, along_lines(program, x, torch.zeros_like(x)), knots, refine=False)
        beyond = beyond_bounds(model, program, lines)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise NotPiecewiseLinearError(f"its steps cannot be followed ({first_line(error)})") from error
    if not ((walk.logits - logits).abs() <= allowed).all() or not (beyond <= allowed).all():
        raise NotPiecewiseLinearError("the network's forward depends on its input in ways that torch.fx cannot trace")
    return search.Network(model, program, walk.widest)


SAME = 1e-12  # knots closer together than this fraction of the range count as one


class Line(NamedTuple):
    """The linear pieces of a network along one line.

    Attributes:
        alpha: Ends of the range and every knot in between, in ascending order, float64 [k].
        logits: Logits there, [k, C]; they are linear in between.
    """

    alpha: Tensor
    logits: Tensor

    @property
    def regions(self) -> int:
        """Number of linear regions that the line passes through."""
        return len(self.alpha) - 1

    @property
    def middles(self) -> Tensor:
        """The α in the middle of each region, float64 [k - 1]."""
        return (self.alpha[1:] + self.alpha[:-1]) / 2


@torch.no_grad()
def pieces(model: nn.Module, x: Tensor, direction: Tensor, *, low: float = -1.0, high: float = 2.0) -> tuple[Line, ...]:
    """Find where each line x + α d passes from one linear region of the network to the next, and the logits there.

    A knot is a point at which some unit changes sides, whether or not that changes the logits.

    Args:
        model: A piecewise linear network; its dropout and batch-norm are in eval mode.
        x: Points, float32 or float64 [m, *in_shape].
        direction: One direction for each point, same shape as x.
        low: Lowest α, below 0.
        high: Highest α, above 0.

    Returns:
        The pieces of each line.

    Raises:
        UserError: As for `generalization_interval`; a layer is not piecewise linear; there are too many knots.

    Source: Montúfar et al. (2014), linear regions; Sotoudeh and Thakur (2019), exact restriction to lines.

    >>> network = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    >>> network[0].weight.data, network[0].bias.data = torch.tensor([[1.0], [-1.0]]), torch.zeros(2)
    >>> pieces(network, torch.full((1, 1), -1.0), torch.ones(1, 1))[0].alpha.round(decimals=9).tolist()
    [-1.0, 1.0, 2.0]
    """
    check_lines(model, x, direction, low, high)
    label = no_nan(own_outputs(model, x, partial(logits_at, model))).argmax(1)
    try:
        program = _read(model, Lines(x, direction, label, (float(low), float(high)))).program
        return tuple(_line(program, x[i : i + 1], direction[i : i + 1], low, high) for i in range(len(x)))
    except NotPiecewiseLinearError as error:
        raise UserError(f"{error}: such a network has no linear pieces") from error
    except TooManyKnotsError as error:
        raise UserError(f"a line from {low} to {high} has too many knots for the memory: narrow the range") from error


def _line(program: Program, x: Tensor, direction: Tensor, low: float, high: float) -> Line:
    ends = torch.tensor([[low, high]], dtype=torch.float64, device=x.device)
    walk = Walk(program, along_lines(program, x, direction), segments(ends.new_zeros(1, dtype=torch.int64), ends))
    alpha = walk.knots.alpha
    apart = SAME * (high - low)
    keep = high - alpha > apart  # drops knots that coincide with the end of the range, which stays
    keep[1:] &= alpha.diff() > apart
    keep[-1] = True
    return Line(alpha[keep], walk.logits[keep])
