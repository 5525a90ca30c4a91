"""Rules that follow the axis of the examples through an operation, from its inputs to its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class Axis(NamedTuple):
    """Position of the n examples of a tensor: along axis `dim`, which has size outer · n · inner in row-major order."""

    dim: int
    outer: int = 1
    inner: int = 1

    @property
    def alone(self) -> bool:
        """Whether the axis holds only the examples."""
        return self.outer == self.inner == 1


class LostError(Exception):
    """The axis of the examples cannot be followed through an operation."""


class Call(NamedTuple):
    """One call of an operation: its arguments, the tensors among them, their axes, shapes and strides, its output."""

    args: Sequence[Any]
    kwargs: dict[str, Any]
    tensors: Sequence[Tensor]
    axes: Sequence[Axis | None]
    shapes: Sequence[tuple[int, ...]]
    strides: Sequence[tuple[int, ...]]
    out: Any
    examples: int

    def first(self) -> Axis:
        """Return the axis of the first tensor; no other tensor may have one."""
        axis = self.axes[0]
        if axis is None or any(self.axes[1:]):
            raise LostError
        return axis

    def numbers(self, place: int, name: str = "dim") -> list[int]:
        """Return the axes given by an argument, counted from the front; all axes if it is missing or empty."""
        size = len(self.shapes[0])
        value = self.args[place] if len(self.args) > place else self.kwargs.get(name)
        if value is None or isinstance(value, bool) or (isinstance(value, list | tuple) and not value):
            return list(range(size))
        return [number % size for number in (value if isinstance(value, list | tuple) else [value])]


def same_along(value: Tensor, dim: int) -> bool:
    """Return whether a tensor is the same for every example: it lacks that axis, or is repeated along it."""
    return -dim > value.dim() or value.shape[dim] == 1 or value.stride(dim) == 0


def _aligned(call: Call, sizes: Sequence[int]) -> Axis:
    """Return the axis that all tensors with examples share, counted from the back; others must be constant along it."""
    found = {
        axis._replace(dim=axis.dim - size) for axis, size in zip(call.axes, sizes, strict=True) if axis is not None
    }
    if len(found) != 1:
        raise LostError
    (axis,) = found
    for value, own in zip(call.tensors, call.axes, strict=True):
        if own is None and not same_along(value, axis.dim):
            raise LostError
    return axis


def pointwise(call: Call) -> Axis:
    """Elementwise with broadcasting: tensors have the examples on the same axis, or are the same for every example."""
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    return axis._replace(dim=axis.dim + call.out.dim())


def viewed(call: Call) -> Axis:
    """A reshape: the same entries in the same order."""
    axis, shape, found = call.first(), call.shapes[0], tuple(call.out.shape)
    before = math.prod(shape[: axis.dim]) * axis.outer
    start = 1
    for dim, size in enumerate(found):
        if start * size >= before * call.examples and size % call.examples == 0:
            outer, rest = divmod(before, start)
            inner, left = divmod(size, outer * call.examples)
            if rest or left:
                raise LostError
            return Axis(dim, outer, inner)
        start *= size
    raise LostError


def permuted(call: Call) -> Axis:
    """A permutation of axes."""
    axis, size = call.first(), len(call.shapes[0])
    order = [number % size for number in call.args[1]]
    return axis._replace(dim=order.index(axis.dim))


def swapped(call: Call) -> Axis:
    """A transposition of two axes."""
    axis, size = call.first(), len(call.shapes[0])
    first, second = (number % size for number in (call.args[1:3] if len(call.args) > 2 else (0, size - 1)))
    return axis._replace(dim={first: second, second: first}.get(axis.dim, axis.dim))


def unsqueezed(call: Call) -> Axis:
    """A new axis of size 1."""
    axis, place = call.first(), call.args[1] % call.out.dim()
    return axis._replace(dim=axis.dim + (place <= axis.dim))


def squeezed(call: Call) -> Axis:
    """Axes of size 1 removed."""
    axis, shape = call.first(), call.shapes[0]
    gone = [number for number in call.numbers(1) if shape[number] == 1]
    return axis._replace(dim=axis.dim - sum(number < axis.dim for number in gone))


def expanded(call: Call) -> Axis:
    """Axes of size 1 repeated, and new axes in front."""
    axis = call.first()
    return axis._replace(dim=axis.dim + call.out.dim() - len(call.shapes[0]))


def along(place: int, *, keeps: bool = True, single: bool = False) -> Callable[[Call], Axis]:
    """Make the rule of an operation along the axes given by an argument; `keeps` says whether these axes remain."""

    def rule(call: Call) -> Axis:
        axis, over = call.first(), call.numbers(place)
        if single and len(call.args) <= place and not call.kwargs:
            over = [0]  # the default of slices and selections is the first axis
        if axis.dim in over:
            raise LostError
        out = next(tensors_in(call.out))
        if keeps or out.dim() == len(call.shapes[0]):
            return axis
        return axis._replace(dim=axis.dim - sum(number < axis.dim for number in over))

    return rule


def sliced(call: Call) -> Axis:
    """A slice of an axis other than that of the examples."""
    axis = call.first()
    whole = len(call.args) < 2 or call.out.shape == call.shapes[0]
    return axis if whole else along(1, single=True)(call)


def joined(call: Call) -> Axis:
    """A concatenation along another axis, of tensors with the examples on the same axis or without examples."""
    place = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    axis = axis._replace(dim=axis.dim + call.out.dim())
    if place % call.out.dim() == axis.dim:
        raise LostError
    return axis


def stacked(call: Call) -> Axis:
    """A stack of tensors along a new axis."""
    place = (call.args[1] if len(call.args) > 1 else 0) % call.out.dim()
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    dim = axis.dim + call.out.dim() - 1
    return axis._replace(dim=dim + (place <= dim))


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Iterate over the tensors in nested arguments."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors_in(tuple(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
