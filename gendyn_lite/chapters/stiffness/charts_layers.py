"""Charts of chapter 4 by layer: profiles of small and of deep networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.stiffness.charts_training import interval_tooltips
from gendyn_lite.chapters.stiffness.tables import KINDS, long_layers, of_fitted_runs
from gendyn_lite.charts.parts import interval_bars
from gendyn_lite.charts.theme import DASHES, PALETTE, SHAPES
from gendyn_lite.results.tables import mean_intervals, with_sizes

PAIRS = {"all": "all pairs", "within": "within a class", "between": "between classes"}
ACTIVATIONS = {"relu": "ReLU", "tanh": "tanh", "leaky_relu": "LeakyReLU"}


def trained_and_untrained(runs: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Mean stiffness of each layer, before and after training; choose data, pairs and activation (Walker, Fig. 2).

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.
    """
    rows = long_layers(runs)
    rows = _sized(rows[(rows["depth"] == 4) & (rows["width"] == 32)], "data")
    table = _profile(rows, ["data", "activation", "state"])
    states = ["untrained", "trained"]
    chart = _lines(table, "state", states, "network", [PALETTE[1], PALETTE[0]])
    ends = table[(table["pairs"] == PAIRS["all"]) & (table["activation"] == "ReLU")]
    words = "; ".join(
        f"{data}, {state}: {part['mean'].iloc[0]:.2f} in the first layer, {part['mean'].iloc[-1]:.2f} in the last"
        for (data, state), part in ends.groupby(["data", "state"], sort=False)
    )
    return chart.properties(
        title=alt.Title(
            "Stiffness of each layer, before and after training",
            subtitle="4 hidden layers of 32 units; mean and 95 % interval over seeds.",
        ),
        description=f"Mean cosine stiffness of each layer's gradients. ReLU, all pairs: {words}.",
    )


