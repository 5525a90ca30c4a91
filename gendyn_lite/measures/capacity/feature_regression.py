"""Least squares over many features, streamed: by the primal (p × p) or dual (n × n) matrix, whichever is smaller."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gendyn_lite.measures.capacity.features import ConvFeatures
from gendyn_lite.measures.capacity.given import Fitted, as_targets, check_length, check_ridge, kind_of, solving_device
from gendyn_lite.measures.capacity.gram import Cholesky, triangle_bytes
from gendyn_lite.measures.per_example.checks import refuse_if_too_large

IMAGES = 1000  # images at a time
CHUNK = 2048  # features at a time for all examples, in the dual
BLOCK = 1024  # rows of the matrix to factor at a time


def feature_regression(
    features: ConvFeatures,
    x: Tensor,
    y: Tensor,
    *,
    ridge: float = 0.0,
    num_classes: int | None = None,
    device: torch.device | str | None = None,
) -> FeatureRegression:
    """Solve least squares y ≈ w·φ(x) + c over centred features: (ΦᵀΦ + ridge I) w = Φᵀy.

    With ridge 0 and more features than examples this is the interpolating solution of smallest norm. Φ is never stored
    as a whole.

    Args:
        features: The features of images, as from `random_conv_features`.
        x: [n, C, H, W] training images.
        y: [n] integer classes (one-hot columns), or real targets [n] or [n, k].
        ridge: Added to the diagonal.
        num_classes: Number of classes, or None for the largest label plus one.
        device: Where to compute; None is the GPU if there is one, else the CPU.

    Returns:
        The regression, with its tensors on the device.

    Raises:
        UserError: The ridge is negative, the matrix would not fit in memory or is singular (then take ridge > 0), or
            the labels do not match x.

    >>> from gendyn_lite.measures.capacity.features import random_conv_features
    >>> x, y = torch.rand(9, 1, 12, 12), torch.arange(9) % 3
    >>> feature_regression(random_conv_features(x, 20), x, y, device="cpu").classify(x).tolist()
    [0, 1, 2, 0, 1, 2, 0, 1, 2]
    """
    check_ridge(ridge)
    check_length(x, y)
    n, p, target = len(x), features.num_features, solving_device(device)
    stream = _Stream(features, x, as_targets(y, num_classes).to(target))
    dual = p > n
    size, work = (n, 8 * min(CHUNK, p) * n) if dual else (p, 8 * min(IMAGES, n) * p)
    what = f"the matrix of {size:,} {'examples' if dual else 'features'} in float64"
    advice = "take fewer examples or fewer features (the smaller of the two numbers counts)"
    refuse_if_too_large(triangle_bytes(size, BLOCK) + 2 * work, what, advice, device=target)
    weights = (_dual if dual else _primal)(stream, ridge)
    pixels = x.dtype == torch.uint8
    return FeatureRegression(*kind_of(y), features, weights, stream.mean, stream.intercept, pixels=pixels)


@dataclass(frozen=True)
class FeatureRegression(Fitted):
    """A solved least-squares problem over features.

    Attributes:
        features: The feature map.
        weights: Weights of the centred features, float64 [p, k].
        mean: Mean of each feature, which is subtracted, [p].
        intercept: The constant c, [k].
    """

    features: ConvFeatures
    weights: Tensor
    mean: Tensor
    intercept: Tensor

    def _scores(self, x: Tensor) -> Tensor:
        """Compute w·φ(x) + c, a batch and a range of features at a time."""
        parts = []
        for batch in x.split(IMAGES):
            images, scores = batch.to(self.weights.device), self.intercept.repeat(len(batch), 1)
            for first, last, at in _ranges(self.features):
                scores.addmm_(self.features.part(images, first, last) - self.mean[at], self.weights[at])
            parts.append(scores)
        return torch.cat(parts)


class _Stream:
    """The training set as a stream of features, with their means."""

    def __init__(self, features: ConvFeatures, x: Tensor, targets: Tensor) -> None:
        self.features, self.x, self.device = features, x, targets.device
        self.mean = targets.new_zeros(features.num_features)
        self.intercept = targets.mean(dim=0)
        self.targets = targets - self.intercept

    def part(self, batch: Tensor, first: int, last: int) -> Tensor:
        """Compute features of a range of groups for some examples, on the device of the targets."""
        return self.features.part(batch.to(self.device), first, last)

    def columns(self, first: int, last: int, at: slice) -> Tensor:
        """Compute centred features of a range of groups for all examples, float64 [n, c]."""
        block = torch.cat([self.part(batch, first, last) for batch in self.x.split(IMAGES)])
        self.mean[at] = block.mean(dim=0)
        return block.sub_(self.mean[at])


def _ranges(features: ConvFeatures) -> list[tuple[int, int, slice]]:
    """Return the ranges of filters that are computed together: first, one after the last, slice of their features."""
    width = features.per_group
    step = max(CHUNK // width, 1)
    stops = [(first, min(first + step, features.groups)) for first in range(0, features.groups, step)]
    return [(first, last, slice(first * width, last * width)) for first, last in stops]


def _dual(stream: _Stream, ridge: float) -> Tensor:
    """Compute w = Φᵀα with (ΦΦᵀ + ridge I) α = y; the features are computed twice."""
    n = len(stream.x)
    triangle, ranges = _zeros(n, stream.device), _ranges(stream.features)
    for part in ranges:
        _add_products(triangle, stream.columns(*part))
    for index, rows in enumerate(triangle):
        # With centred features the matrix is singular along the constant vector, so 1 is added to all entries. This
        # does not change the solution, because the centred targets sum to 0.
        rows.add_(1)
        rows[:, index * BLOCK :].diagonal().add_(ridge)
    alpha = Cholesky(lambda start, _: triangle[start // BLOCK], n, block=BLOCK).solve(stream.targets)
    return torch.cat([stream.columns(*part).T @ alpha for part in ranges])


def _primal(stream: _Stream, ridge: float) -> Tensor:
    """Solve (ΦᵀΦ + ridge I) w = Φᵀy with sums over batches of examples, after a pass for the means."""
    n, p, groups = len(stream.x), len(stream.mean), stream.features.groups
    triangle, right = _zeros(p, stream.device), stream.targets.new_zeros(p, stream.targets.shape[1])
    batches = stream.x.split(IMAGES)
    stream.mean = sum((stream.part(batch, 0, groups).sum(0) for batch in batches), start=stream.mean) / n
    for batch, targets in zip(batches, stream.targets.split(IMAGES), strict=True):
        centred = stream.part(batch, 0, groups) - stream.mean
        _add_products(triangle, centred.T)
        right.addmm_(centred.T, targets)
    for index, rows in enumerate(triangle):
        start, diagonal = index * BLOCK, rows[:, index * BLOCK :].diagonal()
        constant = diagonal <= n * (1e-6 * stream.mean[start : start + len(rows)]) ** 2
        diagonal.copy_(torch.where(constant, 1, diagonal) + ridge)  # so constant features get weight 0
    return Cholesky(lambda start, _: triangle[start // BLOCK], p, block=BLOCK).solve(right)


def _zeros(size: int, device: torch.device) -> list[Tensor]:
    """Return the lower triangle of a size × size matrix of zeros, in blocks of rows."""
    stops = [(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]
    return [torch.zeros(stop - start, stop, dtype=torch.float64, device=device) for start, stop in stops]


def _add_products(triangle: list[Tensor], left: Tensor) -> None:
    """Add left · leftᵀ to the triangle."""
    start = 0
    for rows in triangle:
        stop = start + len(rows)
        rows.addmm_(left[start:stop], left[:stop].T)
        start = stop
