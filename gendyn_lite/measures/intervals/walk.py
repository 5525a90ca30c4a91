"""Through a network along rays, with a knot wherever a unit changes from one linear piece to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals.envelope import kinks
from gendyn_lite.measures.intervals.graph import Program, Step, read_shape, with_count
from gendyn_lite.measures.intervals.knots import AtKnots, Insertion, Knots, OnLines
from gendyn_lite.measures.intervals.layers import Affine, Kinks, Maximum, NotPiecewiseLinearError

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
        widest: Bytes of the largest layer at one knot.
        crossings: Units that changed sides, each time counted; without `refine` between the given points.
    """

    def __init__(self, program: Program, start: dict[fx.Node, OnLines], knots: Knots, *, refine: bool = True,
                 count: bool = False) -> None:  # fmt: skip
        self.knots = knots
        self.refine, self.count = refine, count
        self.crossings = 0
        self.widest = 1
        self._new = torch.zeros(len(knots.alpha), dtype=torch.bool, device=knots.alpha.device)
        self._values: dict[fx.Node, Any] = {**program.constants, **start}
        for step in program.steps:
            if step.node in start:
                continue
            result = self._values[step.node] = self._run(step)
            if isinstance(result, AtKnots):
                self.widest = max(self.widest, result.value[0].numel() * result.value.element_size())
            for node in step.frees:
                if node not in program.constants and node is not program.output:
                    self._values.pop(node, None)
        self.logits = self._placed(self._values[program.output])
        if self.logits.dim() != 2 or self.logits.shape[1] < 2:
            raise UserError(f"the network's output has shape {tuple(self.logits.shape)}, expected logits [n, classes]")

    def _run(self, step: Step) -> Any:
        """One step at the present knots, which it may refine."""
        if step.action is None:
            return read_shape(step, *self._arguments(step))
        if isinstance(step.action, Kinks):
            return AtKnots(self._kinked(step, step.action))
        args, kwargs = self._arguments(step)
        if isinstance(step.action, Maximum):
            windows = step.action.windows(*args, **kwargs)
            if (self.refine or self.count) and self._insert(*kinks(windows, self.knots.joined)):
                args, kwargs = self._arguments(step)
                windows = step.action.windows(*args, **kwargs)
            return AtKnots(windows.largest)
        result = step.action.apply(*args, **kwargs)
        if not isinstance(result, Tensor) or len(result) != len(self.knots.alpha):
            raise NotPiecewiseLinearError(f"{step.name} mixes the examples of a batch")
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
        new = self._new.new_ones(insertion.count)
        new[insertion.old] = self._new
        self._new, self.knots = new, insertion.knots
        return insertion

    @property
    def is_new(self) -> Tensor:
        """Which knots were found, not given: bool [k]."""
        return self._new

    def _arguments(self, step: Step) -> tuple[Any, Any]:
        """A step's arguments at the present knots."""
        args = fx.map_arg(step.node.args, lambda node: self._placed(self._values[node]))
        kwargs = fx.map_arg(step.node.kwargs, lambda node: self._placed(self._values[node]))
        return args, kwargs

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
        p, v, at_zero = (
            _call(step.action.apply, step, {**program.constants, **values})
            for values in ({n: known[n].p for n in parents}, {n: known[n].v for n in parents}, zero)
        )
        if len(p) != len(x) or len(at_zero) != 1:
            raise NotPiecewiseLinearError(f"{step.name} mixes the examples of a batch")
        known[step.node] = OnLines(p, v - at_zero)
    return known


def _call(apply: Any, step: Step, values: dict[fx.Node, Any]) -> Tensor:
    return apply(*fx.map_arg(step.node.args, values.get), **fx.map_arg(step.node.kwargs, values.get))
