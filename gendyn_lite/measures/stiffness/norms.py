"""Squared norms of per-example gradients: what a cosine between two sets needs beside their Gram matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gendyn_lite.measures import _per_example_fallback as fallback
from gendyn_lite.measures._per_example import Loss, Use, backward, cross_entropy
from gendyn_lite.measures._per_example_checks import check_examples, check_finite, check_model
from gendyn_lite.measures._per_example_layers import Layer, plan
from gendyn_lite.measures._per_example_memory import activation_bytes
from gendyn_lite.measures.stiffness._layer_gram import squared_norms_of

CHUNK_BYTES = 1 << 30


def squared_norms(model: nn.Module, x: Tensor, y: Tensor, *, loss: Loss = cross_entropy) -> Tensor:
    """‖g_i‖² of each example's loss gradient, [n]: the diagonal of `gradient_gram`, at a fraction of its cost.

    Args:
        model: Any network, batch-norm and dropout in eval mode.
        x: Inputs [n, ...].
        y: Labels int64 [n].
        loss: Function of (logits, y) that gives the loss of each example.

    Raises:
        UserError: As `gradient_gram`.

    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = nn.init.zeros_(model.weight)
    >>> squared_norms(model, torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    tensor([0.5000, 2.0000])
    """
    check_model(model)
    check_examples(model, x, y, least=1)
    planned = plan(model)
    step = max(1, CHUNK_BYTES // activation_bytes(model, x))
    parts: list[Tensor] = []
    for i in range(0, len(x), step):
        shares: list[Tensor] = []

        def on_layer(layer: Layer, uses: list[Use], shares: list[Tensor] = shares) -> None:
            shares.append(squared_norms_of(layer, uses))

        some = x[i : i + step], y[i : i + step]
        outside = backward(model, *some, planned, on_layer, loss=loss)
        without = sorted(outside.union(planned.without_formula))
        if without:
            if i == 0:
                fallback.warn(without, model)
            shares += [g.square().sum(1) for g in fallback.gradients(model, without, *some, loss=loss).values()]
        parts.append(torch.stack(shares).sum(0) if shares else x.new_zeros(len(some[0])))
    norms = torch.cat(parts)
    check_finite(norms)
    return norms
