"""Networks that fit any labels: Theorem 1 of Zhang et al. (2017) and its version of depth k, exact in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.exact import PROJECTION_BITS, exact_cumsum, exact_projection, solve
from gendyn_lite.measures.capacity.given import (
    as_points,
    check_classes,
    check_length,
    check_pixels,
    duplicates,
    name_groups,
)
from gendyn_lite.measures.per_example.checks import check_whole

TOLERANCE = 1e-8
"""Largest residual of a returned network, relative to the largest label (at least 1)."""


def memorizing_network(x: Tensor, y: Tensor, *, depth: int = 2, seed: int = 0, draws: int = 20) -> MemorizingNetwork:
    """Build a ReLU network c(x) = Σ_j w_j max(⟨a, x⟩ − b_j, 0) with c(x_i) = y_i for every i, in O(n log n).

    Args:
        x: [n, ...] points; uint8 is read as pixels and divided by 255.
        y: [n] labels: integer classes from 0, or any real numbers.
        depth: Number of layers of weights. 2 is Theorem 1 (one hidden layer of n units); k has k − 1 hidden layers of
            at most ⌈n/(k − 1)⌉ + 5 units.
        seed: Seed of the projection a (in one dimension a = 1).
        draws: Most projections to try. A projection is redrawn if it maps two points to the same number, or so close
            that the fit is not exact.

    Returns:
        The network, in float64 on the device of x. With n distinct points in d dimensions and depth 2 it has 2n + d
        weights.

    Raises:
        UserError: Equal points have different labels (they are named), no drawn projection separates the points well
            enough for float64, or x or y is invalid.

    Source: Zhang et al. (2017), Theorem 1 with Lemma 1 (depth 2) and Corollary 1 (depth k).

    Note:
        The lower triangular system A w = y with A_ij = max(z_i − b_j, 0) is never formed. The network is linear between
        kinks, so the w_j are the differences of its slopes. Each kink lies past its point by a quarter of the smaller
        adjacent gap, so that an error in one slope shrinks to a third from one gap to the next.

    >>> x = torch.tensor([[0.0], [1.0], [3.0]])
    >>> net = memorizing_network(x, torch.tensor([2.0, -1.0, 5.0]))
    >>> [round(value, 12) for value in net(x).tolist()]
    [2.0, -1.0, 5.0]
    >>> sum(p.numel() for p in net.parameters())
    7
    """
    points, labels = as_points(x).detach(), y
    check_length(points, labels)
    if not labels.is_floating_point():
        check_classes(labels)
        labels = labels.long()
    elif labels.ndim != 1 or not torch.isfinite(labels).all():
        raise UserError(f"labels of shape {tuple(labels.shape)}: expected finite numbers [n]")
    kept = _distinct(points, labels)
    points, labels = points[kept], labels[kept].to(torch.float64)
    check_whole("depth", depth, least=2, most=len(points) + 1, why=f" for {len(points)} distinct points")
    found = _best_draw(points, labels, depth - 1, seed, draws)
    found.pixels = x.dtype == torch.uint8
    return found


class MemorizingNetwork(nn.Module):
    """A ReLU network of one projection: Σ over layers of Σ_j w_j max(⟨a, x⟩ − b_j, 0).

    Called on [n, ...] it returns [n] in float64. The sums are evaluated over sorted kinks, in O(log n) for each point
    and to the last bits; the plain sum would lose half of its digits to cancellation.

    Attributes:
        projection: The projection a, [d].
        biases: The sorted kinks b of each hidden layer.
        weights: The weights w of each hidden layer.
        residual: Largest |c(x_i) − y_i| over the points that it was built from.
        pixels: Whether these points were uint8; None if that is not known.
    """

    pixels: bool | None = None

    def __init__(self, projection: Tensor, biases: list[Tensor], weights: list[Tensor]) -> None:
        super().__init__()
        self.projection = nn.Parameter(projection)
        self.biases = nn.ParameterList([nn.Parameter(b) for b in biases])
        self.weights = nn.ParameterList([nn.Parameter(w) for w in weights])
        self.residual = math.nan

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer: its kinks, two units that pass on ⟨a, x⟩ and two that pass on the sum so far."""
        last = len(self.biases) - 1
        return tuple(len(b) + 2 * (i < last) + 2 * (i > 0) for i, b in enumerate(self.biases))

    def project(self, x: Tensor) -> Tensor:
        """Compute ⟨a, x_i⟩, [n], with a single rounding, so that it does not depend on the batch or the device."""
        check_pixels(x, self.pixels)
        points, a = as_points(x), self.projection.to(torch.float64)
        if points.shape[1] != len(a):
            told = f"points have {points.shape[1]} dimensions"
            raise UserError(f"{told}, expected the {len(a)} that the network was built for")
        return _with_gradient_of(points @ a, exact_projection(points.detach(), a.detach()))

    def forward(self, x: Tensor) -> Tensor:
        """Compute c(x), float64 [n]."""
        z = self.project(x)
        layers = [hinge_sum(z, b, w) for b, w in zip(self.biases, self.weights, strict=True)]
        return torch.stack(layers).sum(dim=0)

    def classify(self, x: Tensor) -> Tensor:
        """Return the nearest class label, int64 [n]."""
        return self(x).round().long()


