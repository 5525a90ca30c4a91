"""Directions along which intervals are measured.

Those of the paper are pairs of points, midlines of triangles, principal components, and lines between class means.
There are also random directions and adversarial ones.

For pairs and midlines, α = 1 is the other point. Other directions have no natural length and are scaled to `length`.
With the `pair_distance` of a class, α = 1 is as far away as one point of the class from another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.intervals.network import check_network, logits_at, no_nan
from gendyn_lite.measures.per_example.apart import own_outputs
from gendyn_lite.measures.per_example.checks import check_number, check_whole, dtype_name

MOST_TUPLES = 1_000_000


def same_class_tuples(y: Tensor, count: int, *, size: int = 2, label: int | None = None, seed: int = 0) -> Tensor:
    """Draw tuples of distinct examples that share a label: pairs, or triangles for `size` 3.

    Args:
        y: Labels (true or random ones), int64 [n].
        count: Number of tuples.
        size: Number of examples in a tuple.
        label: Class of all tuples. If None, the class of each tuple is that of a uniformly drawn example.
        seed: Seed of the draw.

    Returns:
        Indices of the examples, int64 [count, size].

    Raises:
        UserError: No class, or not the given one, has `size` examples; or `count` is not a number of tuples.

    >>> same_class_tuples(torch.tensor([0, 1, 0]), 2, seed=0).sort(1).values.tolist()
    [[0, 2], [0, 2]]
    """
    check_whole("count", count, least=0, most=MOST_TUPLES, why=" tuples")
    generator = torch.Generator().manual_seed(seed)
    labels = y.cpu()
    _, which, sizes = labels.unique(return_inverse=True, return_counts=True)
    usable = sizes[which] >= size
    if label is not None:
        usable &= labels == label
    pool = usable.nonzero().squeeze(1)
    if not len(pool):
        named = "no class" if label is None else f"class {label}"
        raise UserError(f"{named} has {size} examples, needed for one tuple: take more data or another class")
    anchors = pool[torch.randint(len(pool), (count,), generator=generator)]
    rows = []
    for anchor in anchors:
        others = (labels == labels[anchor]).nonzero().squeeze(1)
        others = others[others != anchor]
        chosen = torch.randperm(len(others), generator=generator)[: size - 1]
        rows.append(torch.cat([anchor[None], others[chosen]]))
    return torch.stack(rows) if rows else labels.new_empty(0, size)


def pair_lines(x: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lines through pairs of points: α = 0 is the first point, α = 1 the second.

    Args:
        x: Points [n, *in_shape].
        pairs: Indices of the points, int64 [m, 2].

    Returns:
        Origins and directions, [m, *in_shape] each.

    Raises:
        UserError: The indices are not int64 [m, 2], or one is not that of a point.

    >>> pair_lines(torch.tensor([[0.0], [3.0]]), torch.tensor([[1, 0]]))
    (tensor([[3.]]), tensor([[-3.]]))
    """
    _check_indices("pairs", pairs, 2, len(x))
    return x[pairs[:, 0]], x[pairs[:, 1]] - x[pairs[:, 0]]


