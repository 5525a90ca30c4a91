"""Copies of a network, which must not read the weights of the original."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.alone import lone, run_few
from gendyn_lite.measures.per_example.guards import check_kept
from gendyn_lite.measures.per_example.unchanged import of_libraries


class _Originals(TorchFunctionMode):
    """A context that refuses operations on the parameters of a network, of which a copy is run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._names = {id(value): name for name, value in model.named_parameters()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        for value in tree_leaves((args, kwargs or {})):
            if id(value) in self._names:
                told = f"a copy of the network still reads the original's {self._names[id(value)]!r}"
                raise UserError(f"{told} (in a hook, a closure, or a function set on a module): make it a method")
        return func(*args, **(kwargs or {}))


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
            with torch.no_grad(), _Originals(model):
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
