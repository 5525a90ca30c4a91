"""Charts of chapter 3: one step and its quadratic form, what a diagonal keeps, and runs with and without masks."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from gendyn_lite.chapters.fisher_mask.tables import FORMS, NONE, WAYS, best, by_size, described, gains, influences
from gendyn_lite.charts.parts import STROKES, Chart, looks, menu, slider, tooltips, words_above
from gendyn_lite.charts.theme import PALETTE
from gendyn_lite.results.tables import mean_intervals

PAIRS = ["same digit", "other digit"]
PARTS = {"kl": "KL, measured", "quadratic": "quadratic form", "gap": "their difference"}
ROOM = 26  # between a legend and the drawing, for words above it
BELOW = alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=300, offset=ROOM)
POWERS = alt.Axis(format="~e", tickCount=5)
LABELS = ["true labels", "20 % redrawn", "random labels"]
MASKED = {NONE: 1.0, "Fisher, 80 % kept": 0.8, "Fisher, 70 % kept": 0.7}
CURVES = {
    "influence (true Fisher)": "influence/quadratic_true",
    "test loss": "test_loss",
    "test accuracy": "test_accuracy",
}


def moved(rows: pd.DataFrame) -> Chart:
    """KL of each watched digit after a step on one; a menu chooses the example, a slider the step size.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.steps` (or of one `step`, without menu and slider).
    """
    params, shown = [], "true"
    if "example" in rows:
        names, sizes = list(rows["example"].unique()), sorted(rows["eps"].unique())
        rows = rows.assign(power=rows["eps"].map(sizes.index))
        power = slider("step_power", len(sizes) - 1, "step size (small to large)", value=min(3, len(sizes) - 1))
        params = [menu("stepped", names, "step on"), power]
        shown = "datum.example === stepped && datum.power === step_power"
    base = alt.Chart(rows.assign(kl=rows["kl"].clip(lower=1e-12)).round({"kl": 15})).transform_filter(shown)
    color, _, shape = looks("pair", PAIRS, title=None, legend=alt.Legend(offset=ROOM))
    dots = base.mark_point(size=60).encode(
        x=alt.X("digit:O", title="watched digit"),
        xOffset=alt.XOffset("pair:N", scale=alt.Scale(domain=PAIRS)),
        y=alt.Y("kl:Q", title="KL of its prediction (nats)", scale=alt.Scale(type="log"), axis=POWERS),
        color=color,
        shape=shape,
        tooltip=["digit:O", "number:Q", *tooltips(".2e", "kl")],
    )
    mean = base.transform_aggregate(mean="mean(kl)", eps="min(eps)").transform_calculate(
        words="'ε = ' + format(datum.eps, '~g') + ', mean KL ' + format(datum.mean, '.1e')"
    )
    said = ", ".join(f"{name} {value:.1e}" for name, value in rows.groupby("pair")["kl"].mean().items())
    chart = alt.layer(dots, words_above(mean)).add_params(*params) if params else alt.layer(dots)
    return chart.properties(
        title=alt.Title("Whose predictions move", subtitle="KL between predictions before and after one step."),
        description=f"KL of watched digits after a step on one digit. Mean over what can be chosen: {said}.",
    )


def approximation(rows: pd.DataFrame) -> Chart:
    """KL, quadratic form and their difference against the step size; a slider reads off a step size.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.approximation`.
    """
    rows = rows.assign(place=rows.groupby("activation").cumcount())
    long = rows.melt(["activation", "eps", "place", "ratio"], list(PARTS), "of", "value").replace({"of": PARTS})
    last = int(rows["place"].max())
    params = [
        menu("unit_kind", list(rows["activation"].unique()), "units"),
        slider("step_place", last, "step size", value=last - 3),
    ]
    x = alt.X("eps:Q", title="step size ε", scale=alt.Scale(type="log", nice=False), axis=POWERS)
    color, dash, _ = looks("of", list(PARTS.values()), title=None, legend=BELOW)
    shown = alt.Chart(long).transform_filter("datum.activation === unit_kind && datum.value > 0")
    curves = shown.mark_line().encode(
        x=x,
        y=alt.Y("value:Q", title="nats", scale=alt.Scale(type="log"), axis=POWERS),
        color=color,
        strokeDash=dash,
        tooltip=["of:N", *tooltips(".1e", "eps"), *tooltips(".2e", "value")],
    )
    chosen = alt.Chart(rows).transform_filter("datum.activation === unit_kind && datum.place === step_place")
    words = chosen.transform_calculate(
        words="'ε = ' + format(datum.eps, '.1e') + ': KL is ' + format(datum.ratio, '.3f') + ' times the form'"
    )
    ends = rows.groupby("activation")["ratio"].agg(["first", "last"])
    said = "; ".join(f"{name}: {row['first']:.3f} to {row['last']:.3f}" for name, row in ends.iterrows())
    rule = chosen.mark_rule(strokeDash=[2, 3]).encode(x=x)
    return (
        alt.layer(curves, rule, words_above(words))
        .add_params(*params)
        .properties(
            title=alt.Title("The quadratic form and where it fails", subtitle="Mean over five digits, in float64."),
            description=f"KL over quadratic form from the smallest to the largest step: {said}.",
        )
    )


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
    return alt.layer(equal.encode(x=x, y=y), dots).properties(
        title=alt.Title("What the diagonal loses", subtitle="Each point: a step on one digit. Dashed: equal."),
        description=(
            f"Empirical form with the diagonal alone against the whole: the median ratio is {median:.1e}, the rank "
            f"correlation {rank:.2f}."
        ),
    )


def concentration(rows: pd.DataFrame) -> Chart:
    """The share of a sum that its largest entries hold, against the share of entries; a slider is the mask's keep.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.concentration`.
    """
    names = list(rows["of"].unique())
    bind = alt.binding_range(min=0.025, max=1, step=0.025, name="keep ")
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
    chart = alt.layer(lines, near.mark_point(size=70).encode(x=x, y=y, color="of:N"), words_above(held))
    return chart.add_params(alt.param(name="kept_share", value=0.25, bind=bind)).properties(
        title=alt.Title("How concentrated the information is", subtitle="Largest entries first; one network."),
        description=f"Share of the sum held by the largest quarter of entries: {said}.",
    )


def influence(table: pd.DataFrame) -> Chart:
    """Influence against epoch on true and on random labels; menus choose the data and how it is computed.

    Args:
        table: A tidy table of experiment ``"fisher_mask"``.
    """
    rows = influences(table)
    rows = rows[rows["way"] == NONE]
    long = rows.melt(["place", "labels", "epoch", "seed"], list(FORMS), "form", "value").replace({"form": FORMS})
    long = long[long["value"] > 0].assign(value=lambda table: np.log10(table["value"]))
    means = mean_intervals(long, ["place", "form", "labels", "epoch"])
    means[["mean", "low", "high"]] = 10 ** means[["mean", "low", "high"]]
    forms = list(FORMS.values())
    menus = {"place": menu("influence_place", by_size(rows, "place"), "runs")}
    menus["form"] = menu("influence_form", forms, "form", forms[1])
    y = alt.Y("mean:Q", title="2 × influence / ε² (nats)", scale=alt.Scale(type="log"), axis=alt.Axis(format="~e"))
    last = (
        means[means["form"] == forms[1]]
        .sort_values("epoch", kind="stable")
        .groupby(["place", "labels"], sort=False)
        .tail(1)
    )
    said = "; ".join(f"{row['place']}, {row['labels']}: {row['mean']:.2g}" for row in last.to_dict("records"))
    names = [name for name in LABELS if name in set(means["labels"])]
    return _against_epoch(means, menus, "labels", names, y).properties(
        title=alt.Title("Influence during training", subtitle="No mask. Geometric mean over seeds, 95 % interval."),
        description=f"Influence of one example's step against the epoch. With the true Fisher at the end: {said}.",
    )


def with_masks(table: pd.DataFrame) -> Chart:
    """Influence, test loss or test accuracy against epoch without a mask and with 80 % and 70 % of the weights kept.

    Args:
        table: As for `influence`.
    """
    rows = described(table)
    mask = rows["kept"].map({keep: name for name, keep in MASKED.items()}).where(rows["way"].isin([NONE, "Fisher"]))
    long = rows.assign(mask=mask, **{curve: rows[column] for curve, column in CURVES.items()})
    long = long.melt(["subject", "mask", "epoch", "seed"], list(CURVES), "of").dropna(subset=["mask", "value"])
    long = long.sort_values("mask", key=lambda masks: masks.map(list(MASKED).index), kind="stable")
    with_mask = long.loc[long["mask"] != NONE, "subject"].unique()
    means = mean_intervals(long[long["subject"].isin(with_mask)], ["subject", "of", "mask", "epoch"])
    menus = {"subject": menu("masked_subject", by_size(means, "subject"), "runs")}
    menus["of"] = menu("masked_curve", list(CURVES), "curve", "test loss")
    last = (
        means[means["of"] == "test loss"]
        .sort_values("epoch", kind="stable")
        .groupby(["subject", "mask"], sort=False)
        .tail(1)
    )
    said = "; ".join(f"{row['subject']}, {row['mask']}: {row['mean']:.3f}" for row in last.to_dict("records"))
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(zero=False))
    return _against_epoch(means, menus, "mask", list(MASKED), y).properties(
        title=alt.Title("With and without a mask", subtitle="Mean and 95 % interval over seeds; first epoch unmasked."),
        description=f"Curves against the epoch without and with masks. Test loss at the end: {said}.",
    )


def best_accuracy(table: pd.DataFrame) -> Chart:
    """Best test accuracy with a mask minus that without, against the share kept, by the kind of mask.

    Args:
        table: As for `influence`.
    """
    rows = gains(best(table))
    rows = rows[~rows["subject"].str.endswith("random labels")]
    means = mean_intervals(rows, ["subject", "way", "kept"], "gain")
    ways = [name for name in WAYS.values() if name in set(means["way"])]
    shift = {name: 0.012 * (place - (len(ways) - 1) / 2) for place, name in enumerate(ways)}
    means = means.assign(x=(means["kept"] + means["way"].map(shift)).round(4))
    base = alt.Chart(means).transform_filter("datum.subject === gain_subject")
    x = alt.X("x:Q", title="share of the weights kept", scale=alt.Scale(domain=[0.2, 0.85]), axis=alt.Axis(tickCount=6))
    color, _, shape = looks("way", ways, title="mask")
    tip = ["way:N", "kept:Q", *tooltips("+.2f")]
    gain = alt.Y("mean:Q", title="gain (points)")
    layers = [
        alt.Chart(pd.DataFrame({"mean": [0.0]})).mark_rule(strokeDash=[3, 3]).encode(y="mean:Q"),
        base.mark_point(size=80).encode(x=x, y=gain, color=color, shape=shape, tooltip=tip),
    ]
    if means["low"].notna().any():
        layers.insert(1, base.mark_rule(strokeWidth=2).encode(x=x, y="low:Q", y2="high:Q", color=color))
    said = "; ".join(f"{r['subject']}, {r['way']} {r['kept']:g}: {r['mean']:+.2f}" for r in means.to_dict("records"))
    chart = alt.layer(*layers).add_params(menu("gain_subject", by_size(means, "subject"), "runs"))
    return chart.properties(
        title=alt.Title("Best accuracy, against no mask", subtitle="Points of test accuracy; 95 % over seeds."),
        description=f"Gain of the best test accuracy over training without a mask, in points: {said}.",
    )


def _against_epoch(
    means: pd.DataFrame, menus: dict[str, alt.Parameter], column: str, names: list[str], y: alt.Y
) -> Chart:
    """A line with its band for each name; a menu chooses the value of its column."""
    shown = " && ".join(f"datum.{chosen} === {param.name}" for chosen, param in menus.items())
    color, dash, _ = looks(column, names, title=None, legend=STROKES)
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1))
    base = alt.Chart(means).transform_filter(shown).encode(x=x, color=color)
    tip = [f"{column}:N", "epoch:Q", *tooltips(".3~g")]
    line = base.mark_line(point={"size": 16}).encode(y=y, strokeDash=dash, tooltip=tip)
    if means["low"].isna().all():  # too few seeds
        return alt.layer(line).add_params(*menus.values())
    band = base.mark_area(tooltip=None).encode(y="low:Q", y2="high:Q")
    return alt.layer(band, line).add_params(*menus.values())
