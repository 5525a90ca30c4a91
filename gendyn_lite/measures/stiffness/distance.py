"""Stiffness against the distance of inputs, and the distance at which it vanishes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gendyn_lite.errors import UserError, unknown_name
from gendyn_lite.measures.stiffness.averages import Estimate, average, draws, interval

KINDS = ("cosine", "euclidean")


class Bin(NamedTuple):
    """Pairs of examples at about one distance: mean distance, mean stiffness with its interval, number of pairs."""

    distance: float
    stiffness: Estimate
    pairs: int


def pair_distances(x: Tensor, *, kind: str = "cosine") -> Tensor:
    """Distance of each two inputs, float64 [n, n].

    Args:
        x: Inputs [n, ...].
        kind: ``"cosine"`` (1 − cos of the flattened inputs, in [0, 2]) or ``"euclidean"``.

    >>> pair_distances(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    tensor([[0., 1.],
            [1., 0.]], dtype=torch.float64)
    """
    if kind not in KINDS:
        raise unknown_name("distance", kind, KINDS)
    flat = x.flatten(1).double()
    if kind == "euclidean":
        return torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    unit = F.normalize(flat, dim=1)
    return (1 - unit @ unit.T).clamp(min=0).fill_diagonal_(0)


def by_distance(
    stiffness: Tensor, distances: Tensor, pairs: Tensor | None = None, *, bins: int = 10, resamples: int = 200
) -> list[Bin]:
    """Mean stiffness of pairs against their distance, in bins with equally many pairs.

    Args:
        stiffness: Sign or cosine stiffness, [n, n].
        distances: [n, n], of `pair_distances`.
        pairs: Which pairs count, bool [n, n]; Fort et al. take those within a class. None for all.
        bins: Number of bins.
        resamples: Draws of the bootstrap over examples.

    Source:
        Fort et al. (2019), Fig. 6.

    >>> s, d = torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[0.0, 2.0], [2.0, 0.0]])
    >>> [(found.distance, found.stiffness.mean, found.pairs) for found in by_distance(s, d, bins=1)]
    [(2.0, 0.5, 1)]
    """
    chosen = _upper(stiffness, distances, pairs)
    values = distances[chosen].double()
    if bins < 1 or bins > len(values):
        raise UserError(f"bins is {bins}, expected a whole number from 1 to {len(values)}, the number of pairs")
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
    """The dynamical critical length ξ: where a straight line through stiffness against distance crosses zero.

    NaN where stiffness does not fall with distance: there is no such length.

    Args:
        stiffness: Sign or cosine stiffness, [n, n].
        distances: [n, n], of `pair_distances`.
        pairs: Which pairs count, bool [n, n]; None for all.
        resamples: Draws of the bootstrap over examples.
        seed: Seed of the draws.

    Source:
        Fort et al. (2019), Sec. 2.4 and Fig. 7.

    >>> d = pair_distances(torch.tensor([[0.0], [1.0], [3.0]]), kind="euclidean")
    >>> round(critical_length(1 - d / 2, d).mean, 6)
    2.0
    """
    chosen = _upper(stiffness, distances, pairs).double()
    s, d = stiffness.double(), distances.double()
    sums = [chosen, chosen * d, chosen * s, chosen * d * d, chosen * d * s]
    whole = _crossing(*(part.sum()[None] for part in sums))
    if resamples == 0:
        return Estimate(float(whole), float("nan"), float("nan"))
    times, _ = draws(stiffness, two_sets=False, resamples=resamples, seed=seed)
    resampled = _crossing(*(((times @ part) * times).sum(1) for part in sums))
    return Estimate(float(whole), *interval(resampled, 0.95))


def _crossing(count: Tensor, d: Tensor, s: Tensor, dd: Tensor, ds: Tensor) -> Tensor:
    """Where the least-squares line of s against d crosses 0, from their sums; NaN where it does not fall."""
    slope = (count * ds - d * s) / (count * dd - d * d)
    start = (s - slope * d) / count
    return torch.where(slope < 0, -start / slope, torch.nan)


def _upper(stiffness: Tensor, distances: Tensor, pairs: Tensor | None) -> Tensor:
    """Each pair of different examples once, bool [n, n]."""
    if stiffness.shape != distances.shape or stiffness.dim() != 2 or stiffness.shape[0] != stiffness.shape[1]:
        shapes = tuple(stiffness.shape), tuple(distances.shape)
        raise UserError(f"stiffness is {shapes[0]} and distances are {shapes[1]}, expected [n, n] both")
    mask = torch.ones_like(stiffness, dtype=torch.bool) if pairs is None else pairs
    chosen = mask.triu(1)
    if not chosen.any():
        raise UserError("there is no pair of different examples to average over")
    if distances[chosen].isnan().any():
        raise UserError("a distance is NaN, so that the pairs have no order: are the inputs finite?")
    return chosen
