"""Stiffness during training (probes for `gendyn_lite.train.fit`), on a grid in the plane, and by an actual step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures.per_example import checks, guards
from gendyn_lite.measures.per_example.alone import with_values
from gendyn_lite.measures.per_example.checks import check_number, check_whole
from gendyn_lite.measures.per_example.copies import check_beside, copied
from gendyn_lite.measures.per_example.passes import Loss, cross_entropy
from gendyn_lite.measures.stiffness.gram import WHOLE, cosine, gradient_gram, sign, zero_gradients
from gendyn_lite.measures.stiffness.pairs import by_pair, critical_length, pair_distances

Probe = Callable[[nn.Module, int], dict[str, float]]


def stiffness_probe(
    x: Tensor, y: Tensor, *, test: tuple[Tensor, Tensor] | None = None, lengths: bool = False, float64: bool = False
) -> Probe:
    """Make a probe that records the mean stiffness over pairs of the given examples at each evaluated epoch.

    Its values are:

    - ``"<which>_<kind>"`` over pairs of training examples, where which is ``all``, ``within`` (pairs of one class) or
      ``between`` (pairs of two classes), and kind is ``cosine`` or ``sign``;
    - ``"test_<which>_<kind>"`` over pairs of a training and a test example;
    - ``"zero_gradients"``, the number of examples whose gradient is zero;
    - ``"critical_length"``, ξ of the pairs within a class.

    Args:
        x: Training inputs [n, ...], as the network takes them.
        y: Labels [n] that the network is trained with.
        test: Test inputs and labels; None for no pairs with test examples.
        lengths: Whether to record ``"critical_length"`` (of cosine stiffness against cosine distance of inputs).
        float64: Whether to measure on a copy of the network in float64.

    Returns:
        A function of (model, epoch) that returns the values by name.

    >>> probe = stiffness_probe(torch.eye(4), torch.tensor([0, 0, 1, 1]))
    >>> values = probe(nn.Linear(4, 2), 0)
    >>> list(values)[:4], values["zero_gradients"]
    (['all_cosine', 'within_cosine', 'between_cosine', 'all_sign'], 0)
    """
    pairs = y[:, None] == y[None]
    distances = pair_distances(x) if lengths else None
    count = len(y)
    inputs, labels = (x, y) if test is None else (torch.cat([x, test[0]]), torch.cat([y, test[1]]))

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        gram = gradient_gram(*prepared(model, inputs, labels, float64))
        assert isinstance(gram, Tensor)
        values: dict[str, float] = {}
        for kind, matrix in (("cosine", cosine(gram).cpu()), ("sign", sign(gram).cpu())):
            values |= _means(matrix[:count, :count], y, None, f"{{}}_{kind}")
            if test is not None:
                values |= _means(matrix[:count, count:], y, test[1], f"test_{{}}_{kind}")
            if distances is not None and kind == "cosine":
                length = critical_length(matrix[:count, :count], distances, pairs, resamples=0)
                values["critical_length"] = length.mean
        return {**values, "zero_gradients": zero_gradients(gram)}

    return probe


def _means(stiffness: Tensor, y: Tensor, y_other: Tensor | None, key: str) -> dict[str, float]:
    """Return mean stiffness over all pairs, within and between classes; `key` has ``{}`` in place of which of them."""
    found = by_pair(stiffness, y, y_other, resamples=0)
    return {key.format(which): each.mean for which, each in found.items()}


def prepared(model: nn.Module, x: Tensor, y: Tensor, float64: bool) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network, or a copy in float64, with inputs and labels on its device."""
    device = next(model.parameters()).device
    if not float64:
        return model, x.to(device), y.to(device)
    return copied(model, x.to(device)).double(), x.to(device).double(), y.to(device)


def layer_probe(x: Tensor, y: Tensor, *, float64: bool = False) -> Probe:
    """Make a probe of each layer's mean cosine stiffness, as ``"<layer>:all"``, ``":within"`` and ``":between"``.

    Args:
        x: Inputs [n, ...], for instance a class-balanced sample of the training set.
        y: Labels [n].
        float64: Whether to measure on a copy of the network in float64.

    Returns:
        A function of (model, epoch) that returns the values by name.

    >>> probe = layer_probe(torch.eye(4), torch.tensor([0, 0, 1, 1]))
    >>> list(probe(nn.Linear(4, 2), 0))
    ['model:all', 'model:within', 'model:between']
    """

    def probe(model: nn.Module, epoch: int) -> dict[str, float]:
        grams = gradient_gram(*prepared(model, x, y, float64), per_layer=True)
        assert isinstance(grams, dict)
        values: dict[str, float] = {}
        for layer, gram in grams.items():
            values |= _means(cosine(gram).cpu(), y, None, f"{layer}:{{}}")
        return values

    return probe


class LossChange(NamedTuple):
    """Changes of every example's loss by steps on one example each, float64 [steps, n]; `predicted` is −ε g_i·g_j."""

    predicted: Tensor
    actual: Tensor

    @property
    def slope(self) -> float:
        """Return the least-squares slope of actual against predicted change, through the origin: 1 for small steps."""
        return float((self.predicted * self.actual).sum() / self.predicted.square().sum())


