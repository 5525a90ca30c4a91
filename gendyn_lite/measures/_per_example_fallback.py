"""Per-example gradients by `torch.func`, for parameters whose layer has no formula."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from gendyn_lite.measures._per_example import Loss
from gendyn_lite.measures._per_example_checks import usable
from gendyn_lite.measures._per_example_layers import layer_name

CHUNK_BYTES = 256 << 20


def gradients(model: nn.Module, names: Sequence[str], x: Tensor, y: Tensor, *, loss: Loss) -> dict[str, Tensor]:
    """Gradient of each example's loss with respect to some parameters, by vmap; example by example where it cannot.

    Args:
        model: The network.
        names: Names of the parameters.
        x: Inputs [n, ...].
        y: Labels [n].
        loss: Function of (logits, y) that gives the loss of each example.

    Returns:
        For each name the gradients, [n, entries].
    """
    own = {name: value.detach() for name, value in model.named_parameters() if name in names}
    rest = {name: value.detach() for name, value in model.named_parameters() if name not in names}
    rest |= {name: value.detach() for name, value in model.named_buffers()}

    def one(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(model, ({**rest, **values}), (x[None],))
        return loss(logits, y[None]).sum()

    each = sum(value.numel() * value.element_size() for value in own.values()) or 1
    size = max(1, CHUNK_BYTES // each)
    with torch.inference_mode(False), torch.enable_grad():
        x, y = usable(x), usable(y)
        try:
            found = vmap(grad(one), in_dims=(None, 0, 0), chunk_size=size)(own, x, y)
        except (RuntimeError, ValueError):  # control flow that depends on data, random draws, unsupported operations
            rows = [grad(one)(own, *pair) for pair in zip(x, y, strict=True)]
            found = {name: torch.stack([row[name] for row in rows]) for name in own}
    return {name: value.detach().reshape(len(x), own[name].numel()) for name, value in found.items()}


def warn(names: Sequence[str], model: nn.Module) -> None:
    """Name the layers that are differentiated by `torch.func`, which stores their gradients."""
    modules = dict(model.named_modules())
    layers = dict.fromkeys(layer_name(name) for name in names)
    told = ", ".join(f"{layer} ({type(modules.get(layer, model)).__name__})" for layer in layers)
    warnings.warn(
        f"no formula for {told}: per-example gradients there by torch.func, which is slower and stores them",
        stacklevel=4,
    )
