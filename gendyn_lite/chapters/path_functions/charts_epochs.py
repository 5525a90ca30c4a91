"""Means over seeds against epochs, a line with its band for each kind, as chapter 2 draws them."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.path_functions.tables import CONSTANT, RANDOM, TRUE
from gendyn_lite.charts.parts import STROKES, Chart, menu
from gendyn_lite.charts.theme import DASHES, PALETTE
from gendyn_lite.results.tables import mean_intervals

NAMES = [TRUE, RANDOM, CONSTANT]


def over_epochs(
    values: pd.DataFrame,
    *,
    by: str,
    title: str,
    prefix: str,
    menus: dict[str, str],
    least: float | None = None,
    most: float | None = None,
) -> Chart:
    """Means over seeds with 95 % intervals against epochs, a line for each kind of runs (or each of `by`).

    Args:
        values: Rows with epoch, seed, value, the column `by` and those of `menus`.
        by: What a line is drawn for.
        title: Of the vertical axis.
        prefix: Of the names of its parameters.
        menus: Column → label of its menu.
        least: Smallest value that can be, at which intervals are cut; None for none.
        most: Largest one.
    """
    means = _means(values, [*menus, by, "epoch"], least, most)
    params = [menu(f"{prefix}_{name}", list(means[name].unique()), label) for name, label in menus.items()]
    shown = " && ".join(f"datum.{name} === {prefix}_{name}" for name in menus) or "true"
    base = alt.Chart(means).transform_filter(shown)
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1))
    names, colors, dashes = _styles(list(means[by].unique()))
    color = alt.Color(f"{by}:N", title=None, scale=colors, sort=names, legend=STROKES)
    dash = alt.StrokeDash(f"{by}:N", title=None, scale=dashes, sort=names, legend=STROKES)
    scale = alt.Scale(zero=False)
    # Where there is no interval the band has no height: were it left out, a choice without any would be an empty layer,
    # of which Vega warns.
    edges = {f"band_{name}": f"isValid(datum.{name}) ? datum.{name} : datum.mean" for name in ("low", "high")}
    band = base.transform_calculate(**edges).mark_area(tooltip=None).encode(
        x=x, y=alt.Y("band_low:Q", title=title, scale=scale), y2="band_high:Q", color=color
    )  # fmt: skip
    tip = [f"{by}:N", "epoch:Q", *(alt.Tooltip(f"{name}:Q", format=".3f") for name in ("mean", "low", "high"))]
    line = base.mark_line(point={"size": 16}).encode(
        x=x, y=alt.Y("mean:Q", title=title, scale=scale), color=color, strokeDash=dash, tooltip=[*tip, "seeds:Q"]
    )
    layers = [band, line] if means["low"].notna().any() else [line]
    return alt.layer(*layers).add_params(*params)


def _means(values: pd.DataFrame, by: list[str], least: float | None, most: float | None) -> pd.DataFrame:
    """Mean and interval over seeds, none beyond what can be."""
    means = mean_intervals(values, by)
    return means.assign(low=means["low"].clip(lower=least), high=means["high"].clip(upper=most)).round(4)


def _styles(names: list[str]) -> tuple[list[str], alt.Scale, alt.Scale]:
    """The names in their order, with a colour and a dash of each: kinds of runs have the same in every chart."""
    places = list(range(min(len(names), len(PALETTE))))
    if set(names) <= set(NAMES):
        names = [name for name in NAMES if name in names]
        places = [NAMES.index(name) for name in names]
    colors = alt.Scale(domain=names, range=[PALETTE[place] for place in places])
    return names, colors, alt.Scale(domain=names, range=[DASHES[place] for place in places])
