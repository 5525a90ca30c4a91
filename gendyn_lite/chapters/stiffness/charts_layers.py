"""Charts of chapter 4: stiffness by layer, of small and of deep networks."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.stiffness.tables import KINDS, LAG, LAYERS, MOVEMENT, long_layers, of_fitted_runs
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, looks, menu, of_runs, titled, told, tooltips
from gendyn_lite.results.tables import mean_intervals, with_sizes

PAIRS = {"all": "all pairs", "within": "within a class", "between": "between classes"}
ACTIVATIONS = {"relu": "ReLU", "tanh": "tanh", "leaky_relu": "LeakyReLU"}
TRAINING = {  # (probe, share of random labels, state) → its name in charts
    (LAYERS, 0.0, "untrained"): "untrained",
    (LAYERS, 0.0, "trained"): "true labels",
    (LAYERS, 1.0, "trained"): "random labels",
    (MOVEMENT, 0.0, "trained"): "moved at random as far",
    (LAG, 0.0, "trained"): "untrained, statistics lag",
}


def trained_and_untrained(runs: pd.DataFrame) -> Chart:
    """Draw the mean stiffness of each layer before and after training; menus choose data, pairs and activation.

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.

    Source: Walker, Fig. 2.
    """
    rows = long_layers(runs)
    rows = rows[(rows["depth"] == 4) & (rows["width"] == 32)]
    table = _profile(rows, "data", ["data", "activation", "state"])
    ends = table[(table["pairs"] == PAIRS["all"]) & (table["activation"] == "ReLU")]
    ends = ends.groupby(["data", "state"], sort=False)["mean"].agg(["first", "last"])
    words = told(ends, "{data}, {state}: {first:.2f} in the first layer, {last:.2f} in the last")
    named = looks("state", ["untrained", "trained"], colours=PALETTE[1::-1], title="network")
    drawn = layered(
        _lines(table, _menus(table, "layers", ["data", "pairs", "activation"], "between"), named),
        "Stiffness of each layer, before and after training",
        "4 hidden layers of 32 units; mean and 95 % interval over seeds.",
        f"Mean cosine stiffness of each layer's gradients. ReLU, all pairs: {words}.",
    )
    return of_runs(drawn, runs, rows)


def architectures(runs: pd.DataFrame) -> alt.HConcatChart:
    """Draw the mean stiffness of each layer by activation, a panel for each width; menus choose data and pairs.

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.

    Source: Walker, Fig. 3 to 5.
    """
    rows = of_fitted_runs(long_layers(runs))
    rows = rows[(rows["depth"] == 4) & (rows["state"] == "trained")]
    table = _profile(rows, "data", ["data", "activation", "width"])
    words = _means(table, "between", ["activation", "width"])
    names = [name for name in ACTIVATIONS.values() if (table["activation"] == name).any()]
    named = looks("activation", names, colours=PALETTE, title=None)
    params = _menus(table, "width", ["data", "pairs"], "between")
    drawn = titled(
        _panels(table, "width", "units a layer", params, named),
        "Width and activation",
        "4 hidden layers, runs that fitted; mean and 95 % interval over seeds.",
        "Mean cosine stiffness of each layer by activation, a panel for each width. Between classes, mean over layers: "
        f"{words}.",
    )
    return of_runs(drawn, runs, rows)


def _panels(table: pd.DataFrame, by: str, words: str, params: Any, named: Any) -> alt.HConcatChart:
    """Draw the lines over layers in a panel for each value of a column, with one vertical scale."""
    panels = [
        alt.layer(*_lines(part, params, named, short=True)).properties(title=f"{value} {words}", height=240)
        for value, part in table.groupby(by)
    ]
    return alt.hconcat(*panels).resolve_scale(y="shared")


def depths(runs: pd.DataFrame) -> alt.HConcatChart:
    """Draw the mean stiffness of each layer before and after training, a panel for each depth.

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.
    """
    rows = of_fitted_runs(long_layers(runs))
    counts = rows.groupby(["activation", "width"])["depth"].nunique()
    activation, width = list(counts.index)[int(counts.to_numpy().argmax())]
    rows = rows[(rows["activation"] == activation) & (rows["width"] == width)]
    fitted = rows.groupby("data")["depth"].transform("nunique")
    rows = rows[fitted == fitted.max()]  # no panel of a choice is empty
    table = _profile(rows, "data", ["data", "depth", "state"])
    ends = (
        table[table["pairs"] == PAIRS["within"]].groupby(["depth", "state"], sort=False)["mean"].agg(["first", "last"])
    )
    named = looks("state", ["untrained", "trained"], colours=PALETTE[1::-1], title=None)
    params = _menus(table, "depth", ["data", "pairs"], "within")
    drawn = titled(
        _panels(table, "depth", "hidden layers", params, named),
        "Depth",
        f"{ACTIVATIONS[activation]}, {width} units a layer, points fitted at every depth; mean and interval.",
        "Mean cosine stiffness of each layer before and after training, a panel for each depth. Within a class: "
        f"{told(ends, '{depth} hidden layers, {state}: {first:.2f} in the first layer, {last:.2f} in the last')}.",
    )
    return of_runs(drawn, runs, rows)


def deep_networks(runs: pd.DataFrame) -> Chart:
    """Draw the mean stiffness of each convolution of ResNet-18 and VGG-19; menus choose network and pairs.

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
    drawn = layered(
        _lines(table, _menus(table, "deep", ["data", "pairs", "network"], "within"), named),
        "A deep network, layer by layer",
        "Convolutions and the last layer; mean and 95 % interval.",
        f"Mean cosine stiffness by layer. Within a class, mean over layers: {words}.",
    )
    return of_runs(drawn, runs, rows)


