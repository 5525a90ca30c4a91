"""Charts of chapter 4 over the plane: stiffness of neighbouring points, and how much of a boundary is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import altair as alt
import pandas as pd

from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, looks, menu, of_runs, slider, told, tooltips
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import mean_intervals, with_sizes

MAP_COLUMNS = {"map/stiffness": "hundredths", "map/predicted": "classes"}
MAP_COLUMNS |= {"map/boundary": "boundary", "map/inside": "inside"}
MAP_TABLE = ["data", "epoch", "train_accuracy", "boundary", "inside", "side", "low0", "high0", "low1", "high1"]
MAP_TABLE += ["hundredths", "classes"]
CORNERS = Mapping[str, tuple[tuple[float, float], tuple[float, float]]]
CONTRASTS = [
    "trained",
    "untrained, shifted bias",
    "untrained, trained classes",
    "trained, at data points",
    "untrained, at data points",
]


def neighbourhood_maps(runs: pd.DataFrame, corners: CORNERS) -> Chart:
    """Draw the stiffness of each place in the plane with its neighbours, at each recorded epoch.

    Args:
        runs: A tidy table of experiment ``"stiffness_maps"``; one run of each data set holds its maps.
        corners: Name of a data set in the column ``dataset`` → lowest and highest corner of its map.

    Raises:
        UserError: No run holds a map.
    """
    rows = with_sizes(runs[runs["map/stiffness"].notna()], of="data").sort_values(["dataset", "size", "epoch"])
    if rows.empty:
        raise UserError("no run of the table holds a map, expected runs of stiffness_maps with seed 0")
    rows = rows.assign(data=rows["data"] + rows["size"])
    first = rows[rows["data"] == rows["data"].iloc[0]]
    epoch = slider("map_epoch", rows["epoch"], "epoch", value=int(first["epoch"].max()))
    shown = chosen(_map_table(rows, corners), {"data": menu("map_data", rows["data"], "data"), "epoch": epoch})
    words = shown.transform_calculate(
        words="'epoch ' + datum.epoch + ', train accuracy ' + format(datum.train_accuracy, '.2f')"
    ).mark_text(align="left", baseline="bottom", dy=-4, fontWeight="bold")
    place = alt.Scale(nice=False, zero=False)
    x, y = alt.X("x:Q", title="first coordinate", scale=place), alt.Y("y:Q", title="second coordinate", scale=place)
    color = alt.Color("stiffness:Q", scale=alt.Scale(scheme="viridis", domain=[-0.5, 1], clamp=True))
    tip = [*tooltips(".2f", "stiffness"), alt.Tooltip("predicted:N", title="predicted class")]
    cells = _cells(shown).mark_rect().encode(x=x, x2="x2:Q", y=y, y2="y2:Q", color=color, tooltip=tip)
    ends = rows[rows["epoch"] == rows.groupby("data")["epoch"].transform("max")]
    drawn = layered(
        [cells, words.encode(x=alt.value(0), y=alt.value(0), text="words:N")],
        "Stiffness of each place with its neighbours",
        "Dark: a step here raises the loss at neighbouring places. One seed.",
        "Map of the plane at each recorded epoch: mean cosine stiffness of each place with those around it. "
        "It is near 1 away from the learned boundary and falls along it. Mean at the boundary and away from it "
        f"after training: {told(ends, '{data}: {map/boundary:.2f} and {map/inside:.2f}')}.",
        height=340,
    )
    return of_runs(drawn, runs, rows)


def _map_table(rows: pd.DataFrame, corners: CORNERS) -> pd.DataFrame:
    """Return a row for each map: its corners, places along a side, and stiffness and classes as one string each."""
    points = rows["map/stiffness"].str.count(" ") + 1
    rows = rows.assign(side=(points**0.5).round().astype(int))
    for (place, end), axis in product(enumerate(("low", "high")), (0, 1)):
        rows[f"{end}{axis}"] = rows["dataset"].map({name: pair[place][axis] for name, pair in corners.items()})
    return rows.rename(columns=MAP_COLUMNS)[MAP_TABLE].round(3)


def _cells(one: alt.Chart) -> alt.Chart:
    """Unfold one map to a row for each place, with the corners of its cell and its stiffness."""
    return (
        one.transform_calculate(value="split(datum.hundredths, ' ')", predicted="split(datum.classes, '')")
        .transform_flatten(["value", "predicted"])
        .transform_window(place="row_number()")
        .transform_calculate(
            row="(datum.place - 1) % datum.side",
            column="floor((datum.place - 1) / datum.side)",
            stiffness="datum.value / 100",
            x="datum.low0 + (datum.column - 0.5) * (datum.high0 - datum.low0) / (datum.side - 1)",
            y="datum.low1 + (datum.row - 0.5) * (datum.high1 - datum.low1) / (datum.side - 1)",
        )
        .transform_calculate(
            # A little wider than a cell, so that the background does not show between cells.
            x2="datum.x + 1.06 * (datum.high0 - datum.low0) / (datum.side - 1)",
            y2="datum.y + 1.06 * (datum.high1 - datum.low1) / (datum.side - 1)",
        )
    )


def boundary_contrasts(runs: pd.DataFrame) -> Chart:
    """Draw by how much stiffness is lower at a boundary, for trained networks and where nothing was learnt.

    Args:
        runs: A tidy table of experiment ``"stiffness_maps"``.
    """
    sized = with_sizes(runs, of="data")
    sized = sized.assign(data=sized["data"].str.removesuffix(" (points in the plane)") + sized["size"])
    ends, starts = parts.latest(sized, ["run_id"]), sized[sized["epoch"] == 0]
    kinds = ((ends, ""), (starts, "shifted_"), (ends, "labelled_"), (ends, "points_"), (starts, "points_"))
    found = []
    for kind, (rows, prefix) in zip(CONTRASTS, kinds, strict=True):
        value = rows[f"map/{prefix}inside"] - rows[f"map/{prefix}boundary"]
        found.append(rows[["data", "seed"]].assign(kind=kind, value=value))
    table = mean_intervals(pd.concat(found), ["data", "kind"]).round(4)
    color, _, shape = looks("kind", CONTRASTS, colours=PALETTE, title=None, legend=alt.Legend(columns=1, orient="top"))
    y = alt.Y("data:N", title=None, sort=None, axis=alt.Axis(labelLimit=200))
    base = alt.Chart(table).encode(y=y, yOffset=alt.YOffset("kind:N", sort=CONTRASTS), color=color)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=1.5).encode(x="low:Q", x2="high:Q")
    x = alt.X("mean:Q", title="inside minus boundary", scale=parts.AROUND)
    points = base.mark_point(size=60, filled=True)
    drawn = layered(
        [bars, points.encode(x=x, shape=shape, tooltip=["data:N", "kind:N", *tooltips(".2f")])],
        "How much of the boundary is learnt",
        "Mean and 95 % interval over seeds.",
        "Mean stiffness away from a boundary minus at it, of trained networks and where nothing was learnt. "
        f"{told(table, '{data}, {kind}: {mean:.2f}')}.",
        height=14 * (len(CONTRASTS) + 1) * table["data"].nunique(),
    )
    return of_runs(drawn, runs, sized)
