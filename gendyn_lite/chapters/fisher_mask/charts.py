"""Charts of chapter 3 on one step: whose predictions move, the quadratic form, what a diagonal keeps."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.charts.parts import slider, words_above
from gendyn_lite.charts.theme import DASHES, PALETTE, SHAPES

PAIRS = ["same digit", "other digit"]
CURVES = {"kl": "KL, measured", "quadratic": "quadratic form", "gap": "their difference"}
ROOM = 26  # between a legend and the drawing, for words above it
STROKES = alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=300, offset=ROOM)
DOTS = alt.Legend(offset=ROOM)
POWERS = alt.Axis(format="~e", tickCount=5)


def moved(rows: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """KL of each watched digit after a step on one; a menu chooses the example, a slider the step size.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.steps` (or of one `step`).
    """
    rows, params, shown = _choices(rows)
    positive = rows.assign(kl=rows["kl"].clip(lower=1e-12)).round({"kl": 15})
    base = alt.Chart(positive).transform_filter(shown)
    dots = base.mark_point(size=60).encode(
        x=alt.X("digit:O", title="watched digit"),
        xOffset=alt.XOffset("pair:N", scale=alt.Scale(domain=PAIRS)),
        y=alt.Y("kl:Q", title="KL of its prediction (nats)", scale=alt.Scale(type="log"), axis=POWERS),
        color=alt.Color("pair:N", title=None, scale=alt.Scale(domain=PAIRS), legend=DOTS),
        shape=alt.Shape("pair:N", title=None, legend=DOTS, scale=alt.Scale(domain=PAIRS, range=list(SHAPES[:2]))),
        tooltip=["digit:O", "number:Q", alt.Tooltip("kl:Q", format=".2e")],
    )
    layers = [dots]
    if params:
        mean = base.transform_aggregate(mean="mean(kl)", eps="min(eps)").transform_calculate(
            words="'ε = ' + format(datum.eps, '~g') + ', mean KL ' + format(datum.mean, '.1e')"
        )
        layers.append(words_above(mean))
    means = rows.groupby("pair")["kl"].mean()
    said = ", ".join(f"{name} {value:.1e}" for name, value in means.items())
    return (
        alt.layer(*layers)
        .add_params(*params)
        .properties(
            title=alt.Title("Whose predictions move", subtitle="KL between predictions before and after one step."),
            description=f"KL of watched digits after a step on one digit. Mean over what can be chosen: {said}.",
        )
    )


def _choices(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[alt.Parameter], str]:
    """What can be chosen: the rows with the places on the slider, the menu and the slider, the filter that follows."""
    if "example" not in rows:
        return rows, [], "true"
    names, sizes = list(rows["example"].unique()), sorted(rows["eps"].unique())
    rows = rows.assign(power=rows["eps"].map({size: place for place, size in enumerate(sizes)}))
    example = alt.param(name="stepped", value=names[0], bind=alt.binding_select(options=names, name="step on "))
    power = slider("step_power", len(sizes) - 1, "step size (small to large)", value=min(3, len(sizes) - 1))
    return rows, [example, power], "datum.example === stepped && datum.power === step_power"


def approximation(rows: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """KL, quadratic form and their difference against the step size; a slider reads off a step size.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.approximation`.
    """
    rows = rows.assign(place=rows.groupby("activation").cumcount())
    long = rows.melt(["activation", "eps", "place", "ratio"], list(CURVES), "of", "value")
    long["of"] = long["of"].map(CURVES)
    kinds, last = list(rows["activation"].unique()), int(rows["place"].max())
    kind = alt.param(name="unit_kind", value=kinds[0], bind=alt.binding_select(options=kinds, name="units "))
    x = alt.X("eps:Q", title="step size ε", scale=alt.Scale(type="log", nice=False), axis=POWERS)
    base = alt.Chart(long).transform_filter("datum.activation === unit_kind && datum.value > 0")
    chosen = alt.Chart(rows).transform_filter("datum.activation === unit_kind && datum.place === step_place")
    words = chosen.transform_calculate(
        words="'ε = ' + format(datum.eps, '.1e') + ': KL is ' + format(datum.ratio, '.3f') + ' times the form'"
    )
    layers = [_curves(base, x), chosen.mark_rule(strokeDash=[2, 3]).encode(x=x), words_above(words)]
    ends = rows.groupby("activation")["ratio"].agg(["first", "last"])
    said = "; ".join(f"{name}: {row['first']:.3f} to {row['last']:.3f}" for name, row in ends.iterrows())
    return (
        alt.layer(*layers)
        .add_params(kind, slider("step_place", last, "step size", value=last - 3))
        .properties(
            title=alt.Title("The quadratic form and where it fails", subtitle="Mean over five digits, in float64."),
            description=f"KL over quadratic form from the smallest to the largest step: {said}.",
        )
    )


def _curves(base: alt.Chart, x: alt.X) -> alt.Chart:
    """KL, form and difference against the step size."""
    names = list(CURVES.values())
    dash = alt.Scale(domain=names, range=list(DASHES[:3]))
    return base.mark_line().encode(
        x=x,
        y=alt.Y("value:Q", title="nats", scale=alt.Scale(type="log"), axis=POWERS),
        color=alt.Color("of:N", title=None, scale=alt.Scale(domain=names), legend=STROKES),
        strokeDash=alt.StrokeDash("of:N", title=None, scale=dash, legend=STROKES),
        tooltip=["of:N", alt.Tooltip("eps:Q", format=".1e"), alt.Tooltip("value:Q", format=".2e")],
    )


def diagonal_against_whole(rows: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """The form with the diagonal alone against that with the whole matrix, a point for each example.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.diagonal_against_whole`.
    """
    rows = rows[(rows["whole"] > 0) & (rows["diagonal"] > 0)]
    both = rows[["whole", "diagonal"]].to_numpy(dtype=float)
    low, high = float(both.min()), float(both.max())
    scale = alt.Scale(type="log", domain=[low / 2, high * 2], nice=False)
    x = alt.X("whole:Q", title="gᵀFg, whole matrix", scale=scale, axis=POWERS)
    y = alt.Y("diagonal:Q", title="Σ a g², diagonal alone", scale=scale, axis=POWERS)
    tip = ["digit:O", "number:Q", alt.Tooltip("whole:Q", format=".2e"), alt.Tooltip("diagonal:Q", format=".2e")]
    dots = alt.Chart(rows).mark_point(size=40).encode(x=x, y=y, tooltip=tip)
    ends = pd.DataFrame({"whole": [low / 2, high * 2], "diagonal": [low / 2, high * 2]})
    equal = alt.Chart(ends).mark_line(strokeDash=[3, 3], color=PALETTE[4], strokeWidth=1.5, tooltip=None)
    median = float((rows["diagonal"] / rows["whole"]).median())
    rank = float(rows["whole"].corr(rows["diagonal"], method="spearman"))
    return alt.layer(equal.encode(x=x, y=y), dots).properties(
        title=alt.Title("What the diagonal loses", subtitle="Each point: a step on one digit. Dashed: equal."),
        description=(
            f"Empirical form with the diagonal alone against the whole: the median ratio is {median:.1e}, the rank "
            f"correlation {rank:.2f}."
        ),
    )


def concentration(rows: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """The share of a sum that its largest entries hold, against the share of entries; a slider is the mask's keep.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.concentration`.
    """
    names = list(rows["of"].unique())
    bind = alt.binding_range(min=0.025, max=1, step=0.025, name="keep ")
    x = alt.X("kept:Q", title="share of the weights kept", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("held:Q", title="share of the sum that they hold", scale=alt.Scale(domain=[0, 1]))
    dash = alt.Scale(domain=names, range=list(DASHES[:2]))
    lines = alt.Chart(rows).mark_line()
    lines = lines.encode(
        x=x,
        y=y,
        color=alt.Color("of:N", title=None, scale=alt.Scale(domain=names), legend=STROKES),
        strokeDash=alt.StrokeDash("of:N", title=None, scale=dash, legend=STROKES),
        tooltip=["of:N", alt.Tooltip("kept:Q", format=".2f"), alt.Tooltip("held:Q", format=".3f")],
    )
    near = alt.Chart(rows).transform_filter("abs(datum.kept - kept_share) < 0.0124")
    held = near.transform_filter(f"datum.of === '{names[0]}'").transform_calculate(
        words="format(datum.kept, '.0%') + ' of the weights hold ' + format(datum.held, '.1%')"
    )
    quarter = rows[rows["kept"].sub(0.25).abs() < 0.0124].groupby("of", sort=False)["held"].first()
    said = ", ".join(f"{name} {value:.2f}" for name, value in quarter.items())
    return (
        alt.layer(lines, near.mark_point(size=70).encode(x=x, y=y, color="of:N"), words_above(held))
        .add_params(alt.param(name="kept_share", value=0.25, bind=bind))
        .properties(
            title=alt.Title("How concentrated the information is", subtitle="Largest entries first; one network."),
            description=f"Share of the sum held by the largest quarter of entries: {said}.",
        )
    )
