"""One forward and one backward pass that hand over, layer by layer, the factors of per-example gradients.

For a layer with weights W, input a and output z = W a, the gradient of example i's loss is the product of its output
gradient ∂L/∂z and its input a. These two suffice, so the gradient itself is not computed. The weights are frozen
during both passes, so the backward pass computes no weight gradient and stops at the first layers with weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import (
    TOLERANCE,
    Loss,
    cross_entropy,
    fitted_below,
    frozen,
    gradients,
    lone,
)
from gendyn_lite.measures.per_example.apart import (
    ANOTHER,
    Look,
    check_all_rows,
    check_alone,
    check_loss,
    check_rows,
    same_row,
)
from gendyn_lite.measures.per_example.backward import check_backward, check_graph, derive, losses_of
from gendyn_lite.measures.per_example.checks import check_logits, in_a_line, usable
from gendyn_lite.measures.per_example.guards import check_kept
from gendyn_lite.measures.per_example.lag import lag_is_told
from gendyn_lite.measures.per_example.layers import Layer, Plan, Use, seen, warn
from gendyn_lite.measures.per_example.memory import Memory
from gendyn_lite.measures.per_example.rowwise import RowWise
from gendyn_lite.measures.per_example.spot_check import Lone
from gendyn_lite.measures.per_example.taps import OnLayer, Taps, digest
from gendyn_lite.measures.per_example.unchanged import of_libraries
from gendyn_lite.models.logits import tell_of_probabilities, unmoved, unwritten
from gendyn_lite.threads import keep_freed_memory

OnGradients = Callable[[str, Tensor], None]


def visit(  # noqa: PLR0917 (the inputs, and the functions that receive the results)
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
    """Run the network on a batch and hand over the factors of each parameter's per-example gradients.

    A layer is handed over as soon as the output gradients of all its uses are known, so the last layers come first.
    Nothing of it is kept here: the caller decides what stays in memory. Layers on which the loss does not depend are
    left out. Parameters without a formula come at the end, with gradients computed by `torch.func`. The losses of the
    examples are summed, not averaged.

    Args:
        model: The network; it is left unchanged.
        x: Inputs [n, ...].
        y: Labels [n].
        plan: Its layers, from `gendyn_lite.measures.per_example.layers.plan`; what the passes reveal about them is
            recorded in it.
        on_layer: Receives each layer with a formula, and its uses.
        on_gradients: Receives the name of each other parameter, and its gradient for each example, [n, entries].
        loss: Function of (logits, y) that returns the loss of each example, [n].
        drawn: Whether the loss draws random numbers. Its values then differ from call to call, so checks that would
            evaluate it again are skipped.

    Raises:
        UserError: A layer's input was changed in place after the layer had read it; the logits do not fit the labels;
            the network or the loss mixes the examples of a batch, draws random numbers or changes buffers.
    """
    keep_freed_memory()
    checked = plan.alone or x.shape in plan.traces
    memory = Memory(model, x, plan) if not checked and loss is cross_entropy and len(x) > 1 else None
    batch, count = (x, y), len(x)
    if count == 1:  # with batch-norm, twice; the second one's loss is left out
        x, y = lone(model, x[0]), lone(model, y[0])

    def on_first(layer: Layer, uses: list[Use]) -> None:
        if taps.compared:
            taps.given_back[layer] = [digest(use.z) for use in uses]
        on_layer(layer, [Use(use.module, use.a[:count], use.z[:count]) for use in uses])

    with torch.inference_mode(False), torch.enable_grad(), frozen(model):
        elsewhere = seen(model, x).elsewhere
        taps = Taps(plan, elsewhere, len(x), on_first)
        given = x.detach()
        if plan.any_layout and x.dim() == 4 and x.device.type == "cpu":  # faster pooling, longer runs in patches
            given = given.contiguous(memory_format=torch.channels_last)
        checks = () if plan.alone else (unmoved(model, x), unwritten(x), lag_is_told(model))
        rows = None if plan.alone or len(x) < 2 else RowWise(model, given)
        logits = _forward(taps, model, given, *checks, rows=rows)
        check_logits(logits, y, loss is cross_entropy)
        losses = losses_of(model, loss, logits, y)
        if not plan.alone:
            _check_batch(model, (x, y), plan, taps, rows, loss, (logits, losses), drawn=drawn)
            plan.alone = count > 1 and taps.known  # another batch may take other branches of one's own code
        taps.forward_is_done()
        if losses.requires_grad:
            derive(losses[:count].sum(), taps, logits.dtype)
        taps.hand_over_the_rest()
        if taps.compared:
            check_backward(model, (x.detach(), y), plan, taps, elsewhere, loss)
    if taps.known and not plan.outside:
        plan.used = taps.used
        _check_reached(plan.used)
    without = sorted(plan.outside.union(plan.without_formula))
    new = [name for name in without if name not in plan.announced]
    if new:
        plan.announced.update(new)
        warn(new, model)
    if without:
        for name, found in gradients(model, without, *batch, loss=loss).items():
            if taps.lone is not None:
                taps.lone.check(name, found)
            on_gradients(name, found)
    # Only now, as a network that was refused must be so again.
    if taps.lone and taps.traced and rows is not None and not plan.outside:
        plan.traces[x.shape] = rows.trace
    if memory and (taps.lone or taps.known):
        memory.keep(model, plan, proved=taps.known)


def _forward(taps: Taps, model: nn.Module, x: Tensor, *checks: AbstractContextManager[Any], **rows: Any) -> Tensor:
    """Run the network with its taps; whatever somebody's forward raises is told in a line."""
    with in_a_line(f"the network does not take these {len(x)} examples", but=(RuntimeError,)):
        return taps.run(model, x, *checks, **rows)


