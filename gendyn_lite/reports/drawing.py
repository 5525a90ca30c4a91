"""The charts of a report: the numbers or layers of each lens, drawn in the style of the book. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.charts.parts import Chart, layered, looks, titled, told, tooltips

AXIS = {"paths": "share of units and images", "fisher": "share of the trace", "stiffness": "mean cosine"}
ROW = 22  # pixels of a layer or a line
MOST = 60  # most layers in a chart; the first ones are drawn

WORDS = {
    "fit": ("Accuracy on training and test images", "The bar is the interval of 95 %."),
    "paths": ("Units that are on, layer by layer", "Share of units and images; a unit that is never on does nothing."),
    "fisher": ("Fisher information, layer by layer", "Share of the trace that each layer's weights have."),
    "stiffness": ("Stiffness, layer by layer", "Mean cosine of two images' gradients, within and between classes."),
    "intervals": ("How far a class is kept on each line", "0 is an image, 1 another one of its class."),
}


def of(lens: Mapping[str, Any]) -> alt.Chart | Chart:
    """Draw the chart of a lens, with its title and description.

    Args:
        lens: The lens as a dict, from `gendyn_lite.reports.lenses.Lens.as_dict`.
    """
    name, numbers, layers = lens["name"], lens["numbers"], lens["layers"]
    title, subtitle = WORDS[name]
    if name == "fit":
        return _numbers({name: of for name, of in numbers.items() if "accuracy" in name}, title, subtitle)
    shown = pd.DataFrame(layers[:MOST])
    left = f" The first {MOST} of {len(layers)} are drawn." if len(layers) > MOST else ""
    if name == "intervals":
        return _spans(shown, title, subtitle + left)
    return _by_layer(shown, title, subtitle + left, axis=AXIS[name])


def _numbers(numbers: Mapping[str, Mapping[str, float]], title: str, subtitle: str) -> Chart:
    """Draw means with their intervals."""
    rows = pd.DataFrame([{"of": name, **number} for name, number in numbers.items()])
    y = alt.Y("of:N", title=None, sort=None)
    base = alt.Chart(rows).encode(y=y, x=alt.X("mean:Q", title="share", scale=alt.Scale(domain=[0, 1])))
    bars = alt.Chart(rows).mark_rule(strokeWidth=3, opacity=0.5).encode(y=y, x="low:Q", x2="high:Q")
    tip = ["of:N", *tooltips(".3f", "mean", "low", "high")]
    about = f"{title}. " + told(rows, "{of}: {mean:.3f}, from {low:.3f} to {high:.3f}")
    return layered((bars, base.mark_point().encode(tooltip=tip)), title, subtitle, about, height=3 * ROW)


def _by_layer(rows: pd.DataFrame, title: str, subtitle: str, *, axis: str) -> alt.Chart:
    """Draw one or two values of each layer, from the input to the output."""
    names = [name for name in rows.columns if name != "layer"]
    long = rows.melt("layer", names, var_name="which", value_name="value")
    colour, _, shape = looks("which", names, title=None)
    y = alt.Y("layer:N", sort=None, title="layer", axis=alt.Axis(labelLimit=220, grid=True))
    x = alt.X("value:Q", title=axis)
    marks = alt.Chart(long).mark_point().encode(x=x, y=y, color=colour, shape=shape)
    about = f"{title}, {len(rows)} layers. " + "; ".join(
        f"{name}: from {rows[name].min():.3g} to {rows[name].max():.3g}" for name in names
    )
    marks = marks.encode(tooltip=["layer:N", "which:N", *tooltips(".3g", "value")])
    return titled(marks, title, subtitle, about, height=ROW * len(rows))


def _spans(rows: pd.DataFrame, title: str, subtitle: str) -> Chart:
    """Draw a rule for each line, from the lower to the upper end of its interval."""
    y = alt.Y("layer:N", sort=None, title=None)
    x = alt.X("lower:Q", title="α", scale=alt.Scale(domain=[-1, 2]))
    tip = ["layer:N", *tooltips(".2f", "lower", "upper")]
    spans = alt.Chart(rows).mark_rule(strokeWidth=4, opacity=1).encode(y=y, x=x, x2="upper:Q", tooltip=tip)
    ends = pd.DataFrame({"lower": [0.0, 1.0]})
    points = alt.Chart(ends).mark_rule(strokeDash=[3, 3]).encode(x="lower:Q")
    about = f"{title}: {len(rows)} lines. " + told(rows, "{layer}: from {lower:.2f} to {upper:.2f}")
    return layered((points, spans), title, subtitle, about, height=ROW * len(rows))
