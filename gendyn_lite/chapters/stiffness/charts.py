"""Charts of chapter 4 on single networks: what a step does, stiffness over the plane, class by class."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from gendyn_lite.chapters.stiffness.charts_training import AFTER, BEFORE, before_or_after, conditions
from gendyn_lite.charts.parts import slider
from gendyn_lite.charts.theme import PALETTE, SHAPES
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import with_sizes

PAIRS = ("itself", "same digit", "other digit")
MAP_COLUMNS = {
    "map/stiffness": "hundredths",
    "map/predicted": "classes",
    "map/boundary": "boundary",
    "map/inside": "inside",
}
MAP_TABLE = [
    *("data", "epoch", "turn", "train_accuracy", "boundary", "inside"),
    *("side", "low0", "high0", "low1", "high1", "hundredths", "classes"),
]
CORNERS = Mapping[str, tuple[tuple[float, float], tuple[float, float]]]


def step_changes(changes: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Actual against predicted change of every loss by a step on one example; choose the example and the step.

    Args:
        changes: A table of `gendyn_lite.chapters.stiffness.demo.step_changes`.
    """
    steps = sorted(changes["step"].unique())
    rows = changes.assign(
        size=changes["step"].map({step: number for number, step in enumerate(steps)}),
        relative_predicted=changes["predicted"] / changes["step"],
        relative_actual=changes["actual"] / changes["step"],
    )
    names = list(rows["example"].unique())
    size = slider("step_size", len(steps) - 1, "step size, small to large", value=1)
    example = alt.param(name="stepped", value=names[0], bind=alt.binding_select(options=names, name="step on "))
    shown = alt.Chart(rows.round(5)).transform_filter("datum.size === step_size && datum.example === stepped")
    line = shown.mark_line(strokeDash=[2, 3], color="currentColor", strokeWidth=1, tooltip=False).encode(
        x="relative_predicted:Q", y="relative_predicted:Q"
    )
    return alt.layer(line, _changes(shown).add_params(example, size), _step_words(steps)).properties(
        title=alt.Title(
            "One step on one digit, and what it does to the others",
            subtitle="A point is a digit. On the dotted line the change is the predicted one; below 0 its loss falls.",
        ),
        description=(
            "Scatter chart of the actual against the predicted change of each digit's loss by one gradient step on one "
            f"digit, both divided by the step size, for {len(names)} digits and step sizes from {steps[0]:g} to "
            f"{steps[-1]:g}. For small steps the points lie on the line of equality; losses of one digit fall most."
        ),
    )


def _changes(shown: alt.Chart) -> alt.Chart:
    """A point for each digit."""
    scale = alt.Scale(domain=list(PAIRS), range=list(PALETTE[:3]))
    return shown.mark_point(size=70).encode(
        x=alt.X("relative_predicted:Q", title="predicted change of the loss / ε"),
        y=alt.Y("relative_actual:Q", title="actual change of the loss / ε"),
        color=alt.Color("pair:N", title="measured on", scale=scale),
        shape=alt.Shape("pair:N", title="measured on", scale=alt.Scale(domain=list(PAIRS), range=list(SHAPES[:3]))),
        tooltip=[
            "digit:N",
            "pair:N",
            "step:Q",
            alt.Tooltip("relative_predicted:Q", title="predicted / ε", format=".3f"),
            alt.Tooltip("relative_actual:Q", title="actual / ε", format=".3f"),
        ],
    )


def _step_words(steps: list[float]) -> alt.Chart:
    """The step size that the slider is at."""
    rows = pd.DataFrame({"size": range(len(steps)), "words": [f"ε = {step:g}" for step in steps]})
    words = alt.Chart(rows).transform_filter("datum.size === step_size")
    words = words.mark_text(align="left", baseline="top", dx=8, dy=4, fontWeight="bold")
    return words.encode(x=alt.value(0), y=alt.value(0), text="words:N")


def neighbourhood_maps(runs: pd.DataFrame, corners: CORNERS) -> alt.LayerChart | alt.FacetChart:
    """Stiffness with the neighbours over the plane at each recorded epoch; sliders on the epoch and the data set.

    Args:
        runs: A tidy table of experiment ``"stiffness_maps"``; one run of each data set holds its maps.
        corners: Lowest and highest corner of the map of each data set, by its name in the column ``dataset``.
    """
    rows = with_sizes(runs[runs["map/stiffness"].notna()], of="data").sort_values(["dataset", "size", "epoch"])
    if rows.empty:
        raise UserError("no run of the table holds a map, expected runs of stiffness_maps with seed 0")
    rows = rows.assign(turn=rows.groupby(["dataset", "size"]).cumcount(), data=rows["data"] + rows["size"])
    table, last = _map_table(rows, corners), int(rows["turn"].max())
    names = list(rows["data"].unique())
    data = alt.param(name="map_data", value=names[0], bind=alt.binding_select(options=names, name="data "))
    one = alt.Chart(table).transform_filter("datum.turn === map_turn && datum.data === map_data")
    words = one.transform_calculate(
        words="'epoch ' + datum.epoch + ', train accuracy ' + format(datum.train_accuracy, '.2f')"
    ).mark_text(align="left", baseline="bottom", dy=-4, fontWeight="bold")
    cells = _coloured(_cells(one)).add_params(data, slider("map_turn", last, "epochs, from 0 to the last"))
    ends = rows[rows["turn"] == rows.groupby("data")["turn"].transform("max")]
    told = "; ".join(
        f"{row['data']}: {row['map/boundary']:.2f} and {row['map/inside']:.2f}" for _, row in ends.iterrows()
    )
    return alt.layer(cells, words.encode(x=alt.value(0), y=alt.value(0), text="words:N")).properties(
        height=340,
        title=alt.Title(
            "Stiffness of each place with its neighbours",
            subtitle="Dark: a step here raises the loss next door. One seed.",
        ),
        description=(
            "Map of the plane at each recorded epoch: mean cosine stiffness of each place with those around it. "
            "It is near 1 away from the learned boundary and falls along it. Mean at the boundary and away from it "
            f"after training: {told}."
        ),
    )


