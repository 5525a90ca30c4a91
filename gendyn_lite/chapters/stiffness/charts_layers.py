"""Charts of chapter 4 by layer, of small and of deep networks, and over the plane: neighbourhoods and boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.stiffness.tables import KINDS, LAG, LAYERS, MOVEMENT, long_layers, of_fitted_runs
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import (
    Chart,
    Looks,
    chosen,
    interval_bars,
    layered,
    looks,
    menu,
    slider,
    titled,
    told,
    tooltips,
)
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import mean_intervals, with_sizes

PAIRS = {"all": "all pairs", "within": "within a class", "between": "between classes"}
ACTIVATIONS = {"relu": "ReLU", "tanh": "tanh", "leaky_relu": "LeakyReLU"}
TRAINING = {  # probe, share of random labels, state
    (LAYERS, 0.0, "untrained"): "untrained",
    (LAYERS, 0.0, "trained"): "true labels",
    (LAYERS, 1.0, "trained"): "random labels",
    (MOVEMENT, 0.0, "trained"): "moved at random as far",
    (LAG, 0.0, "trained"): "untrained, statistics lag",
}


def trained_and_untrained(runs: pd.DataFrame) -> Chart:
    """Mean stiffness of each layer, before and after training; choose data, pairs and activation (Walker, Fig. 2).

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.
    """
    rows = long_layers(runs)
    table = _profile(rows[(rows["depth"] == 4) & (rows["width"] == 32)], "data", ["data", "activation", "state"])
    ends = table[(table["pairs"] == PAIRS["all"]) & (table["activation"] == "ReLU")]
    ends = ends.groupby(["data", "state"], sort=False)["mean"].agg(["first", "last"])
    words = told(ends, "{data}, {state}: {first:.2f} in the first layer, {last:.2f} in the last")
    named = looks("state", ["untrained", "trained"], colours=PALETTE[1::-1], title="network")
    return layered(
        _lines(table, _menus(table, "layers", ["data", "pairs", "activation"], "between"), named),
        "Stiffness of each layer, before and after training",
        "4 hidden layers of 32 units; mean and 95 % interval over seeds.",
        f"Mean cosine stiffness of each layer's gradients. ReLU, all pairs: {words}.",
    )


def architectures(runs: pd.DataFrame) -> alt.HConcatChart:
    """Mean stiffness of each layer by activation, a panel for each width; choose data and pairs (Fig. 3 to 5).

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.
    """
    rows = of_fitted_runs(long_layers(runs))
    rows = rows[(rows["depth"] == 4) & (rows["state"] == "trained")]
    table = _profile(rows, "data", ["data", "activation", "width"])
    words = _means(table, "between", ["activation", "width"])
    names = [name for name in ACTIVATIONS.values() if (table["activation"] == name).any()]
    named = looks("activation", names, colours=PALETTE, title=None)
    params = _menus(table, "width", ["data", "pairs"], "between")
    return titled(
        _panels(table, "width", "units a layer", params, named),
        "Width and activation",
        "4 hidden layers, runs that fitted; mean and 95 % interval over seeds.",
        "Mean cosine stiffness of each layer by activation, a panel for each width. Between classes, mean over layers: "
        f"{words}.",
    )


def _panels(table: pd.DataFrame, by: str, words: str, params: Any, named: Any) -> alt.HConcatChart:
    """The layers' lines in a panel for each value of a column, on one scale."""
    panels = [
        alt.layer(*_lines(part, params, named, short=True)).properties(title=f"{value} {words}", height=240)
        for value, part in table.groupby(by)
    ]
    return alt.hconcat(*panels).resolve_scale(y="shared")


def depths(runs: pd.DataFrame) -> alt.HConcatChart:
    """Mean stiffness of each layer before and after training, a panel for each depth; choose data and pairs.

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.
    """
    rows = of_fitted_runs(long_layers(runs))
    counts = rows.groupby(["activation", "width"])["depth"].nunique()
    activation, width = list(counts.index)[int(counts.to_numpy().argmax())]
    rows = rows[(rows["activation"] == activation) & (rows["width"] == width)]
    fitted = rows.groupby("data")["depth"].transform("nunique")
    table = _profile(rows[fitted == fitted.max()], "data", ["data", "depth", "state"])  # no panel of a choice is empty
    ends = (
        table[table["pairs"] == PAIRS["within"]].groupby(["depth", "state"], sort=False)["mean"].agg(["first", "last"])
    )
    named = looks("state", ["untrained", "trained"], colours=PALETTE[1::-1], title=None)
    params = _menus(table, "depth", ["data", "pairs"], "within")
    return titled(
        _panels(table, "depth", "hidden layers", params, named),
        "Depth",
        f"{ACTIVATIONS[activation]}, {width} units a layer, points fitted at every depth; mean and interval.",
        "Mean cosine stiffness of each layer before and after training, a panel for each depth. Within a class: "
        f"{told(ends, '{depth} hidden layers, {state}: {first:.2f} in the first layer, {last:.2f} in the last')}.",
    )


