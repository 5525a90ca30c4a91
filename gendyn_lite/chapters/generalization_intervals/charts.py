"""Charts of chapter 5: how long intervals are over runs."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.generalization_intervals import tables
from gendyn_lite.chapters.generalization_intervals.tables import LABELS, SPANS
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, menu, strokes, tooltips
from gendyn_lite.results.tables import mean_intervals, with_sizes

NAMES = list(LABELS.values())
OF_LABELS = strokes("labels", NAMES)
# Else the intervals that reach the whole range are all one sees.
ROOT = alt.Scale(type="sqrt", domain=[0, 1], nice=False)
HALVES = alt.Axis(tickMinStep=0.5, tickCount=6)
UNTRAINED = "untrained network"  # on labels that are its own predictions
REACH, NEAREST = "reach", "nearest of its class"
WORDS = {"pair": "pairs of one class", "midline": "midlines of triangles of one class"}
DIRECTIONS = {
    "pair": "another point of the class",
    "principal": "first principal component",
    "minor": "last principal component",
    "random": "at random",
    "varying": "at random, as pixels vary",
    "span": "at random, in the class's span",
    "means": "mean of another class",
    "adversarial": "nearest boundary",
}


def densities(table: pd.DataFrame, *, kind: str = "pair", by: str = "downsample") -> Chart:
    """How lengths are distributed on true and on random labels: mean over seeds, 95 % interval as a band.

    Args:
        table: A tidy table of experiment ``"generalization_intervals"``.
        kind: ``"pair"`` or ``"midline"``.
        by: What a second menu chooses beside the data: ``"downsample"`` or ``"widths"``.
    """
    runs = _with_subjects(tables.ends(table), by)
    rows = _shares(runs, kind)
    low, high = SPANS[kind]
    scale = alt.Scale(domain=[0, high - low], nice=False)
    x = alt.X("length:Q", title="length of the interval, in α", axis=HALVES, scale=scale)
    subject = menu("subject", rows["subject"], "data" if by == "downsample" else "network")
    base = chosen(rows, {"subject": subject}).encode(x=x, color=OF_LABELS["color"])
    share = alt.Y("low:Q", title="share of lines (square-root scale)", scale=ROOT)
    tip = ["labels:N", "length:Q", *tooltips(".3f", "share"), "seeds:Q"]
    line = base.mark_line(point={"size": 14}).encode(y=alt.Y("share:Q", scale=ROOT), tooltip=tip)
    means = runs.groupby(["subject", "labels"], sort=False)[f"intervals/{kind}_mean"].mean().dropna().rename("mean")
    band, line = base.mark_area(tooltip=None), line.encode(strokeDash=OF_LABELS["strokeDash"])
    words, subtitle = (
        parts.told(means, "{subject}, {labels} {mean:.2f}"),
        f"At most {high - low:g}. Band: 95 % interval over seeds.",
    )
    about = f"Distribution of lengths along {WORDS[kind]}. Mean lengths: {words}."
    layers = [band.encode(y=share, y2="high:Q"), line]
    return layered(layers, f"Lengths along {WORDS[kind]}", subtitle, about)


def _with_subjects(runs: pd.DataFrame, by: str) -> pd.DataFrame:
    """The runs that a menu chooses among, with what it calls them as the column ``subject``."""
    if by == "downsample":
        runs = tables.main_network(runs).sort_values("downsample", kind="stable")
        choice = runs["downsample"].map(lambda side: "" if side == 1 else f", 1/{side} of the side")
        return runs.assign(subject=runs["data"] + choice + runs["size"])
    runs = runs[(runs["downsample"] == 1) & (runs["model"] == "mlp")]
    several = runs.groupby("data", sort=False)["widths"].nunique()
    sets = list(several[several > 1].index) or [several.idxmax()]
    runs = runs[runs["data"].isin(sets)].sort_values(["data", "widths"], ascending=[False, True], kind="stable")
    return runs.assign(subject=runs["widths"] + ("" if len(sets) == 1 else ", " + runs["data"]) + runs["size"])


def _shares(runs: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Mean share of each bin over seeds, with its interval: the rows of one subject after those of another."""
    shares = tables.distributions(pd.concat([part for _, part in runs.groupby("subject", sort=False)]), kind)
    return _drawn(mean_intervals(shares, ["subject", "labels", "length"], "share", name="share"))


