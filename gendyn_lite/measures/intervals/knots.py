"""Knots: ordered points along lines, between which a network is linear; and where the class changes between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Lines:
    """Lines x + α d.

    Attributes:
        x: Origins, [m, *in_shape].
        direction: Directions d, [m, *in_shape].
        label: Class at α = 0, int64 [m].
        span: Lowest and highest α.
    """

    x: Tensor
    direction: Tensor
    label: Tensor
    span: tuple[float, float]

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self.x)

    def parts(self, size: int) -> Iterator[Lines]:
        """Iterate over the lines in parts of at most `size`."""
        for part in chunks(len(self), size):
            yield replace(self, x=self.x[part], direction=self.direction[part], label=self.label[part])

    def points(self, line: Tensor, alpha: Tensor) -> Tensor:
        """Compute points on lines, [n, *in_shape], for the index of a line [n] and its α [n]."""
        weight = alpha.to(self.x.dtype).view(-1, *(1,) * (self.x.dim() - 1))
        return torch.addcmul(self.x[line], weight, self.direction[line])

    @property
    def limits(self) -> Tensor:
        """The lowest and highest α of each line, float64 [m, 2]."""
        return torch.tensor(self.span, dtype=torch.float64, device=self.x.device).expand(len(self), 2)


def chunks(count: int, size: int) -> Iterator[slice]:
    """Cover `count` with slices of at most `size`.

    >>> list(chunks(3, 2))
    [slice(0, 2, None), slice(2, 4, None)]
    """
    return (slice(start, start + size) for start in range(0, count, size))


class OnLines(NamedTuple):
    """A value that is affine along whole lines: p + α v.

    Attributes:
        p: Value at the origin of each line, [m, ...].
        v: Change for a step of 1 in α, [m, ...].
    """

    p: Tensor
    v: Tensor


class AtKnots(NamedTuple):
    """A value at every knot, [k, ...], which is affine between knots."""

    value: Tensor


class Knots(NamedTuple):
    """Knots on rays, in order along each ray.

    A ray is a part of a line, such as one side of α = 0.

    Attributes:
        alpha: α of each knot on its line, float64 [k].
        ray: Ray of each knot, int64 [k], ascending.
        line: Line of each ray, int64 [rays].
    """

    alpha: Tensor
    ray: Tensor
    line: Tensor

    @property
    def joined(self) -> Tensor:
        """Whether knots i and i + 1 are on one ray, as the ends of a segment: bool [k − 1]."""
        return self.ray[1:] == self.ray[:-1]

    @property
    def first(self) -> Tensor:
        """Index of each ray's first knot, int64 [rays]."""
        return torch.searchsorted(self.ray, torch.arange(len(self.line), device=self.ray.device))

    @property
    def last(self) -> Tensor:
        """Index of each ray's last knot, int64 [rays]."""
        return torch.searchsorted(self.ray, torch.arange(len(self.line), device=self.ray.device), right=True) - 1

    def place(self, value: OnLines) -> AtKnots:
        """Evaluate at the knots a value that is affine along whole lines."""
        line = self.line.index_select(0, self.ray)
        alpha = self.alpha.to(value.p.dtype).view(-1, *(1,) * (value.p.dim() - 1))
        return AtKnots(torch.addcmul(value.p.index_select(0, line), alpha, value.v.index_select(0, line)))


def segments(line: Tensor, ends: Tensor) -> Knots:
    """Make rays with the same number of knots each.

    Args:
        line: Line of each ray, int64 [rays].
        ends: α of the knots, float64 [rays, k], in order along the ray (rising or falling).

    >>> segments(torch.tensor([0, 0]), torch.tensor([[0.0, 2.0], [0.0, -1.0]]).double()).ray.tolist()
    [0, 0, 1, 1]
    """
    ray = torch.arange(len(line), device=line.device).repeat_interleave(ends.shape[1])
    return Knots(ends.flatten(), ray, line)


