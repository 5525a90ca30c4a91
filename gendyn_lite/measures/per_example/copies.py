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
from gendyn_lite.measures.per_example.rowwise import ASKS, name_of
from gendyn_lite.measures.per_example.unchanged import of_libraries

SOME = 256  # examples at a time
COPY = "a copy of the network still reads the original's {!r} (in a hook, a closure, or a function set on a module)"
BESIDE = "output= reads the network's {!r}, past the copy that is measured"
PENALTY = "the loss reads the network's {!r}, and a gradient through that would be missed"
REMEDY = {
    COPY: "make it a method",
    BESIDE: "make it a part of the network, or leave it out",
    PENALTY: "leave that term out of loss=",
}
# Functions whose result does not depend on the entries of a tensor that is given, or (the first three) has no gradient.
DETACHED = ("detach", "data", "detach_")
SHAPES = ("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_tensor", "new_zeros",
          "new_ones", "new_full", "new_empty")  # fmt: skip
CONVERTED = ("to", "type_as")  # of the first tensor alone


class Unread(TorchFunctionMode):
    """A context that refuses operations on the parameters of a network, or on views of them.

    Args:
        model: The network.
        told: What is wrong with them, one of the keys of `REMEDY`. For `PENALTY`, operations may read what has no
            gradient.

    >>> with Unread(layer := nn.Linear(1, 1), PENALTY):
    ...     layer.weight.detach(), layer.weight.square()
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: the loss reads the network's 'weight', ...: leave that term out of loss=
    """

    def __init__(self, model: nn.Module, told: str) -> None:
        super().__init__()
        self._names = {_place(value): name for name, value in model.named_parameters()}
        self._parameters = set(map(id, model.parameters()))
        self._told = told

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        name = name_of(func)
        given = [args[0]] if name in CONVERTED and args else [] if name in SHAPES else tree_leaves((args, kwargs or {}))
        read = next((self._names[_place(value)] for value in given if self._reads(value)), None)
        out = func(*args, **(kwargs or {}))
        free = name in ASKS
        if self._told == PENALTY:  # a number has no gradient
            made = any(isinstance(value, Tensor) for value in tree_leaves(out))
            free = not made or name in DETACHED or not torch.is_grad_enabled()
        if read and not free:
            raise UserError(f"{self._told.format(read)}: {REMEDY[self._told]}")
        return out

    def _reads(self, value: object) -> bool:
        """Whether a value lies in the memory of a parameter; for `PENALTY`, with a gradient."""
        if not isinstance(value, Tensor) or _place(value) not in self._names:
            return False
        return self._told != PENALTY or id(value) in self._parameters or value.requires_grad


def _place(value: Tensor) -> object:
    """Return the memory in which a tensor lies; of one without any, which tensor it is."""
    with torch._C.DisableTorchFunction():
        try:
            return value.untyped_storage().data_ptr() or id(value)
        except (RuntimeError, NotImplementedError):  # a tensor of torch.func, a sparse one
            return id(value)


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
    """Refuse a loss, or an `output=` of a network's copy, that reads weights of the network itself, for any example.

    >>> check_beside(nn.Linear(2, 2), nn.Linear(2, 2), torch.eye(2), torch.arange(2), cross_entropy)
    """
    seen(twin, x)  # refused in a line where the copy does not take an example
    if len(x) == 1:  # with batch-norm, twice
        x, y = lone(twin, x[0]), lone(twin, y[0])
    for part, labels in zip(x.split(SOME), y.split(SOME), strict=True):
        with Unread(model, BESIDE):
            logits = run_few(twin, part.clone())
        if loss is not cross_entropy:
            told = f"loss= does not take outputs in {dtype_name(logits)} (of a copy) and these labels"
            with torch.enable_grad(), Unread(model, PENALTY), in_a_line(told):
                loss(logits, labels)
