"""One forward and one backward pass that hand over, layer by layer, what per-example gradients are made of.

For a layer with weights W, input a and output z = W a, the gradient of example i's loss is the product of its output
gradient ∂L/∂z and its input a: neither needs the gradient itself. The weights are frozen meanwhile, so that the
backward pass computes no weight gradient, and it ends at the first layers with weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointError

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import FITTED, MIXES, TOLERANCE, Lone, Loss, frozen, gradients
from gendyn_lite.measures.per_example.checks import check_logits, usable
from gendyn_lite.measures.per_example.guards import (
    ANOTHER,
    check_all_rows,
    check_alone,
    check_loss,
    check_rows,
    same_row,
    unmoved,
)
from gendyn_lite.measures.per_example.lag import lag_is_told
from gendyn_lite.measures.per_example.layers import (
    Layer,
    Plan,
    Use,
    fewest_axes,
    hooked,
    hooks_of_all,
    seen,
    state,
    warn,
    wide,
)
from gendyn_lite.measures.per_example.rowwise import RowWise
from gendyn_lite.threads import keep_freed_memory

OnLayer = Callable[[Layer, list[Use]], None]
OnGradients = Callable[[str, Tensor], None]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each example in nats, [n]."""
    return F.cross_entropy(logits, y, reduction="none")


def visit(  # noqa: PLR0917 (what is asked, and what receives the answer)
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    plan: Plan,
    on_layer: OnLayer,
    on_gradients: OnGradients,
    *,
    loss: Loss,
    drawn: bool = False,
) -> None:
    """Run the network on a batch and hand over what each parameter's per-example gradients are made of.

    A layer is handed over as soon as the gradients of all its uses are known, the last ones first, and nothing of it is
    kept, so that the caller decides what stays in memory. A layer that the loss does not depend on is left out. The
    parameters that have no formula follow, by `torch.func`. Each example's loss counts once (the sum over examples, not
    their mean).

    Args:
        model: The network; left as it was.
        x: Inputs [n, ...].
        y: Labels [n].
        plan: Its layers, as `gendyn_lite.measures.per_example.layers.plan` finds them; it keeps what is learned about
            them on the way.
        on_layer: Receives each layer with a formula, and its uses.
        on_gradients: Receives the name of each other parameter, and its gradient for each example, [n, entries].
        loss: Function of (logits, y) that gives the loss of each example, [n].
        drawn: Whether the loss draws at random, and so is another each time it is asked.

    Raises:
        UserError: A layer's input was changed in place after the layer had read it, the logits do not fit the labels,
            the network or the loss mixes the examples of a batch, draws at random or changes buffers.
    """
    keep_freed_memory()
    memory = _Memory(model, x, plan) if not plan.alone and loss is cross_entropy and len(x) > 1 else None
    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        taps = _Taps(plan, seen(model, x).elsewhere, len(x), on_layer)
        given = x.detach()
        if plan.any_layout and x.dim() == 4 and x.device.type == "cpu":  # pools faster, and patches are longer runs
            given = given.contiguous(memory_format=torch.channels_last)
        checks = () if plan.alone else (unmoved(model, x), lag_is_told(model))
        rows = None if plan.alone or len(x) < 2 else RowWise(model, given)
        logits = taps.run(model, given, *checks, rows=rows)
        check_logits(logits, y, loss is cross_entropy)
        losses = loss(logits, usable(y))
        if losses.shape != (len(x),):
            told = f"the loss has shape {tuple(losses.shape)}"
            raise UserError(f"{told}, expected one value for each of {len(x)} examples")
        if not plan.alone:
            _check_graph(losses)
            if len(x) > 1 and loss is not cross_entropy and not drawn:
                check_loss(loss, logits, y, losses)
            proved = rows is not None and taps.proved and rows.holds(logits)
            if not drawn:
                taps.lone = _lone(model, plan, (usable(x.detach()), usable(y)), loss, (logits, losses), proved=proved)
                plan.used = taps.lone and taps.lone.used
            check_alone(model, x, seen=taps.lone is not None and loss is cross_entropy)
            # Not `given`: in few examples its layout takes longer.
            _check_rows(model, x.detach(), logits, proved=proved, seen=isinstance(taps.lone, Beside))
            plan.alone = len(x) > 1
        taps.forward_is_done()
        if losses.requires_grad:
            try:
                torch.autograd.grad(losses.sum(), taps.source, allow_unused=True)
            except CheckpointError:  # a part is computed again, without what is seen here
                taps.leave_the_rest()
        taps.hand_over_the_rest()
    if memory and taps.lone:
        memory.keep(plan)
    without = sorted(plan.outside.union(plan.without_formula))
    new = [name for name in without if name not in plan.announced]
    if new:
        plan.announced.update(new)
        warn(new, model)
    if without:
        for name, found in gradients(model, without, x, y, loss=loss).items():
            on_gradients(name, found)


