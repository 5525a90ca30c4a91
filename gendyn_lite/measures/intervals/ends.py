"""Where along a ray the class changes, from logits at knots between which they are linear."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gendyn_lite.measures.intervals.knots import Knots

# Units in the last place that a margin may be off by; below that two logits are taken as tied.
ROUNDING = {torch.float64: 64, torch.float32: 128}


@dataclass(frozen=True)
class Crossings:
    """Where each ray leaves its class.

    Attributes:
        end: The first point of the ray at which another class's logit overtakes, or its last one: float64 [rays].
        found: Whether another class does, bool [rays].
        before: A point before the end up to which the class is beyond doubt, float64 [rays].
        behind: A point behind the end at which it is beyond doubt another (or the ray's last), float64 [rays].
        doubtful: Whether rounding could hide or move the end, bool [rays].
    """

    end: Tensor
    found: Tensor
    before: Tensor
    behind: Tensor
    doubtful: Tensor

    def replaced(self, rays: Tensor, better: Crossings) -> Crossings:
        """The same with other values for some rays."""
        return Crossings(
            *(getattr(self, field.name).index_copy(0, rays, getattr(better, field.name)) for field in fields(self))
        )


def margins(logits: Tensor, label: Tensor) -> Tensor:
    """The label's logit minus each other one, infinity for itself: [k, C].

    >>> margins(torch.tensor([[3.0, 1.0, 4.0]]), torch.tensor([0])).tolist()
    [[inf, 2.0, -1.0]]
    """
    own = label[:, None]
    return (logits.gather(1, own) - logits).scatter(1, own, torch.inf)


def rounding(logits: Tensor, knots: Knots) -> Tensor:
    """By how much a margin may be off at each knot, [k]: in proportion to the ray's largest logit."""
    scale = torch.zeros(len(knots.line), dtype=logits.dtype, device=logits.device)
    scale = scale.scatter_reduce(0, knots.ray, logits.abs().amax(1), "amax")
    return (scale * (ROUNDING[logits.dtype] * torch.finfo(logits.dtype).eps)).index_select(0, knots.ray)


def crossings(knots: Knots, logits: Tensor, label: Tensor) -> Crossings:
    """The end of each ray's class, ties counted as the class.

    Args:
        knots: In order along each ray.
        logits: At the knots, [k, C], linear between them.
        label: The class of each ray, int64 [rays].
    """
    margin = margins(logits, label[knots.ray])
    worst = margin.amin(1)
    slack = rounding(logits, knots)
    first, last = knots.first, knots.last
    bad = _first_where(worst < -slack, knots, last + 1)
    close = torch.minimum(_first_where(worst <= slack, knots, last + 1), bad)
    found = bad <= last
    stop = torch.minimum(bad, last)
    before = torch.maximum(torch.minimum(close, stop) - 1, first)
    prior = torch.maximum(stop - 1, first)
    end = torch.where(found, _zero(knots.alpha, margin, prior, stop), knots.alpha[last])
    return Crossings(end, found, knots.alpha[before], knots.alpha[stop], close <= last)


def _first_where(wanted: Tensor, knots: Knots, otherwise: Tensor) -> Tensor:
    """The first such knot of each ray, int64 [rays]."""
    index = wanted.nonzero().squeeze(1)
    return otherwise.scatter_reduce(0, knots.ray[index], index, "amin")


def _zero(alpha: Tensor, margin: Tensor, prior: Tensor, stop: Tensor) -> Tensor:
    """Where the first margin reaches 0 between the knots `prior` and `stop`."""
    start, end = margin[prior].clamp(min=0).double(), margin[stop].double()
    t = torch.where(end < 0, start / (start - end), torch.inf).amin(1)
    t = torch.where(t.isfinite(), t, 1.0)
    return torch.lerp(alpha[prior], alpha[stop], t.clamp(0, 1))
