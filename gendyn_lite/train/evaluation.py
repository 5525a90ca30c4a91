"""Loss and accuracy over a whole split, gathered on the device; batch-norm's statistics re-estimated for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

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


@contextmanager
def reestimated_statistics(model: nn.Module, batches: Iterable[Batch]) -> Iterator[None]:
    """Batch-norm's statistics taken anew with the weights as they are; afterwards the running ones are back.

    Running statistics are averages over earlier steps, when the weights were others: in short runs they lag so far
    behind that they, not the weights, decide what is measured in eval mode. Here every layer's mean and (unbiased)
    variance are the averages over the examples; everything but batch-norm stays in eval mode, so no dropout.

    Args:
        model: A network in eval mode.
        batches: Pairs of inputs and labels on the model's device. A batch of one example has no variance: left out.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    momenta = [norm.momentum for norm in norms]
    try:
        for norm in norms:
            norm.training = True
        seen = 0
        with torch.no_grad():
            for x, _ in batches if norms else ():
                if len(x) > 1:
                    seen += len(x)
                    for norm in norms:  # the first batch replaces what was there
                        norm.momentum = len(x) / seen
                    model(x)
        for norm in norms:
            norm.training = False
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum, norm.training = momentum, False
        for buffer, before in kept:
            buffer.copy_(before)