def deep_networks(runs: pd.DataFrame) -> Chart:
    """Mean stiffness of each convolution of ResNet-18 and VGG-19; choose network and pairs.

    Args:
        runs: A tidy table of experiment ``"stiffness_deep"``.
    """
    rows = pd.concat([long_layers(runs, probe=name).assign(probe=name) for name in (LAYERS, MOVEMENT, LAG)])
    rows = rows[rows["layer"].str.contains("conv|fc", regex=True)].reset_index(drop=True)
    keys = zip(rows["probe"], rows["label_corruption"], rows["state"], strict=True)
    rows = rows.assign(training=pd.Series([TRAINING.get(key) for key in keys], rows.index)).dropna(subset="training")
    rows = rows.assign(number=rows.groupby(["run_id", "epoch", "probe"]).cumcount() + 1)
    table = _profile(rows, "network", ["data", "network", "training"])
    kinds = [name for name in TRAINING.values() if (table["training"] == name).any()]
    words = _means(table, "within", ["network", "training"])
    named = looks("training", kinds, colours=PALETTE, title=None)
    return layered(
        _lines(table, _menus(table, "deep", ["data", "pairs", "network"], "within"), named),
        "A deep network, layer by layer",
        "Convolutions and the last layer; mean and 95 % interval.",
        f"Mean cosine stiffness by layer. Within a class, mean over layers: {words}.",
    )


def _profile(rows: pd.DataFrame, sized: str, by: list[str]) -> pd.DataFrame:
    """Mean and interval over seeds of each layer, a row for each kind of pairs; sizes are named in one column."""
    rows = rows.assign(**{sized: rows[sized] + with_sizes(rows, of=sized)["size"]})
    rows["activation"] = rows["activation"].map(ACTIVATIONS)
    both = pd.concat([rows.assign(pairs=PAIRS[kind], value=rows[kind]) for kind in KINDS])
    means = mean_intervals(both, [*by, "pairs", "number", "layer"]).round(4)
    return means.rename(columns={"number": "position"})


def _means(table: pd.DataFrame, pairs: str, by: list[str]) -> str:
    """Means over layers, in words."""
    means = table[table["pairs"] == PAIRS[pairs]].groupby(by, sort=False)["mean"].mean()
    return told(means, ", ".join(f"{{{name}}}" for name in by) + ": {mean:.2f}")


def _menus(table: pd.DataFrame, prefix: str, columns: list[str], pairs: str) -> dict[str, alt.Parameter]:
    """A menu for each column in which there is something to choose."""
    params = {}
    for column in columns:
        if table[column].nunique() > 1:
            options = [name for name in ACTIVATIONS.values() if (table[column] == name).any()]
            start = PAIRS[pairs] if column == "pairs" else ""
            params[column] = menu(f"{prefix}_{column}", options or list(table[column].unique()), column, start)
    return params


def _lines(
    table: pd.DataFrame, params: dict[str, alt.Parameter], named: Looks, *, short: bool = False
) -> list[alt.Chart]:
    """A line over layers for each name; with titles for a narrow panel, if `short`."""
    color, dash, shape = named
    axis, scale = alt.Axis(tickMinStep=1, format="d"), alt.Scale(zero=False, nice=False, padding=12)
    across = alt.X("position:Q", title="layer" if short else "layer, from input to output", axis=axis, scale=scale)
    base = chosen(table, params).encode(x=across, color=color)
    y = alt.Y("mean:Q", title="cosine stiffness", scale=alt.Scale(zero=True))
    tip = [str(color.shorthand), "layer:N", *tooltips(".3f")]
    marks = base.mark_point(size=60).encode(y="mean:Q", shape=shape, tooltip=tip)
    line = base.mark_line().encode(y=y, strokeDash=dash)
    return [interval_bars(base), line, marks]


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


def boundary_contrasts(runs: pd.DataFrame) -> Chart:
    """By how much stiffness is lower at a boundary: of the trained network, and where nothing was learnt.

    Args:
        runs: A tidy table of experiment ``"stiffness_maps"``.
    """
    runs = with_sizes(runs, of="data")
    runs = runs.assign(data=runs["data"].str.removesuffix(" (points in the plane)") + runs["size"])
    ends, starts = parts.latest(runs, ["run_id"]), runs[runs["epoch"] == 0]
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
    return layered(
        [bars, points.encode(x=x, shape=shape, tooltip=["data:N", "kind:N", *tooltips(".2f")])],
        "How much of the boundary is learnt",
        "Mean and 95 % interval over seeds.",
        "Mean stiffness away from a boundary minus at it, of trained networks and where nothing was learnt. "
        f"{told(table, '{data}, {kind}: {mean:.2f}')}.",
        height=14 * (len(CONTRASTS) + 1) * table["data"].nunique(),
    )