def _drawn(frame: pd.DataFrame, highest: float = 1.0) -> pd.DataFrame:
    """Means with their intervals, cut to what can be."""
    return frame.assign(low=frame["low"].clip(0, highest), high=frame["high"].clip(0, highest)).round(4)


def directions(table: pd.DataFrame) -> Chart:
    """Mean length by direction, on true and on random labels and before training; a menu chooses the data.

    Args:
        table: As for `densities`.
    """
    runs = tables.ends(table)
    rows = _by_direction(tables.main_network(runs[runs["downsample"] == 1]))
    length = alt.Scale(domain=[0, 3], nice=False)
    names = [name for name in (*NAMES, UNTRAINED) if name in set(rows["labels"])]
    color, _, shape = parts.looks("labels", names, title=None)
    base = chosen(rows, {"data": menu("data_set", rows["data"], "data")}).encode(
        y=alt.Y("direction:N", title=None, sort=list(DIRECTIONS.values()), axis=alt.Axis(labelLimit=170)),
        yOffset=alt.YOffset("labels:N", scale=alt.Scale(domain=names, paddingInner=0.4, paddingOuter=0.3)),
        color=color,
    )
    whiskers = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    x = alt.X("length:Q", title="mean length, in α", axis=HALVES, scale=length)
    tip = ["direction:N", "labels:N", "length:Q", "low:Q", "high:Q", "seeds:Q"]
    layers = [
        whiskers.encode(x=alt.X("low:Q", scale=length), x2="high:Q"),
        base.mark_point(size=80).encode(x=x, shape=shape, tooltip=tip),
    ]
    words = parts.told(rows, "{data}, {labels}, {direction} {length:.2f}")
    about = f"Mean interval length by direction: {words}."
    return layered(
        layers, "Which way the class lasts", "α = 1 is as far as between two points of the class.", about, height=300
    )


