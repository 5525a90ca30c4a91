"""Why classical measures do not tell true from random labels: each with its numbers, in one table."""

from __future__ import annotations

import math
from typing import NamedTuple

from gendyn_lite.errors import UserError
from gendyn_lite.measures.capacity.rademacher import Rademacher, rademacher_gap_bound
from gendyn_lite.measures.capacity.stability import stability_gap_bound
from gendyn_lite.measures.capacity.vc import vc_gap_bound


class _Measure(NamedTuple):
    """A measure with its values and bounds, each on true and on random labels, and why they are so."""

    measure: str
    sees_labels: bool
    values: tuple[float, float]
    bounds: tuple[float, float]
    why: str


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
    """For each measure: its value and its bound of the gap on true and on random labels, beside the gaps that were
    seen.

    A bound must hold on random labels too, where the gap is nearly chance. So a measure that is the same for both
    cannot be below that gap, and is no reason why the gap is small on true labels. It separates them only if its bound
    on true labels lies below the gap on random ones.

    Args:
        n: Number of training examples.
        gap_true: Test error minus train error after training on true labels, in [0, 1].
        gap_random: The same after training on random labels.
        vc_dimension: Of the class of networks, for instance `vc_dimension_bound(widths)`.
        rademacher: Of the class, for instance `empirical_rademacher(...)`.
        stability: β on true and on random labels, for instance of `replace_one_stability(...)`.
        squared_norms: ‖f‖² of the kernel interpolant of true and of random labels: √(‖f‖²/n) bounds the Rademacher
            complexity of the ball in which it lies. For contrast: it depends on the labels.
        delta: Probability with which a bound may fail.

    Returns:
        One row for each measure that was given: measure, sees_labels, value_true, value_random, bound_true,
        bound_random, gap_true, gap_random, vacuous (its bound on true labels is 1 or more), separates, why.

    Raises:
        UserError: A gap is outside [−1, 1], or n below 1.

    >>> gaps = {"n": 50_000, "gap_true": 0.11, "gap_random": 0.9}
    >>> rows = label_account(**gaps, vc_dimension=4e7, rademacher=1.0, stability=(1.0, 1.0))
    >>> [(row["measure"], row["separates"]) for row in rows]
    [('VC dimension', False), ('Rademacher complexity', False), ('uniform stability', False)]
    """
    if n < 1 or not -1 <= gap_true <= 1 or not -1 <= gap_random <= 1:
        raise UserError(f"n is {n}, gaps are {gap_true} and {gap_random}: expected n ≥ 1 and gaps in [−1, 1]")
    found: list[_Measure] = []
    if vc_dimension is not None:
        bound = vc_gap_bound(vc_dimension, n, delta=delta)
        why = "it counts what the architecture can express: data and labels are not in it"
        found.append(_Measure("VC dimension", False, (vc_dimension, vc_dimension), (bound, bound), why))
    if rademacher is not None:
        value = rademacher.mean if isinstance(rademacher, Rademacher) else float(rademacher)
        bound = rademacher_gap_bound(value, n, delta=delta)
        why = "it asks how well the class fits random signs at these inputs: the true labels are not in it"
        found.append(_Measure("Rademacher complexity", False, (value, value), (bound, bound), why))
    if stability is not None:
        bounds = (stability_gap_bound(stability[0], n, delta=delta), stability_gap_bound(stability[1], n, delta=delta))
        why = "it is a supremum over all data sets: a learner that fits any label follows any replaced one"
        found.append(_Measure("uniform stability", False, stability, bounds, why))
    if squared_norms is not None:
        radii = (math.sqrt(squared_norms[0] / n), math.sqrt(squared_norms[1] / n))
        why = "it depends on the labels: rough labels need a larger norm (of one kernel; not across kernels)"
        found.append(_Measure("kernel norm", True, radii, radii, why))
    return [_row(each, gap_true, gap_random) for each in found]


def _row(of: _Measure, gap_true: float, gap_random: float) -> dict[str, object]:
    """The row of a measure: its values and bounds beside the gaps, and whether it separates them."""
    return {
        "measure": of.measure,
        "sees_labels": of.sees_labels,
        "value_true": of.values[0],
        "value_random": of.values[1],
        "bound_true": of.bounds[0],
        "bound_random": of.bounds[1],
        "gap_true": gap_true,
        "gap_random": gap_random,
        "vacuous": of.bounds[0] >= 1,
        "separates": of.bounds[0] < gap_random,
        "why": of.why,
    }
