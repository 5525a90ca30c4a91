"""Where the examples are in what an operation gives, from where they are in what it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class Axis(NamedTuple):
    """Where the examples of a tensor are: along axis `dim` of size outer · n · inner, row-major."""

    dim: int
    outer: int = 1
    inner: int = 1

    @property
    def alone(self) -> bool:
        """Whether the axis holds nothing else."""
        return self.outer == self.inner == 1


class LostError(Exception):
    """An operation through which the axis cannot be followed."""


class Call(NamedTuple):
    """One operation: what it is given, the tensors in it, their axes, shapes and strides before, and what it gives."""

    args: Sequence[Any]
    kwargs: dict[str, Any]
    tensors: Sequence[Tensor]
    axes: Sequence[Axis | None]
    shapes: Sequence[tuple[int, ...]]
    strides: Sequence[tuple[int, ...]]
    out: Any
    examples: int

    def first(self) -> Axis:
        """The axis of the first tensor, when no other has one."""
        axis = self.axes[0]
        if axis is None or any(self.axes[1:]):
            raise LostError
        return axis

    def numbers(self, place: int, name: str = "dim") -> list[int]:
        """Axes that are named in an argument, counted from the front; all of them where it is missing or empty."""
        size = len(self.shapes[0])
        value = self.args[place] if len(self.args) > place else self.kwargs.get(name)
        if value is None or isinstance(value, bool) or (isinstance(value, list | tuple) and not value):
            return list(range(size))
        return [number % size for number in (value if isinstance(value, list | tuple) else [value])]


def same_along(value: Tensor, dim: int) -> bool:
    """Whether a tensor is the same for every example: it has no such axis, or one that repeats."""
    return -dim > value.dim() or value.shape[dim] == 1 or value.stride(dim) == 0


def _aligned(call: Call, sizes: Sequence[int]) -> Axis:
    """The axis that all tensors share, counted from the back; the others must be the same along it."""
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
    """Number by number, small tensors repeated: all have the examples at the same place, or are the same for each."""
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    return axis._replace(dim=axis.dim + call.out.dim())


def viewed(call: Call) -> Axis:
    """Another shape of the same entries in the same order."""
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
    """Axes in another order."""
    axis, size = call.first(), len(call.shapes[0])
    order = [number % size for number in call.args[1]]
    return axis._replace(dim=order.index(axis.dim))


def swapped(call: Call) -> Axis:
    """Two axes exchanged."""
    axis, size = call.first(), len(call.shapes[0])
    first, second = (number % size for number in (call.args[1:3] if len(call.args) > 2 else (0, size - 1)))
    return axis._replace(dim={first: second, second: first}.get(axis.dim, axis.dim))


def unsqueezed(call: Call) -> Axis:
    """A new axis of one entry."""
    axis, place = call.first(), call.args[1] % call.out.dim()
    return axis._replace(dim=axis.dim + (place <= axis.dim))


def squeezed(call: Call) -> Axis:
    """Axes of one entry left out."""
    axis, shape = call.first(), call.shapes[0]
    gone = [number for number in call.numbers(1) if shape[number] == 1]
    return axis._replace(dim=axis.dim - sum(number < axis.dim for number in gone))


def expanded(call: Call) -> Axis:
    """Axes of one entry repeated, and new ones in front."""
    axis = call.first()
    return axis._replace(dim=axis.dim + call.out.dim() - len(call.shapes[0]))


def along(place: int, *, keeps: bool = True, single: bool = False) -> Callable[[Call], Axis]:
    """An operation along axes that are named in an argument; they are left out where it does not keep them."""

    def rule(call: Call) -> Axis:
        axis, over = call.first(), call.numbers(place)
        if single and len(call.args) <= place and not call.kwargs:
            over = [0]  # of slices and selections the default is the first axis
        if axis.dim in over:
            raise LostError
        out = next(tensors_in(call.out))
        if keeps or out.dim() == len(call.shapes[0]):
            return axis
        return axis._replace(dim=axis.dim - sum(number < axis.dim for number in over))

    return rule


def sliced(call: Call) -> Axis:
    """A part of another axis than that of the examples."""
    axis = call.first()
    whole = len(call.args) < 2 or call.out.shape == call.shapes[0]
    return axis if whole else along(1, single=True)(call)


def joined(call: Call) -> Axis:
    """cat: along another axis, of tensors with the examples at the same place or without any."""
    place = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    axis = axis._replace(dim=axis.dim + call.out.dim())
    if place % call.out.dim() == axis.dim:
        raise LostError
    return axis


def stacked(call: Call) -> Axis:
    """Tensors one beside another along a new axis."""
    place = (call.args[1] if len(call.args) > 1 else 0) % call.out.dim()
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    dim = axis.dim + call.out.dim() - 1
    return axis._replace(dim=dim + (place <= dim))


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments, one by one."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors_in(tuple(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
