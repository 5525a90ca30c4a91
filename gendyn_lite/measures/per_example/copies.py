"""Copies of a network, which must not read the weights of the original."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import Loss, cross_entropy, lone, run_few
from gendyn_lite.measures.per_example.checks import dtype_name, in_a_line
from gendyn_lite.measures.per_example.guards import check_kept
from gendyn_lite.measures.per_example.layers import seen
from gendyn_lite.measures.per_example.unchanged import of_libraries

COPY = "a copy of the network still reads the original's {!r} (in a hook, a closure, or a function set on a module)"
BESIDE = "loss= or output= reads the network's {!r}, past the copy that is measured"
PENALTY = "the loss reads the network's {!r}, and a gradient through that would be missed"
REMEDY = {
    COPY: "make it a method",
    BESIDE: "make it a part of the network, or leave it out",
    PENALTY: "leave that term out of loss=",
}
AS_NUMBERS = (torch.detach, Tensor.detach, Tensor.data.__get__)  # type: ignore[attr-defined]


class Unread(TorchFunctionMode):
    """A context that refuses operations on the parameters of a network.

    Args:
        model: The network.
        told: What is wrong with them, one of the keys of `REMEDY`. For `PENALTY`, operations may read what is detached.

    >>> with Unread(layer := nn.Linear(1, 1), PENALTY):
    ...     layer.weight.detach(), layer.weight.square()
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the loss reads the network's 'weight', ...: leave that term out of loss=
    """

    def __init__(self, model: nn.Module, told: str) -> None:
        super().__init__()
        self._names = {id(value): name for name, value in model.named_parameters()}
        self._told = told

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        read = [self._names[id(value)] for value in tree_leaves((args, kwargs or {})) if id(value) in self._names]
        if read and self._told != PENALTY:
            raise UserError(f"{self._told.format(read[0])}: {REMEDY[self._told]}")
        out = func(*args, **(kwargs or {}))
        if read and func not in AS_NUMBERS and any(isinstance(value, Tensor) for value in tree_leaves(out)):
            raise UserError(f"{self._told.format(read[0])}: {REMEDY[self._told]}")
        return out


def copied(model: nn.Module, x: Tensor | None = None) -> nn.Module:
    """Copy a network, with dense gradients of embeddings; refuse one with weights computed before each call.

    Args:
        model: The network.
        x: Inputs; the copy is run on the first, and refused if it reads a weight of the original.
    """
    check_kept(model)
    try:
        twin = copy.deepcopy(model)
        for module in twin.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                module.sparse = False
        if x is not None and not of_libraries(model):
            with torch.no_grad(), Unread(model, COPY):
                run_few(twin, lone(twin, x[0]).clone())
        return twin
    except RuntimeError as error:
        computed = [
            f"{name!r} ({type(module).__name__})"
            for name, module in model.named_modules()
            if any(isinstance(value, Tensor) and not value.is_leaf for value in vars(module).values())
        ]
        where = computed[0] if computed else "the network"
        why = "torch.nn.utils.remove_weight_norm, remove_spectral_norm or prune.remove gives it weights of its own"
        raise UserError(f"{where} holds a tensor that was computed, and cannot be copied: {why}") from error


@torch.no_grad()
def check_beside(model: nn.Module, twin: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> None:
    """Refuse a loss, or an `output=` of a network's copy, that reads weights of the network itself.

    >>> check_beside(nn.Linear(2, 2), nn.Linear(2, 2), torch.eye(2), torch.arange(2), cross_entropy)
    """
    seen(twin, x)  # refused in a line where the copy does not take an example
    with Unread(model, BESIDE):
        logits = run_few(twin, lone(twin, x[0]).clone())
        if loss is not cross_entropy:
            with in_a_line(f"loss= does not take outputs in {dtype_name(logits)} (of a copy) and these labels"):
                loss(logits, lone(twin, y[0]))
