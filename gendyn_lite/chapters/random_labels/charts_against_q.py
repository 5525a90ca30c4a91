"""Means over seeds against the label corruption q, as layers of a chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.charts.parts import interval_bars
from gendyn_lite.charts.theme import DASHES, PALETTE, SHAPES
from gendyn_lite.results.tables import mean_intervals

MOST_LETTERS = 45  # of all names, that a legend of one line has place for


def against_q(
    runs: pd.DataFrame,
    column: str,
    title: str,
    *,
    domain: Sequence[float] | None = None,
    brush: alt.Parameter | None = None,
) -> list[alt.Chart]:
    """Layers: mean with interval over seeds against q, a colour, shape and dash per network; the seeds as points."""
    points = seed_points(runs, column)
    means = _means(points)
    scale = alt.Scale(domain=list(domain), clamp=True) if domain else alt.Scale(zero=False)
    levels = sorted(means["q"].unique())
    x = alt.X("q:Q", title="label corruption q", axis=alt.Axis(values=levels, format=".2~f", labelOverlap=True))
    networks = list(means["network"].unique())
    color = network_colour(networks)
    base = alt.Chart(means).encode(x=x, color=color)
    hover = ["network:N", "q:Q", alt.Tooltip("mean:Q", format=".3f"), alt.Tooltip("low:Q", format=".3f")]
    hover += [alt.Tooltip("high:Q", format=".3f"), "seeds:Q"]
    line = base.mark_line().encode(
        y=alt.Y("mean:Q", title=title, scale=scale),
        strokeDash=alt.StrokeDash(
            "network:N", title="network", scale=_scale(networks, DASHES, turn=1), legend=_legend(networks)
        ),
    )
    marks = base.mark_point(size=90).encode(
        y="mean:Q",
        tooltip=hover,
        shape=alt.Shape("network:N", title="network", scale=_scale(networks, SHAPES, turn=1), legend=_legend(networks)),
    )
    seeds = (
        alt.Chart(points)
        .mark_point(size=22, opacity=0.5)
        .encode(
            x=x, y="value:Q", color=color, tooltip=["network:N", "q:Q", "seed:N", alt.Tooltip("value:Q", format=".3f")]
        )
    )
    if brush is not None:
        seeds = seeds.add_params(brush)
    return [line, interval_bars(base, width=2), marks, seeds]


def seed_points(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per run: network, q, seed, value."""
    points = runs[["network", "label_corruption", "seed", column]].dropna()
    return points.set_axis(["network", "q", "seed", "value"], axis=1).round(4)


def _means(points: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval per network and q."""
    return mean_intervals(points, ["network", "q"]).round(4)


def in_words(runs: pd.DataFrame, column: str, unit: str) -> str:
    """The means at the smallest and the largest q of each network, as a sentence."""
    means = _means(seed_points(runs, column))
    parts = []
    for network, rows in means.groupby("network", sort=False):
        ordered = rows.sort_values("q")[["q", "mean"]].to_numpy()
        (q_low, low), (q_high, high) = ordered[0], ordered[-1]
        parts.append(f"{network}: {low:.2f} at q = {q_low:g}, {high:.2f} at q = {q_high:g}")
    return f"Mean over seeds ({unit}): " + "; ".join(parts) + "."


def network_colour(networks: Sequence[str]) -> alt.Color:
    """The colour of each network, the same in every layer, so that their legends are one."""
    return alt.Color("network:N", title="network", scale=_scale(networks, PALETTE), legend=_legend(networks))


def _legend(networks: Sequence[str]) -> alt.Legend:
    """One legend for colour, shape and dash; long names stand below each other, whole."""
    if sum(map(len, networks)) > MOST_LETTERS:
        shorter = "replace(datum.label, 'without', 'no')"  # else the longest is wider than a phone
        return alt.Legend(columns=1, labelLimit=340, titleOrient="top", labelExpr=shorter)
    return alt.Legend(labelLimit=340)


def _scale(names: Sequence[str], values: Sequence[Any], *, turn: int = 0) -> alt.Scale:
    """One value for each name, in turn; after each round shifted by `turn`, so that a colour meets another shape."""
    places = [(i + turn * (i // len(values))) % len(values) for i in range(len(names))]
    return alt.Scale(domain=list(names), range=[values[place] for place in places])
