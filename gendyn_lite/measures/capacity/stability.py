"""Uniform stability, and a table of the classical measures that shows why they do not tell true from random labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.given import check_classes, check_length, check_points
from gendyn_lite.measures.capacity.rademacher import (
    Fit,
    Predict,
    Rademacher,
    rademacher_gap_bound,
    unchanged,
    vc_gap_bound,
)
from gendyn_lite.measures.per_example.checks import check_whole

WHY = {
    "VC dimension": "it counts what the architecture can express: data and labels are not in it",
    "Rademacher complexity": "it asks how well the class fits random signs at these inputs: the true "
    "labels are not in it",
    "uniform stability": "it is a supremum over all data sets: a learner that fits any label follows any replaced one",
    "kernel norm": "it depends on the labels: rough labels need a larger norm (of one kernel; not across kernels)",
}


class Stability(NamedTuple):
    """Changes of the 0-1 loss when single labels are replaced.

    Attributes:
        beta: The largest change, a lower bound of the uniform stability β.
        at_replaced: Change of the loss at the replaced example for each swap, float64 [swaps].
        replaced: Index of each replaced example, int64 [swaps].
    """

    beta: float
    at_replaced: Tensor
    replaced: Tensor


def replace_one_stability(
    fit: Fit, x: Tensor, y: Tensor, *, num_classes: int | None = None, swaps: int = 10, seed: int = 0
) -> Stability:
    """Replace the label of one training example at a time, train again, and measure the change of its loss.

    A learner that fits every label has β = 1, the worst value, on true and on random labels alike: it predicts y_i at
    x_i, and the new label once the label is replaced. Uniform stability is a supremum over data sets and therefore does
    not depend on the labels.

    Args:
        fit: ``fit(x, y) -> predict``: trains on inputs and classes (int64 [n]); ``predict(x)`` gives classes, int64
            [m].
        x: [n, ...] training inputs, passed to `fit` unchanged.
        y: [n] integer labels, true or random.
        num_classes: Number of classes, or None for the largest label plus one.
        swaps: Number of examples whose label is replaced, one at a time.
        seed: Seed of the examples and of their new labels.

    Returns:
        The changes.

    Raises:
        UserError: The labels are not integers from 0, `swaps` is outside 1 to n, or the predictions are not classes.

    Source: Zhang et al. (2017), Sec. 2.2; Bousquet and Elisseeff (2002), Stability and Generalization.

    >>> x = torch.arange(6.0)[:, None]
    >>> nearest = lambda x, y: lambda inputs: y[(inputs - x.T).abs().argmin(1)]
    >>> replace_one_stability(nearest, x, torch.tensor([0, 1, 0, 1, 1, 0]), swaps=3).beta
    1.0
    """
    check_points(x)
    n = len(x)
    check_length(x, y)
    classes = check_classes(y, num_classes)
    if classes < 2:
        raise UserError(f"num_classes is {classes}, expected at least 2: a label is replaced by another one")
    check_whole("swaps", swaps, most=n)
    generator = torch.Generator().manual_seed(seed)
    replaced = torch.randperm(n, generator=generator)[:swaps]
    shifts = torch.randint(1, classes, (swaps,), generator=generator)
    with unchanged(x):
        before = fit(x, y.clone())
    changes = []
    for index, shift in zip(replaced.tolist(), shifts.tolist(), strict=True):
        swapped = y.clone()
        swapped[index] = (int(y[index]) + shift) % classes
        example = x[index : index + 1], y[index : index + 1]
        with unchanged(x):
            after = fit(x, swapped)
        changes.append(_is_wrong(before, *example) != _is_wrong(after, *example))
    at_replaced = torch.tensor(changes, dtype=torch.float64)
    return Stability(float(at_replaced.max()), at_replaced, replaced)


def _is_wrong(predict: Predict, x: Tensor, y: Tensor) -> bool:
    """Return the 0-1 loss of one example."""
    classes = predict(x)
    if not isinstance(classes, Tensor) or classes.shape != y.shape or classes.is_floating_point():
        raise UserError(f"fit(x, y)(x) gave no classes: expected an integer tensor of shape {tuple(y.shape)}")
    return bool(classes.to(y.device) != y)


def stability_gap_bound(beta: float, n: int, *, delta: float = 0.05) -> float:
    """Bound test loss minus train loss for losses in [0, 1], with probability 1 − δ: 2β + (4nβ + 1) √(ln(1/δ)/(2n)).

    It tends to 0 only if β decreases faster than 1/√n.

    Args:
        beta: Uniform stability.
        n: Number of training examples.
        delta: Probability δ that the bound fails.

    Returns:
        The bound, a difference of losses.

    Raises:
        UserError: A number is out of range.

    Source: Bousquet and Elisseeff (2002), Theorem 12.

    >>> stability_gap_bound(1.0, 50_000) > 1, stability_gap_bound(1 / 50_000, 50_000) < 0.03
    (True, True)
    """
    if not beta >= 0 or not 1 <= n < math.inf or not 0 < delta < 1:
        raise UserError(f"beta is {beta}, n {n}, delta {delta}: expected at least 0, at least 1 and in (0, 1)")
    return 2 * beta + (4 * n * beta + 1) * math.sqrt(math.log(1 / delta) / (2 * n))


def label_account(
    *,
    n: int,
    gap_true: float,
    gap_random: float,
    vc_dimension: float | None = None,
    rademacher: Rademacher | float | None = None,
    stability: tuple[float, float] | None = None,
    squared_norms: tuple[float, float] | None = None,
    delta: float = 0.05,
) -> list[dict[str, object]]:
    """Compare the bounds of complexity measures with the observed gaps, on true and on random labels.

    A bound must hold on random labels too, where the gap is nearly that of guessing. So the bound of a measure that is
    equal for both kinds of labels cannot be below that gap, and cannot explain why the gap is small on true labels. A
    measure separates them only if its bound on true labels is below the gap on random ones.

    Args:
        n: Number of training examples.
        gap_true: Test error minus train error after training on true labels, in [0, 1].
        gap_random: The same after training on random labels.
        vc_dimension: VC dimension of the class of networks, for instance `vc_dimension_bound(widths)`.
        rademacher: Rademacher complexity of the class, for instance `empirical_rademacher(...)`.
        stability: β on true and on random labels, for instance from `replace_one_stability(...)`.
        squared_norms: ‖f‖² of the kernel interpolant of true and of random labels. √(‖f‖²/n) bounds the Rademacher
            complexity of the ball around zero that contains it; unlike the others it depends on the labels.
        delta: Probability δ that a bound fails.

    Returns:
        A row for each measure that was given: measure, sees_labels, value_true, value_random, bound_true, bound_random,
        gap_true, gap_random, vacuous (whether its bound on true labels is 1 or more), separates, why.

    Raises:
        UserError: A gap is outside [−1, 1], or n below 1.

    >>> gaps = {"n": 50_000, "gap_true": 0.11, "gap_random": 0.9}
    >>> rows = label_account(**gaps, vc_dimension=4e7, rademacher=1.0, stability=(1.0, 1.0))
    >>> [(row["measure"], row["separates"]) for row in rows]
    [('VC dimension', False), ('Rademacher complexity', False), ('uniform stability', False)]
    """
    if not 1 <= n < math.inf or not -1 <= gap_true <= 1 or not -1 <= gap_random <= 1:
        raise UserError(f"n is {n}, gaps are {gap_true} and {gap_random}: expected n ≥ 1 and gaps in [−1, 1]")
    complexity = rademacher.mean if isinstance(rademacher, Rademacher) else rademacher
    if squared_norms is not None and not all(0 <= norm < math.inf for norm in squared_norms):
        raise UserError(f"squared_norms is {squared_norms}, expected two finite numbers of at least 0")
    radii = None if squared_norms is None else tuple(math.sqrt(norm / n) for norm in squared_norms)
    measures: dict[str, tuple[Any, Callable[..., float]]] = {
        "VC dimension": (vc_dimension, vc_gap_bound),
        "Rademacher complexity": (complexity, rademacher_gap_bound),
        "uniform stability": (stability, stability_gap_bound),
        "kernel norm": (radii, lambda radius, n, delta: radius),
    }
    rows: list[dict[str, object]] = []
    for measure, (given, gap_bound) in measures.items():
        if given is not None:
            true, random = given if isinstance(given, tuple) else (float(given), float(given))
            bounds = [gap_bound(value, n, delta=delta) for value in (true, random)]
            row = {"measure": measure, "sees_labels": measure == "kernel norm"}
            row |= {"value_true": true, "value_random": random}
            row |= {"bound_true": bounds[0], "bound_random": bounds[1], "gap_true": gap_true, "gap_random": gap_random}
            rows.append(row | {"vacuous": bounds[0] >= 1, "separates": bounds[0] < gap_random, "why": WHY[measure]})
    return rows
