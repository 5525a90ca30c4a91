"""Charts of chapter 4: what a step does, stiffness over the plane, class by class, during training."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import DASHES, PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, looks, menu, slider, titled, told, tooltips
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import mean_intervals, with_sizes

STEPPED_ON = ("itself", "same digit", "other digit")
MAP_COLUMNS = {"map/stiffness": "hundredths", "map/predicted": "classes"}
MAP_COLUMNS |= {"map/boundary": "boundary", "map/inside": "inside"}
MAP_TABLE = ["data", "epoch", "train_accuracy", "boundary", "inside", "side", "low0", "high0", "low1", "high1"]
MAP_TABLE += ["hundredths", "classes"]
CORNERS = Mapping[str, tuple[tuple[float, float], tuple[float, float]]]
CURVES = {
    "within, train-train": "stiffness/within_{kind}",
    "within, train-test": "stiffness/test_within_{kind}",
    "between, train-train": "stiffness/between_{kind}",
    "between, train-test": "stiffness/test_between_{kind}",
}
BEFORE, AFTER = "before training", "after training"
TRUE, RANDOM = "true labels", "random labels"


def step_changes(changes: pd.DataFrame) -> Chart:
    """Actual against predicted change of every loss by a step on one example; choose the example and the step.

    Args:
        changes: A table of `gendyn_lite.chapters.stiffness.demo.step_changes`.
    """
    steps = sorted(changes["step"].unique())
    relative = changes[["predicted", "actual"]].div(changes["step"], axis="index").add_prefix("relative_")
    rows = changes.join(relative.round(5))
    example = menu("stepped", rows["example"], "step on")
    size = slider("step_size", steps, "step size ε", value=steps[:2][-1])
    shown = chosen(rows, {"example": example, "step": size})
    line = shown.mark_line(strokeDash=[2, 3], color="currentColor", strokeWidth=1, tooltip=False)
    line = line.encode(x="relative_predicted:Q", y="relative_predicted:Q")
    color, _, shape = looks("pair", STEPPED_ON, colours=PALETTE, title="loss of")
    x = alt.X("relative_predicted:Q", title="predicted change of the loss / ε")
    y = alt.Y("relative_actual:Q", title="actual change of the loss / ε")
    ratios = {"relative_predicted": "predicted / ε", "relative_actual": "actual / ε"}
    tip = [alt.Tooltip(f"{name}:Q", title=title, format=".3f") for name, title in ratios.items()]
    tip = ["digit:N", "pair:N", "step:Q", *tip]
    points = shown.mark_point(size=70).encode(x=x, y=y, color=color, shape=shape, tooltip=tip)
    return layered(
        [line, points],
        "One step on one digit, and what it does to the others",
        "A point is a digit. On the dotted line the change is the predicted one; below 0 its loss falls.",
        "Scatter chart of the actual against the predicted change of each digit's loss by one gradient step on one "
        f"digit, both divided by the step size, for {rows['example'].nunique()} digits and step sizes from "
        f"{steps[0]:g} to {steps[-1]:g}. For small steps the points lie on the line of equality; losses of one digit "
        "fall most.",
    )


def neighbourhood_maps(runs: pd.DataFrame, corners: CORNERS) -> Chart:
    """Stiffness with the neighbours over the plane at each recorded epoch; sliders on the epoch and the data set.

    Args:
        runs: A tidy table of experiment ``"stiffness_maps"``; one run of each data set holds its maps.
        corners: Lowest and highest corner of the map of each data set, by its name in the column ``dataset``.

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
    return layered(
        [cells, words.encode(x=alt.value(0), y=alt.value(0), text="words:N")],
        "Stiffness of each place with its neighbours",
        "Dark: a step here raises the loss next door. One seed.",
        "Map of the plane at each recorded epoch: mean cosine stiffness of each place with those around it. "
        "It is near 1 away from the learned boundary and falls along it. Mean at the boundary and away from it "
        f"after training: {told(ends, '{data}: {map/boundary:.2f} and {map/inside:.2f}')}.",
        height=340,
    )


def _map_table(rows: pd.DataFrame, corners: CORNERS) -> pd.DataFrame:
    """A row for each map: its corners and its places along a side; stiffness and classes travel as one text each."""
    points = rows["map/stiffness"].str.count(" ") + 1
    rows = rows.assign(side=(points**0.5).round().astype(int))
    for (place, end), axis in product(enumerate(("low", "high")), (0, 1)):
        rows[f"{end}{axis}"] = rows["dataset"].map({name: pair[place][axis] for name, pair in corners.items()})
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


