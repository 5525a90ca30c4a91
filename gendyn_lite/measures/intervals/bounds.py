"""Bounds on the network between knots (points on a ray), and norms of the linear maps of its regions.

Between two knots, a unit's value is its chord (the straight line between its values at the knots) plus a deviation,
for which a range is computed. Affine layers map chords to chords and ranges to ranges, which become wider as usual in
interval arithmetic. A unit that changes sides deviates from its chord by at most the depth of its kink.

The linear maps, and the ∞-norms of these and of the weights, are those of Salman et al. (2019), App. A.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals.directions import gradients
from gendyn_lite.measures.intervals.knots import Knots, Lines, OnLines, margins, rounding, segments
from gendyn_lite.measures.intervals.layers import Kinks, Maximum
from gendyn_lite.measures.intervals.network import Program, Step, logits_at, read_shape, with_count
from gendyn_lite.measures.intervals.walk import along_lines
from gendyn_lite.measures.per_example.layers import has_hooks


class Enclosure(NamedTuple):
    """A value at knots, and a range of its deviations between them.

    Attributes:
        value: Value at each of k knots, [k, ...].
        low: Lower bound on the deviation from the chord in each of n segments, [n, ...].
        high: Upper bound, [n, ...].
    """

    value: Tensor
    low: Tensor
    high: Tensor


class Bounds:
    """Bounds on a network between given knots.

    Args:
        program: The network.
        start: Values that are affine along whole lines, from `along_lines`.
        knots: The knots. Each two neighbours on a ray are the ends of a segment.

    Attributes:
        first: Index of the first knot of each segment, int64 [n]. The second one follows it.
        logits: Bounds on the logits.
        changes: Number of units that are known to change sides within each segment, int64 [n].

    Source: Moore (1966), interval arithmetic.
    """

    def __init__(self, program: Program, start: dict[fx.Node, OnLines], knots: Knots) -> None:
        self.knots = knots
        self.first = knots.joined.nonzero().squeeze(1)
        self.changes = torch.zeros_like(self.first)
        self._values: dict[fx.Node, Any] = {**program.constants, **start}
        program.run(self._values, start, self._run)
        self.logits = self._enclosure(program.output)

    def judge(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Decide which segments keep the class of their ray, and which knots have lost it.

        Args:
            label: Class of each ray, int64 [rays].

        Returns:
            Whether each segment is proved to keep the class, bool [n]; and whether each knot has lost it by more than
            rounding errors, bool [k].
        """
        own = label[self.knots.ray]
        margin, slack = margins(self.logits.value, own), rounding(self.logits.value, self.knots)
        mine = own[self.first, None]
        lost = (self.logits.high - self.logits.low.gather(1, mine)).scatter(1, mine, 0)
        worst = (torch.minimum(margin[self.first], margin[self.first + 1]) - lost).amin(1)
        return worst > slack[self.first], margin.amin(1) < -slack

    def _ends(self, value: Tensor) -> tuple[Tensor, Tensor]:
        return value.index_select(0, self.first), value.index_select(0, self.first + 1)

    def _enclosure(self, node: fx.Node) -> Any:
        value = self._values[node]
        if isinstance(value, OnLines):  # affine, so that it does not leave its chord
            placed = self.knots.place(value).value
            zero = torch.zeros_like(placed[: len(self.first)])
            value = self._values[node] = Enclosure(placed, zero, zero)
        return value

    def _run(self, step: Step) -> Any:
        """Compute the bounds of one step's value."""
        action = step.action
        if action is None:
            return read_shape(step, *self._select(step, "value"))
        if isinstance(action, Kinks):
            return self._kinked(action, self._enclosure(step.node.all_input_nodes[0]))
        if isinstance(action, Maximum):
            return self._maximum(step, action)
        value = self._call(action.apply, step, "value")
        # Interval arithmetic: the centre of a range is mapped by the linear part, its radius by the absolute weights.
        centre = self._call(action.apply, step, "centre") - self._call(action.apply, step, "zero")
        radius = self._call(action.absolute, step, "radius")
        return Enclosure(value, centre - radius, centre + radius)

    def _call(self, function: Callable[..., Any], step: Step, part: str) -> Any:
        args, kwargs = self._select(step, part)
        return function(*args, **kwargs)

    def _select(self, step: Step, part: str) -> tuple[Any, Any]:
        """Return a step's arguments, with one part of each enclosure in its place."""

        def pick(node: fx.Node) -> Any:
            value = self._enclosure(node)
            if not isinstance(value, Enclosure):
                return value if part == "value" else with_count(value, 1 if part == "zero" else len(self.first))
            at_knots, low, high = value
            if part == "value":
                return at_knots
            if part == "zero":
                return torch.zeros_like(low[:1])
            return {"centre": (low + high) / 2, "radius": (high - low) / 2, "least": -low, "most": high}[part]

        return step.arguments(pick)

    def _kinked(self, action: Kinks, source: Enclosure) -> Enclosure:
        """Bound a kinked function: the slopes times the deviation of its input, plus the depth of its own kinks."""
        value = action.apply(source.value)
        a, b = self._ends(source.value)
        least, most = action.slopes
        low, high = source.low, source.high
        depth = torch.zeros_like(low)
        for level in action.levels:
            kink = _depth(a - level, b - level)
            self.changes = self.changes + (kink > 0).flatten(1).sum(1)
            depth = depth + kink
        depth = depth * (most - least)
        below, above = torch.minimum(least * low, most * low), torch.maximum(least * high, most * high)
        if least < 0:  # what is higher before may be lower behind
            below, above = torch.minimum(below, least * high), torch.maximum(above, least * low)
        if action.levels != (0.0,) or most > 1:
            return Enclosure(value, below - depth, above + depth)
        if least == 0:  # a ReLU is at least 0, and at most the largest value of its input
            top = torch.maximum(a, b)
            below = torch.maximum(below - depth, -top.clamp(min=0))
            return Enclosure(value, below, torch.minimum(above, (top + high).clamp(min=0)))
        return Enclosure(value, below - depth, above)  # convex: never above its chord

    def _maximum(self, step: Step, action: Maximum) -> Enclosure:
        """Bound a maximum: it lies below its chord by at most the kink between the winners at both ends."""
        windows = self._call(action.windows, step, "value")
        (first, second), (mine, other) = self._ends(windows.entries), self._ends(windows.winner)
        depth = _depth(first.gather(1, mine) - first.gather(1, other), second.gather(1, mine) - second.gather(1, other))
        self.changes = self.changes + (depth > 0).sum(1)
        least, most = (self._call(action.windows, step, part).largest for part in ("least", "most"))
        return Enclosure(windows.largest, -least - depth.view(-1, *windows.shape), most)


