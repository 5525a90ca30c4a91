"""Summaries of paths in the paper: overlap and distance (Fig. 4), neighbours (Fig. 6), early-to-mid ratio (Fig. 7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gendyn_lite.errors import UserError, shown
from gendyn_lite.measures.per_example.checks import check_whole
from gendyn_lite.measures.relu_paths.gram import path_gram
from gendyn_lite.measures.relu_paths.packed import Paths
from gendyn_lite.measures.relu_paths.similarity import ratio


class Pairs(NamedTuple):
    """Distance and path overlap of all pairs of images i < j, each a tensor [n(n−1)/2].

    Attributes:
        i: Index of the first image.
        j: Index of the second image.
        distance: ‖x_i − x_j‖₂ of the flattened inputs, float64.
        overlap: p_i·p_j, the number of units that are on for both images.
        cosine: p_i·p_j / (|p_i||p_j|), float64; 0 where a path is empty.
    """

    i: Tensor
    j: Tensor
    distance: Tensor
    overlap: Tensor
    cosine: Tensor

    def rank_correlation(self, which: str = "overlap") -> float:
        """Compute Spearman's correlation of distance with ``"overlap"`` or ``"cosine"``; NaN if one is constant."""
        from scipy.stats import spearmanr

        return self._correlation(spearmanr, which)

    def linear_correlation(self, which: str = "overlap") -> float:
        """Compute Pearson's correlation of distance with ``"overlap"`` or ``"cosine"``; NaN if one is constant."""
        from scipy.stats import pearsonr

        return self._correlation(pearsonr, which)

    def _correlation(self, measure: Callable[..., Any], which: str) -> float:
        values, distance = getattr(self, which).cpu().numpy(), self.distance.cpu().numpy()
        if any(np.ptp(one) <= 1e-12 * np.abs(one).max() for one in (values, distance)):  # of a single pair, of rounding
            return float("nan")
        return float(measure(distance, values).statistic)


def overlap_and_distance(paths: Paths, x: Tensor) -> Pairs:
    """Compute the path overlap p_i·p_j and the input distance of every pair of images.

    Args:
        paths: Paths of one layer, bool [n, units] or packed.
        x: The images they were recorded on, [n, ...].

    Returns:
        The n(n−1)/2 pairs i < j.

    Raises:
        UserError: The numbers of images differ, or there are fewer than two.

    Source: Image functions (n.d.), Fig. 4 (Sec. 6.4).

    >>> paths = torch.tensor([[True, True], [True, False], [True, True]])
    >>> pairs = overlap_and_distance(paths, torch.tensor([[0.0], [3.0], [4.0]]))
    >>> pairs.distance.tolist(), pairs.overlap.tolist(), round(pairs.rank_correlation(), 3)
    ([3.0, 4.0, 1.0], [1, 2, 1], 0.866)
    """
    gram = path_gram(paths)
    if len(x) != len(gram):
        raise UserError(f"x has {len(x)} images and paths {len(gram)}: give the images that the paths are of")
    if len(gram) < 2:
        raise UserError("there is 1 image, expected at least 2")
    if not x.isfinite().all():
        raise UserError("x has entries that are not finite (NaN or infinity), and so no distances")
    i, j = torch.triu_indices(len(gram), len(gram), 1, device=gram.device)
    distance = torch.nn.functional.pdist(x.flatten(1).double()).to(gram.device)
    on, overlap = gram.diagonal().double(), gram[i, j]
    return Pairs(i, j, distance, overlap, ratio(overlap.double(), on[i], on[j]))


def neighbour_ranks(similarity: Tensor, anchors: Sequence[int]) -> Tensor:
    """Rank all other images by their similarity to each of some anchors: rank 0 is the nearest.

    Of two equally similar images, the one with the lower index comes first.

    Args:
        similarity: [n, n], larger is nearer, such as the `path_gram` of the paths (as in the paper).
        anchors: Indices of the images whose neighbours are ranked.

    Returns:
        Ranks, int64 [anchors, n]; −1 for the anchor itself.

    Raises:
        UserError: The matrix is not square or has fewer than two images, an anchor is not an index of an image, or a
            similarity is NaN.

    Source: Image functions (n.d.), Fig. 6 (Sec. 8).

    >>> neighbour_ranks(torch.tensor([[9, 1, 5], [1, 9, 1], [5, 1, 9]]), [0, 1])
    tensor([[-1,  1,  0],
            [ 0, -1,  1]])
    """
    count = len(similarity)
    if similarity.dim() != 2 or similarity.shape != (count, count) or count < 2:
        raise UserError(f"similarity is {list(similarity.shape)}, expected [n, n] with at least 2 images")
    anchors = anchors.tolist() if isinstance(anchors, Tensor) else list(anchors)
    for anchor in anchors:
        check_whole("anchor", anchor, least=0, most=count - 1, why=", the number of an image")
    chosen = torch.as_tensor(anchors, dtype=torch.int64, device=similarity.device)
    rows = similarity[chosen].double()
    rows[torch.arange(len(chosen)), chosen] = torch.inf  # the anchor comes first, as rank −1
    wrong = rows.isnan().any(1).nonzero().flatten().tolist()
    if wrong:
        raise UserError(f"the similarity of image {anchors[wrong[0]]} to another is NaN, so that there is no order")
    order = rows.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(count, device=rows.device).expand_as(order) - 1
    return torch.empty_like(order).scatter_(1, order, places)