def class_matrix(runs: pd.DataFrame) -> alt.Chart:
    """Mean stiffness of each two classes, before and after training, with true and with random labels; mean over seeds.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    entries = [
        (*run, first, second, value)
        for run, rows in _decoded(runs, "detail/classes", 100)
        for first, row in enumerate(rows)
        for second, value in enumerate(row)
    ]
    keys = ["condition", "when", "one", "other"]
    cells = pd.DataFrame(entries, columns=pd.Index([*keys[:2], "seed", *keys[2:], "stiffness"]))
    table = cells.groupby(keys, sort=False)["stiffness"].mean().round(3).reset_index()
    when = alt.param(name="class_when", value=AFTER, bind=alt.binding_radio(options=[BEFORE, AFTER], name=" "))
    after = table[table["when"] == AFTER]
    same = (after["one"] == after["other"]).map({True: "within", False: "between"})
    means = after.groupby(["condition", same], sort=False)["stiffness"].mean().unstack()
    scale = alt.Scale(scheme="purpleorange", domain=[-0.6, 0.6], clamp=True, reverse=True)
    start = _conditions(runs)[_judged(runs)]
    cells = chosen(table, {"condition": menu("class_condition", table["condition"], "runs", start), "when": when})
    cells = cells.mark_rect(stroke="currentColor", strokeOpacity=0.15).encode(
        x=alt.X("other:O", title="class of the other example"),
        y=alt.Y("one:O", title="class of the example"),
        color=alt.Color("stiffness:Q", title="cosine stiffness", scale=scale),
        tooltip=["one:O", "other:O", *tooltips(".2f", "stiffness")],
    )
    return titled(
        cells,
        "Stiffness class by class",
        "Mean over pairs and seeds; diagonal: within.",
        "Matrix of the mean cosine stiffness of training examples of each two classes. "
        f"After training: {told(means, '{condition}: {within:.2f} within, {between:.2f} between')}.",
        height=300,
    )


def over_training(runs: pd.DataFrame) -> alt.HConcatChart:
    """Train-train and train-test stiffness against epoch on true and, beside them, on random labels; choose the runs.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    about = runs[["epoch", "seed"]].assign(data=_subjects(runs), labels=_labels(runs), rate=runs["learning_rate"])
    curves = {
        (kind, curve): runs[column.format(kind=kind)] for kind in ("cosine", "sign") for curve, column in CURVES.items()
    }
    rows = pd.concat(about.assign(kind=kind, curve=curve, value=value) for (kind, curve), value in curves.items())
    table = mean_intervals(rows, ["data", "labels", "rate", "kind", "curve", "epoch"]).round(4)
    judged = about.loc[_judged(runs)]
    data = menu("training_data", table["data"], "data", judged["data"])
    rate = parts.slider("training_rate", table.loc[table["labels"] == TRUE, "rate"], "rate", value=judged["rate"])
    bind = alt.binding_radio(options=["cosine", "sign"], name="stiffness ")
    kind = alt.param(name="training_kind", value="cosine", bind=bind)
    picked, opacity = parts.from_legend("curve", name="curve_picked")
    named = looks("curve", list(CURVES), title=None, legend=alt.Legend(columns=2))
    y = alt.Y("mean:Q", title="mean stiffness")
    panels = []
    for labels, choices in ((TRUE, {"data": data, "rate": rate, "kind": kind}), (RANDOM, {"data": data, "kind": kind})):
        rows = table[table["labels"] == labels]
        bars, line = _curves(chosen(rows, choices), parts.EPOCH, y, named, opacity=opacity, detail="rate:N")
        rates = ", rate " + " and ".join(map("{:g}".format, rows["rate"].unique())) if labels == RANDOM else ""
        line = line if panels else line.add_params(picked)  # the panels have one legend
        panels.append(alt.layer(bars, line).properties(title=labels + rates))
    ends = parts.latest(table[table["kind"] == "cosine"], ["data", "labels", "rate", "curve"])
    return titled(
        alt.hconcat(*panels).resolve_scale(y="shared"),
        "Stiffness during training",
        "Mean and 95 % interval over seeds; pick a curve in the legend.",
        "Mean stiffness against epoch on true and, beside them, on random labels, within and between classes, of pairs "
        "of training examples and of a training and a test example. At the end of training (cosine): "
        f"{told(ends, '{data}, {labels}, rate {rate:g}, {curve}: {mean:.2f}')}.",
    )