def _check_graph(losses: Tensor) -> None:
    """Refuse a part that is computed again in a way that ends at `torch.autograd.grad`, or leaves out its weights."""
    seen, left = set[object](), [losses.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            why = "which gives gradients to backward() alone: call it with use_reentrant=False"
            raise UserError(f"the network has a part under torch.utils.checkpoint with use_reentrant=True, {why}")
        seen.add(node)
        left += [parent for parent, _ in node.next_functions]


def _check_rows(model: nn.Module, x: Tensor, logits: Tensor, *, proved: bool, seen: bool) -> None:
    """Compare examples with themselves among others, where a network computes precisely enough.

    Args:
        model: The network.
        x: Inputs.
        logits: What it gave for them.
        proved: Whether no operation mixes examples, so that few of them tell of all.
        seen: Whether a `Beside` has compared few.
    """
    if len(x) < 2 or logits.dtype != next(model.parameters()).dtype:
        return
    if not seen:
        check_rows(model, x, logits)
    if not proved:
        check_all_rows(model, x, logits)


Known = tuple[object, frozenset[str], frozenset[str] | None]  # its state; parameters without a formula, and in use
_checked: WeakKeyDictionary[nn.Module, dict[object, Known]] = WeakKeyDictionary()


class _Memory:
    """What was seen of a network that is as it was, on a batch of the same shape: it is not checked again."""

    def __init__(self, model: nn.Module, x: Tensor, plan: Plan) -> None:
        self._state, self._known = state(model), _checked.setdefault(model, {})
        handed = tuple(layer.parameters for layer in plan.layers)
        self._key = x.shape, x.dtype, handed, torch.is_autocast_enabled(x.device.type)
        before, outside, used = self._known.get(self._key, (None, frozenset(), None))
        if before is not None and before == self._state:
            plan.alone, plan.used = True, used
            plan.outside.update(outside)

    def keep(self, plan: Plan) -> None:
        """Note that the network was checked, and which parameters turned out to have no formula."""
        if self._state is not None:
            self._known[self._key] = self._state, frozenset(plan.outside), plan.used


def _lone(
    model: nn.Module,
    plan: Plan,
    batch: tuple[Tensor, Tensor],
    loss: Loss,
    given: tuple[Tensor, Tensor],
    *,
    proved: bool,
) -> Lone | Beside | None:
    """An example by itself, for a network that computes precisely enough to be compared and is not fitted already.

    Of one whose every operation keeps the examples apart, and whose parameters have formulas, what its layers show.
    """
    logits, losses = given
    largest, dtype = losses.detach().max(), next(model.parameters()).dtype
    coarse = dtype != losses.dtype or torch.is_autocast_enabled(losses.device.type)
    if dtype not in TOLERANCE or coarse or largest.abs() < FITTED[dtype]:
        return None
    plain = proved and loss is cross_entropy and batch[0].is_floating_point() and not hooks_of_all()
    try:
        if plain and logits.dtype == dtype and not plan.without_formula and not plan.outside:
            return Beside(model, plan, batch, (logits.detach(), losses.detach()))
        return Lone(model, list(plan.names.values()), batch, loss, losses)
    except RuntimeError:  # an input changed in place, which is named when it is met
        return None


class Beside:
    """The example of a batch with the largest loss beside another one, and what its layers show there.

    It stands in for a `Lone` where it is proved that no operation mixes examples, and that each layer reads and gives
    them along the first axis: then a layer's formula is right if its input and output gradient are the example's own.
    No weight's gradient is taken.

    Args:
        model: The network, no parameter of which requires a gradient.
        plan: Its layers.
        batch: Inputs and labels.
        among: The logits and the losses among all.

    Attributes:
        used: The parameters that its loss depends on.

    Raises:
        UserError: An output is another one there than among all, or the loss has a derivative by the other example.
    """

    def __init__(
        self, model: nn.Module, plan: Plan, batch: tuple[Tensor, Tensor], among: tuple[Tensor, Tensor]
    ) -> None:
        self._i, count = int(among[1].argmax()), len(among[1])
        places = [self._i, (self._i + count // 2) % count]
        x, y = (part[places] for part in batch)
        x.requires_grad_()
        self._uses: dict[Layer, list[Use]] = {}
        taps = _Taps(plan, frozenset(), 2, self._uses.__setitem__)
        logits = taps.run(model, x.clone())
        for i, row in zip(places, logits.detach(), strict=True):
            if not same_row(row, among[0][i]):
                raise UserError(ANOTHER.format(i))
        taps.forward_is_done()
        of_inputs, _ = torch.autograd.grad(cross_entropy(logits, y)[0], [x, taps.source], allow_unused=True)
        if of_inputs is not None and (of_inputs[1].abs() > 0).any():
            raise UserError(MIXES)
        taps.hand_over_the_rest()
        self.used = frozenset(name for layer, uses in self._uses.items() if uses for name in layer.parameters)
        self._relative = TOLERANCE[logits.dtype]
        largest = [float(use.z[0].norm()) for uses in self._uses.values() for use in uses]
        self._absolute = self._relative * 1e-2 * max(largest, default=0.0)

    def agrees(self, layer: Layer, uses: list[Use]) -> bool:
        """Whether a layer read and gave in the batch what it does here."""
        own = self._uses.get(layer, [])
        if len(own) != len(uses):
            return False
        return all(
            self._close(use.z[self._i], other.z[0]) and same_row(use.a[self._i], other.a[0])
            for use, other in zip(uses, own, strict=True)
        )

    def _close(self, found: Tensor, expected: Tensor) -> bool:
        wrong = (found - expected).norm()
        return not wrong > self._relative * expected.norm() + self._absolute  # NaN is another check's to name


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


class _Taps(TorchFunctionMode):
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
        self.lone: Lone | Beside | None = None  # against which each layer is checked
        self._rows: RowWise | None = None
        self.proved = True  # that layers read and give the examples along the first axis

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
        given = args[0] if args else next(iter(kwargs.values()))
        apart = given.dim() >= fewest_axes(module) and len(given) == len(out) == self._count
        if not apart or id(module) in self._elsewhere:
            for layer in self.layers[module]:  # they have no formula after all
                self._plan.outside.update(layer.parameters)
            return out
        self.proved &= self._rows is not None and self._rows.holds(given) and self._rows.holds(out)
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


def _full(value: Tensor) -> Tensor:
    """Half precision as float32: products of gradients leave its range."""
    return value.to(wide(value.dtype)) if value.is_floating_point() else value


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value
