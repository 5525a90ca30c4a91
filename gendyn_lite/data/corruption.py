"""Label corruption, as Zhang et al. (2017) define it: paired across fractions and reproducible to the bit."""

from __future__ import annotations

import torch
from torch import Tensor

from gendyn_lite.config import check_range, check_type
from gendyn_lite.data import draws
from gendyn_lite.data.types import check_labels


def corrupt_labels(y: Tensor, fraction: float, *, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Redraw each label with probability `fraction` uniformly from all classes.

    Example i has one uniform number u_i and one replacement label, which depend on the seed and on i only. Its label is
    replaced where u_i < fraction. So the labels redrawn at a smaller fraction are redrawn, to the same labels, at a
    larger one. A replacement may equal the true label: at fraction 1 about 1/num_classes of the labels stay true.

    Args:
        y: True training labels, int64 [n]. Test labels are never corrupted.
        fraction: Label corruption q in [0, 1].
        num_classes: Number of classes to draw from.
        seed: Seed of the draws, at least 0.

    Returns:
        The labels, int64 [n], and which of them were redrawn, bool [n], on the device of `y`. `y` is left as it was.

    Raises:
        UserError: An argument has the wrong type or is out of range, or a label is no class.

    Source:
        Zhang et al. (2017), "Understanding deep learning requires rethinking generalization", section 2.1
        ("partially corrupted labels").

    >>> labels, redrawn = corrupt_labels(torch.arange(8), 0.5, num_classes=8, seed=0)
    >>> labels.tolist()
    [1, 0, 4, 3, 6, 5, 6, 7]
    >>> redrawn.sum().item()
    4
    """
    fraction = check_type("fraction", fraction, float)
    check_range("fraction", fraction, 0, 1, True)
    check_range("num_classes", check_type("num_classes", num_classes, int), 1, float("inf"), True)
    check_range("seed", check_type("seed", seed, int), 0, 2**31 - 1, True)
    check_labels(y, num_classes=num_classes)
    redrawn = torch.from_numpy(draws.uniform(len(y), seed, draws.LABELS, 0) < fraction).to(y.device)
    other = torch.from_numpy(draws.integers(len(y), num_classes, seed, draws.LABELS, 1)).to(y.device)
    return torch.where(redrawn, other, y), redrawn
