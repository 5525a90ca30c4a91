"""Charts of single lines in chapter 5: a line through the plane, and logits and pictures along a line."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.charts.parts import slider, words_above
from gendyn_lite.charts.theme import DASHES, PALETTE

CLASSES = {0: PALETTE[0], 1: PALETTE[1]}
Scales = tuple[alt.Scale, alt.Scale]
OWN, OTHER = "its class", "strongest other class"


def planar(
    cells: pd.DataFrame, points: pd.DataFrame, lines: pd.DataFrame, knots: pd.DataFrame
) -> alt.LayerChart | alt.FacetChart:
    """A network on the plane: regions, boundary, and a line with its interval and knots; sliders move the line.

    Args:
        cells: As the other arguments, of `gendyn_lite.chapters.generalization_intervals.demo_plane.plane`.
        points: Training points.
        lines: Lines and their intervals, by start and angle.
        knots: Where the lines change regions.
    """
    scales = (
        alt.Scale(domain=[float(cells["x"].min()), float(cells["x2"].max())], nice=False),
        alt.Scale(domain=[float(cells["y"].min()), float(cells["y2"].max())], nice=False),
    )
    chosen = "datum.start === start && datum.angle === angle"
    line, marks = (alt.Chart(rows).transform_filter(chosen) for rows in (lines, knots))
    layers = [*_ground(cells, points, scales), *_line(line, marks, scales), _words_inside(line)]
    first = lines[(lines["start"] == 1) & (lines["angle"] == 105)].iloc[0]
    return (
        alt.layer(*layers)
        .add_params(
            slider("start", int(lines["start"].max()), "point", first=1, value=1),
            slider("angle", int(lines["angle"].max()), "direction (degrees)", value=105, step=15),
        )
        .properties(
            height=380,
            title=alt.Title(
                "A line through the plane",
                subtitle="Move the point and the direction. Solid: the interval; diamonds: knots; shades: regions.",
            ),
            description=(
                "Two moons and the network's two classes over the plane, its linear regions in shades. A line starts "
                "at a training point; its interval is drawn solid and every change of region is marked. For "
                f"point 1 at 105 degrees the interval is {first['lower']:.2f} to {first['upper']:.2f}, through "
                f"{first['regions']:.0f} regions."
            ),
        )
    )


def _axes(scales: Scales) -> tuple[alt.X, alt.Y]:
    return (
        alt.X("x:Q", title="first coordinate", scale=scales[0]),
        alt.Y("y:Q", title="second coordinate", scale=scales[1]),
    )


def _ground(cells: pd.DataFrame, points: pd.DataFrame, scales: Scales) -> list[alt.Chart]:
    """Linear regions in shades of their class, and the training points."""
    x, y = _axes(scales)
    color = alt.Color("class:N", legend=None, scale=alt.Scale(domain=list(CLASSES), range=list(CLASSES.values())))
    shade = alt.Opacity("shade:Q", legend=None, scale=alt.Scale(domain=[0, 3], range=[0.14, 0.4]))
    shape = alt.Shape("class:N", legend=None, scale=alt.Scale(range=["circle", "square"]))
    ground = alt.Chart(cells).mark_rect(tooltip=None).encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=color, opacity=shade)
    dots = alt.Chart(points).mark_point(size=22, filled=True, opacity=0.9)
    return [ground, dots.encode(x=x, y=y, color=color, shape=shape)]


def _line(line: alt.Chart, knots: alt.Chart, scales: Scales) -> list[alt.Chart]:
    """The whole line, its interval, its knots and the point where it starts."""
    (x, y), (x_axis, y_axis) = _axes(scales), scales

    def ends(name: str) -> dict[str, Any]:
        return {"x": alt.X(f"{name}_x:Q", scale=x_axis), "x2": f"{name}_x2", "y": alt.Y(f"{name}_y:Q", scale=y_axis),
                "y2": f"{name}_y2"}  # fmt: skip

    whole = line.mark_rule(strokeWidth=1.5, strokeDash=[4, 3], opacity=0.9, clip=True)
    part = line.mark_rule(strokeWidth=4, opacity=1, clip=True)
    marks = knots.mark_point(
        shape="diamond", size=40, filled=False, strokeWidth=1.5, color="currentColor", opacity=0.9, clip=True
    )
    origin = line.mark_point(size=130, filled=True, color="currentColor", shape="cross", opacity=1)
    return [
        whole.encode(**ends("whole")),
        part.encode(**ends("part"), tooltip=["lower:Q", "upper:Q", "regions:Q"]),
        marks.encode(x=x, y=y, tooltip=[alt.Tooltip("alpha:Q", title="α", format=".3f")]),
        origin.encode(x=alt.X("at_x:Q", scale=x_axis), y=alt.Y("at_y:Q", scale=y_axis)),
    ]


def _words_inside(line: alt.Chart) -> alt.Chart:
    words = _said(line).mark_text(align="left", baseline="top", fontWeight=600, dx=4)
    return words.encode(x=alt.value(0), y=alt.value(4), text="words:N")


def _said(line: alt.Chart) -> alt.Chart:
    """A line's interval and number of regions in words."""
    return line.transform_calculate(
        words="'interval ' + format(datum.lower, '.3f') + ' to ' + format(datum.upper, '.3f') + ', '"
        " + datum.regions + ' linear regions'"
    )


