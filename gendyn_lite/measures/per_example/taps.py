"""A look at what layers read and give in a forward pass, and at the gradients of that in the backward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.apart import same_row
from gendyn_lite.measures.per_example.layers import Layer, Plan, Use, fewest_axes, hooked, wide
from gendyn_lite.measures.per_example.rowwise import RowWise

OnLayer = Callable[[Layer, list[Use]], None]


class Judge(Protocol):
    """What says whether the uses of a layer make the gradient of an example."""

    def agrees(self, layer: Layer, uses: list[Use], /) -> bool:
        """Whether they do."""
        ...


class _Tap(torch.autograd.Function):
    """The identity, in place; its backward pass shows the gradient to a function."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, source: Tensor, show: Callable[[Tensor], None]) -> Tensor:
        ctx.show = show
        ctx.mark_dirty(out)  # no copy, and in-place layers may follow
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = gradients
        ctx.show(gradient)
        return gradient if ctx.needs_input_grad[0] else None, None, None


class Taps(TorchFunctionMode):
    """Hooks for the modules of a plan's layers, and a look at every operation for weights used outside of them."""

    def __init__(self, plan: Plan, elsewhere: frozenset[int], count: int, on_layer: OnLayer) -> None:
        super().__init__()
        # A leaf for the graph to start from: the output of the first layers depends on nothing that needs a gradient.
        self.source = torch.zeros((), requires_grad=True)
        self._plan, self._elsewhere, self._count, self._on_layer = plan, elsewhere, count, on_layer
        self.layers: defaultdict[nn.Module, list[Layer]] = defaultdict(list)
        for layer in plan.layers:
            for module in layer.modules:
                self.layers[module].append(layer)
        self._expected: dict[Layer, int] = dict.fromkeys(plan.layers, 0)
        self._uses: defaultdict[Layer, list[Use]] = defaultdict(list)
        self._inside: nn.Module | None = None
        self._done = False  # with the forward pass
        self.lone: Judge | None = None  # against which each layer is checked
        self._rows: RowWise | None = None
        self.proved = True  # that layers read and give the examples along the first axis
        self._read: defaultdict[nn.Module, list[Tensor]] = defaultdict(list)  # a digest, of where it is not proved

    def run(
        self, model: nn.Module, x: Tensor, *checks: AbstractContextManager[Any], rows: RowWise | None = None
    ) -> Tensor:
        """The network's output, while layers are looked at."""
        self._rows = rows
        with ExitStack() as stack:
            for check in (*checks, self, hooked(self.layers, self.leave, self.enter), *([rows] if rows else [])):
                stack.enter_context(check)
            return model(x)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note parameters that an operation outside of their module reads."""
        result = func(*args, **(kwargs or {}))
        if self._inside is None and isinstance(result, Tensor | tuple | list):
            for value in _flat((*args, *(kwargs or {}).values())):
                if id(value) in self._plan.names:
                    self._plan.outside.add(self._plan.names[id(value)])
        return result

    def enter(self, module: nn.Module, args: Any) -> None:
        """Before a layer's module is called."""
        self._inside = module

    def leave(self, module: nn.Module, args: Any, kwargs: Any, out: Tensor) -> Tensor:
        """After that: the same output, whose gradient will be seen."""
        self._inside = None
        given = _given(args, kwargs)
        apart = given.dim() >= fewest_axes(module) and len(given) == len(out) == self._count
        if not apart or id(module) in self._elsewhere:
            for layer in self.layers[module]:  # they have no formula after all
                self._plan.outside.update(layer.parameters)
            return out
        if self._rows is None or not (self._rows.holds(given) and self._rows.holds(out)):
            self.proved = False
            self._read[module].append(_digest(given))
        a, version = given.detach(), given._version
        for layer in self.layers[module]:
            self._expected[layer] += 1

        def show(z: Tensor) -> None:
            if not self._done:  # the forward pass takes a derivative itself: what follows is no gradient of the loss
                for layer in self.layers[module]:
                    self._plan.outside.update(layer.parameters)
                return
            if a._version != version:
                told = (
                    f"layer {self.layers[module][0].name!r}: its input was changed in place after the layer had read it"
                )
                raise UserError(f"{told}; use the operation that follows out of place (inplace=False)")
            self._collect(Use(module, _full(a), _full(z)))

        return _Tap.apply(out, self.source, show)  # type: ignore[return-value]

    @contextmanager
    def in_order(self, rows: slice) -> Iterator[None]:
        """Meanwhile some rows of the batch are run last first: layers that read them otherwise have no formula.

        Examples that a network sorts, and puts back, are in another order for the layers between.
        """
        found = defaultdict[nn.Module, list[Tensor]](list)
        with hooked(self._read, lambda module, args, kwargs, out: found[module].append(_digest(_given(args, kwargs)))):
            yield
        for module, digests in self._read.items():
            expected = [digest[rows].flip(0) for digest in digests]
            if [len(digest) for digest in expected] != [len(digest) for digest in found[module]] or not all(
                same_row(*pair) for pair in zip(found[module], expected, strict=True)
            ):
                for layer in self.layers[module]:
                    self._plan.outside.update(layer.parameters)

    def forward_is_done(self) -> None:
        """From here on it is known how often each layer was used, and which cannot be handed over."""
        self._done = True
        for layer in list(self._expected):
            if self._plan.outside.intersection(layer.parameters):
                del self._expected[layer]
                self._plan.outside.update(layer.parameters)

    def _collect(self, use: Use) -> None:
        for layer in self.layers[use.module]:
            if layer not in self._expected:
                continue
            self._uses[layer].append(use)
            if len(self._uses[layer]) == self._expected[layer]:
                self._hand_over(layer)

    def hand_over_the_rest(self) -> None:
        """Layers of which some use did not reach the loss."""
        for layer in list(self._expected):
            self._hand_over(layer)

    def leave_the_rest(self) -> None:
        """Layers whose output gradients were not reached have no formula."""
        for layer in self._expected:
            self._plan.outside.update(layer.parameters)
        self._expected.clear()

    def _hand_over(self, layer: Layer) -> None:
        """A layer and its uses, unless they do not make the gradient of an example that was run by itself."""
        uses = self._uses.pop(layer, [])
        del self._expected[layer]
        if self.lone is not None and not self.lone.agrees(layer, uses):
            self._plan.outside.update(layer.parameters)  # a hook, an exchanged order, or the like: it has no formula
        elif uses:
            self._on_layer(layer, uses)


def _given(args: Any, kwargs: Any) -> Tensor:
    """What a layer is called with."""
    return args[0] if args else next(iter(kwargs.values()))


@torch.no_grad()
def _digest(value: Tensor) -> Tensor:
    """Two numbers of each row, [n, 2], in which no two rows are likely to agree."""
    flat = value.detach().reshape(len(value), -1)
    flat = flat if flat.is_floating_point() else flat.double()
    places = torch.arange(flat.shape[1], dtype=torch.float64, device=flat.device)
    return flat @ torch.stack([places.cos(), places.sin()], dim=1).to(flat.dtype)


def _full(value: Tensor) -> Tensor:
    """Half precision as float32: products of gradients leave its range."""
    return value.to(wide(value.dtype)) if value.is_floating_point() else value


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
