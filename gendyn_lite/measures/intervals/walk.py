"""Forward passes along rays, which insert a knot wherever a unit changes from one linear piece to the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from gendyn_lite.measures.intervals.knots import AtKnots, Insertion, Knots, OnLines
from gendyn_lite.measures.intervals.layers import Affine, Kinks, Maximum, NotPiecewiseLinearError, Windows
from gendyn_lite.measures.intervals.network import Program, Step, read_shape, with_count

MEMORY = 2**28  # most bytes of one layer at all knots of a walk


class TooManyKnotsError(Exception):
    """The knots of a walk would not fit into memory."""


class Walk:
    """One forward pass along several rays.

    Args:
        program: The network.
        start: Values that are affine along whole lines, from `along_lines`.
        knots: Initial knots of the rays: at least both ends of each.
        refine: Whether to add knots where units change sides. If not, the network is only run at the given knots.

    Attributes:
        knots: All knots, initial and added.
        logits: Logits at the knots, [k, C].
        widest: Bytes of the widest layer at one knot.
    """

    def __init__(self, program: Program, start: dict[fx.Node, OnLines], knots: Knots, *, refine: bool = True) -> None:
        self.knots, self.refine, self.widest = knots, refine, 1
        self._values: dict[fx.Node, Any] = {**program.constants, **start}
        program.run(self._values, start, self._run)
        self.logits = self._placed(self._values[program.output])

    def _run(self, step: Step) -> Any:
        """Run one step at the current knots, and add knots where it needs them."""
        args, kwargs = ((), {}) if isinstance(step.action, Kinks) else self._arguments(step)
        if step.action is None:
            return read_shape(step, args, kwargs)
        if isinstance(step.action, Kinks):
            result = self._kinked(step, step.action)
        elif isinstance(step.action, Maximum):
            windows = step.action.windows(*args, **kwargs)
            if self.refine and self._insert(*kinks(windows, self.knots.joined)):
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
        """Run an elementwise function, with a new knot wherever a unit crosses a level."""
        source = step.node.all_input_nodes[0]
        value = self._placed(self._values[source])
        if source in step.frees:
            del self._values[source]  # so that it is not interpolated twice
        for level in action.levels if self.refine else ():
            r, unit, t = self._sides_changed(value.flatten(1), level)
            insertion = self._insert(r, t, value)
            if insertion:
                value = insertion.interpolate(value)
                value.flatten(1)[insertion.new, unit.index_select(0, insertion.order)] = level
                if isinstance(self._values.get(source), AtKnots):
                    self._values[source] = AtKnots(value)
        return action.apply(value)

    def _sides_changed(self, value: Tensor, level: float) -> tuple[Tensor, Tensor, Tensor]:
        """Find units that cross a level between neighbouring knots: the first knot, the unit, the place in (0, 1)."""
        above = value > level
        at = (above[1:] != above[:-1]).view(-1).nonzero().squeeze(1)
        r = torch.div(at, value.shape[1], rounding_mode="floor")
        flat = value.reshape(-1)
        before, after = (flat.index_select(0, i).double() - level for i in (at, at + value.shape[1]))
        inside = (self.knots.joined.index_select(0, r) & (before != 0) & (after != 0)).nonzero().squeeze(1)
        at, r, before, after = (each.index_select(0, inside) for each in (at, r, before, after))
        return r, at - r * value.shape[1], before / (before - after)

    def _insert(self, r: Tensor, t: Tensor, value: Tensor | None = None) -> Insertion | None:
        """Add knots, and interpolate every stored value to them; the caller interpolates `value`."""
        if not len(r):
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
        self.knots = insertion.knots
        return insertion

    def _arguments(self, step: Step) -> tuple[Any, Any]:
        """Return a step's arguments at the current knots."""
        return step.arguments(lambda node: self._placed(self._values[node]))

    def _placed(self, value: Any) -> Any:
        if isinstance(value, OnLines):
            value = self.knots.place(value)
        return value.value if isinstance(value, AtKnots) else value


@torch.no_grad()
def along_lines(program: Program, x: Tensor, direction: Tensor) -> dict[fx.Node, OnLines]:
    """Compute the values that are affine along whole lines: the input, and layers before the first kink.

    Args:
        program: The network.
        x: Origins of the lines, [m, *in_shape].
        direction: Directions of the lines, [m, *in_shape].

    Returns:
        Those values by node.
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


def kinks(windows: Windows, joined: Tensor) -> tuple[Tensor, Tensor]:
    """Find where the largest entry of a window changes between neighbouring knots.

    Args:
        windows: The windows at k knots.
        joined: Whether each knot and the next are the ends of a segment, bool [k − 1].

    Returns:
        Index of the segment's first knot, int64 [q], and the place within the segment in (0, 1), float64 [q].

    >>> from gendyn_lite.measures.intervals import layers
    >>> entries = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 4.0]])
    >>> windows = layers.along(entries[:, None], 2)
    >>> kinks(windows, torch.tensor([True]))[1].tolist()  # 2 - 2t meets 4t at 1/3; the middle entry just touches
    [0.3333...]
    """
    r, g = ((windows.winner[1:] != windows.winner[:-1]) & joined[:, None]).nonzero(as_tuple=True)
    members = windows.members[g]
    start, end = (windows.entries[at[:, None], members] for at in (r, r + 1))
    row, t = _follow(start.double(), end.double())
    return r[row], t


def _follow(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Find the kinks of the maximum of each row's K lines, from start to end: row int64 [q], place float64 [q]."""
    slope = end - start
    current = start.argmax(1)
    active = torch.arange(len(start), device=start.device)
    rows, places = [active[:0]], [start.new_empty(0)]
    for _ in range(start.shape[1] - 1):
        a, b = start[active], slope[active]
        ahead = current[active, None]
        steeper = b - b.gather(1, ahead)
        t = torch.where(steeper > 0, (a.gather(1, ahead) - a) / steeper, torch.inf)
        place = t.amin(1)
        # Of several lines that cross at one place, the steepest is the largest behind it.
        following = torch.where(t == place[:, None], b, -torch.inf).argmax(1)
        inside = place < 1
        active, place, following = active[inside], place[inside], following[inside]
        if not len(active):
            break
        current[active] = following
        kept = place > 0
        rows.append(active[kept])
        places.append(place[kept])
    return torch.cat(rows), torch.cat(places)
