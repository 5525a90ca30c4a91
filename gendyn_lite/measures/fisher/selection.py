"""Which entries are the largest: one exact threshold over many tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gendyn_lite.errors import UserError

CHUNK = 1 << 24  # scores looked at together


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

    The bits of a floating-point number order as the number does, so that histograms of 16 bits at a time find the
    threshold in two passes (four in float64): in linear time whatever the order or ties of the scores, where a
    quickselect takes quadratic time on sorted ones, and without a copy of them all.

    Args:
        scores: Tensors of any shapes, on one device.
        keep: Share in (0, 1].

    Returns:
        0-dimensional, in the scores' precision.

    Raises:
        UserError: keep is outside (0, 1], there are no scores, or a score is NaN.

    Source:
        Jiang, Eq. 10: k, chosen from the sorted diagonal.

    >>> threshold({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([[3.0], [2.0]])}, 0.5)
    tensor(3.)
    """
    check_keep(keep)
    total = sum(value.numel() for value in scores.values())
    if total == 0:
        raise UserError("there are no scores to choose from, expected at least one entry")
    wide = any(value.dtype == torch.float64 for value in scores.values())
    dtype, whole, bits = (torch.float64, torch.int64, 64) if wide else (torch.float32, torch.int32, 32)
    left, found = max(1, math.ceil(round(keep * total, 6))), 0
    for shift in range(bits - 16, -1, -16):
        counts = torch.zeros(1 << 16, dtype=torch.int64, device=next(iter(scores.values())).device)
        for value in scores.values():
            for part in value.detach().flatten().split(CHUNK):
                keys = _ordered(part.to(dtype), whole)
                if shift == bits - 16:
                    counts += torch.bincount((keys >> shift) + (1 << 15), minlength=1 << 16)
                else:
                    keys = keys[keys >> (shift + 16) == found]
                    counts += torch.bincount((keys >> shift) & 0xFFFF, minlength=1 << 16)
        above = counts.flip(0).cumsum(0)
        place = int(torch.searchsorted(above, left))
        left -= int(above[place - 1]) if place else 0
        digit = (1 << 16) - 1 - place
        found = digit - (1 << 15) if shift == bits - 16 else (found << 16) | digit
    key = torch.tensor(found, dtype=whole)
    return torch.where(key < 0, key ^ torch.iinfo(whole).max, key).view(dtype).to(next(iter(scores.values())).device)


def _ordered(values: Tensor, whole: torch.dtype) -> Tensor:
    """Whole numbers in the order of the values."""
    if torch.isnan(values).any():
        raise UserError("a score is NaN, so that there is no order: has training diverged?")
    bits = (values + 0.0).view(whole)  # −0 becomes 0
    return torch.where(bits < 0, bits ^ torch.iinfo(whole).max, bits)


def largest(scores: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """Masks of the entries that reach the `threshold`; equal scores are treated alike, so a tie may keep more.

    >>> largest({"a": torch.tensor([5.0, 1.0]), "b": torch.tensor([3.0, 2.0])}, 0.5)
    {'a': tensor([ True, False]), 'b': tensor([ True, False])}
    """
    least = threshold(scores, keep)
    return {name: value.detach() >= least for name, value in scores.items()}
