"""Charts of the pages on data and on speed: pictures to click on, class counts, our speed compared with peers."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd
from IPython.display import HTML

from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.html import plain_table, three_digits
from gendyn_lite.charts.parts import Chart, from_legend, layered, looks, menu, stops, titled, told, tooltips
from gendyn_lite.errors import UserError

CELL = 40  # largest side of a picture in the grid, in pixels
PANEL = 3  # rows above the grid for the chosen picture
KINDS = {
    "true": "as they are",
    "shuffled_pixels": "shuffled pixels",
    "random_pixels": "random pixels",
    "gaussian": "Gaussian noise",
}
MOST_LABELS = 20  # most classes whose names fit under a chart


def picture_grid(samples: pd.DataFrame, *, name: str) -> Chart:
    """Draw pictures by class; a click or a slider enlarges one, menus choose a class and how inputs are randomized.

    Args:
        samples: A table of `gendyn_lite.data.gallery.samples`.
        name: Name of the data set.

    Raises:
        UserError: The table has no row.
    """
    if samples.empty:
        raise UserError("there are no pictures to draw, expected a table of gallery.samples with at least one row")
    shown = samples.assign(inputs=samples["kind"].map(KINDS), line=samples["row"] + PANEL)
    kinds, classes = list(shown["inputs"].unique()), list(shown["class"].unique())
    inputs, chosen = menu("inputs", kinds, "inputs"), menu("chosen_class", ["all", *classes], "class")
    first, bind = [{"picture": 0}], stops(shown["picture"], "picture")
    options = {"fields": ["picture"], "value": first, "bind": bind, "empty": False, "on": "click", "clear": False}
    picked = alt.selection_point(name="picked", **options)
    base = alt.Chart(shown).transform_filter("datum.inputs === inputs")
    lines = int(shown["line"].max()) + 1
    y = alt.Y("line:O", axis=None, scale=alt.Scale(domain=list(range(lines))))
    place = {"x": alt.X("column:O", axis=None), "y": y}
    grid = _grid(base, place).add_params(inputs, chosen, picked)
    about = (
        f"Grid of {samples['picture'].max() + 1} training images of {name} in {len(classes)} classes, a class per row: "
        f"{', '.join(classes)}. A menu shows the same images with shuffled pixels, random pixels or replaced by "
        "noise; another marks a class; a slider or a click shows one image large, with its class."
    )
    title, subtitle = f"Pictures of {name}", "A class per row. Click on a picture, or move the slider, to see it large."
    return layered([grid, *_large(base.transform_filter(picked), place)], title, subtitle, about, height=CELL * lines)


def _grid(base: alt.Chart, place: dict) -> alt.Chart:
    """Draw the pictures, faint where the menu marks another class."""
    marked = alt.condition("chosen_class === 'all' || datum.class === chosen_class", alt.value(1), alt.value(0.15))
    return base.mark_image(width=CELL - 4, height=CELL - 4, smooth=False).encode(
        **place, url="image:N", opacity=marked, tooltip=["class:N", alt.Tooltip("example:Q", title="training example")]
    )


def _large(picked: alt.Chart, place: dict) -> list[alt.Chart]:
    """Draw a frame around the picked picture, and above the grid the enlarged picture with its class."""
    frame = picked.mark_square(size=CELL**2, filled=False, strokeWidth=2.5, opacity=1, color=PALETTE[1]).encode(**place)
    large = picked.mark_image(width=2.6 * CELL, height=2.6 * CELL, smooth=False).encode(
        x=alt.value(1.4 * CELL), y=alt.value(1.4 * CELL), url="image:N"
    )
    about = "['class ' + datum.class, 'training example ' + datum.example, 'one of ' + datum.count + ' of its class']"
    words = picked.transform_calculate(words=about).mark_text(
        align="left", baseline="middle", fontSize=13, lineHeight=19
    )
    return [frame, large, words.encode(x=alt.value(3 * CELL), y=alt.value(0.9 * CELL), text="words:N")]


def class_count_bars(counts: pd.DataFrame, *, name: str) -> alt.Chart:
    """Draw the numbers of training and test examples of each class.

    Args:
        counts: A table of `gendyn_lite.data.gallery.class_counts`.
        name: Name of the data set.
    """
    classes, splits = list(counts["class"].unique()), ["train", "test"]
    angle = 0 if max(map(len, classes)) < 4 else -40
    axis = alt.Axis(labels=len(classes) <= MOST_LABELS, ticks=False, labelAngle=angle)
    found = counts.groupby("split")["images"].agg(["sum", "min", "max"]).loc[splits]
    words = told(found, "{split}: {sum:,} in all, {min:,} to {max:,} a class")
    picked, opacity = from_legend("split", name="split")
    x, offset = alt.X("class:N", title="class", sort=classes, axis=axis), alt.XOffset("split:N", sort=splits)
    y, color = alt.Y("images:Q", title="examples"), looks("split", splits, title="split", sort=splits)[0]
    tip = ["class:N", "split:N", alt.Tooltip("images:Q", title="examples", format=",")]
    bars = alt.Chart(counts).mark_bar().add_params(picked)
    bars = bars.encode(x=x, xOffset=offset, y=y, color=color, opacity=opacity, tooltip=tip)
    about = f"Bar chart of the number of examples of each of {len(classes)} classes. {words}."
    return titled(bars, f"Examples of each class: {name}", "In each pair, training examples stand first.", about)


def speed_ratios(benchmark: pd.DataFrame, *, title: str) -> Chart:
    """Draw our speed divided by each peer's; right of 1 is faster, and a tick marks the goal.

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
    words = told(rows.assign(ratio=rows["ratio"].map(three_digits)), "{case}: {ratio} times {peer}")
    subtitle = "Right of 1: faster than the peer. A tick: the goal for that peer."
    about = f"{title}: our speed divided by the peer's. {words}."
    size = {"width": "container", "height": 26 * len(order)}
    return layered((even, ticks, dots), title, subtitle, about, **size)


def speed_table(benchmark: pd.DataFrame, *, caption: str) -> HTML:
    """Write the same numbers as a table, with whether the goal was reached.

    Args:
        benchmark: As for `speed_ratios`.
        caption: Where the numbers come from. For screen readers the names of the peers come before it, to distinguish
            the tables of a page.
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
    """Say whether the goal was reached.

    >>> _goal(3.2, 3.0), _goal(1.1, 3.0), _goal(1.1, float("nan"))
    ('≥ 3 ✓ reached', '≥ 3 ✗ not reached', '–')
    """
    if math.isnan(goal):
        return "–"
    return f"≥ {goal:g} " + ("✓ reached" if ratio >= goal else "✗ not reached")
