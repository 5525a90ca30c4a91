"""Charts of chapter 5: single lines, and where on them a class ends."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.generalization_intervals.tables import OTHER, OWN
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, strokes, tooltips


def planar(cells: pd.DataFrame, points: pd.DataFrame, lines: pd.DataFrame, knots: pd.DataFrame) -> Chart:
    """A network on the plane: regions, boundary, and a line with its interval and knots; sliders move the line.

    Args:
        cells: As the other arguments, of this chapter's `demo.plane`.
        points: Training points.
        lines: Lines and their intervals, by start and angle.
        knots: Where the lines change regions.
    """
    ends = ([float(cells[axis].min()), float(cells[f"{axis}2"].max())] for axis in "xy")
    across, up = (alt.Scale(domain=domain, nice=False) for domain in ends)
    x, y = alt.X("x:Q", title="first coordinate", scale=across), alt.Y("y:Q", title="second coordinate", scale=up)

    def at(name: str, *, ends: bool = True) -> dict[str, Any]:
        """Where the columns of that name place a mark, or both of its ends."""
        begins = {"x": alt.X(f"{name}_x:Q", scale=across), "y": alt.Y(f"{name}_y:Q", scale=up)}
        return begins | ({"x2": f"{name}_x2", "y2": f"{name}_y2"} if ends else {})

    moved = {
        "start": parts.slider("start", lines["start"], "point", value=1),
        "angle": parts.slider("angle", lines["angle"], "direction (degrees)", value=105),
    }
    line = chosen(lines, moved)
    whole = line.mark_rule(strokeWidth=1.5, strokeDash=[4, 3], opacity=0.9, clip=True).encode(**at("whole"))
    part = line.mark_rule(strokeWidth=4, opacity=1, clip=True)
    small = {"shape": "diamond", "size": 40, "filled": False, "strokeWidth": 1.5, "opacity": 0.9}
    diamonds = chosen(knots, moved).mark_point(**small, color="currentColor", clip=True)
    origin = line.mark_point(size=130, filled=True, color="currentColor", shape="cross", opacity=1)
    words = _said(line).mark_text(align="left", baseline="top", fontWeight=600, dx=4)
    first = lines[(lines["start"] == 1) & (lines["angle"] == 105)].iloc[0]
    part = part.encode(**at("part"), tooltip=["lower:Q", "upper:Q", "regions:Q"])
    diamonds = diamonds.encode(x=x, y=y, tooltip=[alt.Tooltip("alpha:Q", title="α", format=".3f")])
    origin = origin.encode(**at("at", ends=False))
    words = words.encode(x=alt.value(0), y=alt.value(4), text="words:N")
    return layered(
        [*_ground(cells, points, x, y), whole, part, diamonds, origin, words],
        "A line through the plane",
        "Move the point and the direction. Solid: the interval; diamonds: knots; shades: regions.",
        "Two moons and the network's two classes over the plane, its linear regions in shades. A line "
        "starts at a training point; its interval is drawn solid and every change of region is marked. For point 1 at "
        f"105 degrees the interval is {first['lower']:.2f} to {first['upper']:.2f}, through {first['regions']:.0f} "
        "regions.",
        height=300,
    )


def _ground(cells: pd.DataFrame, points: pd.DataFrame, x: alt.X, y: alt.Y) -> tuple[alt.Chart, alt.Chart]:
    """Linear regions in shades of their class, and the training points."""
    color = alt.Color("class:N", legend=None, scale=alt.Scale(domain=[0, 1], range=list(PALETTE[:2])))
    shade = alt.Opacity("shade:Q", legend=None, scale=alt.Scale(domain=[0, 3], range=[0.14, 0.4]))
    shape = alt.Shape("class:N", legend=None, scale=alt.Scale(range=["circle", "square"]))
    ground = alt.Chart(cells).mark_rect(tooltip=None).encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=color, opacity=shade)
    dots = alt.Chart(points).mark_point(size=22, filled=True, opacity=0.9)
    return ground, dots.encode(x=x, y=y, color=color, shape=shape)


def _said(line: alt.Chart) -> alt.Chart:
    """A line's interval and number of regions in words."""
    ends = "'interval ' + format(datum.lower, '.3f') + ' to ' + format(datum.upper, '.3f')"
    return line.transform_calculate(words=f"{ends} + ', ' + datum.regions + ' regions'")


def paths(logits: pd.DataFrame, intervals: pd.DataFrame, images: pd.DataFrame) -> Chart:
    """Logits along a line, its interval shaded, and pictures on the way; menus choose labels and direction.

    Args:
        logits: As the other arguments, of this chapter's `probes.frames`.
        intervals: The intervals.
        images: Pictures at some α; empty for points that are no pictures.
    """
    labels = {column: label for column, label in (("labels", "labels"), ("towards", "direction")) if column in logits}
    choices = parts.menus(logits, "chosen", labels)
    shown = " && ".join(["true", *(f"datum.{column} === {param.name}" for column, param in choices.items())])
    # Wider than the line, so that the pictures at both ends are whole.
    span = alt.Scale(domain=[float(logits["alpha"].min()) - 0.15, float(logits["alpha"].max()) + 0.15], nice=False)
    x = alt.X("alpha:Q", title="α", scale=span)
    base = alt.Chart(intervals).transform_filter(shown)
    curves = alt.Chart(logits).transform_filter(shown).transform_fold([OWN, OTHER], as_=["of", "logit"]).mark_line()
    shade = base.mark_rect(opacity=0.13, color=PALETTE[3], tooltip=None)
    legend = alt.Legend(symbolType="stroke", offset=26)  # room for the words between it and the drawing
    y = alt.Y("logit:Q", title="logit", scale=alt.Scale(zero=False, nice=False))
    tip = [alt.Tooltip("alpha:Q", title="α", format=".3f"), *tooltips(".3f", "logit"), "of:N"]
    shade = shade.encode(x=alt.X("lower:Q", scale=span), x2="upper")
    curves = curves.encode(x=x, y=y, **strokes("of", [OWN, OTHER], legend=legend), tooltip=tip)
    layers = [shade, curves, parts.words_above(_said(base), y=-4)]
    if len(images):
        room = alt.Chart(_room_below(logits, intervals, list(labels))).transform_filter(shown)
        pictures = alt.Chart(images).transform_filter(shown).mark_image(width=24, height=24, clip=True, tooltip=None)
        layers.append(room.mark_point(opacity=0, tooltip=None).encode(y="floor:Q"))
        layers.append(pictures.encode(x=x, y=alt.value(262), url="image:N"))
    line = ", ".join(f"{{{name}}}" for name in labels) or "this line"
    layers[0] = layers[0].add_params(*choices.values()) if choices else layers[0]
    words = parts.told(intervals, line + ": {lower:.2f} to {upper:.2f}")
    about = f"Logits along a line, exact at every knot. Intervals: {words}."
    return layered(layers, "Along a line", "Shaded: the generalization interval of the image at α = 0.", about)


def _room_below(logits: pd.DataFrame, intervals: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The intervals with a `floor` a fifth below each line's logits, so that pictures hide no curve."""
    floors = []
    for row in intervals.to_dict("records"):
        shown = logits.loc[logits[keys].eq([row[key] for key in keys]).all(axis="columns"), [OWN, OTHER]].to_numpy()
        floors.append(round(shown.min() - 0.2 * (shown.max() - shown.min()), 3))
    return intervals.assign(floor=floors)