def paths(logits: pd.DataFrame, intervals: pd.DataFrame, images: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Logits along a line, its interval shaded, and pictures on the way; menus choose labels and direction.

    Args:
        logits: As the other arguments, of this chapter's `demo.paths` (or `line_tables`).
        intervals: The intervals.
        images: Pictures at some α; empty for points that are no pictures.
    """
    params, shown = _menus(logits)
    # Wider than the line, so that the pictures at both ends are whole.
    span = [float(logits["alpha"].min()) - 0.15, float(logits["alpha"].max()) + 0.15]
    x = alt.X("alpha:Q", title="α", scale=alt.Scale(domain=span, nice=False))
    base = alt.Chart(intervals).transform_filter(shown)
    shade = base.mark_rect(opacity=0.13, color=PALETTE[3], tooltip=None)
    shade = shade.encode(x=alt.X("lower:Q", scale=alt.Scale(domain=span, nice=False)), x2="upper")
    layers = [shade, _curves(alt.Chart(logits).transform_filter(shown), x), words_above(_said(base), y=-4)]
    if len(images):
        room = alt.Chart(_room_below(logits, intervals)).transform_filter(shown).mark_point(opacity=0, tooltip=None)
        layers.append(room.encode(y="floor:Q"))
        pictures = alt.Chart(images).transform_filter(shown).mark_image(width=24, height=24, clip=True, tooltip=None)
        layers.append(pictures.encode(x=x, y=alt.value(262), url="image:N"))
    return (
        alt.layer(*layers)
        .add_params(*params)
        .properties(
            title=alt.Title("Along a line", subtitle="Shaded: the generalization interval of the image at α = 0."),
            description=_path_words(intervals),
        )
    )


def _menus(logits: pd.DataFrame) -> tuple[list[alt.Parameter], str]:
    """Menus of what the lines differ in, and the filter that follows them."""
    params = []
    shown = "true"
    for column, name in (("labels", "labels "), ("towards", "direction ")):
        if column in logits:
            options = list(logits[column].unique())
            bind = alt.binding_select(options=options, name=name)
            params.append(alt.param(name=f"chosen_{column}", value=options[0], bind=bind))
            shown += f" && datum.{column} === chosen_{column}"
    return params, shown


def _curves(rows: alt.Chart, x: alt.X) -> alt.Chart:
    """The logits of the line's own class and of the strongest other one."""
    names = [OWN, OTHER]
    legend = alt.Legend(symbolType="stroke", offset=26)  # room for the words between it and the drawing
    dashes = alt.Scale(domain=names, range=list(DASHES[:2]))
    return rows.mark_line().encode(
        x=x,
        y=alt.Y("logit:Q", title="logit", scale=alt.Scale(zero=False, nice=False)),
        color=alt.Color("of:N", title=None, scale=alt.Scale(domain=names), legend=legend),
        strokeDash=alt.StrokeDash("of:N", title=None, scale=dashes, legend=legend),
        tooltip=[alt.Tooltip("alpha:Q", title="α", format=".3f"), alt.Tooltip("logit:Q", format=".3f"), "of:N"],
    )


def _room_below(logits: pd.DataFrame, intervals: pd.DataFrame) -> pd.DataFrame:
    """The intervals with a `floor` a fifth below each line's logits, so that pictures hide no curve."""
    keys = [name for name in ("labels", "towards") if name in intervals]
    if not keys:
        low, high = logits["logit"].min(), logits["logit"].max()
        return intervals.assign(floor=low - 0.2 * (high - low))
    spread = logits.groupby(keys, sort=False)["logit"].agg(["min", "max"]).reset_index()
    floors = spread.assign(floor=(spread["min"] - 0.2 * (spread["max"] - spread["min"])).round(3))
    return intervals.merge(floors[[*keys, "floor"]], on=keys, how="left")


def _path_words(intervals: pd.DataFrame) -> str:
    said = []
    for row in intervals.to_dict("records"):
        about = ", ".join(str(row[name]) for name in ("labels", "towards") if name in row)
        said.append(f"{about or 'this line'}: {row['lower']:.2f} to {row['upper']:.2f}")
    return "Logits along a line, exact at every knot. Intervals: " + "; ".join(said) + "."
