"""Checks that each output and loss depends on its example only."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from gendyn_lite.errors import UserError, first_line
from gendyn_lite.measures.per_example.alone import MIXES, TOLERANCE, lone
from gendyn_lite.measures.per_example.checks import usable
from gendyn_lite.measures.per_example.rowwise import RowWise, mixing
from gendyn_lite.measures.per_example.unchanged import of_libraries
from gendyn_lite.models.logits import unmoved, unwritten


def check_alone(model: nn.Module, x: Tensor, *, seen: bool = False) -> None:
    """Refuse a network that mixes the examples of a batch, so that no example has a gradient of its own.

    Two examples are run, and the derivative of each output with respect to the other input must be exactly 0. Rounding
    cannot disturb that. Integer inputs have no derivatives: a few of them are run in a batch and one by one instead. A
    batch of one example cannot reveal mixing, and passes.

    Args:
        model: The network.
        x: Inputs.
        seen: Whether a `Lone` has already checked such derivatives.

    Raises:
        UserError: The network mixes examples.

    >>> class Centred(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x - x.mean(0))
    >>> check_alone(Centred(2, 3), torch.eye(2))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network mixes the examples of a batch: ...
    """
    if len(x) < 2 or (seen and x.is_floating_point()):
        return
    if not x.is_floating_point():
        with torch.no_grad():
            among, alone = model(x[:8]), torch.cat([model(one) for one in x[:8].split(1)])
        loose = 1e-2 if alone.dtype in TOLERANCE else 0.1  # in half precision, rounding depends on the batch
        size = float(alone.abs().nan_to_num(0.0, 0.0).mean())  # other checks report infinity and NaN
        if not torch.allclose(among, alone, rtol=loose, atol=loose * size, equal_nan=True):
            raise UserError(MIXES)
        return
    with torch.inference_mode(False), torch.enable_grad():
        two = x[:2].detach().clone().requires_grad_()
        try:
            out = model(two.clone()).reshape(2, -1)
            sums = out @ torch.linspace(1, 2, out.shape[1]).to(out)
            rows = [torch.autograd.grad(sums[i], two, retain_graph=True, allow_unused=True)[0] for i in (1, 0)]
        except RuntimeError:  # some operation has no derivative with respect to the inputs
            return
    if any(row is not None and (row[other].abs() > 0).any() for other, row in enumerate(rows)):
        raise UserError(MIXES)


ANOTHER = (
    "the output of example {} is another one alone than among others: the network mixes the examples of a batch, "
    "or is another at each call"
)


@torch.no_grad()
def check_rows(model: nn.Module, x: Tensor, among: object) -> None:
    """Refuse a network whose output for an example changes when the example is run by itself.

    The first, the middle and the last example are run by themselves. A difference shows that the network mixes
    examples, or that it differs from call to call. This also detects randomness that does not come from the generators
    that `unmoved` watches, and networks that compute something else when gradients are recorded.

    Args:
        model: The network.
        x: Inputs.
        among: Its output for the whole batch. Anything but a real tensor with a row for each example is not checked.

    Raises:
        UserError: The output of an example differs.

    >>> class Capped(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(x) * (torch.arange(len(x)) < 2)[:, None]
    >>> check_rows(network := Capped(2, 3), torch.eye(4)[:, :2], network(torch.eye(4)[:, :2]))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the output of example 2 is another one alone than among others: ...
    """
    if not isinstance(among, Tensor) or among.dim() < 1 or len(among) != len(x) or among.is_complex():
        return
    chosen = sorted({0, len(x) // 2, len(x) - 1})
    expected = among[chosen].detach()
    with torch.inference_mode(False), torch.enable_grad():
        given = usable(x[chosen])
        alone = _by_vmap(model, given)
        if alone is not None and all(map(same_row, alone, expected)):
            return
        for i, one, row in zip(chosen, given, expected, strict=True):
            try:
                own = model(lone(model, one))[0]
            except RuntimeError as error:
                raise UserError(f"the network does not take example {i} by itself: {first_line(error)}") from error
            if not same_row(own, row):
                raise UserError(ANOTHER.format(i))


Look = Callable[[Tensor], AbstractContextManager[Any]] | None


def parts_of(count: int) -> tuple[Tensor, ...]:
    """Return the even and the odd places of a batch, each without any order, or the places one by one if they are few.

    A network that reverses a batch, shifts it or pairs its examples does not do the same in such a half. In order it
    might, as the reverse of every second of nine places is every second place again.

    >>> [part.tolist() for part in parts_of(3)], [sorted(part.tolist()) for part in parts_of(5)]
    ([[0], [1], [2]], [[0, 2, 4], [1, 3]])
    """
    if count < 5:
        return torch.arange(count).split(1)
    places = torch.randperm(count, generator=torch.Generator().manual_seed(2))
    return places[places % 2 == 0], places[places % 2 == 1]


@torch.no_grad()
def check_all_rows(model: nn.Module, x: Tensor, among: object, look: Look = None) -> None:
    """Refuse a network whose output for any example changes in a half of the batch, as `parts_of` divides it.

    This takes as long as the batch did, so it is meant for networks with an operation that may mix examples: it may mix
    only a few, and only in large batches, which `check_rows` would miss.

    Args:
        model: The network.
        x: Inputs.
        among: Its output for the whole batch. Anything but a real tensor with a row for each example is not checked.
        look: Called with the places of each half; returns a context in which that half is run. None for no context.

    Raises:
        UserError: An output differs; the message names the first operation that may mix examples, and its module.

    >>> class Paired(nn.Linear):
    ...     def forward(self, x):
    ...         h = super().forward(x)
    ...         return torch.cat([h[:6], h[[7, 6]], h[8:]]) if len(x) > 8 else h
    >>> check_all_rows(network := Paired(2, 3), x := torch.randn(16, 2), network(x))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the output of example 6 is another one among fewer examples: ...
    """
    if len(x) < 3 or not isinstance(among, Tensor) or len(among) != len(x) or among.is_complex():
        return
    for places in parts_of(len(x)):
        with torch.inference_mode(False), nullcontext() if look is None else look(places):
            half = model(usable(x[places]))
        check_half(model, x, among, half, places)


def check_half(model: nn.Module, x: Tensor, among: object, half: object, places: Tensor) -> None:
    """Refuse outputs that differ between a batch and a half of it, as in `check_all_rows`.

    Args:
        model: The network.
        x: Inputs of the whole batch.
        among: Its output for x.
        half: Its output for ``x[places]``.
        places: The places of the half in the batch.

    >>> check_half(nn.Identity(), x := torch.eye(4), x, x[[3, 1]], torch.tensor([3, 1]))
    """
    if not isinstance(among, Tensor) or not isinstance(half, Tensor):
        return
    expected = among[places].detach()
    if half.shape != expected.shape:
        return
    wrong = places[(~_same_rows(half, expected)).nonzero().flatten().cpu()].tolist()
    if wrong:
        told = f"the output of example {min(wrong)} is another one among fewer examples"
        why = "make that work on each example by itself"
        raise UserError(f"{told}: the network mixes the examples of a batch, maybe by {mixing(model, x)}: {why}")


def own_outputs(model: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute outputs, and refuse them unless each depends on its example only and is the same at each call.

    Examples are run again where that is not proved: a few of them if the network has hooks or code of unknown origin,
    and all of them if it has an operation that may mix examples.

    Args:
        model: The network.
        x: Inputs [n, ...].
        run: Function that calls the network.

    Returns:
        The outputs, [n, ...].

    >>> own_outputs(network := nn.Linear(2, 3), torch.eye(2), network).shape
    torch.Size([2, 3])
    """
    with unmoved(model, x), unwritten(x), RowWise(model, x) as rows:
        try:
            out = run(x)
        except (UserError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:
            raise UserError(f"the network does not take examples {list(x.shape[1:])}: {first_line(error)}") from error
    proved = rows.holds(out)
    if not (proved and of_libraries(model)):
        check_rows(model, x, out)
    if not proved:
        check_all_rows(model, x, out)
    return out


def _by_vmap(model: nn.Module, x: Tensor) -> Tensor | None:
    """Return the outputs of examples, each as a batch of one, at about the cost of one call; None if vmap fails.

    It is not tried on a network with hooks or with code of unknown origin, which may store a tensor: one that is made
    under vmap is of no use outside of it.
    """
    if not of_libraries(model):
        return None
    with warnings.catch_warnings(), contextlib.suppress(RuntimeError, ValueError, TypeError):
        warnings.filterwarnings("ignore", "There is a performance drop")  # torch's warning of a missing vmap rule
        return vmap(lambda one: model(one[None])[0])(x)
    return None


def same_row(alone: Tensor, among: Tensor) -> bool:
    """Return whether an example's row of outputs is the same alone as among others, up to rounding."""
    if alone.shape != among.shape:
        return False
    if alone.dtype == among.dtype in TOLERANCE and alone.numel():
        # A fast sufficient test: no entry differs by more than is allowed for an entry of mean size.
        most = TOLERANCE[alone.dtype] * torch.linalg.vector_norm(among, 1) / alone.numel()
        if bool(torch.dist(alone, among, torch.inf) <= most):
            return True
    return bool(_same_rows(alone[None], among[None]))


def _same_rows(found: Tensor, expected: Tensor) -> Tensor:
    """Return which rows [n, ...] are the same up to rounding, bool [n]."""
    found, expected = (value.reshape(len(value), -1) for value in (found, expected))
    if not expected.is_floating_point():
        return (found == expected).all(1)
    rtol = TOLERANCE.get(expected.dtype, 0.1)  # in half precision, rounding depends on the batch
    size = expected.abs().nan_to_num(0.0, 0.0).mean(1, keepdim=True)  # other checks report infinity and NaN
    near = (found - expected).abs() <= rtol * (expected.abs() + size)
    return (near | (found == expected) | (found.isnan() & expected.isnan())).all(1)


ASKED = 32  # most examples whose loss is computed one by one


def check_loss(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, y: Tensor, losses: Tensor) -> None:
    """Refuse a loss that mixes examples: the loss of an example alone must be the same as among the others.

    Up to `ASKED` examples of a batch are checked, evenly spaced, with the first and the last among them.

    Args:
        loss: Function of (logits, y).
        logits: Outputs for all examples.
        y: Their labels or targets.
        losses: Their losses, [n].

    Raises:
        UserError: The loss of an example differs.

    >>> outputs, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([1.0, 5.0])
    >>> squares = lambda o, t: ((o - t) ** 2).mean(1)  # [2, 1] - [2] is [2, 2]
    >>> check_loss(squares, outputs, targets, squares(outputs, targets))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the loss of example 0 is 8 among others and 0 alone: ...
    """
    slack = 1e-4 * float(losses.detach().abs().nan_to_num(0.0, 0.0).max())
    for i in dict.fromkeys(torch.linspace(0, len(y) - 1, min(len(y), ASKED)).round().int().tolist()):
        alone = loss(logits[i : i + 1].detach(), y[i : i + 1]).flatten()
        among = losses[i].detach()
        if alone.shape != (1,) or not torch.allclose(alone[0], among, rtol=1e-2, atol=slack, equal_nan=True):
            told = f"the loss of example {i} is {float(among):.4g} among others and {float(alone.sum()):.4g} alone"
            raise UserError(f"{told}: it mixes examples (do shapes broadcast, [n, 1] with [n]?)")
