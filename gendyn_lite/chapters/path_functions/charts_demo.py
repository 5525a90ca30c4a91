"""Charts of what chapter 2 computes in its page: the plane, pairs of digits, ranks of neighbours, nearest digits."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import DASHES, PALETTE, SHAPES
from gendyn_lite.charts.parts import AROUND, Chart, chosen, layered, menu, slider, words_above

DOWN, TICKS = alt.Scale(type="log", reverse=True, nice=False, domain=[0.8, 128]), [1, 2, 5, 10, 20, 50, 100]
RANK = alt.Y("shown_rank:Q", title="rank (1 is nearest)", scale=DOWN, axis=alt.Axis(values=TICKS))
CLASSES = alt.Scale(domain=[0, 1], range=list(PALETTE[:2]))
ACROSS = alt.Scale(domain=[-1.6, 2.6], nice=False)
UP = alt.Scale(domain=[-1.1, 2.05], nice=False)  # with room for the path
PLANE_X = alt.X("x:Q", title="first coordinate", scale=ACROSS)
PLANE_Y = alt.Y("y:Q", title="second coordinate", scale=UP, axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1, 1.5]))


def plane(maps: pd.DataFrame, points: pd.DataFrame, units: pd.DataFrame, functions: pd.DataFrame) -> Chart:
    """Draw the linear pieces of a network on the plane, and a point's own function and path, over epochs.

    Sliders set the epoch and the point. The arguments are the tables of
    `gendyn_lite.chapters.path_functions.demo.Plane`.

    Args:
        maps: The pieces at each epoch.
        points: The training points.
        units: The path of each chosen point.
        functions: The function of each chosen point.
    """
    epoch = slider("plane_epoch", maps["epoch"], "epoch")
    own = {"epoch": epoch, "point": slider("plane_point", functions["point"], "point", value=1)}
    shown = chosen(functions.merge(maps[["epoch", "accuracy"]], on="epoch"), own)
    words = shown.transform_calculate(
        words="'epoch ' + datum.epoch + ': ' + datum.on + ' units on, ' + datum.switched + ' switched'"
    )
    color, shapes = alt.Color("class:N", legend=None, scale=CLASSES), alt.Scale(range=list(SHAPES[:2]))
    shape = alt.Shape("class:N", legend=None, scale=shapes)
    dots = alt.Chart(points).mark_point(size=20, filled=True, opacity=0.85)
    dots = dots.encode(x=PLANE_X, y=PLANE_Y, color=color, shape=shape, tooltip=["class:N"])
    line = shown.transform_filter("isValid(datum.x1)").mark_rule(strokeWidth=2.5, strokeDash=[6, 3], opacity=1)
    line = line.encode(x=alt.X("x1:Q", scale=ACROSS), y=alt.Y("y1:Q", scale=UP), x2="x2", y2="y2")
    point = shown.mark_point(size=170, filled=True, color="currentColor", shape="cross", opacity=1)
    point = point.encode(x=PLANE_X, y=PLANE_Y)
    end = functions[(functions["epoch"] == maps["epoch"].iloc[-1]) & (functions["point"] == 1)].iloc[0]
    return layered(
        [_cells(maps, epoch), dots, line, point, _strip(units, own), words_above(words)],
        "Each point its own function",
        "Shades: pieces. Dashed: where the crossed point's function is undecided. Squares: its path.",
        "Two moons and the linear pieces of a small network over the plane at several epochs. For a chosen "
        "point, the straight line on which its own linear function does not decide, and which units are on. "
        f"At the end, {int(end['on'])} units are on for the first point; accuracy {maps['accuracy'].iloc[-1]:.2f}.",
        height=330,
    )


def _cells(maps: pd.DataFrame, epoch: alt.Parameter) -> alt.Chart:
    """Draw the grid, coloured by class and shaded by piece; each map is stored as one string of digits."""
    side = round(len(maps["cells"].iloc[0]) ** 0.5)
    width, height = 4.2 / side, 2.7 / side
    codes = chosen(maps[["epoch", "cells"]], {"epoch": epoch}).transform_calculate(code="split(datum.cells, '')")
    codes = codes.transform_flatten(["code"]).transform_window(place="row_number()")
    left = f"-1.6 + floor((datum.place - 1) / {side}) * {width:.6f}"
    low = f"-1.1 + ((datum.place - 1) % {side}) * {height:.6f}"
    read = {"class": "floor(datum.code / 4)", "shade": "datum.code % 4"}
    cells = codes.transform_calculate(x=left, y=low, **read)
    cells = cells.transform_calculate(x2=f"datum.x + {width:.6f}", y2=f"datum.y + {height:.6f}")
    corners = {"x": alt.X("x:Q", scale=ACROSS), "x2": "x2:Q", "y": alt.Y("y:Q", scale=UP), "y2": "y2:Q"}
    shade = alt.Opacity("shade:Q", legend=None, scale=alt.Scale(domain=[0, 3], range=[0.1, 0.38]))
    color = alt.Color("class:N", legend=None, scale=CLASSES)
    return cells.mark_rect(tooltip=None, clip=True).encode(**corners, color=color, opacity=shade)


def _strip(units: pd.DataFrame, own: dict[str, alt.Parameter]) -> alt.Chart:
    """Draw the path as squares along the top: filled where a unit is on, ringed where it has switched."""
    rows = units.assign(
        left=-1.45 + 3.9 * (units["unit"] - 0.5) / int(units["unit"].max()),
        top=1.93 - 0.19 * (units["layer"] - 1),
        state=units["on"].map({1: "on", 0: "off"}),
    )
    rows = rows[["epoch", "point", "layer", "unit", "left", "top", "state", "switched"]].round(3)
    squares = chosen(rows, own).mark_square(size=110, fill="currentColor", stroke="currentColor", opacity=1)
    filled = alt.condition("datum.state === 'on'", alt.value(0.85), alt.value(0))
    ringed = alt.condition("datum.switched === 1", alt.value(3.5), alt.value(1))
    tip = ["layer:O", "unit:O", "state:N", alt.Tooltip("switched:O", title="switched since the last picture")]
    return squares.encode(x="left:Q", y="top:Q", fillOpacity=filled, strokeWidth=ringed, tooltip=tip)


def scatter(pairs: pd.DataFrame, pictures: pd.DataFrame) -> Chart:
    """Draw path overlap against distance, a point for each pair of digits; the pair under the pointer is shown.

    Args:
        pairs: The first table of `gendyn_lite.chapters.path_functions.demo.scatter`.
        pictures: The second table, the digits.
    """
    layers, epochs = list(pairs["layer"].unique()), sorted(pairs["epoch"].unique())
    params = {"layer": menu("pair_layer", layers, "layer", layers[-1]), "epoch": slider("pair_epoch", epochs, "epoch")}
    options = {"on": "pointerover", "nearest": True, "fields": ["i", "j"], "empty": False, "clear": False}
    options["value"] = pairs[["i", "j"]].head(1).to_dict("records")
    picked = alt.selection_point(name="pair_picked", **options)
    base = chosen(pairs, params).transform_calculate(pair="datum.same ? 'one digit' : 'two digits'")
    x = alt.X("distance:Q", title="distance of the two images", scale=AROUND)
    y = alt.Y("overlap:Q", title="share of units on for both", scale=AROUND)
    large, full = ((alt.value(large), alt.value(small)) for large, small in ((160, 22), (1, 0.55)))
    looks = parts.marks("pair", ["two digits", "one digit"], offset=58)  # above the pictures
    looks |= {"size": alt.condition(picked, *large), "opacity": alt.condition(picked, *full)}
    tip = ["distance:Q", alt.Tooltip("overlap:Q", format=".3f"), "pair:N"]
    dots = base.mark_point().encode(x=x, y=y, **looks, tooltip=tip)
    pair, y = base.transform_filter(picked), alt.value(-30)
    both = [_pictures(pair, pictures, name, 44, x=alt.value(x), y=y) for name, x in (("i", 24), ("j", 74))]
    ranked = [
        f"layer {name}, epoch {epoch}: {part['distance'].corr(part['overlap'], method='spearman'):.2f}"
        for (name, epoch), part in pairs.groupby(["layer", "epoch"], sort=False)
        if epoch in (epochs[0], epochs[-1])
    ]
    about = f"Path overlap against distance of pairs of digits. Rank correlations: {'; '.join(ranked)}."
    title, subtitle = "Near in pixels, near in paths?", "A point is a pair of digits; point at one to see them."
    return layered([dots.add_params(picked), *both], title, subtitle, about, height=300)


def _pictures(rows: alt.Chart, pictures: pd.DataFrame, column: str, size: int, **place: Any) -> alt.Chart:
    """Draw the picture of each row's image, whose number is in a column."""
    found = rows.transform_lookup(lookup=column, from_=alt.LookupData(pictures, key="image", fields=["picture"]))
    return found.mark_image(width=size, height=size, tooltip=None).encode(**place, url="picture:N")


