"""Similarity of paths, or activations, to those of the epoch before: for each image, and for each pair of images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.relu_paths.gram import BLOCK_BYTES, float_product, grams, products
from gendyn_lite.measures.relu_paths.packed import Paths, block_of, check_pair, check_shapes

ROWS = 512  # rows of a result that are computed in float64 at a time


class Crossed(NamedTuple):
    """The similarity of all pairs of images between two epochs.

    Attributes:
        similarity: [n, n], symmetric, in [0, 1] (in [−1, 1] for activations).
        zeros: Number of pairs i < j whose similarity is 0 by definition, as they share no unit now or before.
        gram: `path_gram` of `now`, to pass as `before_gram` at the next epoch; None for activations.
    """

    similarity: Tensor
    zeros: int
    gram: Tensor | None


def self_similarity(now: Paths, before: Paths) -> Tensor:
    """Compute the cosine of each image's paths at two epochs, ⟨p'_i, p_i⟩ / (|p'_i||p_i|); 0 where a path is empty.

    Args:
        now: Paths of one layer, bool [n, units], or packed.
        before: Paths of the same images through the same layer at the epoch before.

    Returns:
        float64 [n], in [0, 1].

    Raises:
        UserError: The two are not of the same layer, network or images.

    Source: Image functions (n.d.), Fig. 5 (Sec. 7).

    >>> now, before = torch.tensor([[True, True], [False, False]]), torch.tensor([[True, False], [True, True]])
    >>> self_similarity(now, before)
    tensor([0.7071, 0.0000], dtype=torch.float64)
    """
    check_pair(now, before, least=1)
    on = on_counts(now).double(), on_counts(before).double()
    return ratio(on_counts(now, before).double(), *on)


def overlap_across(now: Paths, before: Paths) -> Tensor:
    """Compute the cosines ⟨p_i, p'_j⟩ / (|p_i||p'_j|) of paths now with every path before; 0 where one is empty.

    Args:
        now: Paths of one layer, bool [n, units], or packed.
        before: Paths of the same images through the same layer at an earlier epoch.

    Returns:
        float64 [n, n], not symmetric; its diagonal is `self_similarity`.

    Raises:
        UserError: The two are not of the same layer, network or images.

    Source: Image functions (n.d.), Sec. 5 (p_i^t · p_j^k).

    >>> now, before = torch.tensor([[True, True], [True, False]]), torch.tensor([[True, False], [True, True]])
    >>> overlap_across(now, before)
    tensor([[0.7071, 1.0000],
            [1.0000, 0.7071]], dtype=torch.float64)
    """
    check_pair(now, before, least=1)
    size = max(8, BLOCK_BYTES["cpu"] // (8 * now.shape[0]) // 8 * 8)
    both: Tensor | float = 0.0
    for start in range(0, now.shape[1], size):
        p, q = (block_of(one, start, start + size) for one in (now, before))
        both = both + float_product(p.float(), q.to(p.device).float()).double()
    on, earlier = on_counts(now).double(), on_counts(before).double()
    return ratio(torch.as_tensor(both), on[:, None], earlier[None].to(on))


def self_activation_similarity(now: Tensor, before: Tensor) -> Tensor:
    """Compute the cosine of each image's activations at two epochs; 0 where all activations are 0.

    Args:
        now: Activations of one layer, [n, units].
        before: Activations of the same images at the epoch before.

    Returns:
        float64 [n], in [−1, 1].

    >>> self_activation_similarity(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 0.0]]))
    tensor([0.7071], dtype=torch.float64)
    """
    a, b, *largest = _activations(now, before, least=1)
    scales = [torch.where(one > 0, one.double(), 1.0)[:, None] for one in largest]  # as in `cross_activations`
    found = []
    parts = zip(*(part.split(64) for part in (a, b, *scales)), strict=True)
    for left, right, *of in parts:  # some rows in float64 at a time
        p, q = left.double() / of[0], right.double() / of[1]
        found.append(ratio((p * q).sum(1), (p * p).sum(1), (q * q).sum(1)))
    return torch.cat(found)


def cross_path_similarity(now: Paths, before: Paths, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Compare the intersection of two images' paths with their intersection an epoch before, for all pairs of images.

    The similarity is ⟨p_i⊙p_j, p'_i⊙p'_j⟩ / (|p_i⊙p_j| |p'_i⊙p'_j|), from three Gram matrices of exact counts. It is 0
    where the intersection is empty. `cross_paths` also counts those pairs, and reuses a Gram matrix.

    Args:
        now: Paths of one layer, bool [n, units], or packed.
        before: Paths of the same images through the same layer at the epoch before.
        dtype: dtype of the result. Each entry is computed in float64 and rounded once.

    Returns:
        [n, n], symmetric, in [0, 1].

    Raises:
        UserError: The two are not of the same layer, network or images, or there are fewer than two images.

    Source: Image functions (n.d.), Fig. 1-3 (Sec. 6.1).

    >>> now = torch.tensor([[True, True, True], [True, True, False]])
    >>> before = torch.tensor([[True, True, True], [True, False, True]])
    >>> cross_path_similarity(now, before)
    tensor([[1.0000, 0.5000],
            [0.5000, 0.5000]])
    """
    return cross_paths(now, before, dtype=dtype).similarity


