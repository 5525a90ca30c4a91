"""Charts of the page on data: a grid of pictures to click on, and class counts."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, from_legend, layered, looks, menu, stops, titled
from gendyn_lite.errors import UserError

CELL = 40  # pixels of a picture in the grid, at most
PANEL = 3  # rows above the grid, for the picture that was chosen
KINDS = {
    "true": "as they are",
    "shuffled_pixels": "shuffled pixels",
    "random_pixels": "random pixels",
    "gaussian": "Gaussian noise",
}
MOST_LABELS = 20  # classes whose names fit under a chart


def picture_grid(samples: pd.DataFrame, *, name: str) -> Chart:
    """Pictures by class; a click (or the slider) shows one large, menus choose a class and what became of the inputs.

    Args:
        samples: A table of `gendyn_lite.data.gallery.samples`.
        name: What the pictures are.

    Raises:
        UserError: The table has no row.
    """
    if samples.empty:
        raise UserError("there are no pictures to draw, expected a table of gallery.samples with at least one row")
    shown = samples.assign(inputs=samples["kind"].map(KINDS), line=samples["row"] + PANEL)
    kinds, classes = list(shown["inputs"].unique()), list(shown["class"].unique())
    inputs, chosen = menu("inputs", kinds, "inputs"), menu("chosen_class", ["all", *classes], "class")
    last = int(shown["picture"].max())
    bind = stops(shown["picture"], "picture")
    picked = alt.selection_point(
        name="picked", fields=["picture"], value=[{"picture": 0}], empty=False, on="click", clear=False, bind=bind
    )
    base = alt.Chart(shown).transform_filter("datum.inputs === inputs")
    lines = int(shown["line"].max()) + 1
    y = alt.Y("line:O", axis=None, scale=alt.Scale(domain=list(range(lines))))
    place = {"x": alt.X("column:O", axis=None), "y": y}
    grid = _grid(base, place).add_params(inputs, chosen, picked)
    return layered(
        [grid, *_large(base.transform_filter(picked), place)],
        f"Pictures of {name}",
        "A class per row. Click on a picture, or move the slider, to see it large.",
        f"Grid of {last + 1} training images of {name} in {len(classes)} classes, a class per row: "
        f"{', '.join(classes)}. A menu shows the same images with shuffled pixels, random pixels or replaced by "
        "noise; another marks a class; a slider or a click shows one image large, with its class.",
        height=CELL * lines,
    )


def _grid(base: alt.Chart, place: dict) -> alt.Chart:
    """The pictures, faint where the menu marks another class."""
    marked = alt.condition("chosen_class === 'all' || datum.class === chosen_class", alt.value(1), alt.value(0.15))
    return base.mark_image(width=CELL - 4, height=CELL - 4, smooth=False).encode(
        **place, url="image:N", opacity=marked, tooltip=["class:N", alt.Tooltip("example:Q", title="training example")]
    )


def _large(picked: alt.Chart, place: dict) -> list[alt.Chart]:
    """A frame around the picture that was picked, and above the grid the picture, large, with its class."""
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
    """Training and test examples of each class.

    Args:
        counts: A table of `gendyn_lite.data.gallery.class_counts`.
        name: What the set is.
    """
    classes, splits = list(counts["class"].unique()), ["train", "test"]
    angle = 0 if max(map(len, classes)) < 4 else -40
    axis = alt.Axis(labels=len(classes) <= MOST_LABELS, ticks=False, labelAngle=angle)
    found = counts.groupby("split")["images"].agg(["sum", "min", "max"]).loc[splits]
    words = "; ".join(
        f"{split}: {total:,} in all, {least:,} to {most:,} a class" for split, total, least, most in found.itertuples()
    )
    picked, opacity = from_legend("split", name="split")
    x, offset = alt.X("class:N", title="class", sort=classes, axis=axis), alt.XOffset("split:N", sort=splits)
    y, color = alt.Y("images:Q", title="examples"), looks("split", splits, title="split", sort=splits)[0]
    tip = ["class:N", "split:N", alt.Tooltip("images:Q", title="examples", format=",")]
    bars = alt.Chart(counts).mark_bar().add_params(picked)
    bars = bars.encode(x=x, xOffset=offset, y=y, color=color, opacity=opacity, tooltip=tip)
    about = f"Bar chart of the number of examples of each of {len(classes)} classes. {words}."
    return titled(bars, f"Examples of each class: {name}", "In each pair, training examples stand first.", about)