def hinge_sum(z: Tensor, biases: Tensor, weights: Tensor) -> Tensor:
    """Compute Σ_j w_j max(z_i − b_j, 0) for every i, in O((n + m) log n) and without cancellation.

    Args:
        z: float64 [m].
        biases: [n] kinks b_j, in any order.
        weights: [n] weights w_j.

    Returns:
        float64 [m].

    >>> hinge_sum(torch.tensor([0.0, 2.0, 4.0]).double(), torch.tensor([1.0, 3.0]), torch.tensor([1.0, -1.0])).tolist()
    [0.0, 1.0, 2.0]
    """
    kinks, order = biases.to(torch.float64).sort()
    w = weights.to(torch.float64)[order]
    slopes = _with_gradient_of(w.cumsum(0), exact_cumsum(w.detach()))
    values = torch.cat([w.new_zeros(1), (slopes[:-1] * kinks.diff()).cumsum(0)])
    behind = torch.searchsorted(kinks.detach(), z.detach())
    at = (behind - 1).clamp(min=0)
    return torch.where(behind > 0, values[at] + slopes[at] * (z - kinks[at]), 0)


def _with_gradient_of(plain: Tensor, exact: Tensor) -> Tensor:
    """Return the value of `exact` with the gradient of `plain`, the same function in ordinary operations."""
    return plain + (exact - plain).detach() if plain.requires_grad else exact


def _distinct(points: Tensor, labels: Tensor) -> Tensor:
    """Return the indices of the distinct points; refuse equal points with different labels."""
    groups = duplicates(points)
    torn = [group for group in groups if labels[group].unique().numel() > 1]
    if torn:
        told = f"equal points have different labels: {name_groups(torn)} (indices)"
        raise UserError(f"{told}: no function fits both, drop or relabel one")
    keep = torch.ones(len(points), dtype=torch.bool)
    keep[[i for group in groups for i in group[1:]]] = False
    return keep.nonzero().squeeze(1).to(points.device)


def _best_draw(points: Tensor, labels: Tensor, blocks: int, seed: int, draws: int) -> MemorizingNetwork:
    """Return the network of the first projection that fits exactly."""
    generator = torch.Generator().manual_seed(seed)
    dimensions = points.shape[1]
    allowed = TOLERANCE * max(1.0, float(labels.abs().max()))
    tried: list[tuple[float, int, int]] = []
    for _ in range(draws if dimensions > 1 else 1):
        a = torch.ones(1, dtype=torch.float64)
        if dimensions > 1:
            limit = 2**PROJECTION_BITS
            a = torch.randint(-limit, limit + 1, (dimensions,), generator=generator).double() / limit
        z, order = exact_projection(points, a.to(points)).sort()
        gaps = z.diff()
        if len(gaps) and gaps.min() == 0:
            residual = math.inf
        else:
            layers = [(units.biases, units.weights) for units in solve(z.tolist(), labels[order].tolist(), blocks)]
            biases, weights = ([z.new_tensor(part) for part in parts] for parts in zip(*layers, strict=True))
            net = MemorizingNetwork(a.to(z), biases, weights)
            with torch.no_grad():
                net.residual = residual = float((net(points) - labels).abs().max())
            if residual <= allowed:
                return net
        closest = int(gaps.argmin())
        tried.append((residual, int(order[closest]), int(order[closest + 1])))
    residual, i, j = min(tried)
    told = f"no projection of {len(tried)} tells all {len(points)} points apart well enough for float64"
    close = f"points {i} and {j} lie too close (residual {residual:.1g}, allowed {allowed:.1g})"
    raise UserError(f"{told}: {close}: merge them or raise draws")
