"""Charts of chapter 3: one step and its approximations; influence, right and wrong labels, and masks over runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from gendyn_lite.chapters.fisher_mask import tables
from gendyn_lite.chapters.fisher_mask.claims import LOSS
from gendyn_lite.chapters.fisher_mask.tables import CURVES, EQUAL, FORMS, NONE, OF_PARTS, WAYS
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, looks, menu, of_runs, slider, told, tooltips, words_above
from gendyn_lite.results.tables import mean_intervals

PAIRS = ["same digit", "other digit"]
PARTS = {"kl": "KL, measured", "quadratic": "quadratic form", "gap": "their difference"}
ROOM = 26  # pixels between a legend and the drawing, for the words above it
BELOW = alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=300, offset=ROOM)
POWERS = alt.Axis(format="~e", tickCount=5)
LOGARITHMIC = alt.Scale(type="log")


def moved(rows: pd.DataFrame) -> Chart:
    """Draw the KL of each watched digit after a step on one; a menu chooses the example, a slider the step size.

    Args:
        rows: A table of `gendyn_lite.chapters.fisher_mask.demo.steps`, or of `demo.step` (without menu and slider).
    """
    choices, shown = {}, rows
    if "example" in rows:
        sizes = sorted(rows["eps"].unique())
        power = slider("step_power", sizes, "step size ε", value=sizes[:4][-1])
        choices = {"example": menu("stepped", rows["example"], "step on"), "eps": power}
        shown = rows[(rows["example"] == rows["example"].iloc[0]) & (rows["eps"] == sizes[:4][-1])]
    base = chosen(rows.assign(kl=rows["kl"].clip(lower=1e-12)).round({"kl": 15}), choices)
    color, _, shape = looks("pair", PAIRS, title=None, legend=alt.Legend(offset=ROOM))
    x, offset = alt.X("digit:O", title="watched digit"), alt.XOffset("pair:N", scale=alt.Scale(domain=PAIRS))
    y = alt.Y("kl:Q", title="KL of its prediction (nats)", scale=LOGARITHMIC, axis=POWERS)
    tip = ["digit:O", "number:Q", *tooltips(".2e", "kl")]
    dots = base.mark_point(size=60).encode(x=x, xOffset=offset, y=y, color=color, shape=shape, tooltip=tip)
    mean = base.transform_aggregate(mean="mean(kl)", eps="min(eps)").transform_calculate(
        words="'ε = ' + format(datum.eps, '~g') + ', mean KL ' + format(datum.mean, '.1e')"
    )
    said = ", ".join(f"{name} {value:.1e}" for name, value in shown.groupby("pair")["kl"].mean().items())
    layers = [dots, words_above(mean)] if choices else [dots]
    on = f"{shown['example'].iloc[0]}, step size {shown['eps'].iloc[0]:g}" if choices else "one digit"
    about = f"KL of the prediction of each watched digit after a step on {on}, on a logarithmic scale. Mean: {said}."
    return layered(layers, "Whose predictions move", "KL between predictions before and after one step.", about)


def approximation(rows: pd.DataFrame) -> Chart:
    """Draw KL, quadratic form and their difference against the step size; a slider reads off one step size.

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
    """Draw the quadratic form with the diagonal alone against that with the whole matrix, a point for each example.

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
    """Draw the share of a sum that its largest entries hold against the share of entries; a slider sets that share.

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


AT = "epoch, or −log₁₀ of training loss"
LABELS = ["true labels", "50 % redrawn", "random labels"]
MASKED = {NONE: 1.0, "Fisher, 80 % kept": 0.8, "Fisher, 70 % kept": 0.7}
READINGS = {0.75: "75 % kept", 0.25: "25 % kept"}


def influence(table: pd.DataFrame) -> Chart:
    """Draw influence during training on true, half random and random labels, without a mask.

    Menus choose the runs, the form, and whether curves are compared at equal epochs or at equal training loss.

    Args:
        table: A tidy table of experiment ``"fisher_mask"``.
    """
    rows = tables.influences(table)
    rows = tables.logarithms(rows[rows["way"] == NONE], *FORMS)
    means = mean_intervals(tables.compared(rows, FORMS, ["place", "labels"]), ["place", "of", "equal", "labels", "at"])
    menus = {"place": menu("influence_place", tables.by_size(rows, "place"), "runs"), **_equal("influence")}
    menus["of"] = menu("influence_form", FORMS.values(), "form", FORMS["influence/quadratic_true"])
    named = [name for name in LABELS if name in set(means["labels"])]
    last = parts.latest(rows, ["place", "labels", "seed"]).groupby(["place", "labels"])["influence/quadratic_true"]
    words = told(last.mean(), "{place}, {labels}: {influence/quadratic_true:.2g}")
    about = (
        f"Influence of one example's step during training. Logarithm of that with the true Fisher at the end: {words}."
    )
    layers = _lines(means, menus, "labels", named, "log₁₀ of 2 × influence / ε² (nats)")
    subtitle = "No mask. Mean of logarithms over seeds, 95 % interval."
    return of_runs(layered(layers, "Influence during training", subtitle, about), table, rows)


