"""A warning about networks that give probabilities where logits are expected."""

from __future__ import annotations

import re
import warnings
from weakref import WeakSet

import torch
from torch import Tensor, nn

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