def _check_batch(  # noqa: PLR0917 (what was run, and what it gave)
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    plan: Plan,
    taps: Taps,
    rows: RowWise | None,
    loss: Loss,
    given: tuple[Tensor, Tensor],
    *,
    drawn: bool,
) -> None:
    """Check, once for a plan, that the network and the loss keep the examples of a batch apart; see `visit`."""
    (x, y), (logits, losses) = batch, given
    check_kept(model)
    own_backward = check_graph(losses)
    if loss is cross_entropy:
        tell_of_probabilities(model, logits)
    if len(x) > 1 and loss is not cross_entropy and not drawn:
        check_loss(loss, logits, y, losses)
    proved = rows is not None and taps.proved and rows.holds(logits)
    without = plan.without_formula or plan.outside
    taps.known = proved and not without and loss is cross_entropy and of_libraries(model)
    if not (losses.requires_grad or without):
        _check_reached(())
    if taps.known:  # autograd's derivative of operations that keep examples apart does so too
        return
    taps.traced = proved and loss is cross_entropy and not (own_backward or without)
    if taps.traced and rows is not None and rows.trace == plan.traces.get(x.shape):  # as in a batch that was checked
        return
    precise = {logits.dtype, *(value.dtype for value in model.parameters())} <= TOLERANCE.keys()
    precise = precise and not torch.is_autocast_enabled(x.device.type)
    taps.compared = (own_backward or not proved) and precise and not drawn and len(x) > 1
    if not drawn:
        taps.lone = _lone(model, plan, (usable(x.detach()), usable(y)), loss, given)
        plan.used = taps.lone and taps.lone.used
        _check_reached(plan.used)
    check_alone(model, x, seen=taps.lone is not None and loss is cross_entropy)
    # `x` in its own layout: channels-last is slower for few examples.
    look = None if proved else taps.in_order
    _check_rows(model, x.detach(), logits, look=look, seen=proved and taps.lone is not None)


def _check_reached(used: Collection[str] | None) -> None:
    """Refuse a loss on which none of the weights has an effect; None if it was not examined which ones have."""
    if used is not None and not used:
        why = "are they merged into others, or behind a detach()?"
        raise UserError(f"the loss depends on none of the weights that require a gradient: {why}")


def _check_rows(model: nn.Module, x: Tensor, logits: Tensor, *, look: Look, seen: bool) -> None:
    """Refuse a network in which an example's logits change with the other examples of its batch.

    They are compared as closely as the coarser one of their precision and that of the parameters allows.

    Args:
        model: The network.
        x: Inputs.
        logits: Its output for the whole batch.
        look: Context to enter while all examples are compared, as in `check_all_rows`; None if it is proved that no
            operation mixes examples, so that comparing a few suffices.
        seen: Whether a `Lone` has already compared a few, which suffices where `look` is None.
    """
    if len(x) < 2:
        return
    if torch.finfo(logits.dtype).eps < torch.finfo(own := next(model.parameters()).dtype).eps:
        logits = logits.to(own)
    if not seen:
        check_rows(model, x, logits)
    if look is not None:
        check_all_rows(model, x, logits, look)


def _lone(
    model: nn.Module, plan: Plan, batch: tuple[Tensor, Tensor], loss: Loss, given: tuple[Tensor, Tensor]
) -> Lone | None:
    """Return one example run apart from the batch, against which each layer is checked; None if that shows nothing.

    It shows nothing if the precision is too low to compare gradients, or if all examples are fitted so well that their
    gradients are mostly rounding errors. If all code is a library's, and proved, nothing is run (`visit`).
    """
    logits, losses = given
    largest, dtype = losses.detach().abs().max(), next(model.parameters()).dtype
    if not {dtype, logits.dtype} <= TOLERANCE.keys() or torch.is_autocast_enabled(logits.device.type):
        told = "in half precision it is not noticed if the network's own code mixes examples by a few per cent"
        warnings.warn(f"{told}, or if a layer's formula does not apply: compare with model.float()", stacklevel=5)
        return None
    if not largest > fitted_below(loss, logits, losses):
        return None
    try:
        found = Lone(model, list(plan.names.values()), batch, loss, (logits, losses))
    except RuntimeError:  # an input was changed in place: the backward pass of the batch names it
        return None
    for i, row in found.rows.items():
        if not same_row(row, logits[i].detach()):
            raise UserError(ANOTHER.format(i))
    return found
