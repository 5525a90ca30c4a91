"""Charts of chapter 3 over runs: influence during training, with and without masks, and best accuracies."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from gendyn_lite.chapters.fisher_mask.tables import FORMS, NONE, WAYS, best, by_size, described, gains, influences
from gendyn_lite.charts.parts import STROKES, menu
from gendyn_lite.charts.theme import DASHES, SHAPES
from gendyn_lite.results.tables import mean_intervals

LABELS = ["true labels", "20 % redrawn", "random labels"]
MASKED = {NONE: 1.0, "Fisher, 80 % kept": 0.8, "Fisher, 70 % kept": 0.7}
CURVES = {
    "influence (true Fisher)": "influence/quadratic_true",
    "test loss": "test_loss",
    "test accuracy": "test_accuracy",
}


def influence(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Influence against epoch on true and on random labels; menus choose the data and how it is computed.

    Args:
        table: A tidy table of experiment ``"fisher_mask"``.
    """
    rows = influences(table)
    rows = rows[rows["way"] == NONE]
    long = rows.melt(["place", "labels", "epoch", "seed"], list(FORMS), "form", "value")
    long["form"] = long["form"].map(FORMS)
    long = long[long["value"] > 0].assign(value=lambda table: np.log10(table["value"]))
    means = mean_intervals(long, ["place", "form", "labels", "epoch"])
    means[["mean", "low", "high"]] = 10 ** means[["mean", "low", "high"]]
    places, forms = by_size(rows, "place"), list(FORMS.values())
    names = [name for name in LABELS if name in set(means["labels"])]
    params = [
        menu("influence_place", places, "runs"),
        menu("influence_form", forms, "form", forms[1]),
    ]
    shown = "datum.place === influence_place && datum.form === influence_form"
    y = alt.Y("mean:Q", title="2 × influence / ε² (nats)", scale=alt.Scale(type="log"), axis=alt.Axis(format="~e"))
    last = means[means["form"] == forms[1]].sort_values("epoch").groupby(["place", "labels"], sort=False).tail(1)
    said = "; ".join(f"{row['place']}, {row['labels']}: {row['mean']:.2g}" for row in last.to_dict("records"))
    return _lines(means, shown, params, ("labels", names), y).properties(
        title=alt.Title("Influence during training", subtitle="No mask. Geometric mean over seeds, 95 % interval."),
        description=f"Influence of one example's step against the epoch. With the true Fisher at the end: {said}.",
    )


def with_masks(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Influence, test loss or test accuracy against epoch without a mask and with 80 % and 70 % of the weights kept.

    Args:
        table: As for `influence`.
    """
    rows = described(table)
    parts = []
    for name, keep in MASKED.items():
        own = rows[(rows["kept"] == keep) & rows["way"].isin([NONE, "Fisher"])].assign(mask=name)
        for curve, column in CURVES.items():
            parts.append(own[["subject", "mask", "epoch", "seed"]].assign(of=curve, value=own[column]))
    long = pd.concat(parts).dropna(subset=["value"])
    with_mask = long.loc[long["mask"] != NONE, "subject"].unique()
    means = mean_intervals(long[long["subject"].isin(with_mask)], ["subject", "of", "mask", "epoch"])
    subjects, curves = by_size(means, "subject"), list(CURVES)
    params = [
        menu("masked_subject", subjects, "runs"),
        menu("masked_curve", curves, "curve", curves[1]),
    ]
    shown = "datum.subject === masked_subject && datum.of === masked_curve"
    y = alt.Y("mean:Q", title=None, scale=alt.Scale(zero=False))
    last = means[means["of"] == "test loss"].sort_values("epoch").groupby(["subject", "mask"], sort=False).tail(1)
    said = "; ".join(f"{row['subject']}, {row['mask']}: {row['mean']:.3f}" for row in last.to_dict("records"))
    return _lines(means, shown, params, ("mask", list(MASKED)), y).properties(
        title=alt.Title("With and without a mask", subtitle="Mean and 95 % interval over seeds; first epoch unmasked."),
        description=f"Curves against the epoch without and with masks. Test loss at the end: {said}.",
    )


def best_accuracy(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
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
    subjects = by_size(means, "subject")
    chosen = menu("gain_subject", subjects, "runs")
    base = alt.Chart(means).transform_filter("datum.subject === gain_subject")
    x = alt.X("x:Q", title="share of the weights kept", scale=alt.Scale(domain=[0.2, 0.85]), axis=alt.Axis(tickCount=6))
    color = alt.Color("way:N", title="mask", scale=alt.Scale(domain=ways))
    shape = alt.Shape("way:N", title="mask", scale=alt.Scale(domain=ways, range=list(SHAPES[: len(ways)])))
    tip = ["way:N", "kept:Q", *(alt.Tooltip(f"{name}:Q", format="+.2f") for name in ("mean", "low", "high")), "seeds:Q"]
    gain = alt.Y("mean:Q", title="gain (points)")
    layers: list[alt.Chart] = [
        alt.Chart(pd.DataFrame({"mean": [0.0]})).mark_rule(strokeDash=[3, 3]).encode(y="mean:Q"),
        base.mark_point(size=80).encode(x=x, y=gain, color=color, shape=shape, tooltip=tip),
    ]  # fmt: skip
    if means["low"].notna().any():
        layers.insert(1, base.mark_rule(strokeWidth=2).encode(x=x, y="low:Q", y2="high:Q", color=color))
    said = "; ".join(f"{r['subject']}, {r['way']} {r['kept']:g}: {r['mean']:+.2f}" for r in means.to_dict("records"))
    return (
        alt.layer(*layers)
        .add_params(chosen)
        .properties(
            title=alt.Title("Best accuracy, against no mask", subtitle="Points of test accuracy; 95 % over seeds."),
            description=f"Gain of the best test accuracy over training without a mask, in points: {said}.",
        )
    )


def _lines(means: pd.DataFrame, shown: str, params: list[alt.Parameter], by: tuple[str, list[str]], y: alt.Y) -> Any:
    """A line with its band for each name, against the epoch."""
    column, names = by
    scale = alt.Scale(domain=names)
    dash = alt.Scale(domain=names, range=list(DASHES[: len(names)]))
    base = (
        alt.Chart(means)
        .transform_filter(shown)
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color(f"{column}:N", title=None, scale=scale, legend=STROKES),
        )
    )
    tip = [
        f"{column}:N",
        "epoch:Q",
        *(alt.Tooltip(f"{n}:Q", format=".3~g") for n in ("mean", "low", "high")),
        "seeds:Q",
    ]
    line = base.mark_line(point={"size": 16}).encode(
        y=y, strokeDash=alt.StrokeDash(f"{column}:N", title=None, scale=dash, legend=STROKES), tooltip=tip
    )
    if means["low"].isna().all():  # too few seeds
        return alt.layer(line).add_params(*params)
    band = base.mark_area(tooltip=None).encode(y="low:Q", y2="high:Q")
    return alt.layer(band, line).add_params(*params)
