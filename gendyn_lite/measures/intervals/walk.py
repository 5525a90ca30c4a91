"""Through a network along rays, with a knot wherever a unit changes from one linear piece to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals.envelope import kinks
from gendyn_lite.measures.intervals.graph import Program, Step, read, read_shape, with_count
from gendyn_lite.measures.intervals.knots import AtKnots, Insertion, Knots, OnLines, segments
from gendyn_lite.measures.intervals.layers import Affine, Kinks, Maximum, NotPiecewiseLinearError
from gendyn_lite.measures.intervals.lines import check_lines, check_network, check_range, logits_at

MEMORY = 2**28  # bytes of one layer at all knots of a walk


class TooManyKnotsError(Exception):
    """The knots of a walk would not fit into memory."""


class Walk:
    """One pass through the network for several rays.

    Args:
        program: The network.
        start: Values that are affine along whole lines, from `along_lines`.
        knots: The rays' first knots: at least both ends of each.
        refine: Whether knots are added where units change sides; without it this is the network at given points.
        count: Whether changes are counted all the same.

    Attributes:
        knots: All knots found.
        logits: [k, C], at the knots.
        is_new: Which knots were found, not given: bool [k].
        widest: Bytes of the largest layer at one knot.
        crossings: Units that changed sides, each time counted; without `refine` between the given points.
    """

    def __init__(self, program: Program, start: dict[fx.Node, OnLines], knots: Knots, *, refine: bool = True,
                 count: bool = False) -> None:  # fmt: skip
        self.knots = knots
        self.refine, self.count = refine, count
        self.crossings = 0
        self.widest = 1
        self.is_new = torch.zeros(len(knots.alpha), dtype=torch.bool, device=knots.alpha.device)
        self._values: dict[fx.Node, Any] = {**program.constants, **start}
        program.run(self._values, start, self._run)
        self.logits = self._placed(self._values[program.output])
        if self.logits.dim() != 2 or self.logits.shape[1] < 2:
            raise UserError(f"the network's output has shape {tuple(self.logits.shape)}, expected logits [n, classes]")

    def _run(self, step: Step) -> Any:
        """One step at the present knots, which it may refine."""
        args, kwargs = ((), {}) if isinstance(step.action, Kinks) else self._arguments(step)
        if step.action is None:
            return read_shape(step, args, kwargs)
        if isinstance(step.action, Kinks):
            result = self._kinked(step, step.action)
        elif isinstance(step.action, Maximum):
            windows = step.action.windows(*args, **kwargs)
            if (self.refine or self.count) and self._insert(*kinks(windows, self.knots.joined)):
                args, kwargs = self._arguments(step)
                windows = step.action.windows(*args, **kwargs)
            result = windows.largest
        else:
            result = step.action.apply(*args, **kwargs)
            if not isinstance(result, Tensor) or len(result) != len(self.knots.alpha):
                raise NotPiecewiseLinearError(f"{step.name} mixes the examples of a batch")
        self.widest = max(self.widest, result[0].numel() * result.element_size())
        return AtKnots(result)

    def _kinked(self, step: Step, action: Kinks) -> Tensor:
        """An elementwise function: a knot wherever a unit passes a level."""
        source = step.node.all_input_nodes[0]
        value = self._placed(self._values[source])
        if source in step.frees:
            del self._values[source]  # else it would be interpolated twice
        for level in action.levels if self.refine or self.count else ():
            r, unit, t = self._sides_changed(value.flatten(1), level)
            insertion = self._insert(r, t, value)
            if insertion:
                value = insertion.interpolate(value)
                value.flatten(1)[insertion.new, unit.index_select(0, insertion.order)] = level
                if isinstance(self._values.get(source), AtKnots):
                    self._values[source] = AtKnots(value)
        return action.apply(value)

    def _sides_changed(self, value: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Units that pass a level between neighbouring knots: the first of these, the unit, and where in between."""
        above = value > level
        at = (above[1:] != above[:-1]).view(-1).nonzero().squeeze(1)
        r = torch.div(at, value.shape[1], rounding_mode="floor")
        flat = value.reshape(-1)
        before, after = (flat.index_select(0, i).double() - level for i in (at, at + value.shape[1]))
        inside = (self.knots.joined.index_select(0, r) & (before != 0) & (after != 0)).nonzero().squeeze(1)
        at, r, before, after = (each.index_select(0, inside) for each in (at, r, before, after))
        return r, at - r * value.shape[1], before / (before - after)

    def _insert(self, r: Tensor, t: Tensor, value: Tensor | None = None) -> Insertion | None:
        """Add knots and bring every value that is still needed to them; `value` is brought by the caller."""
        self.crossings += len(r)
        if not len(r) or not self.refine:
            return None
        held = {node: each.value for node, each in self._values.items() if isinstance(each, AtKnots)}
        sizes = [each[0].numel() * each.element_size() for each in (*held.values(), value) if each is not None]
        if (len(self.knots.alpha) + len(r)) * max(sizes, default=0) > MEMORY:
            raise TooManyKnotsError
        insertion = Insertion(self.knots, r, t)
        for node, each in held.items():
            if each is not value:
                self._values[node] = AtKnots(insertion.interpolate(each))
        for node, each in self._values.items():
            self._values[node] = with_count(each, insertion.count)
        new = self.is_new.new_ones(insertion.count)
        new[insertion.old] = self.is_new
        self.is_new, self.knots = new, insertion.knots
        return insertion

    def _arguments(self, step: Step) -> tuple[Any, Any]:
        """A step's arguments at the present knots."""
        return step.arguments(lambda node: self._placed(self._values[node]))

    def _placed(self, value: Any) -> Any:
        if isinstance(value, OnLines):
            value = self.knots.place(value)
        return value.value if isinstance(value, AtKnots) else value


@torch.no_grad()
def along_lines(program: Program, x: Tensor, direction: Tensor) -> dict[fx.Node, OnLines]:
    """What is affine along whole lines: the input and the layers before the first kink.

    Args:
        program: The network.
        x: Origins, [m, *in_shape].
        direction: [m, *in_shape].

    Returns:
        The value of each of those steps.
    """
    known = {program.input: OnLines(x, direction)}
    for step in program.steps:
        parents = [node for node in step.node.all_input_nodes if node not in program.constants]
        if not isinstance(step.action, Affine) or any(node not in known for node in parents):
            continue
        zero = {node: torch.zeros_like(known[node].v[:1]) for node in parents}
        found = []
        for values in ({n: known[n].p for n in parents}, {n: known[n].v for n in parents}, zero):
            args, kwargs = step.arguments({**program.constants, **values}.get)
            found.append(step.action.apply(*args, **kwargs))
        p, v, at_zero = found
        if len(p) != len(x) or len(at_zero) != 1:
            raise NotPiecewiseLinearError(f"{step.name} mixes the examples of a batch")
        known[step.node] = OnLines(p, v - at_zero)
    return known


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
