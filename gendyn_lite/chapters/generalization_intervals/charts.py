"""Charts of chapter 5: lengths of intervals over runs; single lines, and where the class changes along them."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.generalization_intervals import tables
from gendyn_lite.chapters.generalization_intervals.tables import LABELS, OTHER, OWN, SPANS
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, menu, of_runs, strokes, tooltips
from gendyn_lite.results.tables import mean_intervals

NAMES = list(LABELS.values())
OF_LABELS = strokes("labels", NAMES)
# On a linear scale the intervals that reach the whole range would hide all others.
ROOT = alt.Scale(type="sqrt", domain=[0, 1], nice=False)
HALVES = alt.Axis(tickMinStep=0.5, tickCount=6)
# A long name breaks at a space among its first 19 letters, so that it is whole on a phone.
IN_LINES = "split(replace(datum.label, regexp('^(.{10,18}) '), '$1|'), '|')"
REACH, NEAREST = "reach", "nearest of its class"
WORDS = {"pair": "pairs of one class", "midline": "midlines of triangles of one class"}


def densities(table: pd.DataFrame, *, kind: str = "pair", by: str = "downsample") -> Chart:
    """Draw how lengths are distributed on true and random labels: mean over seeds, with a band of 95 % intervals.

    Args:
        table: A tidy table of experiment ``"generalization_intervals"``.
        kind: ``"pair"`` or ``"midline"``.
        by: What the menu chooses beside the data: ``"downsample"`` or ``"widths"``.
    """
    runs = tables.with_subjects(tables.ends(table), by)
    rows = tables.shares(runs, kind)
    low, high = SPANS[kind]
    scale = alt.Scale(domain=[0, high - low], nice=False)
    x = alt.X("length:Q", title="length of the interval, in α", axis=HALVES, scale=scale)
    subject = menu("subject", rows["subject"], "data" if by == "downsample" else "network")
    base = chosen(rows, {"subject": subject}).encode(x=x, color=OF_LABELS["color"])
    share = alt.Y("low:Q", title="share of lines (square-root scale)", scale=ROOT)
    tip = ["labels:N", "length:Q", *tooltips(".3f", "share"), "seeds:Q"]
    line = base.mark_line(point={"size": 14}).encode(y=alt.Y("share:Q", scale=ROOT), tooltip=tip)
    means = runs.groupby(["subject", "labels"], sort=False)[f"intervals/{kind}_mean"].mean().dropna().rename("mean")
    band, line = base.mark_area(tooltip=None), line.encode(strokeDash=OF_LABELS["strokeDash"])
    words = parts.told(means, "{subject}, {labels} {mean:.2f}")
    subtitle = f"At most {high - low:g}. Band: 95 % interval over seeds."
    about = f"Distribution of lengths along {WORDS[kind]}. Mean lengths: {words}."
    layers = [band.encode(y=share, y2="high:Q"), line]
    drawn = layered(layers, f"Lengths along {WORDS[kind]}", subtitle, about)
    return of_runs(drawn, table, tables.with_lengths(runs, kind))


def directions(table: pd.DataFrame) -> Chart:
    """Draw the mean length by direction, on true and random labels and before training; a menu chooses the data.

    Args:
        table: As for `densities`.
    """
    runs = tables.ends(table)
    runs = tables.main_network(runs[runs["downsample"] == 1])
    rows = tables.by_direction(runs)
    length = alt.Scale(domain=[0, 3], nice=False)
    names = [name for name in (*NAMES, tables.UNTRAINED) if name in set(rows["labels"])]
    color, _, shape = parts.looks("labels", names, title=None)
    base = chosen(rows, {"data": menu("data_set", rows["data"], "data")}).encode(
        y=alt.Y("direction:N", title=None, sort=list(tables.DIRECTIONS.values()), axis=alt.Axis(labelExpr=IN_LINES)),
        yOffset=alt.YOffset("labels:N", scale=alt.Scale(domain=names, paddingInner=0.4, paddingOuter=0.3)),
        color=color,
    )
    whiskers = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    x = alt.X("length:Q", title="mean length, in α", axis=HALVES, scale=length)
    tip = ["direction:N", "labels:N", "length:Q", "low:Q", "high:Q", "seeds:Q"]
    layers = [
        whiskers.encode(x=alt.X("low:Q", scale=length), x2="high:Q"),
        base.mark_point(size=80).encode(x=x, shape=shape, tooltip=tip),
    ]
    words = parts.told(rows, "{data}, {labels}, {direction} {length:.2f}")
    about = f"Mean interval length by direction: {words}."
    subtitle = "α = 1 is the distance between two points of the class."
    return of_runs(layered(layers, "Which way the class lasts", subtitle, about, height=300), table, runs)


def during_training(table: pd.DataFrame) -> Chart:
    """Draw mean interval length and accuracies against epoch, on true labels; a menu chooses the data.

    Args:
        table: As for `densities`, with runs that were measured at many epochs.
    """
    runs = tables.watched(table)
    means = tables.while_training(runs)
    names, share = list(means["of"].unique()), alt.Scale(domain=[0, 1])
    color, *_ = parts.looks("of", names, title=None)
    base = chosen(means, {"data": menu("data_set", means["data"], "data")}).encode(x=parts.EPOCHS, color=color)
    line = base.mark_line(point={"size": 16}).encode(y=alt.Y("value:Q", title="share", scale=share))
    tip = ["of:N", "epoch:Q", *tooltips(".3f", "value"), "seeds:Q"]
    layers = [
        base.mark_area(tooltip=None, clip=True).encode(y=alt.Y("low:Q", scale=share), y2="high:Q"),
        line.encode(strokeDash=strokes("of", names)["strokeDash"], tooltip=tip),
    ]
    about = "Mean interval length along pairs, as a share of its range, beside both accuracies by epoch."
    subtitle = "True labels; band: 95 % interval over seeds."
    return of_runs(layered(layers, "Intervals while training", subtitle, about), table, runs)


def region_norms(table: pd.DataFrame) -> Chart:
    """Draw the ∞-norms of linear regions divided by that of the product of the weights, with a line at 1.

    Args:
        table: As for `densities`.
    """
    runs = tables.ends(table)
    runs = runs[runs["intervals/norm_ratio"].notna() & (runs["downsample"] == 1)]
    runs = runs.sort_values(["data", "widths"], key=lambda names: names.where(names != tables.MAIN, ""), kind="stable")
    runs = runs.assign(subject=runs["data"] + ", " + runs["widths"] + runs["size"])
    rows = tables.shares(runs, "norm").rename(columns={"length": "ratio"})
    line = chosen(rows, {"subject": menu("subject", rows["subject"], "network")}).mark_line(point={"size": 14})
    rule = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(strokeDash=[2, 3], color=PALETTE[4])
    x = alt.X("ratio:Q", title="‖W of a region‖∞ / ‖W‖∞", scale=alt.Scale(domain=[0, 1.5], nice=False))
    tip = ["labels:N", "ratio:Q", *tooltips(".3f", "share")]
    line = line.encode(x=x, y=alt.Y("share:Q", title="share of regions"), **OF_LABELS, tooltip=tip)
    about = (
        "Norms of regions over the norm of the weights' product; "
        f"{runs['intervals/norm_within'].mean():.1%} lie within it."
    )
    title, subtitle = "Norms of linear regions", "Left of the dotted line: no larger than without its ReLUs."
    drawn = layered([rule.encode(x="ratio:Q"), line], title, subtitle, about)
    return of_runs(drawn, table, tables.with_lengths(runs, "norm"))


def bound_reach(table: pd.DataFrame) -> Chart:
    """Draw how far the bound of the appendix reaches from a training image, and how far new images of its class are.

    Args:
        table: As for `densities`, with the values of `gendyn_lite.chapters.generalization_intervals.probes.bound`.
    """
    runs = tables.ends(table)
    runs = runs[(runs["label_corruption"] == 0) & (runs["dataset"] != "two_moons")]
    runs = runs.dropna(subset=["intervals/bound_reach", "intervals/bound_nearest"], how="all")
    curves = {REACH: runs["intervals/bound_reach"], NEAREST: runs["intervals/bound_nearest"]}
    named = runs[["seed"]].assign(subject=runs["data"] + ", " + runs["widths"] + runs["size"])
    rows = named.assign(**curves).melt(list(named), var_name="of").dropna()
    rows = mean_intervals(rows, ["subject", "of"], name="distance")
    rows = rows.assign(**{name: rows[name].map("{:.3g}".format).astype(float) for name in ("distance", "low", "high")})
    color, _, shape = parts.looks("of", [REACH, NEAREST], title=None)
    x = alt.X("distance:Q", title="largest change of a pixel", scale=alt.Scale(type="log"))
    y = alt.Y("subject:N", title=None, sort=None, axis=alt.Axis(labelLimit=260))
    tip = ["subject:N", "of:N", "distance:Q", "low:Q", "high:Q", "seeds:Q"]
    marks = alt.Chart(rows).mark_point(size=90, filled=True).encode(x=x, y=y, color=color, shape=shape, tooltip=tip)
    words = parts.told(rows, "{subject}, {of}: {distance:.2g}")
    title = "What the bound explains"
    subtitle = "True labels, logarithmic. Reach of the bound, and distance of new images to the nearest of their class."
    about = f"Reach of the bound and distance to new images: {words}."
    return of_runs(layered([marks], title, subtitle, about, height=230), table, runs)


def planar(cells: pd.DataFrame, points: pd.DataFrame, lines: pd.DataFrame, knots: pd.DataFrame) -> Chart:
    """Draw a network on the plane: its regions, and a line with its interval and knots; sliders move the line.

    The arguments are the tables of this chapter's `demo.Plane`.

    Args:
        cells: The linear regions on a grid.
        points: The training points.
        lines: Lines and their intervals, by start and angle.
        knots: Where the lines pass from one region to the next.
    """
    ends = ([float(cells[axis].min()), float(cells[f"{axis}2"].max())] for axis in "xy")
    across, up = (alt.Scale(domain=domain, nice=False) for domain in ends)
    x, y = alt.X("x:Q", title="first coordinate", scale=across), alt.Y("y:Q", title="second coordinate", scale=up)

    def at(name: str, *, ends: bool = True) -> dict[str, Any]:
        """Return the encodings of a mark's place (or of both ends) by the columns with this prefix."""
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
    """Draw the linear regions in shades of their class, and the training points."""
    color = alt.Color("class:N", legend=None, scale=alt.Scale(domain=[0, 1], range=list(PALETTE[:2])))
    shade = alt.Opacity("shade:Q", legend=None, scale=alt.Scale(domain=[0, 3], range=[0.14, 0.4]))
    shape = alt.Shape("class:N", legend=None, scale=alt.Scale(range=["circle", "square"]))
    ground = alt.Chart(cells).mark_rect(tooltip=None).encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=color, opacity=shade)
    dots = alt.Chart(points).mark_point(size=22, filled=True, opacity=0.9)
    return ground, dots.encode(x=x, y=y, color=color, shape=shape)