def _by_direction(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean length over seeds: a row for each data set (and size), kind of labels and direction of lines."""
    initial = runs[runs["label_corruption"] == 0].assign(labels=UNTRAINED)
    by, found = ["data", "labels", "direction"], []
    for prefix, part in (("", runs), ("untrained_", initial)):
        columns = {f"intervals/{prefix}{kind}_mean": name for kind, name in DIRECTIONS.items()}
        keys = [part["data"] + part["size"], part["labels"]]
        lengths = part.reindex(columns=list(columns)).rename(columns=columns).set_index(keys)
        stacked: pd.Series = lengths.stack()  # type: ignore[assignment]
        found.append(stacked.rename("length").dropna().rename_axis(by).reset_index())
    rows = pd.concat(found)
    return _drawn(mean_intervals(rows, by, "length", name="length"), highest=3.0)


def during_training(table: pd.DataFrame) -> Chart:
    """Mean interval length and accuracies against epoch, true labels; a menu chooses the data.

    Args:
        table: As for `densities`, with runs that were watched epoch by epoch.
    """
    means = _while_training(table)
    names, share = list(means["of"].unique()), alt.Scale(domain=[0, 1])
    color, *_ = parts.looks("of", names, title=None)
    base = chosen(means, {"data": menu("data_set", means["data"], "data")}).encode(x=parts.EPOCHS, color=color)
    line = base.mark_line(point={"size": 16}).encode(y=alt.Y("value:Q", title="share", scale=share))
    tip = ["of:N", "epoch:Q", *tooltips(".3f", "value"), "seeds:Q"]
    layers = [
        base.mark_area(tooltip=None, clip=True).encode(y=alt.Y("low:Q", scale=share), y2="high:Q"),
        line.encode(strokeDash=strokes("of", names)["strokeDash"], tooltip=tip),
    ]
    about = "Mean interval length along pairs, as a share of its range, beside both accuracies by epoch."
    return layered(layers, "Intervals while training", "True labels; band: 95 % interval over seeds.", about)


def _while_training(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by epoch of the runs on true labels that were watched: a row for each curve."""
    runs = with_sizes(tables.described(table).query("training and label_corruption == 0"))
    low, high = SPANS["pair"]
    curves = {
        "length / 3": runs["intervals/pair_mean"] / (high - low),
        "length / 3, unfitted: 0": runs["intervals/pair_mean"] * runs["intervals/fitted"] / (high - low),
        "train accuracy": runs["train_accuracy"],
        "test accuracy": runs["test_accuracy"],
    }
    about = runs[["epoch", "seed"]].assign(data=runs["data"] + runs["size"])
    rows = about.assign(**curves).melt(list(about), var_name="of")
    return _drawn(mean_intervals(rows, ["data", "of", "epoch"], name="value"))


def region_norms(table: pd.DataFrame) -> Chart:
    """The ∞-norms of linear regions over that of the product of the weights; a line at 1.

    Args:
        table: As for `densities`.
    """
    runs = tables.ends(table)
    runs = runs[runs["intervals/norm_ratio"].notna() & (runs["downsample"] == 1)]
    runs = runs.sort_values(["data", "widths"], key=lambda names: names.where(names != tables.MAIN, ""), kind="stable")
    runs = runs.assign(subject=runs["data"] + ", " + runs["widths"] + runs["size"])
    rows = _shares(runs, "norm").rename(columns={"length": "ratio"})
    line = chosen(rows, {"subject": menu("subject", rows["subject"], "network")}).mark_line(point={"size": 14})
    rule = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(strokeDash=[2, 3], color=PALETTE[4])
    x = alt.X("ratio:Q", title="‖W of a region‖∞ / ‖W‖∞", scale=alt.Scale(domain=[0, 1.5], nice=False))
    tip = ["labels:N", "ratio:Q", *tooltips(".3f", "share")]
    line = line.encode(x=x, y=alt.Y("share:Q", title="share of regions"), **OF_LABELS, tooltip=tip)
    about = (
        "Norms of regions over the norm of the weights' product; "
        f"{runs['intervals/norm_within'].mean():.1%} lie within it."
    )
    title, subtitle = "Norms of linear regions", "Left of the dotted line: no larger than without the ReLUs."
    return layered([rule.encode(x="ratio:Q"), line], title, subtitle, about)


def bound_reach(table: pd.DataFrame) -> Chart:
    """How far the appendix's bound reaches from a training image, and how far off new images of the class are.

    Args:
        table: As for `densities`, with what `runs.bound` measures.
    """
    runs = tables.ends(table)
    runs = runs[(runs["label_corruption"] == 0) & (runs["dataset"] != "two_moons")]
    curves = {REACH: runs["intervals/bound_reach"], NEAREST: runs["intervals/bound_nearest"]}
    about = runs[["seed"]].assign(subject=runs["data"] + ", " + runs["widths"] + runs["size"])
    rows = about.assign(**curves).melt(list(about), var_name="of").dropna()
    rows = mean_intervals(rows, ["subject", "of"], name="distance")
    rows = rows.assign(**{name: rows[name].map("{:.3g}".format).astype(float) for name in ("distance", "low", "high")})
    color, _, shape = parts.looks("of", [REACH, NEAREST], title=None)
    x = alt.X("distance:Q", title="largest change of a pixel", scale=alt.Scale(type="log"))
    y = alt.Y("subject:N", title=None, sort=None, axis=alt.Axis(labelLimit=260))
    tip = ["subject:N", "of:N", "distance:Q", "low:Q", "high:Q", "seeds:Q"]
    marks = alt.Chart(rows).mark_point(size=90, filled=True).encode(x=x, y=y, color=color, shape=shape, tooltip=tip)
    words = parts.told(rows, "{subject}, {of}: {distance:.2g}")
    title, subtitle = (
        "What the bound explains",
        "True labels, logarithmic. Reach of the bound, and distance of new images to the nearest of their class.",
    )
    return layered([marks], title, subtitle, f"Reach of the bound and distance to new images: {words}.", height=230)
