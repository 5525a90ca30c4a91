"""Loss and accuracy over a whole split, gathered on the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gendyn_lite.train.precision import Precision

Batch = tuple[Tensor, Tensor]


def totals(model: nn.Module, batches: Iterable[Batch], precision: Precision, device: torch.device) -> Tensor:
    """Summed cross-entropy (nats) and number of correct predictions, float64 [2] on the device; no host sync.

    Args:
        model: A network in eval mode.
        batches: Pairs of inputs and labels on the device.
        precision: Arithmetic of the forward pass; the loss is taken in float32.
        device: Where the batches are.
    """
    total = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.no_grad():
        for x, y in batches:
            with precision.autocast():
                logits = model(x)
            logits = logits.float()
            total[0] += F.cross_entropy(logits, y, reduction="sum")
            total[1] += (logits.argmax(dim=1) == y).sum()
    return total