def _map_table(rows: pd.DataFrame, corners: CORNERS) -> pd.DataFrame:
    """A row for each map: its corners and its places along a side; stiffness and classes travel as one text each."""
    points = rows["map/stiffness"].str.count(" ") + 1
    rows = rows.assign(side=(points**0.5).round().astype(int))
    for axis in (0, 1):
        rows[f"low{axis}"] = rows["dataset"].map({name: pair[0][axis] for name, pair in corners.items()})
        rows[f"high{axis}"] = rows["dataset"].map({name: pair[1][axis] for name, pair in corners.items()})
    return rows.rename(columns=MAP_COLUMNS)[MAP_TABLE].round(3)


def _cells(one: alt.Chart) -> alt.Chart:
    """The places of one map, a row each: where its cell is, and its stiffness."""
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
            # A little wider than a cell, so that no line of the page shows between two of them.
            x2="datum.x + 1.06 * (datum.high0 - datum.low0) / (datum.side - 1)",
            y2="datum.y + 1.06 * (datum.high1 - datum.low1) / (datum.side - 1)",
        )
    )


def _coloured(cells: alt.Chart) -> alt.Chart:
    return cells.mark_rect().encode(
        x=alt.X("x:Q", title="first coordinate", scale=alt.Scale(nice=False, zero=False)),
        x2="x2:Q",
        y=alt.Y("y:Q", title="second coordinate", scale=alt.Scale(nice=False, zero=False)),
        y2="y2:Q",
        color=alt.Color(
            "stiffness:Q",
            title="stiffness",
            scale=alt.Scale(scheme="viridis", domain=[-0.5, 1], clamp=True),
        ),
        tooltip=[alt.Tooltip("stiffness:Q", format=".2f"), alt.Tooltip("predicted:N", title="predicted class")],
    )


def class_matrix(runs: pd.DataFrame) -> alt.Chart:
    """Mean stiffness of each two classes, before and after training, with true and with random labels; mean over seeds.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    table = _class_means(runs)
    options = list(table["condition"].unique())
    chosen = alt.param(name="class_condition", value=options[0], bind=alt.binding_select(options=options, name="runs "))
    when = alt.param(name="class_when", value=AFTER, bind=alt.binding_radio(options=[BEFORE, AFTER], name=" "))
    after = table[table["when"] == AFTER]
    means = after.groupby(["condition", after["one"] == after["other"]], sort=False)["stiffness"].mean().unstack()
    words = "; ".join(f"{name}: {row[True]:.2f} within, {row[False]:.2f} between" for name, row in means.iterrows())
    return (
        alt.Chart(table)
        .transform_filter("datum.condition === class_condition && datum.when === class_when")
        .mark_rect(stroke="currentColor", strokeOpacity=0.15)
        .encode(
            x=alt.X("other:O", title="class of the other example"),
            y=alt.Y("one:O", title="class of the example"),
            color=alt.Color(
                "stiffness:Q",
                title="cosine stiffness",
                scale=alt.Scale(scheme="purpleorange", domain=[-0.6, 0.6], clamp=True, reverse=True),
            ),
            tooltip=["one:O", "other:O", alt.Tooltip("stiffness:Q", format=".2f")],
        )
        .add_params(chosen, when)
        .properties(
            height=300,
            title=alt.Title("Stiffness class by class", subtitle="Mean over pairs and seeds; diagonal: within."),
            description=(
                "Matrix of the mean cosine stiffness of training examples of each two classes. After training: "
                + words
                + "."
            ),
        )
    )


def _class_means(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean stiffness over seeds: a row for each kind of runs, time and two classes."""
    rows = runs[runs["detail/classes"].notna()]
    parts = []
    for (_, run), condition in zip(rows.iterrows(), conditions(rows), strict=True):
        for first, line in enumerate(str(run["detail/classes"]).split("/")):
            for second, value in enumerate(line.split()):
                parts.append((condition, before_or_after(run), first, second, float(value) / 100))
    cells = pd.DataFrame(parts, columns=pd.Index(["condition", "when", "one", "other", "stiffness"]))
    grouped = cells.groupby(["condition", "when", "one", "other"], sort=False)["stiffness"]
    return grouped.mean().round(3).reset_index()
