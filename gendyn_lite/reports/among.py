"""Comparison of a network with the published networks of the chapter 'Which lens?'. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from gendyn_lite.chapters.which_lens.tables import MEASURES, networks
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import AROUND, Chart, chosen, layered, looks, menu, tooltips
from gendyn_lite.results.published import published, published_experiments

EXPERIMENT = "which_lens"
# (lens, number) of a report → the same measure in 'Which lens?'.
SHARED = {
    ("stiffness", "cosine within a class"): "within",
    ("stiffness", "cosine between classes"): "between",
    ("fisher", "trace of the empirical Fisher information"): "trace",
    ("intervals", "length (1 is the distance of the two images)"): "pair",
}
FACTOR = 2  # ratio of training losses beyond which the comparison comes with a warning
OWN = "your network"


class Among(NamedTuple):
    """A network compared with others.

    Attributes:
        told: A sentence on the other networks and on how this one compares.
        warning: Why the comparison is unfair; empty if it is fair.
        rows: A row for each measure: measure, yours, low, middle, high (quartiles of the others), and below (share of
            the others with a smaller value).
        chart: All networks by a measure and by test error.
    """

    told: str
    warning: str
    rows: list[dict[str, Any]]
    chart: Chart

    def as_dict(self) -> dict[str, Any]:
        """Return what is written to the report's JSON."""
        return {"told": self.told, "warning": self.warning, "rows": self.rows}


def among(lenses: Iterable[Mapping[str, Any]], *, dataset: str, convolutional: bool) -> Among | None:
    """Compare a network with the published networks that reached their training loss on true labels.

    The comparison prefers networks on the same data set, and among those networks of the same family.

    Args:
        lenses: The lenses of a report, as `gendyn_lite.reports.lenses.Lens.as_dict` gives them.
        dataset: Name of the network's data set.
        convolutional: Whether the network is convolutional; else it counts as fully connected.

    Returns:
        The comparison; None if no such networks are published, or no measure could be computed.

    >>> def lens(name, **numbers):
    ...     return {"name": name, "numbers": {of: {"mean": value} for of, value in numbers.items()}}
    >>> fit = lens("fit", **{"training loss (nats)": 0.05, "test accuracy": 0.9})
    >>> stiffness = lens("stiffness", **{"cosine within a class": 0.9})
    >>> found = among([fit, stiffness], dataset="mnist", convolutional=False)
    >>> found.rows[0]["measure"], found.rows[0]["below"], found.warning
    ('stiffness within classes', 1.0, '')
    """
    numbers = {(lens["name"], of): one["mean"] for lens in lenses for of, one in lens["numbers"].items()}
    own = {MEASURES[name].label: numbers[of] for of, name in SHARED.items() if math.isfinite(numbers.get(of, math.nan))}
    if not own or EXPERIMENT not in published_experiments() or ("fit", "test accuracy") not in numbers:
        return None
    runs = published(EXPERIMENT)
    seen = runs[runs["dataset"] == dataset]
    others = networks(runs if seen.empty else seen)
    others = others[others["reached"] & (others["label_corruption"] == 0)]
    family = others[others["family"] == ("convolutional" if convolutional else "fully connected")]
    others = (family if len(family) else others).rename(columns={name: one.label for name, one in MEASURES.items()})
    if others.empty:
        return None
    rows = [_row(measure, value, others[measure].dropna()) for measure, value in own.items()]
    loss = float(runs["stop_at_loss"].iloc[0])
    kinds = (others["family"] + " networks on " + others["data"]).unique()
    places = "; ".join(f"{row['measure']} {row['yours']:.3g}, more than in {row['below']:.0%} of them" for row in rows)
    places = places.replace("-", "−")
    trained = f"each trained on true labels to a training loss of {loss:g}"
    told = f"Beside {len(others):,} {' and '.join(kinds)}, {trained}: {places}."
    warning = _warning(numbers["fit", "training loss (nats)"], loss, strangers=seen.empty, other=family.empty)
    return Among(told, warning, rows, _chart(others, own, 1 - numbers["fit", "test accuracy"]))


def _row(measure: str, yours: float, others: pd.Series) -> dict[str, Any]:
    low, middle, high = (float(others.quantile(q)) for q in (0.25, 0.5, 0.75))
    below = float((others < yours).mean())
    return {"measure": measure, "yours": yours, "low": low, "middle": middle, "high": high, "below": below}


def _warning(own: float, loss: float, *, strangers: bool, other: bool) -> str:
    """Say what makes the comparison unfair; empty if nothing does."""
    why = []
    if not loss / FACTOR <= own <= loss * FACTOR:
        why.append(
            f"your network's training loss is {own:.2g}, theirs {loss:g}, and these measures change with the loss"
        )
    if strangers:
        why.append("they were trained on other images than yours")
    if other:
        why.append("they are of another family than yours")
    return f"This comparison is not a fair one: {'; '.join(why)}." if why else ""


def _chart(others: pd.DataFrame, own: Mapping[str, float], error: float) -> Chart:
    """Draw each network by a measure and its test error; a menu chooses the measure."""
    kinds = ["networks of the book", OWN]
    every = [
        others[["error", measure]].set_axis(["error", "value"], axis=1).assign(which=kinds[0], measure=measure)
        for measure in own
    ]
    mine = [{"error": error, "value": value, "which": OWN, "measure": measure} for measure, value in own.items()]
    rows = pd.concat([*every, pd.DataFrame(mine)], ignore_index=True).dropna()
    base = chosen(rows, {"measure": menu("among_measure", own, "measure")})
    colour, _, shape = looks("which", kinds, title=None, colours=[PALETTE[0], PALETTE[4]])
    x, y = alt.X("value:Q", title="measure", scale=AROUND), alt.Y("error:Q", title="test error", scale=AROUND)
    base = base.encode(x=x, y=y, color=colour, shape=shape, tooltip=["which:N", *tooltips(".3g", "value", "error")])
    small = base.transform_filter(alt.datum.which == kinds[0]).mark_point(size=25, opacity=0.5)
    large = base.transform_filter(alt.datum.which == OWN).mark_point(size=220, strokeWidth=3, filled=True)
    about = f"{len(others):,} networks and yours, by a measure and by test error. Yours: test error {error:.2f}; "
    return layered(
        (small, large),
        "Your network among those of the book",
        "A point is a network; all but yours were trained to one training loss.",
        about + "; ".join(f"{measure} {value:.3g}" for measure, value in own.items()) + ".",
    )
