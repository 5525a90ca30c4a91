"""What training and measures check alike of a network's outputs: that they are logits, and not random."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from gendyn_lite.data.own import generators
from gendyn_lite.errors import UserError

SQUASHES = re.compile(r"(Softmax|Softmin|Sigmoid|LogSigmoid|Hardsigmoid)(Backward\d+)?")  # a layer, or autograd's node
_told: WeakSet[nn.Module] = WeakSet()


def tell_of_probabilities(model: nn.Module, out: Tensor) -> None:
    """Warn, once for a network, if its outputs are probabilities, of which the cross-entropy takes the softmax again.

    The last operation tells, or rows that are nowhere negative and sum to 1. Of log-probabilities, as from
    ``log_softmax``, the softmax is what it should be.

    Args:
        model: The network.
        out: Its outputs, [n, classes].

    >>> with warnings.catch_warnings(record=True) as told:
    ...     tell_of_probabilities(nn.Softmax(1), torch.eye(3).softmax(1))
    ...     tell_of_probabilities(nn.LogSoftmax(1), torch.eye(3).log_softmax(1))
    >>> [str(one.message).split(",")[0] for one in told]
    ["the network ends in '' (Softmax)"]
    """
    if model in _told or out.dim() != 2 or not _squashed(model, out.detach(), out.grad_fn):
        return
    _told.add(model)
    name, last = list(model.named_modules())[-1]
    where = f"ends in {name!r} ({type(last).__name__})" if SQUASHES.fullmatch(type(last).__name__) else "gives such"
    told = f"the network {where}, whose outputs are probabilities, and the cross-entropy takes them for logits, with a"
    advice = "leave that layer out, or, if the network was trained with another loss, measure with that one (loss=)"
    warnings.warn(f"{told} softmax of its own: {advice}", stacklevel=3)


def _squashed(model: nn.Module, out: Tensor, node: torch.autograd.graph.Node | None) -> bool:
    """Return whether outputs are probabilities."""
    last = type(list(model.modules())[-1]).__name__ if node is None else node.name()
    loose = 1e-4 if out.dtype in (torch.float32, torch.float64) else 2e-2
    sums = out.double().sum(1)
    return bool(SQUASHES.fullmatch(last)) or bool((out >= 0).all() and ((sums - 1).abs() < loose).all())


def tell_of_chance(model: nn.Module, x: Tensor, logits: Tensor) -> None:
    """Warn if what a network in eval mode gives for an example depends on chance, on earlier calls or on the others.

    Args:
        model: The network.
        x: Inputs [n, ...]; three of them are enough.
        logits: What it has given for the first two of them, in one batch [2, c].

    >>> x = torch.eye(3)
    >>> tell_of_chance(network := nn.Linear(3, 2), x, network(x[:2]).detach())
    """
    at = int(len(x) > 2)
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), torch.no_grad():
        try:
            with unmoved(model, x):
                again = model(x[at : at + 2])[0]
        except UserError as error:
            told = str(error)
        else:
            if not (again - logits[at]).norm() > 1e-2 * logits[at].norm():
                return
            told = "an example's outputs depend on the others of its batch (as with batch-norm without running "
            told += "statistics), or change from call to call: make them depend on that example only"
    warnings.warn(f"in eval mode too, {told}; until then all losses and accuracies depend on it", stacklevel=3)


@contextmanager
def unmoved(model: nn.Module, x: Tensor) -> Iterator[None]:
    """Refuse a network that draws random numbers or changes its buffers when it is run inside the context.

    The output of such a network is not determined by its weights and inputs.

    Args:
        model: The network.
        x: Its inputs, which determine the device whose generator is watched.

    Raises:
        UserError: A buffer, or the state of a random generator of torch, Python or NumPy, has changed.

    >>> class Noisy(nn.Linear):
    ...     def forward(self, x):
    ...         return super().forward(torch.nn.functional.dropout(x, 0.5))
    >>> with unmoved(network := nn.Sequential(Noisy(2, 3)), torch.eye(2)):
    ...     _ = network(torch.eye(2))
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network draws at random when it is run, in '0' (Noisy), so that it has no ...
    """
    places = {name: (buffer, buffer._version) for name, buffer in model.named_buffers() if not buffer.is_inference()}
    before = generators(x.device)
    yield
    if before != generators(x.device):
        why = "so that it has no output of its own: switch that off (F.dropout needs training=self.training)"
        raise UserError(f"the network draws at random when it is run, {_drawing(model, x)}{why}")
    for name, buffer in model.named_buffers():
        if name in places and (buffer is not places[name][0] or buffer._version != places[name][1]):
            why = "keep that to train mode, which model.eval() ends"
            raise UserError(f"the network changes its buffer {name!r} when it is run: {why}")


def _drawing(model: nn.Module, x: Tensor) -> str:
    """Name the innermost module that is the first to draw at random; empty if it is the network itself."""
    before, found = dict[nn.Module, list[object]](), list[str]()

    def enter(module: nn.Module, args: Any) -> None:
        before[module] = generators(x.device)

    def leave(name: str, module: nn.Module, args: Any, out: Any) -> None:
        if before[module] != generators(x.device):
            found.append(f"in {name!r} ({type(module).__name__}), " if name else "")

    with ExitStack() as stack, suppress(Exception), torch.no_grad():
        stack.enter_context(torch.random.fork_rng([x.device] if x.device.type == "cuda" else []))
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enter).remove)
            stack.callback(module.register_forward_hook(partial(leave, name)).remove)
        model(x[:2])
    return found[0] if found else ""


@contextmanager
def unwritten(x: Tensor) -> Iterator[None]:
    """Refuse a network that changes its input, as every later call of it would see another one.

    >>> with unwritten(x := torch.zeros(2)):
    ...     x += 1
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the network changes its input in place: ...
    """
    before = None if x.is_inference() else x._version
    yield
    if before is not None and x._version != before:
        raise UserError("the network changes its input in place: let it change a copy (x = x * 2 instead of x *= 2)")