def architectures(runs: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Mean stiffness of each layer of trained networks of three widths; choose data, pairs, activation (Fig. 3 to 5).

    Args:
        runs: A tidy table of experiment ``"stiffness_layers"``.
    """
    rows = of_fitted_runs(long_layers(runs))
    rows = _sized(rows[(rows["depth"] == 4) & (rows["state"] == "trained")], "data")
    rows = rows.assign(units=rows["width"].map(lambda width: f"{width} units"))
    table = _profile(rows, ["data", "activation", "units"])
    units = sorted(table["units"].unique(), key=lambda text: int(text.split()[0]))
    chart = _lines(table, "units", units, "hidden layers of", list(PALETTE[: len(units)]), prefix="width")
    means = table[table["pairs"] == PAIRS["all"]].groupby(["activation", "units"], sort=False)["mean"].mean()
    words = "; ".join(f"{', '.join(map(str, key))}: {value:.2f}" for key, value in zip(means.index, means, strict=True))
    return chart.properties(
        title=alt.Title(
            "Width and activation", subtitle="4 hidden layers, runs that fitted; mean and 95 % interval over seeds."
        ),
        description=f"Mean cosine stiffness of each layer by width. All pairs, mean over layers: {words}.",
    )


def deep_networks(runs: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Mean stiffness of each convolution of ResNet-18 and VGG-19; choose network and pairs.

    Args:
        runs: A tidy table of experiment ``"stiffness_deep"``.
    """
    rows = long_layers(runs)
    rows = rows[rows["layer"].str.contains("conv|fc", regex=True)]
    names = {(0.0, "untrained"): "untrained", (0.0, "trained"): "true labels", (1.0, "trained"): "random labels"}
    keys = zip(rows["label_corruption"], rows["state"], strict=True)
    rows = rows.assign(training=[names.get(key, "") for key in keys])
    rows = _sized(rows[rows["training"] != ""], "network")
    rows = rows.assign(number=rows.groupby(["run_id", "epoch"]).cumcount() + 1, activation="relu")
    table = _profile(rows, ["data", "network", "training"])
    kinds = [name for name in names.values() if (table["training"] == name).any()]
    networks = list(table["network"].unique())
    network = alt.param(
        name="deep_network", value=networks[0], bind=alt.binding_select(options=networks, name="network ")
    )
    colours: list[str] = list(PALETTE[: len(kinds)])
    only = "datum.network === deep_network", network
    chart = _lines(table, "training", kinds, None, colours, prefix="deep", more=only, pairs=PAIRS["within"])
    means = table[table["pairs"] == PAIRS["within"]].groupby(["network", "training"], sort=False)["mean"].mean()
    words = "; ".join(f"{', '.join(map(str, key))}: {value:.2f}" for key, value in zip(means.index, means, strict=True))
    return chart.properties(
        title=alt.Title(
            "A deep network, layer by layer", subtitle="Convolutions and the last layer; mean and 95 % interval."
        ),
        description=f"Mean cosine stiffness by layer. Within a class, mean over layers: {words}.",
    )


def _sized(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows with the size in the names of a column, where there are several."""
    return rows.assign(**{column: rows[column] + with_sizes(rows, of=column)["size"]})


def _profile(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and interval over seeds of each layer, a row for each kind of pairs."""
    parts = [rows.assign(pairs=PAIRS[kind], value=rows[kind]) for kind in KINDS]
    both = pd.concat(parts)
    if "activation" in by:
        both["activation"] = both["activation"].map(ACTIVATIONS)
    means = mean_intervals(both, [*by, "pairs", "number", "layer"]).round(4)
    return means.rename(columns={"number": "position"})


def _lines(
    table: pd.DataFrame,
    by: str,
    names: list[str],
    title: str | None,
    colours: list[str],
    *,
    prefix: str = "layers",
    more: tuple[str, alt.Parameter] | None = None,
    pairs: str = PAIRS["all"],
) -> alt.LayerChart | alt.FacetChart:
    """A line over layers for each value of a column; menus for the data, the pairs and the activation."""
    params, tests = _menus(table, prefix, pairs)
    if more is not None:
        tests.append(more[0])
        params.append(more[1])
    across = alt.X(
        "position:Q",
        title="layer, from input to output",
        axis=alt.Axis(tickMinStep=1, format="d"),
        scale=alt.Scale(zero=False, nice=False, padding=12),
    )

    def one_each(values: Sequence[Any]) -> alt.Scale:
        return alt.Scale(domain=names, range=list(values[: len(names)]))

    color = alt.Color(f"{by}:N", title=title, scale=alt.Scale(domain=names, range=colours), sort=names)
    base = alt.Chart(table).transform_filter(" && ".join(tests)).encode(x=across, color=color)
    line = base.mark_line().encode(
        y=alt.Y("mean:Q", title="cosine stiffness", scale=alt.Scale(zero=True)),
        strokeDash=alt.StrokeDash(f"{by}:N", title=title, scale=one_each(DASHES), sort=names),
    )
    marks = base.mark_point(size=60).encode(
        y="mean:Q",
        shape=alt.Shape(f"{by}:N", title=title, scale=one_each(SHAPES), sort=names),
        tooltip=[f"{by}:N", "layer:N", *interval_tooltips()],
    )
    return alt.layer(interval_bars(base), line, marks.add_params(*params))


def _menus(table: pd.DataFrame, prefix: str, pairs: str) -> tuple[list[alt.Parameter], list[str]]:
    """A menu for each column in which there is something to choose, and the filters that follow them."""
    params, tests = [], []
    for column, label in (("data", "data"), ("pairs", "pairs"), ("activation", "activation")):
        if column in table and table[column].nunique() > 1:
            known = [name for name in ACTIVATIONS.values() if (table[column] == name).any()]
            options = known or list(table[column].unique())
            start = pairs if column == "pairs" else options[0]
            bind = alt.binding_select(options=options, name=f"{label} ")
            params.append(alt.param(name=f"{prefix}_{column}", value=start, bind=bind))
            tests.append(f"datum.{column} === {prefix}_{column}")
    return params, tests