def _depth(a: Tensor, b: Tensor) -> Tensor:
    """Return how far the kink of max(z, 0) lies below its chord, for z from a to b.

    >>> _depth(torch.tensor([-1.0, 1.0, 1.0]), torch.tensor([3.0, 2.0, -1.0])).tolist()
    [0.75, 0.0, 0.5]
    """
    product = (-a * b).clamp(min=0)
    return product / (a.abs() + b.abs()).clamp(min=torch.finfo(a.dtype).tiny)


def linear_maps(model: nn.Module, x: Tensor) -> Tensor:
    """Compute the Jacobian of the logits at each point, which is the linear map of its region.

    On the border of regions it is the derivative that torch uses there (0 for a ReLU).

    Args:
        model: The network, in eval mode.
        x: Points [n, *in_shape].

    Returns:
        Jacobians [n, C, D], for points with D entries.

    Raises:
        UserError: The network mixes points, draws random numbers, gives NaN or does not take such points.

    >>> linear_maps(nn.Linear(3, 2), torch.zeros(5, 3)).shape
    torch.Size([5, 2, 3])
    """
    return torch.stack([found.flatten(1) for found in gradients(model, x, lambda logits: logits.unbind(1))], dim=1)


def infinity_norm(maps: Tensor) -> Tensor:
    """Compute the largest row sum of absolute values of matrices [..., C, D], as [...].

    >>> infinity_norm(torch.tensor([[1.0, -2.0], [0.5, 0.5]])).item()
    3.0
    """
    return maps.abs().sum(-1).amax(-1)


