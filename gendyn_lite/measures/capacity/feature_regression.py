"""Least squares over many features, streamed: in the primal (p × p) or the dual (n × n), whichever is smaller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from gendyn_lite.measures.capacity.cholesky import Cholesky, Progress, triangle_bytes
from gendyn_lite.measures.capacity.given import Fitted, as_targets, check_length, check_ridge, kind_of, solving_device
from gendyn_lite.measures.per_example.checks import check_name, refuse_if_too_large

SOLVERS = ("auto", "primal", "dual")
IMAGES = 1000  # at a time


class FeatureMap(Protocol):
    """Features that come in groups (a filter's, say), so that a range of them can be computed alone."""

    @property
    def groups(self) -> int:
        """Number of groups."""
        ...

    @property
    def per_group(self) -> int:
        """Features of a group."""
        ...

    def part(self, images: Tensor, first: int, last: int) -> Tensor:
        """Features of the groups from `first` up to `last`, float64 [n, (last − first) · per_group]."""
        ...


def feature_regression(
    features: FeatureMap,
    x: Tensor,
    y: Tensor,
    *,
    ridge: float = 0.0,
    num_classes: int | None = None,
    solver: str = "auto",
    chunk: int = 2048,
    block: int = 1024,
    device: torch.device | str | None = None,
    memory_limit: int | None = None,
    progress: Progress | None = None,
) -> FeatureRegression:
    """Least squares y ≈ w·φ(x) + c over centred features, with (ΦᵀΦ + ridge I) w = Φᵀy.

    With ridge 0 and more features than examples it is the interpolating solution of smallest norm. Φ is never held
    whole.

    Args:
        features: A feature map: `random_conv_features(...)`, or `Pixels(d)` for a linear model of the inputs.
        x: Training inputs of the map.
        y: [n] integer classes (one-hot columns), or real targets [n] or [n, k].
        ridge: Added to the diagonal.
        num_classes: Number of classes, or None for the largest label plus one.
        solver: ``"primal"``, ``"dual"`` or ``"auto"``, the one with the smaller matrix.
        chunk: Features computed at a time in the dual (for all examples).
        block: Rows of the matrix factored at a time.
        device: Where to compute; None is the GPU if there is one, else the CPU.
        memory_limit: Bytes to stay under, instead of what is free on the device.
        progress: Called with (features or examples done, their number).

    Returns:
        The regression, whose parts lie on the device.

    Raises:
        UserError: The ridge is negative, the matrix would not fit, it is singular (then take ridge > 0), or the labels
            are no labels of x.

    >>> from gendyn_lite.measures.capacity.features import Pixels
    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> feature_regression(Pixels(2), x, x[:, 0] - 2 * x[:, 1] + 3, device="cpu").predict(x)
    tensor([1.0000, 4.0000, 2.0000], dtype=torch.float64)
    """
    check_ridge(ridge)
    check_name("solver", solver, SOLVERS)
    check_length(x, y)
    n, p, target = len(x), features.groups * features.per_group, solving_device(device)
    stream = _Stream(features, x, as_targets(y, num_classes).to(target), max(chunk // features.per_group, 1))
    dual = solver == "dual" or (solver == "auto" and p > n)
    size, work = (n, 8 * min(chunk, p) * n) if dual else (p, 8 * min(IMAGES, n) * p)
    what = f"the matrix of {size:,} {'examples' if dual else 'features'} in float64"
    advice = "take fewer examples or fewer features (the smaller of the two numbers counts)"
    needed = triangle_bytes(size, block) + 2 * work
    refuse_if_too_large(needed, what, advice, device=target, memory_limit=memory_limit)
    weights = (_dual if dual else _primal)(stream, ridge, block, progress)
    return FeatureRegression(*kind_of(y), features, weights, stream.mean, stream.intercept, stream.step)


@dataclass(frozen=True)
class FeatureRegression(Fitted):
    """A solved least-squares problem over features.

    Attributes:
        features: The feature map.
        weights: Of the centred features, float64 [p, k].
        mean: Subtracted from each feature, [p].
        intercept: [k].
        step: Groups of features computed at a time.
    """

    features: FeatureMap
    weights: Tensor
    mean: Tensor
    intercept: Tensor
    step: int

    def _scores(self, x: Tensor) -> Tensor:
        """w·φ(x) + c, a batch and a range of features at a time."""
        parts = []
        for batch in x.split(IMAGES):
            images, scores = batch.to(self.weights.device), self.intercept.repeat(len(batch), 1)
            for first, last, at in _ranges(self.features, self.step):
                scores.addmm_(self.features.part(images, first, last) - self.mean[at], self.weights[at])
            parts.append(scores)
        return torch.cat(parts)


class _Stream:
    """The training set as a stream of features, and what is learned about them on the way."""

    def __init__(self, features: FeatureMap, x: Tensor, targets: Tensor, step: int) -> None:
        self.features, self.x, self.step, self.device = features, x, step, targets.device
        self.mean = targets.new_zeros(features.groups * features.per_group)
        self.intercept = targets.mean(dim=0)
        self.targets = targets - self.intercept

    def part(self, batch: Tensor, first: int, last: int) -> Tensor:
        """Features of a range of groups for some examples, where the targets are."""
        return self.features.part(batch.to(self.device), first, last)

    def columns(self, first: int, last: int, at: slice) -> Tensor:
        """Centred features of a range of groups for all examples, float64 [n, c]."""
        block = torch.cat([self.part(batch, first, last) for batch in self.x.split(IMAGES)])
        self.mean[at] = block.mean(dim=0)
        return block.sub_(self.mean[at])


def _ranges(features: FeatureMap, step: int) -> list[tuple[int, int, slice]]:
    """Ranges of groups that are computed together: first, one after the last, and where their features are."""
    stops = [(first, min(first + step, features.groups)) for first in range(0, features.groups, step)]
    width = features.per_group
    return [(first, last, slice(first * width, last * width)) for first, last in stops]


def _dual(stream: _Stream, ridge: float, block: int, progress: Progress | None) -> Tensor:
    """w = Φᵀα with (ΦΦᵀ + ridge I) α = y; the features are computed twice."""
    n = len(stream.x)
    triangle = _zeros(n, block, stream.device)
    ranges = _ranges(stream.features, stream.step)
    for first, last, at in ranges:
        _add_products(triangle, stream.columns(first, last, at))
        if progress is not None:
            progress(last, stream.features.groups)
    for index, rows in enumerate(triangle):
        # Centred features are blind to a constant: without this the matrix is singular. The centred targets sum
        # to 0, so that the solution is the same.
        rows.add_(1)
        rows[:, index * block :].diagonal().add_(ridge)
    alpha = Cholesky(lambda start, _: triangle[start // block], n, block=block).solve(stream.targets)
    return torch.cat([stream.columns(*part).T @ alpha for part in ranges])


def _primal(stream: _Stream, ridge: float, block: int, progress: Progress | None) -> Tensor:
    """(ΦᵀΦ + ridge I) w = Φᵀy from sums over batches of examples, after a pass for the means."""
    n, p, groups = len(stream.x), len(stream.mean), stream.features.groups
    triangle = _zeros(p, block, stream.device)
    right = stream.targets.new_zeros(p, stream.targets.shape[1])
    batches = stream.x.split(IMAGES)
    stream.mean = sum((stream.part(batch, 0, groups).sum(0) for batch in batches), start=stream.mean) / n
    seen = 0
    for batch in batches:
        centred = stream.part(batch, 0, groups) - stream.mean
        _add_products(triangle, centred.T)
        right.addmm_(centred.T, stream.targets[seen : seen + len(batch)])
        seen += len(batch)
        if progress is not None:
            progress(seen, n)
    for index, rows in enumerate(triangle):
        start, diagonal = index * block, rows[:, index * block :].diagonal()
        constant = diagonal <= n * (1e-6 * stream.mean[start : start + len(rows)]) ** 2
        diagonal.copy_(torch.where(constant, 1, diagonal) + ridge)  # a constant feature gets weight 0
    return Cholesky(lambda start, _: triangle[start // block], p, block=block).solve(right)


def _zeros(size: int, block: int, device: torch.device) -> list[Tensor]:
    """The lower triangle of a size × size matrix of zeros, in blocks of rows."""
    stops = [(start, min(start + block, size)) for start in range(0, size, block)]
    return [torch.zeros(stop - start, stop, dtype=torch.float64, device=device) for start, stop in stops]


def _add_products(triangle: list[Tensor], left: Tensor) -> None:
    """Add left · leftᵀ to the triangle."""
    start = 0
    for rows in triangle:
        stop = start + len(rows)
        rows.addmm_(left[start:stop], left[:stop].T)
        start = stop