def _said(line: alt.Chart) -> alt.Chart:
    """Say a line's interval and number of regions, in the field ``words``."""
    ends = "'interval ' + format(datum.lower, '.3f') + ' to ' + format(datum.upper, '.3f')"
    return line.transform_calculate(words=f"{ends} + ', ' + datum.regions + ' regions'")


def paths(logits: pd.DataFrame, intervals: pd.DataFrame, images: pd.DataFrame) -> Chart:
    """Draw logits along a line, its interval shaded, and pictures on the way; menus choose labels and direction.

    The arguments are the tables of this chapter's `probes.Frames`.

    Args:
        logits: The logits at the knots.
        intervals: The intervals.
        images: Pictures at some α; empty if the points are not images.
    """
    labels = {column: label for column, label in (("labels", "labels"), ("towards", "direction")) if column in logits}
    choices = parts.menus(logits, "chosen", labels)
    shown = " && ".join(["true", *(f"datum.{column} === {param.name}" for column, param in choices.items())])
    # Wider than the line, so that the pictures at both ends are not cut off.
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
    """Add the column ``floor``, a fifth of the range below each line's logits, to make room for pictures."""
    floors = []
    for row in intervals.to_dict("records"):
        shown = logits.loc[logits[keys].eq([row[key] for key in keys]).all(axis="columns"), [OWN, OTHER]].to_numpy()
        floors.append(round(shown.min() - 0.2 * (shown.max() - shown.min()), 3))
    return intervals.assign(floor=floors)