class WeightNorms(NamedTuple):
    """∞-norms of a network's weights.

    Attributes:
        without_relus: ‖W_L … W_1‖∞, the norm of the network without its ReLUs: the paper's ‖W‖∞.
        product: Π ‖W_l‖∞, the product of the layers' norms, which bounds the norm of every region's linear map.
    """

    without_relus: float
    product: float


BETWEEN_LINEAR = (nn.Flatten, nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Dropout)


def weight_norms(model: nn.Sequential) -> WeightNorms:
    """Compute ‖W_L … W_1‖∞ and Π ‖W_l‖∞ of a network of fully connected layers.

    Args:
        model: Linear layers, with ReLU, LeakyReLU, Flatten or dropout between them.

    Raises:
        UserError: It has other layers or none that is linear, a forward of its own, hooks, or weights that are not
            finite.

    Source: Salman et al. (2019), App. A.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> network[0].weight.data, network[2].weight.data = torch.tensor([[1.0, 2], [-1, -2]]), torch.tensor([[1.0, 1]])
    >>> weight_norms(network)
    WeightNorms(without_relus=0.0, product=6.0)
    """
    total, product = None, 1.0
    for name, layer in model.named_modules():
        kinds = [kind for kind in (nn.Sequential, nn.Linear, *BETWEEN_LINEAR) if isinstance(layer, kind)]
        own = bool(kinds) and (type(layer).forward is not kinds[0].forward or "forward" in vars(layer))
        if own or has_hooks(layer):
            raise UserError(f"{name or 'the network'} ({type(layer).__name__}) has a forward of its own, or hooks")
    for name, layer in model.named_children():
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().double()
            total = weight if total is None else weight @ total
            product *= float(infinity_norm(weight))
        elif not isinstance(layer, BETWEEN_LINEAR):
            what = f"layer {name!r} is a {type(layer).__name__}, expected a network of Linear and ReLU layers"
            raise UserError(f"{what}: take linear_maps for others")
    if total is None:
        raise UserError("the network has no Linear layer, expected at least one")
    if not math.isfinite(product):
        raise UserError("the network has weights that are not finite (NaN or infinity), or as large as that")
    return WeightNorms(float(infinity_norm(total)), product)


BETWEEN = (0.13, 0.37, 0.61, 0.89)  # fractions of a segment at which its bounds are compared with the network


def beyond_bounds(model: nn.Module, program: Program, lines: Lines) -> Tensor:
    """Compute how far logits of the network lie outside of their bounds, at some points of the first and the last line.

    Args:
        model: The network.
        program: Its steps, from which the bounds are computed.
        lines: The lines.

    Returns:
        Distance of each logit beyond its bounds, float64 [points, C]; at most 0 within them.
    """
    line = torch.tensor([0, len(lines) - 1], device=lines.x.device)
    ends = torch.tensor([[lines.span[0], 0.0, lines.span[1]]] * 2, dtype=torch.float64, device=lines.x.device)
    some = replace(lines, x=lines.x[line], direction=lines.direction[line], label=lines.label[line])
    knots = segments(torch.arange(2, device=line.device), ends)
    bounds = Bounds(program, along_lines(program, some.x, some.direction), knots)
    count, first = len(bounds.first), bounds.first.repeat(len(BETWEEN))
    place = torch.tensor(BETWEEN, dtype=ends.dtype, device=line.device).repeat_interleave(count)
    points = some.points(knots.ray[first], torch.lerp(knots.alpha[first], knots.alpha[first + 1], place))
    value, low, high = (part.to(ends.dtype) for part in (bounds.logits.value, bounds.logits.low, bounds.logits.high))
    off = logits_at(model, points) - torch.lerp(value[first], value[first + 1], place[:, None])
    return torch.maximum(off - high.repeat(len(BETWEEN), 1), low.repeat(len(BETWEEN), 1) - off)