def right_and_wrong(table: pd.DataFrame) -> Chart:
    """Draw steps on right and on wrong labels in one network: influence, gradients, and the share that a mask holds.

    Args:
        table: As for `influence`.
    """
    rows = tables.influences(table)
    rows = rows[(rows["way"] == NONE) & (rows["label_corruption"] == 0.5)]
    each = []
    for part in ("right", "wrong"):
        own = {"influence": rows[f"{part}/influence"], "gradient": rows[f"{part}/gradient"]}
        own["ratio"] = own["influence"] / own["gradient"]
        own = {name: np.log10(values.where(values > 0)) for name, values in own.items()}
        own |= {keep: rows[f"below/{part}_{keep}"] for keep in ("75", "25")}
        each.append(rows[["run_id", "place", "seed", "epoch"]].assign(labels=f"{part} labels", **own))
    long = pd.concat(each)
    long = long.melt(["run_id", "place", "seed", "epoch", "labels"], list(OF_PARTS), "of").dropna(subset=["value"])
    long = long.replace({"of": OF_PARTS}).rename(columns={"epoch": "at"})
    means = mean_intervals(long, ["place", "of", "labels", "at"])
    menus = {"place": menu("parts_place", tables.by_size(long, "place"), "runs")}
    menus["of"] = menu("parts_of", OF_PARTS.values(), "of")
    last = parts.latest(means.rename(columns={"at": "epoch"}), ["place", "of", "labels"])
    about = f"Steps on right and on wrong labels. At the end: {told(last, '{place}, {of}, {labels}: {mean:.2f}')}."
    layers = _lines(means, menus, "labels", ["right labels", "wrong labels"], "mean over seeds", at="epoch")
    subtitle = "No mask, half of the labels redrawn; 95 % intervals over seeds."
    return of_runs(layered(layers, "Right and wrong labels", subtitle, about), table, long)


def with_masks(table: pd.DataFrame) -> Chart:
    """Draw influence, losses and accuracies without a mask and with 80 % and 70 % of the weights kept.

    Args:
        table: As for `influence`.
    """
    rows = tables.described(table)
    mask = rows["kept"].map({keep: name for name, keep in MASKED.items()}).where(rows["way"].isin([NONE, "Fisher"]))
    rows = tables.logarithms(rows.assign(mask=mask)[mask.notna()], "influence/quadratic_true")
    pairs = pd.MultiIndex.from_frame(rows[["subject", "seed"]])
    rows = rows[pairs.isin(pairs[rows["mask"] != NONE])]
    long = tables.compared(rows, CURVES, ["subject", "mask"])
    means = mean_intervals(long, ["subject", "of", "equal", "mask", "at"])
    menus = {"subject": menu("masked_subject", tables.by_size(means, "subject"), "runs")}
    menus |= {"of": menu("masked_curve", CURVES.values(), "curve", CURVES["test_loss"]), **_equal("masked")}
    shown = means[(means["of"] == CURVES["test_loss"]) & (means["equal"] == EQUAL[0])]
    last = parts.latest(shown.rename(columns={"at": "epoch"}), ["subject", "mask"])
    about = f"Runs without and with masks. Test loss at the end: {told(last, '{subject}, {mask}: {mean:.3f}')}."
    layers = _lines(means, menus, "mask", [name for name in MASKED if name in set(means["mask"])], "mean over seeds")
    subtitle = "Mean and 95 % interval over seeds; first epoch unmasked."
    return of_runs(layered(layers, "With and without a mask", subtitle, about), table, rows)


