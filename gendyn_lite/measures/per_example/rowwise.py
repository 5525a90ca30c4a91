"""The axis of the examples, followed through every operation of a forward pass: a proof that none mixes them.

A few examples that are run again tell nothing of the others. What is followed here holds for each row of the batch that
is measured, at the price of a look at each operation. What it cannot follow is no fault: it is looked at in numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary


class Axis(NamedTuple):
    """Where the examples of a tensor are: along axis `dim` of size outer · n · inner, row-major."""

    dim: int
    outer: int = 1
    inner: int = 1

    @property
    def alone(self) -> bool:
        """Whether the axis holds nothing else."""
        return self.outer == self.inner == 1


Before = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]  # shape and strides of each tensor


class LostError(Exception):
    """An operation through which the axis cannot be followed."""


class RowWise(TorchDispatchMode):
    """While entered, follows the examples of a batch through a network.

    Args:
        model: The network; of its parameters and buffers none has the axis.
        x: The batch that goes in, [n, ...].

    Attributes:
        lost: The first operation through which the axis could not be followed, or None.

    >>> x, network = torch.eye(4), nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> with RowWise(network, x) as rows:
    ...     out, mixed = network(x), network(x - x.mean(0))
    >>> rows.holds(out), rows.holds(mixed), rows.lost
    (True, False, 'mean')
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.lost: str | None = None
        self._hidden = False  # whether what was computed of the examples has gone where nothing is seen of it
        self._count = len(x)
        self._axes = WeakIdKeyDictionary()  # tensor → its axis, or None where it has none
        for value in (*model.parameters(), *model.buffers()):
            self._axes[value] = None
        self._axes[x] = Axis(0)

    def holds(self, out: object) -> bool:
        """Whether each row of an output depends on its example alone."""
        return not self._hidden and isinstance(out, Tensor) and self._axes.get(out) == Axis(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and note the axis of what it gives."""
        kwargs = kwargs or {}
        before = [(tuple(value.shape), value.stride()) for value in _tensors((args, kwargs))]
        out = func(*args, **kwargs)
        try:
            self._note(func, args, kwargs, out, before)
        except (LostError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
            self.lost = self.lost or func.overloadpacket.__name__
            made = list(_tensors(out))
            self._hidden |= not made or func._schema.is_mutable  # a number, or memory that others read
            for value in made:
                self._axes.pop(value, None)
        return out

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any, before: Before) -> None:
        given = list(_tensors((args, kwargs)))
        if any(value not in self._axes for value in given):
            name = func.overloadpacket.__name__
            if name != "lift_fresh":  # a number that becomes a tensor
                raise LostError
        axes = [self._axes.get(value) for value in given]
        found = None
        if any(axes):
            name = func.overloadpacket.__name__
            rule = (
                RULES.get(name)
                or RULES.get(name.removesuffix("_"))
                or (_pointwise if torch.Tag.pointwise in func.tags else None)
            )
            if rule is None or (func._schema.is_mutable and (axes[0] is None or "out" in kwargs)):
                raise LostError
            found = rule(Call(args, kwargs, given, axes, *zip(*before, strict=True), out, self._count))
        for value in _tensors(out):
            self._axes[value] = found


class Call(NamedTuple):
    """One operation: what it is given, the tensors in it, their axes, shapes and strides before, and what it gives."""

    args: Sequence[Any]
    kwargs: dict[str, Any]
    tensors: Sequence[Tensor]
    axes: Sequence[Axis | None]
    shapes: Sequence[tuple[int, ...]]
    strides: Sequence[tuple[int, ...]]
    out: Any
    count: int

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
        if isinstance(value, int) and not isinstance(value, bool):
            return [value % size]
        return [number % size for number in value] if value else list(range(size))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _same_along(value: Tensor, dim: int) -> bool:
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
        if own is None and not _same_along(value, axis.dim):
            raise LostError
    return axis


def _pointwise(call: Call) -> Axis:
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    return axis._replace(dim=axis.dim + call.out.dim())


def _viewed(call: Call) -> Axis:
    """Another shape of the same entries in the same order."""
    axis, shape, found = call.first(), call.shapes[0], tuple(call.out.shape)
    before = math.prod(shape[: axis.dim]) * axis.outer
    start = 1
    for dim, size in enumerate(found):
        if start * size >= before * call.count and size % call.count == 0:
            outer, rest = divmod(before, start)
            inner, left = divmod(size, outer * call.count)
            if rest or left:
                raise LostError
            return Axis(dim, outer, inner)
        start *= size
    raise LostError


def _permuted(call: Call) -> Axis:
    axis, size = call.first(), len(call.shapes[0])
    order = [number % size for number in call.args[1]]
    return axis._replace(dim=order.index(axis.dim))


def _swapped(call: Call) -> Axis:
    axis, size = call.first(), len(call.shapes[0])
    first, second = (number % size for number in (call.args[1:3] if len(call.args) > 2 else (0, size - 1)))
    return axis._replace(dim={first: second, second: first}.get(axis.dim, axis.dim))


def _unsqueezed(call: Call) -> Axis:
    axis, place = call.first(), call.args[1] % call.out.dim()
    return axis._replace(dim=axis.dim + (place <= axis.dim))


def _squeezed(call: Call) -> Axis:
    axis, shape = call.first(), call.shapes[0]
    gone = [number for number in call.numbers(1) if shape[number] == 1]
    return axis._replace(dim=axis.dim - sum(number < axis.dim for number in gone))


def _expanded(call: Call) -> Axis:
    axis = call.first()
    return axis._replace(dim=axis.dim + call.out.dim() - len(call.shapes[0]))


def _along(place: int, *, keeps: bool = True, single: bool = False) -> Callable[[Call], Axis]:
    """An operation along axes that are named in an argument; they are left out where it does not keep them."""

    def rule(call: Call) -> Axis:
        axis, over = call.first(), call.numbers(place)
        if single and len(call.args) <= place and not call.kwargs:
            over = [0]  # of slices and selections the default is the first axis
        if axis.dim in over:
            raise LostError
        out = next(_tensors(call.out))
        if keeps or out.dim() == len(call.shapes[0]):
            return axis
        return axis._replace(dim=axis.dim - sum(number < axis.dim for number in over))

    return rule


def _sliced(call: Call) -> Axis:
    axis = call.first()
    whole = len(call.args) < 2 or call.out.shape == call.shapes[0]
    return axis if whole else _along(1, single=True)(call)


def _joined(call: Call) -> Axis:
    """cat: along another axis, of tensors with the examples at the same place or without any."""
    place = call.args[1] if len(call.args) > 1 else call.kwargs.get("dim", 0)
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    axis = axis._replace(dim=axis.dim + call.out.dim())
    if place % call.out.dim() == axis.dim:
        raise LostError
    return axis


def _stacked(call: Call) -> Axis:
    place = (call.args[1] if len(call.args) > 1 else 0) % call.out.dim()
    axis = _aligned(call, [len(shape) for shape in call.shapes])
    dim = axis.dim + call.out.dim() - 1
    return axis._replace(dim=dim + (place <= dim))


def _multiplied(call: Call) -> Axis:
    """mm, bmm and their like with a summand: a product of matrices or of batches of them."""
    axis = _of_factors(call)
    for value, own in list(zip(call.tensors, call.axes, strict=True))[:-2]:
        if own != axis if own is not None else not _same_along(value, axis.dim - call.out.dim()):
            raise LostError
    return axis


def _of_factors(call: Call) -> Axis:
    """The axis of a product: rows of the left factor, columns of the right one, or a batch of matrices."""
    (left, right), size = call.axes[-2:], call.out.dim()
    if left is not None and right is not None:
        if left == right and left.dim == 0 < size - 2:
            return left
        raise LostError
    own, other, outside = (
        (left, call.tensors[-1], size - 2) if left is not None else (right, call.tensors[-2], size - 1)
    )
    if own is not None and (own.dim == outside or (own.dim == 0 < size - 2 and _same_along(other, -size))):
        return own
    raise LostError


def _convolved(call: Call) -> Axis:
    axis = call.first()
    if axis.dim:
        raise LostError
    return axis


def _normed(call: Call) -> Axis:
    """Batch-norm by running statistics."""
    axis = call.first()
    if axis.dim or call.args[5] is True:
        raise LostError
    return axis


def _layer_normed(call: Call) -> Axis:
    axis = call.first()
    if axis.dim >= len(call.shapes[0]) - len(call.args[1]):
        raise LostError
    return axis


def _group_normed(call: Call) -> Axis:
    axis = call.first()
    if axis.dim or not axis.alone:
        raise LostError
    return axis


def _over_last(axes: int) -> Callable[[Call], Axis]:
    """An operation over the last axes, as pooling."""

    def rule(call: Call) -> Axis:
        axis = call.first()
        if axis.dim >= len(call.shapes[0]) - axes:
            raise LostError
        return axis

    return rule


def _padded(call: Call) -> Axis:
    return _over_last(len(call.args[1]) // 2)(call)


def _attended(call: Call) -> Axis:
    """Attention: every tensor has the examples first, and a mask is the same for all."""
    if len({call.axes[0], *call.axes[1:3]}) != 1 or call.axes[0] is None or call.axes[0].dim != 0:
        raise LostError
    for value, own in list(zip(call.tensors, call.axes, strict=True))[3:]:
        if own is not None or not _same_along(value, -len(call.shapes[0])):
            raise LostError
    return call.axes[0]


def _attended_whole(call: Call) -> Axis:
    """Attention with its layers, in one operation: no mask is followed."""
    inputs = sum(axis is not None for axis in call.axes)
    if set(call.axes[:inputs]) != {Axis(0)} or len(call.tensors) > inputs + 4:
        raise LostError
    return Axis(0)


def _encoded(call: Call) -> Axis:
    """A whole layer of a transformer's encoder; its mask would be one more tensor."""
    axis = call.first()
    if axis != Axis(0) or len(call.shapes[0]) != 3 or len(call.tensors) > 13:
        raise LostError
    return axis


def _restrided(call: Call) -> Axis:
    """The same entries, where only axes of one entry lie otherwise: a picture of one place with channels last."""
    long = [(size, stride) for size, stride in zip(call.shapes[0], call.strides[0], strict=True) if size > 1]
    now = [(size, stride) for size, stride in zip(call.args[1], call.args[2], strict=True) if size > 1]
    if long != now or tuple(call.args[1]) != call.shapes[0] or len(call.args) > 3:
        raise LostError
    return call.first()


def _looked_up(call: Call) -> Axis:
    """embedding(weight, indices)."""
    if call.axes[0] is not None or call.axes[1] is None:
        raise LostError
    return call.axes[1]


def _of_same_shape(call: Call) -> Axis:
    """A constant in the shape of a tensor: it is that of every example."""
    return call.first()


def _made(call: Call) -> None:
    """A tensor that takes of another one its type alone."""


BENT = ("hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "softplus", "threshold", "_prelu_kernel", "mish",
        "softshrink", "hardshrink")  # fmt: skip
KEEP = ("alias", "clone", "detach", "_to_copy", "copy", "fill", "zero", "masked_fill")
POOLS = {1: ("max_pool1d", "avg_pool1d", "_adaptive_avg_pool1d", "upsample_nearest1d", "upsample_linear1d",
             "reflection_pad1d", "replication_pad1d"),
         2: ("max_pool2d_with_indices", "mkldnn_max_pool2d", "avg_pool2d", "_adaptive_avg_pool2d",
             "mkldnn_adaptive_avg_pool2d", "adaptive_max_pool2d", "upsample_nearest2d", "upsample_bilinear2d",
             "upsample_bicubic2d", "reflection_pad2d", "replication_pad2d", "_upsample_nearest_exact2d"),
         3: ("max_pool3d_with_indices", "avg_pool3d", "_adaptive_avg_pool3d", "adaptive_max_pool3d")}  # fmt: skip
REDUCED = ("mean", "sum", "amax", "amin", "var", "var_mean", "std", "std_mean", "logsumexp", "max", "min", "argmax",
           "argmin", "any", "all", "prod", "select", "unbind", "median")  # fmt: skip
ALONG = ("_softmax", "_log_softmax", "cumsum", "sort", "flip", "glu")
PARTS = ("split", "split_with_sizes", "unsafe_split", "chunk", "topk", "roll")  # which name the axis second
ATTENTION = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
             "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
             "_scaled_dot_product_fused_attention_overrideable")  # fmt: skip
NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "_native_batch_norm_legit_no_training")
# What an operation does with the axis, by its name in ATen; pointwise ones, which torch marks, need no entry.
RULES: dict[str, Callable[[Call], Axis | None]] = {
    **dict.fromkeys((*KEEP, *BENT), _pointwise),
    **{name: _over_last(axes) for axes, names in POOLS.items() for name in names},
    **{name: _along(1, keeps=False) for name in REDUCED},
    **dict.fromkeys(ALONG, _along(1)),
    **dict.fromkeys(PARTS, _along(2)),
    **dict.fromkeys(ATTENTION, _attended),
    **dict.fromkeys(("view", "_unsafe_view", "_reshape_alias"), _viewed),
    **dict.fromkeys(("mm", "bmm", "addmm", "baddbmm"), _multiplied),
    **dict.fromkeys(("convolution", "cudnn_convolution", "mkldnn_convolution"), _convolved),
    **dict.fromkeys(NORMS, _normed),
    **dict.fromkeys(("zeros_like", "ones_like", "full_like"), _of_same_shape),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty"), _made),
    **dict.fromkeys(("transpose", "t"), _swapped),
    "as_strided_": _restrided,
    "_native_multi_head_attention": _attended_whole,
    "_transformer_encoder_layer_fwd": _encoded,
    "native_layer_norm": _layer_normed,
    "native_group_norm": _group_normed,
    "constant_pad_nd": _padded,
    "permute": _permuted,
    "unsqueeze": _unsqueezed,
    "squeeze": _squeezed,
    "expand": _expanded,
    "slice": _sliced,
    "cat": _joined,
    "stack": _stacked,
    "embedding": _looked_up,
    "linalg_vector_norm": _along(2, keeps=False),
}


@torch.no_grad()
def mixing(model: nn.Module, x: Tensor) -> str:
    """The first operation of a network through which the axis cannot be followed, with its module.

    >>> mixing(nn.Sequential(nn.Linear(2, 3), nn.Softmax(0)), torch.eye(2))
    "_softmax in '1' (Softmax)"
    """
    inside: list[tuple[str, nn.Module]] = [("", model)]
    where, x = "", x.detach()
    with ExitStack() as stack:
        rows = stack.enter_context(RowWise(model, x))

        def look() -> None:
            nonlocal where
            if rows.lost and not where:
                name, own = inside[-1]
                where = f"{rows.lost} in {name!r} ({type(own).__name__})" if name else f"{rows.lost} in its forward"

        def enter(module: nn.Module, args: Any, name: str) -> None:
            look()
            inside.append((name, module))

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            look()
            inside.pop()

        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(partial(enter, name=name)).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        model(x)
    return where