def critical_lengths(runs: pd.DataFrame) -> Chart:
    """The critical length against epoch, a line per learning rate; choose the network and data.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    true = runs[runs["label_corruption"] == 0].rename(columns={"stiffness/critical_length": "value"})
    true = true.assign(subject=_subjects(true), rate=true["learning_rate"].map("{:g}".format))
    table = mean_intervals(true.dropna(subset=["value"]), ["subject", "rate", "epoch"]).round(4)
    ends = parts.latest(table, ["subject", "rate"])
    options = list(table["subject"].unique())
    bind = alt.binding_select(options=options, name="data ")  # even for one, whose name stands there
    shown = chosen(table, {"subject": alt.param(name="length_subject", value=options[0], bind=bind)})
    y = alt.Y("mean:Q", title="critical length ξ (1 − cos of inputs)", scale=parts.AROUND)
    named = looks("rate", sorted(table["rate"].unique(), key=float), title="learning rate")
    return layered(
        _curves(shown, parts.EPOCH, y, named),
        "The critical length",
        "Distance of inputs at which stiffness within a class vanishes; mean and interval.",
        "Critical length against epoch for several learning rates. At the last epoch: "
        f"{told(ends, '{subject}, learning rate {rate}: {mean:.2f}')}.",
    )


def against_distance(runs: pd.DataFrame) -> Chart:
    """Stiffness of pairs within a class against the distance of their inputs, before and after training.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    entries = [
        (*run, number, *pair) for run, rows in _decoded(runs, "detail/bins", 1000) for number, pair in enumerate(rows)
    ]
    keys = ["condition", "when", "bin"]
    bins = pd.DataFrame(entries, columns=pd.Index([*keys[:2], "seed", "bin", "distance", "value"]))
    distances = bins.groupby(keys, sort=False)["distance"].mean().to_numpy().round(3)
    table = mean_intervals(bins, keys).round(4).assign(distance=distances)
    ends = table[table["when"] == AFTER].groupby("condition", sort=False)["mean"].agg(["first", "last"])
    shown = chosen(table, {"condition": menu("distance_runs", table["condition"], "runs")})
    x = alt.X("distance:Q", title="distance of the inputs, 1 − cos", scale=parts.AROUND)
    y = alt.Y("mean:Q", title="cosine stiffness within classes")
    named = looks("when", [BEFORE, AFTER], colours=PALETTE[1::-1], dashes=DASHES[1::-1], title=None)
    words = told(ends, "{condition}: {first:.2f} for the nearest pairs, {last:.2f} for the farthest")
    return layered(
        _curves(shown, x, y, named, size=30),
        "Stiffness against the distance of inputs",
        "Pairs of one class in bins of equal size; mean and interval.",
        f"Mean cosine stiffness of pairs within a class against distance. After training: {words}.",
    )


def _decoded(runs: pd.DataFrame, column: str, scale: int) -> list[tuple[tuple[str, str, int], list[list[float]]]]:
    """The rows of numbers that a column holds as text: of each run what it is, when, its seed, and the rows."""
    rows = runs[runs[column].notna()]
    when = rows["epoch"].map(lambda epoch: BEFORE if epoch == 0 else AFTER)
    texts = [[list(map(int, line.split())) for line in text.split("/")] for text in rows[column]]
    values = [[[value / scale for value in line] for line in lines] for lines in texts]
    return list(zip(zip(_conditions(rows), when, rows["seed"], strict=True), values, strict=True))


def _subjects(runs: pd.DataFrame) -> pd.Series:
    """The data of each run, its network where there is more than one on the same data, and its size likewise."""
    several = runs.groupby("data")["network"].transform("nunique") > 1
    return runs["data"].where(~several, runs["network"] + " on " + runs["data"]) + with_sizes(runs)["size"]


def _conditions(runs: pd.DataFrame) -> pd.Series:
    """What each run is, short enough for a menu on a phone: data, labels, learning rate."""
    return _subjects(runs) + ", " + _labels(runs) + runs["learning_rate"].map(", rate {:g}".format)


def _labels(runs: pd.DataFrame) -> pd.Series:
    """Whether the labels of each run are true or random."""
    return runs["label_corruption"].map(lambda q: RANDOM if q == 1 else TRUE)


def _judged(runs: pd.DataFrame) -> Any:
    """A row of the runs that claims are judged by, of the last data set: true labels, the middle learning rate."""
    true = runs[runs["label_corruption"] == 0]
    true = true[true["data"] == true["data"].iloc[-1]]
    rates = sorted(true["learning_rate"].unique())
    return true.index[true["learning_rate"] == rates[len(rates) // 2]][0]


def _curves(
    shown: alt.Chart, x: alt.X, y: alt.Y, named: parts.Looks, *, size: int = 22, **more: Any
) -> list[alt.Chart]:
    """The intervals over seeds, and a line over means, for each name; `more` is encoded of both."""
    color, dash, _ = named
    base = shown.encode(x=x, color=color, **more)
    tip = [str(color.shorthand), str(x.shorthand), *tooltips(".3f")]
    return [parts.interval_bars(base), base.mark_line(point={"size": size}).encode(y=y, strokeDash=dash, tooltip=tip)]
