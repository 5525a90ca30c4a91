"""Which entries are the largest: one exact threshold over many tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gendyn_lite.errors import UserError


def check_keep(keep: float) -> float:
    """The share of entries to keep, refused outside (0, 1]."""
    if isinstance(keep, bool) or not isinstance(keep, int | float) or not 0 < keep <= 1:
        raise UserError(f"keep is {keep!r}, expected a share in (0, 1]")
    return float(keep)


def share_kept(coefficient: float, *, reading: str = "kept") -> float:
    """The paper's mask coefficient as a share of kept entries, in either reading of its text.

    The paper calls 0.75 and 0.25 coefficients of the mask without saying of what: the share that keeps its update, or
    the share whose update is masked.

    Args:
        coefficient: As in the paper.
        reading: ``"kept"`` or ``"masked"``.

    Source:
        Jiang, Sec. 4.1 and 4.2.

    >>> share_kept(0.75), share_kept(0.75, reading="masked")
    (0.75, 0.25)
    """
    if reading not in ("kept", "masked"):
        raise UserError(f"reading is {reading!r}, expected 'kept' or 'masked'")
    return check_keep(coefficient if reading == "kept" else 1 - coefficient)


def threshold(scores: Mapping[str, Tensor], keep: float) -> Tensor:
    """The smallest score among the ⌈keep·m⌉ largest of m, over all tensors together; exact.

    Args:
        scores: Tensors of any shapes, on one device.
        keep: Share in (0, 1].

    Returns:
        0-dimensional, in the scores' precision.

    Source:
        Jiang, Eq. 10: k, chosen from the sorted diagonal.

    >>> threshold({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([[3.0], [2.0]])}, 0.5)
    tensor(3.)
    """
    check_keep(keep)
    flat = torch.cat([value.detach().flatten() for value in scores.values()])
    count = math.ceil(round(keep * len(flat), 6))
    return flat.kthvalue(len(flat) - count + 1).values


def largest(scores: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """Masks of the entries that reach the `threshold`; equal scores are treated alike, so a tie may keep more.

    >>> largest({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([3.0, 2.0])}, 0.5)
    {'a': tensor([ True, False]), 'b': tensor([ True, False])}
    """
    least = threshold(scores, keep)
    return {name: value.detach() >= least for name, value in scores.items()}