def wrong_fitted(table: pd.DataFrame) -> Chart:
    """Draw the share of wrong labels fitted against that of right ones, by kind of mask; a menu chooses its size.

    Args:
        table: As for `influence`.
    """
    rows = tables.fits(table)
    rows = rows[rows["subject"].isin(rows.loc[rows["way"] != NONE, "subject"])]
    bare = [rows[rows["way"] == NONE].assign(kept=keep) for keep in READINGS]
    rows = pd.concat([*bare, rows[rows["kept"].isin(READINGS) & (rows["way"] != NONE)]])
    rows = rows.assign(mask=rows["kept"].map(READINGS), at=rows["right"])
    means = mean_intervals(rows, ["subject", "mask", "way", "at"], "wrong")
    menus = {"subject": menu("fit_subject", tables.by_size(rows, "subject"), "runs")}
    menus["mask"] = menu("fit_mask", [READINGS[keep] for keep in READINGS if keep in set(rows["kept"])], "mask")
    ways = [name for name in (NONE, *WAYS.values()) if name in set(means["way"])]
    near = means[means["at"].between(0.59, 0.61)]
    about = f"Wrong labels fitted where 0.6 of the right ones are: {told(near, '{mask}, {way}: {mean:.2f}')}."
    layers = _lines(
        means, menus, "way", ways, "share of the wrong labels fitted", at="share of the right labels fitted"
    )
    subtitle = "Half of the labels redrawn; 95 % intervals over seeds."
    return of_runs(layered(layers, "Wrong labels against right ones", subtitle, about), table, rows)


def accuracy_gained(table: pd.DataFrame) -> Chart:
    """Draw test accuracy with a mask minus that without, at the best epochs or at equal training loss.

    Args:
        table: As for `influence`.
    """
    rows = pd.concat(
        [tables.gains(tables.best(table)).assign(equal=EQUAL[0]), tables.gains_at(table, LOSS).assign(equal=EQUAL[1])]
    )
    rows = rows[~rows["subject"].str.endswith("random labels") & rows["kept"].isin(READINGS)]
    means = mean_intervals(rows, ["subject", "equal", "way", "kept"], "gain")
    means = means.assign(mask=means["kept"].map(READINGS))
    menus = {"subject": menu("gain_subject", tables.by_size(means, "subject"), "runs"), **_equal("gain")}
    ways = [name for name in WAYS.values() if name in set(means["way"])]
    base = chosen(means, menus)
    x = alt.X("mask:N", title=None, axis=alt.Axis(labelAngle=0))
    offset = alt.XOffset("way:N", scale=alt.Scale(domain=ways))
    color, _, shape = looks("way", ways, title=None)
    y, tip = alt.Y("mean:Q", title="gain over no mask (points)"), ["way:N", "mask:N", *tooltips("+.2f")]
    zero = alt.Chart(pd.DataFrame({"mean": [0.0]})).mark_rule(strokeDash=[3, 3]).encode(y="mean:Q")
    points = base.mark_point(size=80).encode(x=x, xOffset=offset, y=y, color=color, shape=shape, tooltip=tip)
    bars = parts.interval_bars(base.encode(x=x, xOffset=offset, color=color), width=2)
    layers = [zero, bars, points] if means["low"].notna().any() else [zero, points]
    words = told(means[means["way"] == WAYS["fisher"]], "{subject}, equal {equal}, {mask}: {mean:+.2f}")
    about = (
        f"Gain of the test accuracy over no mask, in points; with the Fisher mask: {words}. The others: see its data."
    )
    subtitle = "At the best epoch, or at equal training loss (0.2; 1.2 with 25 % kept); 95 % intervals."
    drawn = layered(layers, "Test accuracy, against no mask", subtitle, about)
    return of_runs(drawn, table, tables.with_and_without(table, rows))


def _equal(prefix: str) -> dict[str, alt.Parameter]:
    """Make a menu of what is equal where curves are compared: epochs, or training loss."""
    return {"equal": menu(f"{prefix}_equal", EQUAL, "equal")}


def _lines(
    means: pd.DataFrame, menus: Mapping[str, Any], column: str, names: Sequence[str], title: str, *, at: str = AT
) -> list[alt.Chart]:
    """Draw a line for each value of a column, with a band of intervals if there are enough seeds."""
    color, dash, _ = looks(column, names, title=None, legend=parts.STROKES)
    base = chosen(means, menus).encode(x=alt.X("at:Q", title=at), color=color)
    y = alt.Y("mean:Q", title=title, scale=parts.AROUND)
    tip = [f"{column}:N", *tooltips(".3~g", "at"), *tooltips(".3~g")]
    line = base.mark_line(point={"size": 16}).encode(y=y, strokeDash=dash, tooltip=tip)
    band = base.mark_area(tooltip=None).encode(y="low:Q", y2="high:Q")
    return [line] if means["low"].isna().all() else [band, line]