def cross_paths(
    now: Paths, before: Paths, *, before_gram: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> Crossed:
    """Compute `cross_path_similarity`, the number of pairs without a shared unit, and the Gram matrix of `now`.

    Args:
        now: Paths of one layer, bool [n, units], or packed.
        before: Paths of the same images through the same layer at the epoch before.
        before_gram: `path_gram` of `before` if it is known, which saves a third of the work.
        dtype: dtype of the similarity.

    Returns:
        The similarity [n, n], the number of pairs, and the Gram matrix.

    Raises:
        UserError: As for `cross_path_similarity`, or `before_gram` is not [n, n].

    >>> now = torch.tensor([[True, False], [False, True]])
    >>> crossed = cross_paths(now, now)
    >>> crossed.similarity.tolist(), crossed.zeros
    ([[1.0, 0.0], [0.0, 1.0]], 1)
    """
    check_pair(now, before, least=2)
    if before_gram is not None and before_gram.shape != (now.shape[0], now.shape[0]):
        raise UserError(f"before_gram is {list(before_gram.shape)}, expected path_gram(before), [n, n]")
    last = slice(3 if before_gram is None else 2)
    both, gram, *own = grams([now, before], lambda p, q: [p & q, p, q][last])
    before_gram = own[0] if before_gram is None else before_gram
    return Crossed(*all_ratios(both, gram, before_gram, dtype), gram)


def cross_activation_similarity(now: Tensor, before: Tensor) -> Tensor:
    """Compute the cross similarity of activations, ⟨a_i⊙a_j, a'_i⊙a'_j⟩ / (|a_i⊙a_j| |a'_i⊙a'_j|), for all pairs.

    Args:
        now: Activations of one layer, [n, units].
        before: Activations of the same images at the epoch before.

    Returns:
        [n, n], symmetric, in [−1, 1] ([0, 1] after a ReLU); float64 if the activations are, else float32.

    Raises:
        UserError: Shapes differ, values are not finite, or there are fewer than two images.

    Source: Image functions (n.d.), Fig. 1, right column (Sec. 6.1).

    >>> cross_activation_similarity(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]]))
    tensor([[0.4706, 0.8944],
            [0.8944, 0.7071]])
    """
    return cross_activations(now, before).similarity


def cross_activations(now: Tensor, before: Tensor) -> Crossed:
    """Compute `cross_activation_similarity` and the number of pairs that share no unit; same arguments and errors.

    >>> cross_activations(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.ones(2, 2)).zeros
    1
    """
    a, b, *largest = _activations(now, before, least=2)
    # Scaling an image's activations does not change the ratio, and keeps fourth powers within float32's range.
    scales = [torch.where(one > 0, one, 1.0)[:, None] for one in largest]

    def blocks(start: int, stop: int) -> list[Tensor]:
        p, q = (one[:, start:stop] / scale for one, scale in zip((a, b), scales, strict=True))
        return [p * q, p * p, q * q]

    both, of_now, of_before = products(a.new_zeros(len(a), len(a)), a.shape[1], blocks, multiply=float_product)
    return Crossed(*all_ratios(both, of_now, of_before, a.dtype), None)


def on_counts(now: Paths, other: Paths | None = None) -> Tensor:
    """Count the units that are on for each image, int64 [n]; with `other`, those that are on in both.

    >>> on_counts(torch.tensor([[True, False, True], [False, False, False]]))
    tensor([2, 0])
    """
    count, units = now.shape
    total = torch.zeros(count, dtype=torch.int64)
    size = max(8, BLOCK_BYTES["cpu"] // max(1, count) // 8 * 8)
    for start in range(0, units, size):
        block = block_of(now, start, start + size)
        both = block if other is None else block & block_of(other, start, start + size)
        total = total.to(block.device) + both.sum(1)
    return total


def all_ratios(both: Tensor, now: Tensor, before: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Compute the similarity of all pairs from Gram matrices, and how many pairs i < j are 0 by definition."""
    out = torch.empty(both.shape, dtype=dtype, device=both.device)
    undefined = 0
    for top in range(0, len(both), ROWS):
        rows = slice(top, top + ROWS)
        out[rows] = ratio(both[rows].double(), now[rows].double(), before[rows].double())
        undefined += int(((now[rows] == 0) | (before[rows] == 0)).triu(top + 1).sum())
    return out, undefined


def ratio(both: Tensor, now: Tensor, before: Tensor) -> Tensor:
    """Compute both / √(now·before), or 0 where that root is 0, clamped to [−1, 1].

    >>> ratio(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 0.0]), torch.tensor([1.0, 1.0]))
    tensor([0.5000, 0.0000])
    """
    norms = (now * before).sqrt()
    return torch.where(norms <= 0, 0.0, both / norms).clamp(-1, 1)


def of_pairs(matrix: Tensor) -> Tensor:
    """Return the entries i < j of a matrix [n, n] in row order, [n(n−1)/2].

    >>> of_pairs(torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8]]))
    tensor([1, 2, 5])
    """
    i, j = torch.triu_indices(len(matrix), len(matrix), 1, device=matrix.device)
    return matrix[i, j]


def _activations(now: Tensor, before: Tensor, *, least: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Check two sets of activations; return both, and each image's largest absolute value, in float32 or float64."""
    largest = []
    for name, one in (("now", now), ("before", before)):
        if not isinstance(one, Tensor) or not one.is_floating_point() or one.dim() != 2:
            told = f"{one.dtype} {list(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
            raise UserError(f"{name} is {told}, expected activations of one layer, floating point [n, units]")
        if 0 in one.shape:
            raise UserError(f"{name} is {list(one.shape)}, expected [n, units] with at least one image and unit")
        largest.append(torch.cat([rows.abs().amax(1) for rows in one.split(64)]))  # NaN if one is
        finite = torch.isfinite(largest[-1])
        if not finite.all():
            raise UserError(f"{name} has activations of image {int((~finite).nonzero()[0])} that are not finite")
    check_shapes(now.shape, before.shape, least=least)
    wide = torch.float64 if torch.float64 in (now.dtype, before.dtype) else torch.float32
    return now.to(wide), before.to(wide), largest[0].to(wide), largest[1].to(wide)
