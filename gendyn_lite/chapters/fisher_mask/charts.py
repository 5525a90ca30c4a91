"""Charts of chapter 3 of what the page computes: one step and its quadratic form, what a diagonal keeps."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, looks, menu, slider, told, tooltips, words_above

PAIRS = ["same digit", "other digit"]
PARTS = {"kl": "KL, measured", "quadratic": "quadratic form", "gap": "their difference"}
ROOM = 26  # between a legend and the drawing, for words above it
BELOW = alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=300, offset=ROOM)
POWERS = alt.Axis(format="~e", tickCount=5)
LOGARITHMIC = alt.Scale(type="log")


def moved(rows: pd.DataFrame) -> Chart:
    """KL of each watched digit after a step on one; a menu chooses the example, a slider the step size.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.steps` (or of one `step`, without menu and slider).
    """
    choices = {}
    if "example" in rows:
        sizes = sorted(rows["eps"].unique())
        power = slider("step_power", sizes, "step size ε", value=sizes[:4][-1])
        choices = {"example": menu("stepped", rows["example"], "step on"), "eps": power}
    base = chosen(rows.assign(kl=rows["kl"].clip(lower=1e-12)).round({"kl": 15}), choices)
    color, _, shape = looks("pair", PAIRS, title=None, legend=alt.Legend(offset=ROOM))
    x, offset = alt.X("digit:O", title="watched digit"), alt.XOffset("pair:N", scale=alt.Scale(domain=PAIRS))
    y = alt.Y("kl:Q", title="KL of its prediction (nats)", scale=LOGARITHMIC, axis=POWERS)
    tip = ["digit:O", "number:Q", *tooltips(".2e", "kl")]
    dots = base.mark_point(size=60).encode(x=x, xOffset=offset, y=y, color=color, shape=shape, tooltip=tip)
    mean = base.transform_aggregate(mean="mean(kl)", eps="min(eps)").transform_calculate(
        words="'ε = ' + format(datum.eps, '~g') + ', mean KL ' + format(datum.mean, '.1e')"
    )
    said = ", ".join(f"{name} {value:.1e}" for name, value in rows.groupby("pair")["kl"].mean().items())
    layers = [dots, words_above(mean)] if choices else [dots]
    about = f"KL of watched digits after a step on one digit. Mean over what can be chosen: {said}."
    return layered(layers, "Whose predictions move", "KL between predictions before and after one step.", about)


def approximation(rows: pd.DataFrame) -> Chart:
    """KL, quadratic form and their difference against the step size; a slider reads off a step size.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.approximation`.
    """
    long = rows.melt(["activation", "eps", "ratio"], list(PARTS), "of", "value").replace({"of": PARTS})
    units = menu("unit_kind", rows["activation"], "units")
    step = slider("step_place", rows["eps"], "step size ε", value=sorted(rows["eps"].unique())[-4:][0])
    x = alt.X("eps:Q", title="step size ε", scale=alt.Scale(type="log", nice=False), axis=POWERS)
    y = alt.Y("value:Q", title="nats", scale=LOGARITHMIC, axis=POWERS)
    color, dash, _ = looks("of", list(PARTS.values()), title=None, legend=BELOW)
    tip = ["of:N", *tooltips(".1e", "eps"), *tooltips(".2e", "value")]
    curves = alt.Chart(long).transform_filter("datum.activation === unit_kind && datum.value > 0").mark_line()
    at = chosen(rows, {"activation": units, "eps": step})
    words = at.transform_calculate(
        words="'ε = ' + format(datum.eps, '.1e') + ': KL is ' + format(datum.ratio, '.3f') + ' times the form'"
    )
    ends = rows.groupby("activation")["ratio"].agg(["first", "last"])
    layers = [
        curves.encode(x=x, y=y, color=color, strokeDash=dash, tooltip=tip),
        at.mark_rule(strokeDash=[2, 3]).encode(x=x),
        words_above(words),
    ]
    words = told(ends, "{activation}: {first:.3f} to {last:.3f}")
    about = f"KL over quadratic form from the smallest to the largest step: {words}."
    return layered(layers, "The quadratic form and where it fails", "Mean over five digits, in float64.", about)


def diagonal_against_whole(rows: pd.DataFrame) -> Chart:
    """The form with the diagonal alone against that with the whole matrix, a point for each example.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.diagonal_against_whole`.
    """
    rows = rows[(rows["whole"] > 0) & (rows["diagonal"] > 0)]
    both = rows[["whole", "diagonal"]].to_numpy(dtype=float)
    ends = [both.min() / 2, both.max() * 2]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    x = alt.X("whole:Q", title="gᵀFg, whole matrix", scale=scale, axis=POWERS)
    y = alt.Y("diagonal:Q", title="Σ a g², diagonal alone", scale=scale, axis=POWERS)
    tip = ["digit:O", "number:Q", *tooltips(".2e", "whole", "diagonal")]
    dots = alt.Chart(rows).mark_point(size=40).encode(x=x, y=y, tooltip=tip)
    equal = alt.Chart(pd.DataFrame({"whole": ends, "diagonal": ends}))
    equal = equal.mark_line(strokeDash=[3, 3], color=PALETTE[4], strokeWidth=1.5, tooltip=None)
    median = (rows["diagonal"] / rows["whole"]).median()
    rank = rows["whole"].corr(rows["diagonal"], method="spearman")
    found = f"the median ratio is {median:.1e}, the rank correlation {rank:.2f}."
    about = f"Empirical form with the diagonal alone against the whole: {found}"
    layers = [equal.encode(x=x, y=y), dots]
    return layered(layers, "What the diagonal loses", "Each point: a step on one digit. Dashed: equal.", about)


def concentration(rows: pd.DataFrame) -> Chart:
    """The share of a sum that its largest entries hold, against the share of entries; a slider is the mask's keep.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.concentration`.
    """
    names = list(rows["of"].unique())
    x = alt.X("kept:Q", title="share of the weights kept", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("held:Q", title="share of the sum that they hold", scale=alt.Scale(domain=[0, 1]))
    color, dash, _ = looks("of", names, title=None, legend=BELOW)
    tip = ["of:N", *tooltips(".2f", "kept"), *tooltips(".3f", "held")]
    lines = alt.Chart(rows).mark_line().encode(x=x, y=y, color=color, strokeDash=dash, tooltip=tip)
    near = alt.Chart(rows).transform_filter("abs(datum.kept - kept_share) < 0.0124")
    held = near.transform_filter(f"datum.of === '{names[0]}'").transform_calculate(
        words="format(datum.kept, '.0%') + ' of the weights hold ' + format(datum.held, '.1%')"
    )
    quarter = rows[rows["kept"].sub(0.25).abs() < 0.0124].groupby("of", sort=False)["held"].first()
    said = ", ".join(f"{name} {value:.2f}" for name, value in quarter.items())
    share = slider("kept_share", np.arange(1, 41) / 40, "keep", value=0.25)
    layers = [lines.add_params(share), near.mark_point(size=70).encode(x=x, y=y, color="of:N"), words_above(held)]
    about = f"Share of the sum held by the largest quarter of entries: {said}."
    return layered(layers, "How concentrated the information is", "Largest entries first; one network.", about)
