"""Per-example gradients of normalizations, which are small, and the tokens of embeddings."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.measures._per_example import Use
from gendyn_lite.measures._per_example_layers import Layer

CHUNK_BYTES = 1 << 20  # of a layer's input that is treated at a time, on a CPU


def scale_gradients(layer: Layer, uses: list[Use]) -> Tensor:
    """Gradients with respect to scale and shift of a normalization, [n, entries]."""
    return torch.stack([_of_use(layer, use) for use in uses]).sum(0)


def _of_use(layer: Layer, use: Use) -> Tensor:
    """Those of one use, a few examples at a time: what lies between input and sum stays in the cache."""
    each = use.a[0].numel() * use.a.element_size()
    step = max(1, CHUNK_BYTES // each) if use.a.device.type == "cpu" else len(use.a)
    rows = []
    for a, z in zip(use.a.split(step), use.z.split(step), strict=True):
        parts = [z * _normalized(use.module, a)] if layer.weight is not None else []
        parts += [z] if layer.bias is not None else []
        rows.append(torch.cat([_over_places(use.module, part) for part in parts], dim=1))
    return torch.cat(rows)


def _normalized(module: nn.Module, a: Tensor) -> Tensor:
    """The input of the scale: with the running statistics for batch-norm, else the example's own."""
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(a, module.normalized_shape, None, None, module.eps)
    if isinstance(module, nn.GroupNorm):
        return F.group_norm(a, module.num_groups, None, None, module.eps)
    norm = cast(nn.BatchNorm2d, module)
    return F.batch_norm(a, norm.running_mean, norm.running_var, None, None, False, 0.0, norm.eps)


def _over_places(module: nn.Module, value: Tensor) -> Tensor:
    """The sum over all axes along which scale and shift are the same, [n, entries]."""
    if isinstance(module, nn.LayerNorm):
        return value.reshape(len(value), -1, *module.normalized_shape).sum(1).flatten(1)
    return value.flatten(2).sum(2) if value.dim() > 2 else value


def tokens_of(uses: list[Use]) -> tuple[Tensor, Tensor]:
    """Tokens [n, places] and output gradients [n, places, width] over all uses."""
    tokens, gradients = [], []
    for use in uses:
        given = use.a.flatten(1) if use.a.dim() > 1 else use.a[:, None]
        z = use.z.reshape(len(use.z), -1, use.z.shape[-1])
        padding = cast(nn.Embedding, use.module).padding_idx
        tokens.append(given)
        gradients.append(z if padding is None else z * (given != padding)[..., None])
    return torch.cat(tokens, dim=1), torch.cat(gradients, dim=1)