class RanksOverTime(NamedTuple):
    """The ranks of the neighbours of some images at each epoch.

    Attributes:
        epochs: The T epochs.
        anchors: Indices of the A images whose neighbours are ranked.
        ranks: int64 [T, A, n]; −1 for the anchor itself.
    """

    epochs: tuple[int, ...]
    anchors: tuple[int, ...]
    ranks: Tensor

    def nearest(self) -> Tensor:
        """Return the nearest neighbour of each anchor at each epoch, int64 [T, A]."""
        return (self.ranks == 0).int().argmax(2)

    def nearest_changes(self) -> Tensor:
        """Count how often each anchor's nearest neighbour changes from one epoch to the next, int64 [A]."""
        nearest = self.nearest()
        return (nearest[1:] != nearest[:-1]).sum(0)

    def kept(self, top: int = 6) -> Tensor:
        """Return the share of the `top` nearest neighbours that already were the epoch before, float64 [T − 1, A]."""
        near = (self.ranks >= 0) & (self.ranks < top)
        return (near[1:] & near[:-1]).sum(2).double() / near[1:].sum(2)

    def table(self, top: int = 6) -> list[dict[str, int]]:
        """Return the rank at each epoch of the neighbours that are among an anchor's `top` nearest at the last one."""
        rows = []
        for a, anchor in enumerate(self.anchors):
            last = self.ranks[-1, a]
            chosen = ((last >= 0) & (last < top)).nonzero().flatten().tolist()
            for epoch, ranks in zip(self.epochs, self.ranks[:, a].tolist(), strict=True):
                rows += [{"epoch": epoch, "anchor": anchor, "neighbour": j, "rank": ranks[j]} for j in chosen]
        return rows


def ranks_over_time(similarities: Mapping[int, Tensor], anchors: Sequence[int]) -> RanksOverTime:
    """Compute `neighbour_ranks` at each epoch.

    Args:
        similarities: Similarity [n, n] by epoch, larger is nearer, such as ``recording.path_grams(layer)``.
        anchors: Indices of the images whose neighbours are ranked.

    Returns:
        Ranks int64 [epochs, anchors, n], epochs ascending.

    Raises:
        UserError: There are no epochs, or as for `neighbour_ranks`.

    >>> near, far = torch.tensor([[9, 5, 1], [5, 9, 1], [1, 1, 9]]), torch.tensor([[9, 1, 5], [1, 9, 1], [5, 1, 9]])
    >>> ranks = ranks_over_time({0: near, 1: far}, [0])
    >>> ranks.nearest().tolist(), ranks.nearest_changes().tolist()
    ([[1], [2]], [1])
    """
    if not similarities:
        raise UserError("there are no epochs: record some first")
    epochs = tuple(sorted(similarities))
    ranks = torch.stack([neighbour_ranks(similarities[epoch], anchors) for epoch in epochs])
    return RanksOverTime(epochs, tuple(anchors), ranks)


def early_to_mid_ratio(values: Mapping[int, float], milestones: Sequence[int]) -> float:
    """Divide the mean similarity before the first decay of the learning rate by that of the stage after it.

    The value of epoch t compares epochs t and t−1, and milestones count finished epochs, as in `RunConfig`. So the
    first stage is epochs 1 … m₁, and the second is epochs m₁+1 … m₂ (to the last epoch if there is one milestone). The
    paper does not say over which layers it averages: take one, or the mean over layers.

    Args:
        values: Mean cross-path similarity over pairs by epoch, such as ``recording.cross_path_means(layer)``.
        milestones: Epochs after which the learning rate decays.

    Returns:
        The ratio; above 1 if paths changed less in the first stage.

    Raises:
        UserError: There is no milestone, an epoch of a stage is missing, or the second mean is 0.

    Source: Image functions (n.d.), Fig. 7 (Sec. 8).

    >>> early_to_mid_ratio({1: 0.5, 2: 0.75, 3: 0.5, 4: 0.75, 5: 0.9}, milestones=[2, 4])
    1.0
    """
    if not milestones:
        raise UserError("there is no milestone: an early and a mid stage need a schedule with at least one decay")
    first, *later = sorted(milestones)
    end = later[0] if later else max(values, default=0)
    if not 1 <= first < end:
        raise UserError(f"the stages are epochs 1 to {first} and {first + 1} to {end}: expected at least one in each")
    early, mid = _mean(values, 1, first), _mean(values, first + 1, end)
    if not (math.isfinite(early) and math.isfinite(mid)):
        raise UserError("a value of the stages is not finite (NaN or infinity): the ratio is not defined")
    if mid == 0:
        raise UserError(f"the mean over epochs {first + 1} to {end} is 0: the ratio is not defined")
    return early / mid


def _mean(values: Mapping[int, float], start: int, stop: int) -> float:
    """Return the mean over epochs start to stop (inclusive), all of which must be recorded."""
    stage = range(start, stop + 1)
    missing = [epoch for epoch in stage if epoch not in values]
    if missing:
        what = f"epoch {missing[0]} is missing from the recording (it has epochs {shown(sorted(values))})"
        raise UserError(f"{what}: record every epoch of {start} to {stop}")
    return sum(values[epoch] for epoch in stage) / len(stage)