def ranks(rows: pd.DataFrame, pictures: pd.DataFrame) -> Chart:
    """Draw the earlier ranks of the six digits whose paths end nearest to a digit; menus choose digit and layer.

    Args:
        rows: The first table of `gendyn_lite.chapters.path_functions.demo.neighbours`.
        pictures: The second table, the digits.
    """
    named = {picture.image: f"image {picture.image}, a {picture.digit}" for picture in pictures.itertuples()}
    who, neighbour = rows["anchor"].map(named), rows["neighbour"].map(named)
    rows = rows.assign(who=who, neighbour_is=neighbour, shown_rank=rows["rank"] + 1)
    last, pair = int(rows["epoch"].max()), ["layer", "anchor", "neighbour"]
    rows = rows.join(rows[rows["epoch"] == last].set_index(pair)["rank"].rename("final"), on=pair)
    layers = list(rows["layer"].unique())
    second = layers[min(1, len(layers) - 1)]
    base = chosen(rows, parts.menus(rows, "rank", {"who": "digit", "layer": "layer"}, layer=second))
    scale = alt.Scale(domain=[0, last * 1.06], nice=False)
    finals = list(range(int(rows["final"].max()) + 1))
    x = alt.X("epoch:Q", title="epoch", scale=scale, axis=alt.Axis(tickMinStep=1, tickCount=last))
    color = alt.Color("final:O", legend=None, scale=alt.Scale(domain=finals, range=list(PALETTE)))
    dash = alt.StrokeDash("final:O", legend=None, scale=alt.Scale(domain=finals, range=list(DASHES)))
    titles = {"shown_rank:Q": "rank", "neighbour_is:N": "neighbour"}
    tip = ["epoch:Q", *(alt.Tooltip(name, title=title) for name, title in titles.items())]
    lines = base.mark_line(point={"size": 22}).encode(x=x, y=RANK, color=color, strokeDash=dash, tooltip=tip)
    # Pictures of the neighbours at the ends of their lines, and of the digit itself above the drawing.
    ends = base.transform_filter(f"datum.epoch === {last}")
    x = alt.X("epoch:Q", scale=alt.Scale(domain=[0, last * 1.06]))
    neighbours = _pictures(ends, pictures, "neighbour", 20, x=x, y=RANK)
    first = ends.transform_filter("datum.final === 0")
    itself = _pictures(first, pictures, "anchor", 40, x=alt.value(22), y=alt.value(-26))
    nearest = rows[rows["rank"] == 0].groupby(["layer", "anchor"])["neighbour"].nunique()
    return layered(
        [lines, neighbours, itself],
        "Who was near before?",
        "Ranks of the six digits whose paths are nearest at the end; above: the digit itself.",
        f"Ranks of neighbours by path over epochs, for {rows['who'].nunique()} digits and {len(layers)} layers. Of the "
        f"six that end nearest, {nearest.mean():.1f} on average were the very nearest at some epoch.",
        height=320,
    )


