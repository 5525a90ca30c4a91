"""The loss of each example, its backward pass through taps, and a check that this keeps the examples apart."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.utils.checkpoint import CheckpointError

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import TOLERANCE, Loss, cross_entropy
from gendyn_lite.measures.per_example.apart import parts_of
from gendyn_lite.measures.per_example.checks import dtype_name, in_a_line, usable
from gendyn_lite.measures.per_example.copies import PENALTY, Unread
from gendyn_lite.measures.per_example.layers import Layer, Plan, Use
from gendyn_lite.measures.per_example.taps import Taps, digest

SAME = {torch.float64: 1e-3, torch.float32: 0.03}  # relative difference of a batch's gradients that rounding can make


def derive(total: Tensor, taps: Taps, dtype: torch.dtype) -> None:
    """Take the derivative of the summed losses, in which the taps hand over the layers."""
    told = "" if dtype in TOLERANCE else f" in {dtype_name(dtype)} (measure model.float())"
    try:
        with in_a_line(f"the network has no backward pass{told}", but=(CheckpointError,)):
            torch.autograd.grad(total, taps.source, allow_unused=True)
    except CheckpointError:  # a checkpointed part was recomputed without the taps
        taps.leave_the_rest()


def losses_of(model: nn.Module, loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each example, and refuse a loss that does not give one, in floating point, of these alone."""
    count = len(logits)
    if loss is cross_entropy:
        return loss(logits, usable(y))
    with Unread(model, PENALTY), in_a_line(f"loss= does not take outputs in {dtype_name(logits)} and these labels"):
        losses = loss(logits, usable(y))
    shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
    if shape != (count,):
        told = f"the loss has shape {shape}, expected one value for each of {count} examples"
        raise UserError(f"{told} (reduction='none')")
    if not losses.is_floating_point():
        raise UserError(f"the loss is {dtype_name(losses)}, which has no gradient: expected one in floating point")
    return losses


def check_graph(losses: Tensor) -> bool:
    """Refuse reentrant checkpointing, which fails in `torch.autograd.grad` or leaves out the weights of its part.

    Returns:
        Whether some function has a backward pass of its own, of which the operations of the forward pass do not tell.
    """
    seen, left, own = set[object](), [losses.grad_fn], False
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        if node.name() == "CheckpointFunctionBackward":
            why = "which gives gradients to backward() alone: call it with use_reentrant=False"
            raise UserError(f"the network has a part under torch.utils.checkpoint with use_reentrant=True, {why}")
        seen.add(node)
        own |= isinstance(node, BackwardCFunction) and node.name() != "_TapBackward"
        left += [parent for parent, _ in node.next_functions]
    return own


def check_backward(  # noqa: PLR0917 (what was run, and what it gave)
    model: nn.Module, batch: tuple[Tensor, Tensor], plan: Plan, taps: Taps, elsewhere: frozenset[int], loss: Loss
) -> None:
    """Refuse a network in which an example's gradients, but not its output, depend on the others of its batch.

    A function with a backward pass of its own can do so, or a hook of a tensor. Halves of the batch are run again, and
    what comes back to each layer is compared over all examples: at a kink, rounding alone changes that of a few.
    """
    (x, y), found = batch, defaultdict[Layer, list[list[Tensor]]](list)
    for places in parts_of(len(x)):
        some = places if len(places) > 1 else places.repeat(2)  # batch-norm misreads the gradient of a single example

        def collect(layer: Layer, uses: list[Use], count: int = len(places)) -> None:
            found[layer].append([digest(use.z)[:count] for use in uses])

        half = Taps(plan, elsewhere, len(some), collect)
        with in_a_line(f"the network does not take {len(some)} of the examples", but=(RuntimeError,)):
            logits = half.run(model, x[some].clone())
        half.forward_is_done()
        losses = losses_of(model, loss, logits, y[some])
        if losses.requires_grad:
            derive(losses[: len(places)].sum(), half, logits.dtype)
        half.hand_over_the_rest()
    for layer, parts in found.items():
        apart = [torch.cat(halves) for halves in zip(*parts, strict=False)]
        among = taps.given_back.get(layer, [])
        if len(apart) != len(among) or any(len(one) != len(x) for one in apart):
            continue
        # Sorted, as between two layers a network may have its examples in another order, which it takes back.
        one, other = (torch.cat([value.sort(0).values for value in values]) for values in (apart, among))
        if not (one - other).norm() > SAME[next(model.parameters()).dtype] * other.norm():
            continue
        told = f"what an example's gradient is in layer {layer.name!r} depends on the other examples of its batch"
        why = "its backward pass, an autograd function or a hook of one's own, must treat each example by itself"
        raise UserError(f"{told}: the network mixes the examples of a batch; {why}")
