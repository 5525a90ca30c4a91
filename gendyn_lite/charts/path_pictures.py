"""Charts of chapter 2 with pictures: the plane of two moons, pairs of digits, ranks of neighbours."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.charts.path_training import Chart, menu
from gendyn_lite.charts.theme import DASHES, PALETTE, SHAPES

CLASSES = alt.Scale(domain=[0, 1], range=list(PALETTE[:2]))


def plane(maps: pd.DataFrame, points: pd.DataFrame, units: pd.DataFrame, functions: pd.DataFrame) -> Chart:
    """Pieces of a network on the plane, a point's own function and its path, over epochs; sliders on epoch and point.

    Args:
        maps: As the other arguments, of `gendyn_lite.experiments.path_plane.plane`.
        points: Training points.
        units: The path of each chosen point.
        functions: Its function.
    """
    turns = {epoch: turn for turn, epoch in enumerate(maps["epoch"])}
    last = len(turns) - 1
    epoch = alt.param(
        name="plane_turn", value=last, bind=alt.binding_range(min=0, max=last, step=1, name="time, from start to end ")
    )
    count = int(functions["point"].max())
    point = alt.param(name="plane_point", value=1, bind=alt.binding_range(min=1, max=count, step=1, name="point "))
    now, own = "datum.turn === plane_turn", "datum.turn === plane_turn && datum.point === plane_point"
    x_axis = alt.Scale(domain=[-1.6, 2.6], nice=False)
    y_axis = alt.Scale(domain=[-1.1, 2.05], nice=False)  # with room for the path
    x = alt.X("x:Q", title="first coordinate", scale=x_axis)
    y = alt.Y("y:Q", title="second coordinate", scale=y_axis, axis=alt.Axis(values=[-1, -0.5, 0, 0.5, 1, 1.5]))
    dots = (
        alt.Chart(points)
        .mark_point(size=20, filled=True, opacity=0.85)
        .encode(
            x=x,
            y=y,
            color=alt.Color("class:N", legend=None, scale=CLASSES),
            shape=alt.Shape("class:N", legend=None, scale=alt.Scale(range=list(SHAPES[:2]))),
            tooltip=["class:N"],
        )
    )
    timed = functions.assign(turn=functions["epoch"].map(turns)).merge(maps[["epoch", "accuracy"]], on="epoch")
    chosen = alt.Chart(timed).transform_filter(own)
    line = chosen.transform_filter("isValid(datum.x1)").mark_rule(strokeWidth=2.5, strokeDash=[6, 3], opacity=1)
    line = line.encode(x=alt.X("x1:Q", scale=x_axis), y=alt.Y("y1:Q", scale=y_axis), x2="x2", y2="y2")
    place = chosen.mark_point(size=170, filled=True, color="currentColor", shape="cross", opacity=1).encode(x=x, y=y)
    words = chosen.transform_calculate(
        words="'epoch ' + datum.epoch + ': ' + datum.on + ' units on, ' + datum.switched + ' switched'"
    ).mark_text(align="left", baseline="bottom", fontWeight=600)
    layers = [_cells(maps, turns, now, x_axis, y_axis), dots, line, place, *_strip(units, turns, own)]
    end = functions[(functions["epoch"] == maps["epoch"].iloc[-1]) & (functions["point"] == 1)].iloc[0]
    return (
        alt.layer(*layers, words.encode(x=alt.value(0), y=alt.value(-6), text="words:N"))
        .add_params(epoch, point)
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


def _cells(maps: pd.DataFrame, turns: dict[int, int], now: str, x_axis: alt.Scale, y_axis: alt.Scale) -> alt.Chart:
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
            x=alt.X("x:Q", scale=x_axis),
            x2="x2:Q",
            y=alt.Y("y:Q", scale=y_axis),
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


def scatter(pairs: pd.DataFrame, pictures: pd.DataFrame) -> Chart:
    """Path overlap against distance, a point for each pair of digits; the pair under the pointer is shown.

    Args:
        pairs: As `pictures`, of `gendyn_lite.experiments.path_digits.scatter`.
        pictures: The digits.
    """
    layers, epochs = list(pairs["layer"].unique()), sorted(pairs["epoch"].unique())
    rows = pairs.assign(turn=pairs["epoch"].map({epoch: turn for turn, epoch in enumerate(epochs)}))
    layer = menu("pair_layer", layers, "layer", layers[-1])
    last = len(epochs) - 1
    turn = alt.param(
        name="pair_turn", value=last, bind=alt.binding_range(min=0, max=last, step=1, name="time, from start to end ")
    )
    picked = alt.selection_point(
        name="pair_picked", on="pointerover", nearest=True, fields=["i", "j"], empty=False, clear=False,
        value=[{"i": int(rows["i"].iloc[0]), "j": int(rows["j"].iloc[0])}],
    )  # fmt: skip
    base = alt.Chart(rows).transform_filter("datum.layer === pair_layer && datum.turn === pair_turn")
    base = base.transform_calculate(pair="datum.same ? 'one digit' : 'two digits'")
    kinds = ["two digits", "one digit"]
    above = alt.Legend(offset=58)  # above the pictures
    x = alt.X("distance:Q", title="distance of the two images", scale=alt.Scale(zero=False))
    y = alt.Y("overlap:Q", title="share of units on for both", scale=alt.Scale(zero=False))
    dots = base.mark_point().encode(
        x=x,
        y=y,
        color=alt.Color("pair:N", title=None, scale=alt.Scale(domain=kinds, range=list(PALETTE[:2])), legend=above),
        shape=alt.Shape("pair:N", title=None, scale=alt.Scale(domain=kinds, range=list(SHAPES[:2])), legend=above),
        size=alt.condition(picked, alt.value(160), alt.value(22)),
        opacity=alt.condition(picked, alt.value(1), alt.value(0.55)),
        tooltip=["distance:Q", alt.Tooltip("overlap:Q", format=".3f"), "pair:N"],
    )
    shown = base.transform_filter(picked)
    images = [
        shown.transform_lookup(
            lookup=column, from_=alt.LookupData(pictures, key="image", fields=["picture"])
        ).mark_image(width=44, height=44, tooltip=None).encode(x=alt.value(place), y=alt.value(-30), url="picture:N")
        for column, place in (("i", 24), ("j", 74))
    ]  # fmt: skip
    words = alt.Chart(pd.DataFrame({"turn": range(len(epochs)), "words": [f"epoch {epoch}" for epoch in epochs]}))
    words = words.transform_filter("datum.turn === pair_turn").mark_text(
        align="left", baseline="middle", fontWeight=600
    )
    told = []
    for (name, epoch), part in pairs.groupby(["layer", "epoch"], sort=False):
        if epoch in (epochs[0], epochs[-1]):
            rank = part["distance"].rank().corr(part["overlap"].rank())
            told.append(f"layer {name}, epoch {epoch}: {rank:.2f}")
    return (
        alt.layer(dots.add_params(picked), *images, words.encode(x=alt.value(108), y=alt.value(-30), text="words:N"))
        .add_params(layer, turn)
        .properties(
            height=300,
            title=alt.Title(
                "Near in pixels, near in paths?", subtitle="A point is a pair of digits; point at one to see them."
            ),
            description=f"Path overlap against distance of pairs of digits. Rank correlations: {'; '.join(told)}.",
        )
    )


def ranks(rows: pd.DataFrame, pictures: pd.DataFrame) -> Chart:
    """How the six digits that are nearest to a digit at the end were ranked before; menus of the digit and the layer.

    Args:
        rows: As `pictures`, of `gendyn_lite.experiments.path_digits.neighbours`.
        pictures: The digits.
    """
    digit = dict(zip(pictures["image"], pictures["digit"], strict=True))
    rows = rows.assign(
        who=[f"image {image}, a {digit[image]}" for image in rows["anchor"]],
        neighbour_is=[f"image {image}, a {digit[image]}" for image in rows["neighbour"]],
        shown_rank=rows["rank"] + 1,
    )
    ends = rows[rows["epoch"] == rows["epoch"].max()]
    order = ends.set_index(["layer", "anchor", "neighbour"])["rank"].rename("final")
    rows = rows.join(order, on=["layer", "anchor", "neighbour"])
    anchors, layers = list(rows["who"].unique()), list(rows["layer"].unique())
    base = alt.Chart(rows).transform_filter("datum.who === rank_who && datum.layer === rank_layer")
    last = int(rows["epoch"].max())
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(domain=[0, last * 1.06], nice=False),
              axis=alt.Axis(tickMinStep=1, tickCount=last))  # fmt: skip
    log = alt.Scale(type="log", reverse=True, nice=False, domain=[0.8, 128])
    y = alt.Y("shown_rank:Q", title="rank (1 is nearest)", scale=log, axis=alt.Axis(values=[1, 2, 5, 10, 20, 50, 100]))
    finals = list(range(int(rows["final"].max()) + 1))
    color = alt.Color("final:O", legend=None, scale=alt.Scale(domain=finals, range=list(PALETTE)))
    dash = alt.StrokeDash("final:O", legend=None, scale=alt.Scale(domain=finals, range=list(DASHES)))
    tip = ["epoch:Q", alt.Tooltip("shown_rank:Q", title="rank"), alt.Tooltip("neighbour_is:N", title="neighbour")]
    lines = base.mark_line(point={"size": 22}).encode(x=x, y=y, color=color, strokeDash=dash, tooltip=tip)
    lookup = alt.LookupData(pictures, key="image", fields=["picture"])
    at_end = base.transform_filter(f"datum.epoch === {last}")
    images = at_end.transform_lookup(lookup="neighbour", from_=lookup).mark_image(width=20, height=20, tooltip=None)
    images = images.encode(x=alt.X("epoch:Q", scale=alt.Scale(domain=[0, last * 1.06])), y=y, url="picture:N")
    centre = at_end.transform_filter("datum.final === 0").transform_lookup(lookup="anchor", from_=lookup)
    centre = centre.mark_image(width=40, height=40, tooltip=None)
    centre = centre.encode(x=alt.value(22), y=alt.value(-26), url="picture:N")
    nearest = rows[rows["rank"] == 0].groupby(["layer", "anchor"])["neighbour"].nunique()
    return (
        alt.layer(lines, images, centre)
        .add_params(
            menu("rank_who", anchors, "digit"), menu("rank_layer", layers, "layer", layers[min(1, len(layers) - 1)])
        )
        .properties(
            height=320,
            title=alt.Title(
                "Who was near before?",
                subtitle="Ranks of the six digits whose paths are nearest at the end; above: the digit itself.",
            ),
            description=(
                f"Ranks of neighbours by path over epochs, for {len(anchors)} digits and {len(layers)} layers. Of the "
                f"six that end nearest, {nearest.mean():.1f} on average were the very nearest at some epoch."
            ),
        )
    )


def nearest(rows: pd.DataFrame) -> Chart:
    """An image and those whose paths overlap most with its own, with the share of its units that they share.

    Args:
        rows: A table of `gendyn_lite.experiments.path_digits.nearest`.
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
    return alt.layer(stems, images).properties(
        height=260,
        title=alt.Title("Whose path overlaps?", subtitle="The image itself first, then its nearest by path."),
        description=f"The nearest by path of a {rows['digit'].iloc[0]}: {told}.",
    )