def nearest(rows: pd.DataFrame) -> Chart:
    """Show an image and those whose paths overlap most with its own, with the share of its units that they share.

    Args:
        rows: A table of `gendyn_lite.chapters.path_functions.explorer.nearest`.
    """
    base = alt.Chart(rows.assign(words=[f"image {row.image}: a {row.digit}" for row in rows.itertuples()]))
    last = int(rows["place"].max())
    x = alt.X("place:Q", title="place (0: the image itself)", scale=alt.Scale(domain=[-0.5, last + 0.5], nice=False),
              axis=alt.Axis(values=list(range(last + 1)), format="d"))  # fmt: skip
    y = alt.Y("share:Q", title="share of its units on for both", scale=alt.Scale(domain=[0, 1.15], nice=False))
    tip = ["words:N", alt.Tooltip("share:Q", format=".3f")]
    stems = base.mark_rule(strokeWidth=2).encode(x=x, y=y)
    images = base.mark_image(width=40, height=40).encode(x=x, y=y, url="picture:N", tooltip=tip)
    told = ", ".join(f"a {row.digit} ({row.share:.2f})" for row in rows.iloc[1:].itertuples())
    about = f"The nearest by path of a {rows['digit'].iloc[0]}: {told}."
    title, subtitle = "Whose path overlaps?", "The image itself first, then its nearest by path."
    return layered([stems, images], title, subtitle, about, height=260)
