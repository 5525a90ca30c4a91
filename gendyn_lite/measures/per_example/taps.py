"""Hooks that collect the inputs of layers in a forward pass, and their output gradients in the backward pass."""

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
from gendyn_lite.measures.per_example.kinds import fewest_axes
from gendyn_lite.measures.per_example.layers import Layer, Plan, Use, hooked, wide
from gendyn_lite.measures.per_example.rowwise import RowWise

OnLayer = Callable[[Layer, list[Use]], None]


class Judge(Protocol):
    """A check of collected uses against the gradient of an example that was run alone."""

    def agrees(self, layer: Layer, uses: list[Use], /) -> bool:
        """Return whether the uses of a layer reproduce the gradient of that example."""
        ...

    def check(self, name: str, found: Tensor, /) -> None:
        """Refuse gradients of a parameter without a formula, if that of the example is another one."""
        ...


class _Tap(torch.autograd.Function):
    """The identity, in place; its backward pass calls a function with the gradient."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, source: Tensor, show: Callable[[Tensor], None]) -> Tensor:
        ctx.show = show
        ctx.mark_dirty(out)  # without a copy, and in-place layers may follow
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (gradient,) = gradients
        ctx.show(gradient)
        return gradient if ctx.needs_input_grad[0] else None, None, None


class Taps(TorchFunctionMode):
    """Collects the uses of a plan's layers by hooks, and detects parameters that other operations use."""

    def __init__(self, plan: Plan, elsewhere: frozenset[int], count: int, on_layer: OnLayer) -> None:
        super().__init__()
        # A leaf for the graph to start from, as the first layers have no other input that requires a gradient.
        self.source = torch.zeros((), requires_grad=True)
        self._plan, self._elsewhere, self._count, self._on_layer = plan, elsewhere, count, on_layer
        self.layers: defaultdict[nn.Module, list[Layer]] = defaultdict(list)
        for layer in plan.layers:
            for module in layer.modules:
                self.layers[module].append(layer)
        self._expected: dict[Layer, int] = dict.fromkeys(plan.layers, 0)
        self._uses: defaultdict[Layer, list[Use]] = defaultdict(list)
        self._inside: nn.Module | None = None
        self._done = False  # whether the forward pass is done
        self.lone: Judge | None = None  # if given, checks every layer
        self._rows: RowWise | None = None
        self.proved = True  # whether all layers were proved to have the examples on the first axis
        self.traced = False  # whether another batch with the same operations needs no check
        self.known = False  # whether no code of one's own can mix them either, so that none has to be run alone
        self.used = frozenset[str]()  # names of the parameters on which the loss depends, as far as it is known
        self.compared = False  # whether output gradients are to be compared with those among other examples
        self.given_back: dict[Layer, list[Tensor]] = {}  # digests of them
        # Digests of what layers read for which that is not proved.
        self._read: defaultdict[nn.Module, list[Tensor]] = defaultdict(list)

    def run(
        self, model: nn.Module, x: Tensor, *checks: AbstractContextManager[Any], rows: RowWise | None = None
    ) -> Tensor:
        """Run the network with the hooks in place, and return its output."""
        self._rows = rows
        with ExitStack() as stack:
            for check in (*checks, self, hooked(self.layers, self.leave, self.enter), *([rows] if rows else [])):
                stack.enter_context(check)
            return model(x)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and mark parameters that it reads outside of their module as without a formula."""
        result = func(*args, **(kwargs or {}))
        if self._inside is None and isinstance(result, Tensor | tuple | list):
            for value in _flat((*args, *(kwargs or {}).values())):
                if id(value) in self._plan.names:
                    self._plan.outside.add(self._plan.names[id(value)])
        return result

    def enter(self, module: nn.Module, args: Any) -> None:
        """Hook before the call of a layer's module."""
        self._inside = module

    def leave(self, module: nn.Module, args: Any, kwargs: Any, out: Tensor) -> Tensor:
        """Hook after the call: return the same output, with a tap for its gradient."""
        tapped = self._tapped(module, _given(args, kwargs), out)
        self._inside = None
        return tapped

    def _tapped(self, module: nn.Module, given: Tensor, out: Tensor) -> Tensor:
        read, gave = given.shape, out.shape
        apart = len(read) >= fewest_axes(module) and read[0] == gave[0] == self._count
        if not apart or id(module) in self._elsewhere:
            for layer in self.layers[module]:  # their formulas do not apply
                self._plan.outside.update(layer.parameters)
            return out
        if not (self._rows is not None and self._rows.holds(given) and self._rows.holds(out)):
            self.proved = False
            if self._rows is not None:  # in a call that is checked
                self._read[module].append(digest(given))
        a, version = given.detach(), given._version
        for layer in self.layers[module]:
            self._expected[layer] += 1

        def show(z: Tensor) -> None:
            if not self._done:  # the forward pass itself takes a derivative, so this is not a gradient of the loss
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
    def in_order(self, places: Tensor) -> Iterator[None]:
        """Meanwhile some examples of the batch are run: layers that read them in another order have no formula.

        Examples that a network sorts, and puts back, are in another order for the layers between.
        """
        found = defaultdict[nn.Module, list[Tensor]](list)
        with hooked(self._read, lambda module, args, kwargs, out: found[module].append(digest(_given(args, kwargs)))):
            yield
        for module, digests in self._read.items():
            expected = [digest[places] for digest in digests]
            if [len(digest) for digest in expected] != [len(digest) for digest in found[module]] or not all(
                same_row(*pair) for pair in zip(found[module], expected, strict=True)
            ):
                for layer in self.layers[module]:
                    self._plan.outside.update(layer.parameters)

    def forward_is_done(self) -> None:
        """Mark the end of the forward pass, and drop layers with a parameter that is used outside of its module."""
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
        """Hand over layers of which some use did not affect the loss."""
        for layer in list(self._expected):
            self._hand_over(layer)

    def leave_the_rest(self) -> None:
        """Mark layers whose output gradients were not computed as without a formula."""
        for layer in self._expected:
            self._plan.outside.update(layer.parameters)
        self._expected.clear()

    def _hand_over(self, layer: Layer) -> None:
        """Pass a layer and its uses to `on_layer`, unless they fail the check against an example that was run alone."""
        uses = self._uses.pop(layer, [])
        del self._expected[layer]
        if self.lone is not None and not self.lone.agrees(layer, uses):
            self._plan.outside.update(layer.parameters)  # its formula does not apply: a hook, another order, …
        elif uses:
            self.used = self.used.union(layer.parameters)
            self._on_layer(layer, uses)


def _given(args: Any, kwargs: Any) -> Tensor:
    """What a layer is called with."""
    return args[0] if args else next(iter(kwargs.values()))


@torch.no_grad()
def digest(value: Tensor) -> Tensor:
    """Two numbers of each row, [n, 2], in which no two rows are likely to agree."""
    flat = value.detach().reshape(len(value), -1)
    flat = flat if flat.is_floating_point() else flat.double()
    places = torch.arange(flat.shape[1], dtype=torch.float64, device=flat.device)
    return flat @ torch.stack([places.cos(), places.sin()], dim=1).to(flat.dtype)


def _full(value: Tensor) -> Tensor:
    """Convert half precision to float32, as products of gradients leave its range."""
    return value.to(wide(value.dtype)) if value.is_floating_point() else value


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