@torch.inference_mode(False)
def loss_change(
    model: nn.Module, x: Tensor, y: Tensor, *, examples: Sequence[int], eps: float, loss: Loss = cross_entropy
) -> LossChange:
    """Measure how every example's loss changes by a step θ − ε g_i on one example i, for each of some examples.

    Every step starts from the same θ, on a copy in float64: in float32, the change of a loss by a small step is mostly
    rounding error.

    Args:
        model: The network. It is left unchanged.
        x: Inputs [n, ...].
        y: Labels int64 [n].
        examples: Indices i of the examples to take a step on.
        eps: Step size ε.
        loss: Function of (logits, y) that returns the loss of each example.

    Returns:
        Predicted and actual changes in nats, float64 [steps, n] each.

    Raises:
        UserError: eps is not positive and finite, `examples` is empty, or it has an index outside 0 to n − 1.

    >>> model = nn.Linear(1, 2, bias=False)
    >>> x, y = torch.tensor([[1.0], [2.0], [-1.0]]), torch.tensor([0, 0, 0])
    >>> found = loss_change(model, x, y, examples=[0], eps=1e-4)
    >>> (found.actual < 0).tolist(), round(found.slope, 3)
    ([[True, True, False]], 1.0)
    """
    check_number("eps", eps, "a step size above 0 and finite")
    examples = examples.tolist() if isinstance(examples, Tensor) else list(examples)
    if not examples:
        raise UserError("examples is empty: give at least one example to take a step on")
    guards.check_examples(model, x, y)
    for i in examples:
        check_whole("example", i, least=0, most=len(x) - 1, why=", the number of an example")
    twin = copied(model, x).double()
    inputs, y = checks.usable(x.double() if x.is_floating_point() else x), checks.usable(y)
    check_beside(model, twin, inputs, y, loss)
    gram = gradient_gram(twin, inputs, y, loss=loss)
    assert isinstance(gram, Tensor)
    values = {name: value for name, value in twin.named_parameters() if value.requires_grad}
    with torch.no_grad():
        before = loss(twin(inputs), y)
    rows = []
    for i in examples:
        own = loss(twin(inputs[i : i + 1]), y[i : i + 1]).sum()
        gradients = torch.autograd.grad(own, list(values.values()), materialize_grads=True, allow_unused=True)
        with torch.no_grad():
            stepped = {name: values[name] - eps * g for name, g in zip(values, gradients, strict=True)}
            rows.append(loss(with_values(twin, stepped, inputs), y) - before)
    predicted, actual = -eps * gram[examples], torch.stack(rows)
    if not actual.isfinite().all():
        raise UserError(f"after a step of eps = {eps} some loss is not finite (NaN or infinity): take a smaller eps")
    if actual.abs().max() <= checks.ROUNDING * before.abs().max() and predicted.any():
        raise UserError(f"a step of eps = {eps} is lost in the rounding of the losses: take a larger eps")
    return LossChange(predicted, actual)


class NeighbourhoodMap(NamedTuple):
    """Stiffness at the points of a grid.

    Attributes:
        points: [points, 2], row by row from the lowest corner.
        predicted: The class that the network predicts at each point, int64 [points].
        stiffness: Mean cosine stiffness with the other grid points nearby, [points].
        spacing: Distance between neighbouring grid points along each axis.
    """

    points: Tensor
    predicted: Tensor
    stiffness: Tensor
    spacing: tuple[float, float]


@torch.inference_mode(False)
def neighbourhood_map(
    model: nn.Module,
    *,
    low: tuple[float, float],
    high: tuple[float, float],
    radius: float,
    resolution: int = 40,
    layers: tuple[str, ...] = (),
) -> NeighbourhoodMap:
    """Compute the mean cosine stiffness of each point of a grid with the grid points at most `radius` away.

    The label of a point is the class that the network predicts there, so the map depends on the learned function only.
    Gradients of points in one predicted class agree; across the learned boundary they oppose each other.

    Args:
        model: A network that takes inputs [n, 2].
        low: Lowest corner of the grid.
        high: Highest corner of the grid.
        radius: Largest distance of a neighbour, in units of the inputs.
        resolution: Points along each side.
        layers: Layers whose gradients are compared; all if empty.

    Returns:
        The points, their classes, and the stiffness at each point.

    Raises:
        UserError: The radius reaches no other point, `low` is not below `high`, or the map would not fit in memory.

    Source: Walker, Sec. 2 and Fig. 1.

    >>> found = neighbourhood_map(nn.Linear(2, 2), low=(-1, -1), high=(1, 1), radius=0.6, resolution=5)
    >>> found.points.shape, found.stiffness.shape, found.spacing
    (torch.Size([25, 2]), torch.Size([25]), (0.5, 0.5))
    """
    check_whole("resolution", resolution, least=2)
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise UserError(f"the grid from {low} to {high} with {resolution} points a side is empty")
    what = f"a map of {resolution:,} by {resolution:,} points with each other"
    checks.refuse_if_too_large(3 * 8 * resolution**4, what, "take a smaller resolution")
    spacing = (high[0] - low[0]) / (resolution - 1), (high[1] - low[1]) / (resolution - 1)
    if radius < min(spacing):
        raise UserError(f"radius is {radius:g}, expected at least {min(spacing):g}, the distance of grid points")
    first = next(model.parameters())
    sides = [torch.linspace(a, b, resolution, dtype=first.dtype) for a, b in zip(low, high, strict=True)]
    points = torch.cartesian_prod(*sides).to(first.device)
    with torch.no_grad():
        predicted = model(points).argmax(1)
    groups = {WHOLE: layers} if layers else None
    gram = gradient_gram(model, points, predicted, groups=groups)
    matrix = cosine(gram[WHOLE] if isinstance(gram, dict) else gram)
    # By differences, as torch's matrix product would lose the distances of neighbours far from the origin.
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    near = (distances <= radius + 1e-6 * math.dist(low, high)).to(matrix.dtype).fill_diagonal_(0)
    return NeighbourhoodMap(points, predicted, (matrix * near).sum(1) / near.sum(1), spacing)