class Insertion:
    """Inserts new knots between old ones.

    Args:
        knots: The old knots.
        r: Index of the old knot before each new one, int64 [q], ascending.
        t: Position of each new knot within its segment, in (0, 1), float64 [q].
    """

    def __init__(self, knots: Knots, r: Tensor, t: Tensor) -> None:
        self.order = torch.argsort(r + t.clamp(0, 1 - 1e-9))
        self.r, self.t = r[self.order], t[self.order]
        count, new = len(knots.alpha), torch.arange(len(r), device=r.device)
        old = torch.arange(count, device=r.device)
        self.old = old + torch.searchsorted(self.r, old)
        self.new = self.r + 1 + new
        self.count = count + len(r)
        ray = knots.ray.repeat_interleave(1 + torch.bincount(self.r, minlength=count))
        self.knots = Knots(self.interpolate(knots.alpha), ray, knots.line)

    def interpolate(self, value: Tensor) -> Tensor:
        """Interpolate a value [k, ...] at the old knots to all knots, [k + q, ...]."""
        merged = value.new_empty((self.count, *value.shape[1:]))
        merged.index_copy_(0, self.old, value)
        t = self.t.to(value.dtype).view(-1, *(1,) * (value.dim() - 1))
        between = torch.lerp(value.index_select(0, self.r), value.index_select(0, self.r + 1), t)
        return merged.index_copy_(0, self.new, between)


# Assumed error of a margin, in units in the last place; two logits that are closer count as tied.
ROUNDING = {torch.float64: 64, torch.float32: 128}


class Crossings(NamedTuple):
    """Where each ray leaves its class.

    Attributes:
        end: α at which another class's logit first becomes the largest, or of the ray's last knot; float64 [rays].
        found: Whether the class changes, bool [rays].
        before: α of a knot before the end, up to which the class is certain despite rounding; float64 [rays].
        behind: α of a knot behind the end, at which another class is certain, or of the last knot; float64 [rays].
        doubtful: Whether rounding could hide or move the end, bool [rays].
    """

    end: Tensor
    found: Tensor
    before: Tensor
    behind: Tensor
    doubtful: Tensor

    def replaced(self, rays: Tensor, better: Crossings) -> Crossings:
        """Replace the values of some rays by better ones."""
        return Crossings(*(mine.index_copy(0, rays, other) for mine, other in zip(self, better, strict=True)))


def margins(logits: Tensor, label: Tensor) -> Tensor:
    """Compute the label's logit minus each other logit (infinity for its own), [k, C].

    >>> margins(torch.tensor([[3.0, 1.0, 4.0]]), torch.tensor([0])).tolist()
    [[inf, 2.0, -1.0]]
    """
    own = label[:, None]
    return (logits.gather(1, own) - logits).scatter(1, own, torch.inf)


def rounding(logits: Tensor, knots: Knots) -> Tensor:
    """Return the assumed rounding error of margins at each knot, [k], proportional to the ray's largest logit."""
    scale = torch.zeros(len(knots.line), dtype=logits.dtype, device=logits.device)
    scale = scale.scatter_reduce(0, knots.ray, logits.abs().amax(1), "amax")
    return (scale * (ROUNDING[logits.dtype] * torch.finfo(logits.dtype).eps)).index_select(0, knots.ray)


def crossings(knots: Knots, logits: Tensor, label: Tensor) -> Crossings:
    """Find where each ray leaves its class; a tie still counts as the class.

    Args:
        knots: The knots of the rays.
        logits: Logits at the knots, [k, C], linear between them.
        label: Class of each ray, int64 [rays].
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
    """Return the first wanted knot of each ray, or `otherwise`, int64 [rays]."""
    index = wanted.nonzero().squeeze(1)
    return otherwise.scatter_reduce(0, knots.ray[index], index, "amin")


def _zero(alpha: Tensor, margin: Tensor, prior: Tensor, stop: Tensor) -> Tensor:
    """Return the α at which the first margin reaches 0 between the knots `prior` and `stop`."""
    start, end = margin[prior].clamp(min=0).double(), margin[stop].double()
    t = torch.where(end < 0, start / (start - end), torch.inf).amin(1)
    t = torch.where(t.isfinite(), t, 1.0)
    return torch.lerp(alpha[prior], alpha[stop], t.clamp(0, 1))