def _profile(rows: pd.DataFrame, sized: str, by: list[str]) -> pd.DataFrame:
    """Return mean and interval over seeds for each layer and kind of pairs; column `sized` also names the size."""
    rows = rows.assign(**{sized: rows[sized] + with_sizes(rows, of=sized)["size"]})
    rows["activation"] = rows["activation"].map(ACTIVATIONS)
    both = pd.concat([rows.assign(pairs=PAIRS[kind], value=rows[kind]) for kind in KINDS])
    means = mean_intervals(both, [*by, "pairs", "number", "layer"]).round(4)
    return means.rename(columns={"number": "position"})


def _means(table: pd.DataFrame, pairs: str, by: list[str]) -> str:
    """Say the means over layers in words."""
    means = table[table["pairs"] == PAIRS[pairs]].groupby(by, sort=False)["mean"].mean()
    return told(means, ", ".join(f"{{{name}}}" for name in by) + ": {mean:.2f}")


def _menus(table: pd.DataFrame, prefix: str, columns: list[str], pairs: str) -> dict[str, alt.Parameter]:
    """Make a menu for each column with more than one value."""
    params = {}
    for column in columns:
        if table[column].nunique() > 1:
            options = [name for name in ACTIVATIONS.values() if (table[column] == name).any()]
            start = PAIRS[pairs] if column == "pairs" else ""
            params[column] = menu(f"{prefix}_{column}", options or list(table[column].unique()), column, start)
    return params


def _lines(
    table: pd.DataFrame, params: dict[str, alt.Parameter], named: parts.Looks, *, short: bool = False
) -> list[alt.Chart]:
    """Draw a line over layers for each name; `short` shortens the axis title for a narrow panel."""
    color, dash, shape = named
    axis, scale = alt.Axis(tickMinStep=1, format="d"), alt.Scale(zero=False, nice=False, padding=12)
    across = alt.X("position:Q", title="layer" if short else "layer, from input to output", axis=axis, scale=scale)
    base = chosen(table, params).encode(x=across, color=color)
    y = alt.Y("mean:Q", title="cosine stiffness", scale=alt.Scale(zero=True))
    tip = [str(color.shorthand), "layer:N", *tooltips(".3f")]
    marks = base.mark_point(size=60).encode(y="mean:Q", shape=shape, tooltip=tip)
    line = base.mark_line().encode(y=y, strokeDash=dash)
    return [parts.interval_bars(base), line, marks]
