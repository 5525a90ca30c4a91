"""Speed beside peers: one dot for each case and peer on a logarithmic scale."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd
from IPython.display import HTML

from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.html import plain_table, three_digits
from gendyn_lite.charts.parts import Chart, layered, looks, told, tooltips


def speed_ratios(benchmark: pd.DataFrame, *, title: str) -> Chart:
    """Our speed divided by each peer's; right of 1 is faster, a tick marks the goal.

    Args:
        benchmark: A table of `gendyn_lite.results.benchmark`.
        title: What was measured.
    """
    rows = benchmark.round(4)
    if rows["device"].nunique() > 1:
        rows = rows.assign(case=rows["case"] + " · " + rows["device"])
    order = list(rows["case"].unique())
    y = alt.Y("case:N", sort=order, title=None, axis=alt.Axis(labelLimit=340, grid=True))
    x = alt.X("ratio:Q", title="our speed / peer's", scale=alt.Scale(type="log", nice=False, padding=12))
    colour, _, shape = looks("peer", list(benchmark["peer"].unique()), colours=PALETTE, title=None)
    hover = ["case:N", "peer:N", *tooltips(".3~s", "ours", "theirs"), "unit:N", *tooltips(".3~g", "ratio")]
    dots = alt.Chart(rows).mark_point(size=110).encode(x=x, y=y, color=colour, shape=shape, tooltip=hover)
    goals = rows.dropna(subset="goal")
    ticks = alt.Chart(goals).mark_tick(thickness=2, size=16).encode(x="goal:Q", y=y, color=colour)
    even = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(strokeDash=[3, 3]).encode(x="ratio:Q")
    words = told(rows, "{case}: {ratio:.2g} times {peer}")
    subtitle = "Right of 1: faster than the peer. A tick: the goal for that peer."
    about = f"{title}: our speed divided by the peer's. {words}."
    size = {"width": "container", "height": 26 * len(order)}
    return layered((even, ticks, dots), title, subtitle, about, **size)


def speed_table(benchmark: pd.DataFrame, *, caption: str) -> HTML:
    """The same numbers as a table, with whether the goal was reached.

    Args:
        benchmark: As for `speed_ratios`.
        caption: Where the numbers come from. A screen reader hears the peers before it, which tell one table of a page
            from another of the same source.
    """
    heads = ("Case", "Device", "Peer", "Ours", "Peer's", "Ratio", "Goal")
    rows = [
        (row["case"], row["device"], row["peer"], f"{three_digits(row['ours'])} {row['unit']}",
         three_digits(row["theirs"]), f"{row['ratio']:.2f}", _goal(row["ratio"], row["goal"]))
        for row in benchmark.to_dict("records")
    ]  # fmt: skip
    peers = " and ".join(benchmark["peer"].unique())
    return plain_table(heads, rows, caption=caption, label=f"Speed beside {peers}. {caption}")


def _goal(ratio: float, goal: float) -> str:
    """Whether the goal was reached, in words.

    >>> _goal(3.2, 3.0), _goal(1.1, 3.0), _goal(1.1, float("nan"))
    ('≥ 3 ✓ reached', '≥ 3 ✗ not reached', '–')
    """
    if math.isnan(goal):
        return "–"
    return f"≥ {goal:g} " + ("✓ reached" if ratio >= goal else "✗ not reached")
