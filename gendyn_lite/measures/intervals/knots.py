"""Points along several lines, kept in order, and what is known at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class OnLines(NamedTuple):
    """A value that is affine along whole lines: at α it is p + α v.

    Attributes:
        p: [m, ...], at the lines' origins.
        v: [m, ...], its change for a step of 1.
    """

    p: Tensor
    v: Tensor


class AtKnots(NamedTuple):
    """A value at every knot, [k, ...], affine between them."""

    value: Tensor


@dataclass(frozen=True)
class Knots:
    """Places on rays, in order along each ray.

    Attributes:
        alpha: Where on its line each knot lies, float64 [k].
        ray: Its ray, int64 [k], ascending.
        line: The line of each ray, int64 [rays].
    """

    alpha: Tensor
    ray: Tensor
    line: Tensor

    @property
    def joined(self) -> Tensor:
        """Whether knots i and i + 1 bound a segment, bool [k - 1]."""
        return self.ray[1:] == self.ray[:-1]

    @property
    def first(self) -> Tensor:
        """Each ray's first knot, int64 [rays]."""
        return torch.searchsorted(self.ray, torch.arange(len(self.line), device=self.ray.device))

    @property
    def last(self) -> Tensor:
        """Each ray's last knot, int64 [rays]."""
        return torch.searchsorted(self.ray, torch.arange(len(self.line), device=self.ray.device), right=True) - 1

    def place(self, value: OnLines) -> AtKnots:
        """A value of whole lines, at the knots."""
        line = self.line.index_select(0, self.ray)
        alpha = self.alpha.to(value.p.dtype).view(-1, *(1,) * (value.p.dim() - 1))
        return AtKnots(torch.addcmul(value.p.index_select(0, line), alpha, value.v.index_select(0, line)))


def segments(line: Tensor, ends: Tensor) -> Knots:
    """Rays of several knots each.

    Args:
        line: The line of each ray, int64 [rays].
        ends: Their knots, float64 [rays, k], in order along the ray (rising or falling).

    >>> segments(torch.tensor([0, 0]), torch.tensor([[0.0, 2.0], [0.0, -1.0]]).double()).ray.tolist()
    [0, 0, 1, 1]
    """
    ray = torch.arange(len(line), device=line.device).repeat_interleave(ends.shape[1])
    return Knots(ends.flatten(), ray, line)


class Insertion:
    """New knots between old ones.

    Args:
        knots: The old ones.
        r: Old knot before each new one, int64 [q], ascending.
        t: Place of each within its segment, in (0, 1), float64 [q].
    """

    def __init__(self, knots: Knots, r: Tensor, t: Tensor) -> None:
        self.order = torch.argsort(r + t.clamp(0, 1 - 1e-9))
        self.r, self.t = r[self.order], t[self.order]
        count, new = len(knots.alpha), torch.arange(len(r), device=r.device)
        old = torch.arange(count, device=r.device)
        self.old = old + torch.searchsorted(self.r, old)
        self.new = self.r + 1 + new
        self.count = count + len(r)
        alpha = self.interpolate(knots.alpha)
        self.knots = Knots(alpha, self.interpolate_ray(knots.ray), knots.line)

    def interpolate(self, value: Tensor) -> Tensor:
        """A value [k, ...] at all knots, old and new: [k + q, ...]."""
        merged = value.new_empty((self.count, *value.shape[1:]))
        merged.index_copy_(0, self.old, value)
        t = self.t.to(value.dtype).view(-1, *(1,) * (value.dim() - 1))
        between = torch.lerp(value.index_select(0, self.r), value.index_select(0, self.r + 1), t)
        return merged.index_copy_(0, self.new, between)

    def interpolate_ray(self, ray: Tensor) -> Tensor:
        """The ray of all knots."""
        merged = ray.new_empty(self.count).index_copy_(0, self.old, ray)
        return merged.index_copy_(0, self.new, ray.index_select(0, self.r))
