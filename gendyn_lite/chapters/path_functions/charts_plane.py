"""The chart of chapter 2 over the plane: pieces of a network, a point's own function and its path."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.charts.parts import TIME, Chart, slider, words_above
from gendyn_lite.charts.theme import PALETTE, SHAPES

CLASSES = alt.Scale(domain=[0, 1], range=list(PALETTE[:2]))
ACROSS = alt.Scale(domain=[-1.6, 2.6], nice=False)
UP = alt.Scale(domain=[-1.1, 2.05], nice=False)  # with room for the path
PLANE_X = alt.X("x:Q", title="first coordinate", scale=ACROSS)
PLANE_Y = alt.Y("y:Q", title="second coordinate", scale=UP, axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1, 1.5]))


def plane(maps: pd.DataFrame, points: pd.DataFrame, units: pd.DataFrame, functions: pd.DataFrame) -> Chart:
    """Pieces of a network on the plane, a point's own function and its path, over epochs; sliders on epoch and point.

    Args:
        maps: As the other arguments, of `gendyn_lite.chapters.path_functions.demo_plane.plane`.
        points: Training points.
        units: The path of each chosen point.
        functions: Its function.
    """
    turns = {epoch: turn for turn, epoch in enumerate(maps["epoch"])}
    now, own = "datum.turn === plane_turn", "datum.turn === plane_turn && datum.point === plane_point"
    timed = functions.assign(turn=functions["epoch"].map(turns)).merge(maps[["epoch", "accuracy"]], on="epoch")
    chosen = alt.Chart(timed).transform_filter(own)
    words = chosen.transform_calculate(
        words="'epoch ' + datum.epoch + ': ' + datum.on + ' units on, ' + datum.switched + ' switched'"
    )
    layers = [_cells(maps, turns, now), _dots(points), *_own_function(chosen), *_strip(units, turns, own)]
    end = functions[(functions["epoch"] == maps["epoch"].iloc[-1]) & (functions["point"] == 1)].iloc[0]
    return (
        alt.layer(*layers, words_above(words))
        .add_params(
            slider("plane_turn", len(turns) - 1, TIME),
            slider("plane_point", int(functions["point"].max()), "point", first=1, value=1),
        )
        .properties(
            height=330,
            title=alt.Title(
                "Each point its own function",
                subtitle="Shades: pieces. Dashed: where the crossed point's function is undecided. Squares: its path.",
            ),
            description=(
                "Two moons and the linear pieces of a small network over the plane at several epochs. For a chosen "
                "point, the straight line on which its own linear function does not decide, and which units are on. "
                f"At the end, {int(end['on'])} units are on for the first point; "
                f"accuracy {maps['accuracy'].iloc[-1]:.2f}."
            ),
        )
    )


def _dots(points: pd.DataFrame) -> alt.Chart:
    """The training points, whose axes are those of the chart."""
    marks = alt.Chart(points).mark_point(size=20, filled=True, opacity=0.85)
    return marks.encode(
        x=PLANE_X,
        y=PLANE_Y,
        color=alt.Color("class:N", legend=None, scale=CLASSES),
        shape=alt.Shape("class:N", legend=None, scale=alt.Scale(range=list(SHAPES[:2]))),
        tooltip=["class:N"],
    )


def _own_function(chosen: alt.Chart) -> list[alt.Chart]:
    """The line on which the chosen point's function is undecided, and the point."""
    line = chosen.transform_filter("isValid(datum.x1)").mark_rule(strokeWidth=2.5, strokeDash=[6, 3], opacity=1)
    place = chosen.mark_point(size=170, filled=True, color="currentColor", shape="cross", opacity=1)
    ends = {"x": alt.X("x1:Q", scale=ACROSS), "y": alt.Y("y1:Q", scale=UP), "x2": "x2", "y2": "y2"}
    return [line.encode(**ends), place.encode(x=PLANE_X, y=PLANE_Y)]


def _cells(maps: pd.DataFrame, turns: dict[int, int], now: str) -> alt.Chart:
    """The grid, coloured by class and shaded by piece; each map travels as one text of digits."""
    side = round(len(maps["cells"].iloc[0]) ** 0.5)
    width, height = 4.2 / side, 2.7 / side
    table = maps[["epoch", "cells"]].assign(turn=maps["epoch"].map(turns))
    return (
        alt.Chart(table)
        .transform_filter(now)
        .transform_calculate(code="split(datum.cells, '')")
        .transform_flatten(["code"])
        .transform_window(place="row_number()")
        .transform_calculate(
            x=f"-1.6 + floor((datum.place - 1) / {side}) * {width:.6f}",
            y=f"-1.1 + ((datum.place - 1) % {side}) * {height:.6f}",
            **{"class": "floor(datum.code / 4)"},
            shade="datum.code % 4",
        )
        .transform_calculate(x2=f"datum.x + {width:.6f}", y2=f"datum.y + {height:.6f}")
        .mark_rect(tooltip=None, clip=True)
        .encode(
            x=alt.X("x:Q", scale=ACROSS),
            x2="x2:Q",
            y=alt.Y("y:Q", scale=UP),
            y2="y2:Q",
            color=alt.Color("class:N", legend=None, scale=CLASSES),
            opacity=alt.Opacity("shade:Q", legend=None, scale=alt.Scale(domain=[0, 3], range=[0.1, 0.38])),
        )
    )


def _strip(units: pd.DataFrame, turns: dict[int, int], own: str) -> list[alt.Chart]:
    """The path as squares along the top: filled where a unit is on, ringed where it has switched."""
    most = int(units["unit"].max())
    rows = units.assign(turn=units["epoch"].map(turns))
    rows["left"] = -1.45 + 3.9 * (rows["unit"] - 0.5) / most
    rows["top"] = 1.93 - 0.19 * (rows["layer"] - 1)
    rows["state"] = rows["on"].map({1: "on", 0: "off"})
    rows = rows[["turn", "point", "layer", "unit", "left", "top", "state", "switched"]].round(3)
    base = alt.Chart(rows).transform_filter(own).encode(x=alt.X("left:Q"), y=alt.Y("top:Q"))
    fill = alt.condition("datum.state === 'on'", alt.value(0.85), alt.value(0))
    ring = alt.condition("datum.switched === 1", alt.value(3.5), alt.value(1))
    tip = ["layer:O", "unit:O", "state:N", alt.Tooltip("switched:O", title="switched since the last picture")]
    squares = base.mark_square(size=110, fill="currentColor", stroke="currentColor", opacity=1)
    return [squares.encode(fillOpacity=fill, strokeWidth=ring, tooltip=tip)]