def midlines(x: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lines through the midpoints of two sides of triangles: α = 0 and α = 1 are the midpoints.

    Args:
        x: Points [n, *in_shape].
        triangles: Indices of the corners, int64 [m, 3]. The two sides meet in the first corner.

    Returns:
        Origins and directions, [m, *in_shape] each.

    Raises:
        UserError: The indices are not int64 [m, 3], or one is not that of a point.

    >>> origin, direction = midlines(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), torch.tensor([[0, 1, 2]]))
    >>> origin.tolist(), direction.tolist()
    ([[1.0, 0.0]], [[-1.0, 1.0]])
    """
    _check_indices("triangles", triangles, 3, len(x))
    a, b, c = (x[triangles[:, corner]] for corner in range(3))
    return (a + b) / 2, (c - b) / 2


def _check_indices(name: str, indices: Tensor, size: int, count: int) -> None:
    """Check that indices are int64 [m, size], from 0 to count − 1."""
    if not isinstance(indices, Tensor) or indices.dtype != torch.int64 or indices.shape[1:] != (size,):
        kind = f"{dtype_name(indices)} {list(indices.shape)}" if isinstance(indices, Tensor) else type(indices).__name__
        raise UserError(f"{name} is {kind}, expected int64 [m, {size}]")
    if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < count:
        span = f"{int(indices.min())} to {int(indices.max())}"
        raise UserError(f"{name} has indices from {span}, expected 0 to {count - 1}: there are {count} points")


def pair_distance(x: Tensor) -> float:
    """Return the root mean square distance between two independently drawn points of x [n, *in_shape], in its units.

    >>> pair_distance(torch.tensor([[0.0], [2.0]]))
    1.414...
    """
    flat = x.flatten(1).double()
    if not flat.numel() or not flat.isfinite().all():
        raise UserError("the points hold NaN or infinity, or there is none: expected finite ones")
    return float((2 * flat.var(dim=0, correction=0).sum()).sqrt())


def components(x: Tensor, *, length: float | None = None) -> Tensor:
    """Compute the principal components of points, largest variance first, each of the given length.

    Components without variance (beyond the rank of the points) are left out.

    Args:
        x: Points of one class, [n, *in_shape].
        length: Length of every direction; `pair_distance` of the points by default.

    Returns:
        Directions [k, *in_shape].

    Raises:
        UserError: There are fewer than three points, all are equal or one is not finite, or the length is not a
            positive number.

    >>> components(torch.tensor([[0.0, 0.0], [1.0, 0.1], [2.0, 0.0], [3.0, 0.1]]), length=1.0)[0].abs().round().tolist()
    [1.0, 0.0]
    """
    if len(x) < 3:
        raise UserError(f"there are {len(x)} points, expected at least 3 for principal components")
    if not x.isfinite().all() or bool((x == x[0]).all()):
        why = "are all equal" if x.isfinite().all() else "hold NaN or infinity"
        raise UserError(f"the points {why}: expected finite ones that differ, for principal components")
    flat = x.flatten(1).double().cpu().numpy()
    found = PCA(svd_solver="full").fit(flat)
    # Centred points span at most n − 1 dimensions, so the last of n components has no variance.
    variance = np.asarray(found.explained_variance_)
    kept = np.asarray(found.components_)[variance > 1e-10 * variance[0]]
    scale = pair_distance(x) if length is None else _checked(length)
    return (torch.from_numpy(kept) * scale).to(x).view(-1, *x.shape[1:])


def between_means(x: Tensor, y: Tensor, start: int, end: int, *, length: float | None = None) -> Tensor:
    """Compute the direction between two class means, orthogonal to the first principal component of the first class.

    Args:
        x: Points [n, *in_shape].
        y: Labels, int64 [n].
        start: First class.
        end: Second class.
        length: Length of the direction; `pair_distance` of the first class by default.

    Returns:
        The direction, [*in_shape].

    Raises:
        UserError: The classes are the same, or the second has no points; or as for `components` of the first class.

    Source: Salman et al. (2019), Fig. 2 (middle).

    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [5.0, 3.0]])
    >>> between_means(x, torch.tensor([0, 0, 0, 1]), 0, 1, length=2.0).abs().round().tolist()
    [0.0, 2.0]
    """
    own = x[y == start]
    if start == end or not (y == end).any():
        raise UserError(f"there is no direction from class {start} to class {end}: expected two that both have points")
    first = components(own, length=1.0)[0].flatten().double()
    step = (x[y == end].double().mean(0) - own.double().mean(0)).flatten()
    step = step - (step @ first) * first
    scale = pair_distance(own) if length is None else _checked(length)
    return (step / step.norm() * scale).to(x).view(x.shape[1:])


def random_directions(
    x: Tensor, *, length: float, seed: int = 0, weights: Tensor | None = None, basis: Tensor | None = None
) -> Tensor:
    """Draw a random direction for each point, on the CPU so that it is the same on every device.

    Args:
        x: Points [m, *in_shape].
        length: Length of every direction, in the units of x.
        seed: Seed of the draw.
        weights: Standard deviation of each coordinate, [*in_shape]; equal ones by default.
        basis: Orthogonal directions of equal length [k, *in_shape], such as `components`, to draw only from their span.

    Returns:
        Directions [m, *in_shape]; uniformly distributed unless there are weights.

    Raises:
        UserError: Both weights and a basis are given; they have another shape, or values that are not finite; the
            weights are all zero; or the basis is not orthogonal with equal lengths.

    >>> random_directions(torch.zeros(2, 5), length=3.0).norm(dim=1).round(decimals=3).tolist()
    [3.0, 3.0]
    >>> random_directions(torch.zeros(2, 3), length=3.0, weights=torch.tensor([0.0, 0.0, 1.0])).abs().tolist()
    [[0.0, 0.0, 3.0], [0.0, 0.0, 3.0]]
    """
    if weights is not None and basis is not None:
        raise UserError("there are weights and a basis, expected one of them: leave the other out")
    _check_shape("weights", weights, x)
    _check_shape("basis", basis if basis is None else basis[:1].squeeze(0), x)
    if weights is not None and not bool((weights != 0).any()):
        raise UserError("the weights are all zero, so that there is no direction: give some of them another value")
    if basis is not None:
        flat = basis.flatten(1).double()
        gram = flat @ flat.T
        one = torch.eye(len(gram), dtype=gram.dtype, device=gram.device) * gram[0, 0]
        if not bool(gram[0, 0] > 0) or not torch.allclose(gram, one, atol=1e-4 * float(gram[0, 0])):
            raise UserError("the directions of the basis are not orthogonal and of one length: take `components`")
    shape = x.shape if basis is None else (len(x), len(basis))
    draw = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(x.device)
    if weights is not None:
        draw = draw * weights.double()
    if basis is not None:
        draw = torch.einsum("mk,k...->m...", draw, basis.double())
    return _scaled(draw, length).to(x)


def _check_shape(name: str, given: Tensor | None, x: Tensor) -> None:
    """Check that a given tensor is finite, with the shape of one point."""
    if given is not None and (given.shape != x.shape[1:] or not bool(given.isfinite().all())):
        told = f"{name} is {list(given.shape)}" if given.shape != x.shape[1:] else f"{name} holds NaN or infinity"
        raise UserError(f"{told}, expected finite numbers of the shape of one point, {list(x.shape[1:])}")


def adversarial_directions(model: nn.Module, x: Tensor, *, length: float) -> Tensor:
    """Compute the direction in which the margin of each point's class falls fastest.

    It is the gradient of the largest other logit minus the class's own logit.

    Args:
        model: The network, in eval mode.
        x: Points [m, *in_shape].
        length: Length of every direction.

    Returns:
        Directions [m, *in_shape].

    Raises:
        UserError: The gradient is zero at a point, so that there is no such direction; the network mixes points, draws
            random numbers or gives NaN.

    >>> adversarial_directions(nn.Linear(2, 3), torch.zeros(4, 2), length=1.0).shape
    torch.Size([4, 2])
    """

    def rival_minus_own(logits: Tensor) -> list[Tensor]:
        own = logits.argmax(1, keepdim=True)
        return [logits.scatter(1, own, -torch.inf).amax(1) - logits.gather(1, own).squeeze(1)]

    (gradient,) = gradients(model, x, rival_minus_own)
    flat = (gradient.flatten(1) == 0).all(1)
    if bool(flat.any()):
        raise UserError(f"the margin does not change around points {flat.nonzero().squeeze(1).tolist()[:5]}: drop them")
    return _scaled(gradient.double(), length).to(x)


def _checked(length: float) -> float:
    """Return the length of a direction, after checking that it is positive and finite."""
    check_number("length", length, "a number above 0 in the units of x")
    return length


def _scaled(directions: Tensor, length: float) -> Tensor:
    norm = directions.flatten(1).norm(dim=1).view(-1, *(1,) * (directions.dim() - 1))
    return directions / norm * _checked(length)


def gradients(model: nn.Module, x: Tensor, values: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
    """Compute gradients with respect to x [m, ...] of values [m] that are computed from the logits; [m, ...] each."""
    check_network(model)
    with torch.no_grad():
        no_nan(own_outputs(model, x.detach(), partial(logits_at, model)))
    with torch.enable_grad():
        points = x.detach().requires_grad_()
        made = values(logits_at(model, points))
        return [torch.autograd.grad(each.sum(), points, retain_graph=each is not made[-1])[0] for each in made]
