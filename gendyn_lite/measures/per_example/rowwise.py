"""A proof that no operation of a forward pass mixes examples, by following their axis through every operation.

Running a few examples again says nothing about the others. This proof holds for each row of the batch that is measured,
at the price of inspecting each operation. An operation that it cannot follow is not an error; then outputs are compared
numerically instead (`gendyn_lite.measures.per_example.apart.check_all_rows`).
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from gendyn_lite.measures.per_example.axes import Axis, Call, LostError, pointwise, tensors_in
from gendyn_lite.measures.per_example.axis_rules import RULES

# Functions of a tensor that tell nothing of its entries.
ASKS = frozenset((
    *("shape", "size", "dim", "ndim", "numel", "nelement", "stride", "__len__", "dim_order", "storage_offset"),
    *("dtype", "device", "layout", "type", "itemsize", "element_size", "nbytes", "get_device", "names", "has_names"),
    *("is_cuda", "is_cpu", "is_mps", "is_xpu", "is_meta", "is_sparse", "is_mkldnn", "is_quantized", "is_nested"),
    *("is_floating_point", "is_complex", "is_signed", "is_contiguous", "is_inference", "is_neg", "is_conj"),
    *("is_leaf", "requires_grad", "retains_grad", "_version", "_is_view", "output_nr", "_backward_hooks", "__hash__"),
    *("result_type", "can_cast", "promote_types", "broadcast_shapes", "is_tensor", "is_autocast_enabled", "_assert"),
))  # fmt: skip


def name_of(func: Any) -> str:
    """Return the name of a function that a `TorchFunctionMode` sees; of a property's, that of the property.

    >>> name_of(torch.relu), name_of(Tensor.shape.__get__)
    ('relu', 'shape')
    """
    name = getattr(func, "__name__", "")
    return getattr(func.__self__, "__name__", "") if name in ("__get__", "__set__") else name


class _Watch(TorchFunctionMode):
    """A context that sees functions of torch that run no operation, for a `RowWise`."""

    def __init__(self, rows: RowWise) -> None:
        super().__init__()
        self._rows = rows

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function."""
        out = func(*args, **(kwargs or {}))
        self._rows.leaves(func, (args, kwargs), out)
        return out


class RowWise(TorchDispatchMode):
    """A context that follows the examples of a batch through a network.

    Args:
        model: The network; its parameters and buffers have no axis of examples.
        x: Its inputs, [n, ...].

    Attributes:
        lost: The first operation through which the axis could not be followed, or None.
        trace: Every operation with its arguments, where tensors are numbered in the order of their appearance. Another
            batch with the same trace was computed in the same way.

    >>> x, network = torch.eye(4), nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    >>> with RowWise(network, x) as rows:
    ...     out, mixed = network(x), network(x - x.mean(0))
    >>> rows.holds(out), rows.holds(mixed), rows.lost
    (True, False, 'mean')
    """

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self._watch = _Watch(self)
        self.lost: str | None = None
        self._hidden = False  # whether values of examples went where they cannot be followed
        self._aside = False  # whether what runs is none of the network's
        self._count = len(x)
        self._axes = WeakIdKeyDictionary()  # tensor → its axis of examples, or None if it has none
        self.trace: list[object] = []
        self._numbers, self._next = WeakIdKeyDictionary(), count()
        for value in (*model.parameters(), *model.buffers()):
            self._axes[value] = None
            self._numbered(value)
        self._axes[x] = Axis(0)
        self._numbered(x)

    def __enter__(self) -> Self:
        """Follow what is computed from now on."""
        super().__enter__()
        self._watch.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Follow no longer."""
        self._watch.__exit__(*error)
        super().__exit__(*error)

    def leaves(self, func: Any, args: Any, out: Any) -> None:
        """Note if values of examples leave torch by a function, as to NumPy, or a hook is set that may change them."""
        if self._aside or name_of(func) in ASKS or any(isinstance(value, Tensor) for value in tree_leaves(out)):
            return
        given = [value for value in tree_leaves(args) if isinstance(value, Tensor)]
        self._hidden |= any(value not in self._axes or self._axes[value] is not None for value in given)

    def holds(self, out: object) -> bool:
        """Return whether each row of an output is proved to depend on its own example only."""
        return not self._hidden and isinstance(out, Tensor) and self._axes.get(out) == Axis(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and record the axis of the examples in its output."""
        kwargs = kwargs or {}
        if self._aside:
            return func(*args, **kwargs)
        given = list(tensors_in((args, kwargs)))
        shapes = [tuple(value.shape) for value in given]
        strides = [value.stride() if value.layout == torch.strided else () for value in given]
        out = func(*args, **kwargs)
        call = Call(args, kwargs, given, [], shapes, strides, out, self._count)
        self.trace.append((func, torch.is_grad_enabled(), *map(self._numbered, (args, kwargs, out))))
        self._look(func, call)
        try:
            self._note(func, call)
        except (LostError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
            self.lost = self.lost or func.overloadpacket.__name__
            made = list(tensors_in(out))
            self._hidden |= not made or func._schema.is_mutable  # a Python number, or memory that is shared
            for value in made:
                self._axes.pop(value, None)
        return out

    def _numbered(self, value: Any) -> object:
        """Return a value to compare with that of another batch: the number of a tensor, and what else there is."""
        if isinstance(value, Tensor):
            return "tensor", self._numbers.setdefault(value, next(self._next))
        if isinstance(value, list | tuple):
            return tuple(map(self._numbered, value))
        return tuple((key, self._numbered(own)) for key, own in value.items()) if isinstance(value, dict) else value

    def _look(self, func: Any, call: Call) -> None:
        """For subclasses: see an operation that was called."""

    def _note(self, func: Any, call: Call) -> None:
        name = func.overloadpacket.__name__
        unknown = any(value not in self._axes for value in call.tensors)
        if unknown and name != "lift_fresh":  # which turns a number into a tensor
            raise LostError
        axes, found = [self._axes.get(value) for value in call.tensors], None
        if any(axes):
            rule = RULES.get(name) or RULES.get(name.removesuffix("_"))
            rule = rule or (pointwise if torch.Tag.pointwise in func.tags else None)
            if rule is None or (func._schema.is_mutable and (axes[0] is None or "out" in call.kwargs)):
                raise LostError
            found = rule(call._replace(axes=axes))
        for value in tensors_in(call.out):
            self._axes[value] = found


@torch.no_grad()
def mixing(model: nn.Module, x: Tensor) -> str:
    """Name the first operation of a network through which the axis of the examples cannot be followed, and its module.

    Args:
        model: The network.
        x: Inputs [n, ...].

    Returns:
        The names, as below; an empty text if every operation can be followed.

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
