"""Averages of a stiffness matrix over pairs of examples: within and between classes, and by distance of the inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example.checks import check_name, check_whole, refuse_if_too_large

LEVEL = 0.95
FREE = 64 << 20  # bytes assumed to be free without asking


class Estimate(NamedTuple):
    """A mean with the ends of its bootstrap interval; all NaN where there is no pair."""

    mean: float
    low: float
    high: float


def average(
    stiffness: Tensor, pairs: Tensor | None = None, *, two_sets: bool = False, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """Average over pairs of different examples, with a bootstrap interval over examples.

    The bootstrap draws examples, each with all its pairs: pairs are not independent, and an interval that draws pairs
    would be far too narrow.

    Args:
        stiffness: Sign or cosine stiffness, [n, n] or [n, m].
        pairs: Which pairs count, bool of the same shape; None for all.
        two_sets: Whether rows and columns are different sets of examples. If not, the diagonal is left out.
        resamples: Draws of the bootstrap, for an interval of 95%; 0 for none (its ends are NaN).
        seed: Seed of the draws.

    Returns:
        The mean and the ends of its interval; NaN if there is no pair.

    Raises:
        UserError: The matrix is not square, `pairs` has another shape, or the draws would not fit in memory.

    >>> average(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), resamples=0).mean
    0.5
    """
    mask = _counted(stiffness, pairs, two_sets)
    return _estimate(torch.div, [stiffness.double() * mask, mask], two_sets, resamples, seed)


def by_pair(
    stiffness: Tensor, y: Tensor, y_other: Tensor | None = None, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Estimate]:
    """Average over all pairs, over pairs of one class, and over pairs of two classes.

    Args:
        stiffness: Sign or cosine stiffness, [n, n] or [n, m].
        y: Labels [n] of the rows.
        y_other: Labels [m] of the columns, if they are another set of examples.
        resamples: Draws of the bootstrap; 0 for no intervals.
        seed: Seed of the draws.

    Returns:
        Estimates under ``"all"``, ``"within"`` and ``"between"``.

    Raises:
        UserError: As for `average`; or the number of labels does not fit the matrix.

    Source: Fort et al. (2019), Sec. 2.3.

    >>> by_pair(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([0, 0]), resamples=0)["within"].mean
    0.5
    """
    columns = _column_labels(stiffness, y, y_other)
    same = y[:, None] == columns[None]
    kinds = {"all": None, "within": same, "between": ~same}
    options = {"two_sets": y_other is not None, "resamples": resamples, "seed": seed}
    return {kind: average(stiffness, pairs, **options) for kind, pairs in kinds.items()}


def by_class(stiffness: Tensor, y: Tensor, *, num_classes: int) -> Tensor:
    """Average stiffness over the pairs of every two classes; NaN where there is no pair.

    Args:
        stiffness: Sign or cosine stiffness, [n, n].
        y: Labels [n].
        num_classes: Number of classes.

    Returns:
        float64 [classes, classes].

    Raises:
        UserError: The number of labels does not fit the matrix, or a label is outside 0 to num_classes − 1.

    Source: Fort et al. (2019), Eq. 7: the class stiffness matrix.

    >>> by_class(torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([0, 1]), num_classes=2)
    tensor([[   nan, 0.5000],
            [0.5000,    nan]], dtype=torch.float64)
    """
    mask = _counted(stiffness, None, False)
    _column_labels(stiffness, y, None)
    if y.dtype != torch.int64 or not bool(((y >= 0) & (y < num_classes)).all()):
        raise UserError(f"labels are {y.tolist()[:8]}, expected int64 from 0 to {num_classes - 1} (num_classes)")
    rows = F.one_hot(y, num_classes).double()
    return (rows.T @ (stiffness.double() * mask) @ rows) / (rows.T @ mask @ rows)


def _column_labels(stiffness: Tensor, y: Tensor, y_other: Tensor | None) -> Tensor:
    """Return the labels of the columns, after checking that the numbers of labels fit the matrix."""
    columns = y if y_other is None else y_other
    for labels in (y, columns):
        if not isinstance(labels, Tensor) or labels.dim() != 1:
            told = list(labels.shape) if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
            raise UserError(f"labels are {told}, expected a tensor [n]")
    if (len(y), len(columns)) != tuple(stiffness.shape):
        raise UserError(f"there are {len(y)} and {len(columns)} labels for a matrix of {list(stiffness.shape)}")
    return columns


def _estimate(
    statistic: Callable[..., Tensor], parts: list[Tensor], two_sets: bool, resamples: int, seed: int
) -> Estimate:
    """Estimate a statistic of sums over pairs, with the 95% percentile interval of a bootstrap over examples.

    Args:
        statistic: Function of the sums of the parts.
        parts: Matrices to sum, float64 [n, n] or [n, m] each.
        two_sets: Whether rows and columns are drawn independently.
        resamples: Draws of the bootstrap; 0 for no interval. Draws whose statistic is not finite are left out.
        seed: Seed of the draws.
    """
    whole = float(statistic(*(part.sum() for part in parts)))
    if resamples == 0:
        return Estimate(whole, math.nan, math.nan)
    check_whole("resamples", resamples, least=0)
    rows, columns = parts[0].shape
    needed = 3 * 8 * resamples * (rows + columns)  # draws, counts and products, in float64
    if needed > FREE:
        refuse_if_too_large(needed, f"a bootstrap of {resamples:,} resamples", "take fewer (1,000 will do)")
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> Tensor:
        """Draw how often each example is in each resample, float64 [resamples, count]."""
        chosen = torch.randint(0, count, (resamples, count), generator=generator)
        times = torch.zeros(resamples, count, dtype=torch.float64)
        return times.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64)).to(parts[0].device)

    left = draw(rows)
    right = draw(columns) if two_sets else left
    values = statistic(*(((left @ part) * right).sum(1) for part in parts))
    values = values[torch.isfinite(values)]
    if len(values) == 0:
        return Estimate(whole, math.nan, math.nan)
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype, device=values.device)
    return Estimate(whole, *torch.quantile(values, ends).tolist())


def _counted(stiffness: Tensor, pairs: Tensor | None, two_sets: bool) -> Tensor:
    """Return 1 for the pairs that count and 0 for others, float64 in the shape of the matrix."""
    _check_finite(stiffness)
    if stiffness.dim() != 2 or 0 in stiffness.shape or (not two_sets and stiffness.shape[0] != stiffness.shape[1]):
        raise UserError(f"stiffness has shape {tuple(stiffness.shape)}, expected [n, n] (or [n, m] of two sets)")
    if pairs is not None and pairs.shape != stiffness.shape:
        raise UserError(f"pairs has shape {tuple(pairs.shape)}, expected {tuple(stiffness.shape)}")
    mask = torch.ones_like(stiffness, dtype=torch.float64) if pairs is None else pairs.double()
    return mask if two_sets else mask - torch.diag(mask.diagonal())


def _check_finite(stiffness: Tensor) -> None:
    if not isinstance(stiffness, Tensor):
        raise UserError(f"stiffness is a {type(stiffness).__name__}, expected a tensor [n, n]; of a dict take one")
    if not stiffness.isfinite().all():  # NaN would be read as "there is no such pair"
        raise UserError("stiffness has values that are not finite (NaN or infinity): take it of gradients that are")


KINDS = ("cosine", "euclidean")


class Bin(NamedTuple):
    """Pairs of examples at similar distances: mean distance, mean stiffness with its interval, number of pairs."""

    distance: float
    stiffness: Estimate
    pairs: int


def pair_distances(x: Tensor, *, kind: str = "cosine") -> Tensor:
    """Distance of each two inputs, float64 [n, n].

    Args:
        x: Inputs [n, ...].
        kind: ``"cosine"`` (1 − cos of the flattened inputs, in [0, 2]) or ``"euclidean"``.

    Returns:
        float64 [n, n].

    Raises:
        UserError: An unknown kind, or x is not finite.

    >>> pair_distances(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    tensor([[0., 1.],
            [1., 0.]], dtype=torch.float64)
    """
    check_name("distance", kind, KINDS)
    flat = x.flatten(1).double()
    if not flat.isfinite().all():
        raise UserError("x has entries that are not finite (NaN or infinity): drop those examples")
    if kind == "euclidean":
        return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    largest = flat.abs().amax(1, keepdim=True)
    unit = F.normalize(torch.where(largest > 0, flat / largest, 0), dim=1)  # squares of tiny inputs underflow
    return (1 - unit @ unit.T).clamp(min=0).fill_diagonal_(0)


def by_distance(
    stiffness: Tensor, distances: Tensor, pairs: Tensor | None = None, *, bins: int = 10, resamples: int = 200
) -> list[Bin]:
    """Average stiffness in bins of distance, with equally many pairs in each bin.

    Args:
        stiffness: Sign or cosine stiffness, [n, n].
        distances: [n, n], from `pair_distances`.
        pairs: Which pairs count, bool [n, n]; Fort et al. use those within a class. None for all.
        bins: Number of bins.
        resamples: Draws of the bootstrap over examples.

    Returns:
        The bins, from near to far.

    Raises:
        UserError: There are more bins than pairs, there is no pair, a distance is not finite, or the shapes differ.

    Source: Fort et al. (2019), Fig. 6.

    >>> s, d = torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    >>> [(found.distance, found.stiffness.mean, found.pairs) for found in by_distance(s, d, bins=1)]
    [(2.0, 0.5, 1)]
    """
    chosen = _upper(stiffness, distances, pairs)
    values = distances[chosen].double()
    check_whole("bins", bins, most=len(values), why=", the number of pairs")
    edges = torch.quantile(values, torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=values.device))
    which = torch.bucketize(distances.double(), edges[1:-1], right=True)
    found = []
    for number in range(bins):
        inside = chosen & (which == number)
        if inside.any():
            estimate = average(stiffness, inside | inside.T, resamples=resamples)
            found.append(Bin(float(distances[inside].double().mean()), estimate, int(inside.sum())))
    return found


def critical_length(
    stiffness: Tensor, distances: Tensor, pairs: Tensor | None = None, *, resamples: int = 1000, seed: int = 0
) -> Estimate:
    """Estimate the dynamical critical length ξ: the distance at which a straight line fitted to stiffness crosses zero.

    It is NaN if stiffness does not fall with distance, as where all distances are equal.

    Args:
        stiffness: Sign or cosine stiffness, [n, n].
        distances: [n, n], from `pair_distances`.
        pairs: Which pairs count, bool [n, n]; None for all.
        resamples: Draws of the bootstrap over examples.
        seed: Seed of the draws.

    Returns:
        ξ in units of the distances, and the ends of its interval.

    Raises:
        UserError: There is no pair, a distance is not finite, or the shapes differ.

    Source: Fort et al. (2019), Sec. 2.4 and Fig. 7.

    >>> d = pair_distances(torch.tensor([[0.0], [1.0], [3.0]]), kind="euclidean")
    >>> round(critical_length(1 - d / 2, d).mean, 6)
    2.0
    """
    chosen = _upper(stiffness, distances, pairs).double()
    s, d = stiffness.double(), torch.where(chosen > 0, distances.double(), 0)  # others need not be finite
    parts = [chosen, chosen * d, chosen * s, chosen * d * d, chosen * d * s]
    return _estimate(_crossing, parts, False, resamples, seed)


def _crossing(count: Tensor, d: Tensor, s: Tensor, dd: Tensor, ds: Tensor) -> Tensor:
    """Return where the least-squares line of s against d crosses 0, from sums over pairs; NaN if it does not fall."""
    spread = count * dd - d * d
    slope = (count * ds - d * s) / torch.where(spread > 1e-12 * count * dd, spread, torch.nan)  # NaN of equal distances
    start = (s - slope * d) / count
    return torch.where(slope < 0, -start / slope, torch.nan)


def _upper(stiffness: Tensor, distances: Tensor, pairs: Tensor | None) -> Tensor:
    """Return a mask with each pair of different examples once, bool [n, n], after checking the arguments."""
    _check_finite(stiffness)
    if stiffness.shape != distances.shape or stiffness.dim() != 2 or stiffness.shape[0] != stiffness.shape[1]:
        shapes = tuple(stiffness.shape), tuple(distances.shape)
        raise UserError(f"stiffness is {shapes[0]} and distances are {shapes[1]}, expected [n, n] both")
    mask = torch.ones_like(stiffness, dtype=torch.bool) if pairs is None else pairs
    chosen = mask.triu(1)
    if not chosen.any():
        raise UserError("there is no pair of different examples to average over")
    if not distances[chosen].isfinite().all():
        raise UserError("a distance is not finite (NaN or infinity): are the inputs finite?")
    return chosen
