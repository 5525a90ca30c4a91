"""The slow, obvious twin of per-example measures: one backward pass for each example."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def gradients(model, x, y, loss=None) -> list[dict[str, torch.Tensor]]:
    """For each example, the gradient of its loss by parameter, flat."""
    names = [name for name, value in model.named_parameters() if value.requires_grad]
    values = [value for value in model.parameters() if value.requires_grad]
    rows = []
    for i in range(len(x)):
        logits = model(x[i : i + 1])
        each = F.cross_entropy(logits, y[i : i + 1]) if loss is None else loss(logits, y[i : i + 1]).sum()
        found = torch.autograd.grad(each, values, allow_unused=True, materialize_grads=True)
        rows.append({name: g.flatten() for name, g in zip(names, found, strict=True)})
    return rows
