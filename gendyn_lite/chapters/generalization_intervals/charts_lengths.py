"""Charts of chapter 5 over runs: how long intervals are, by labels, resolution, network, direction and epoch."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from gendyn_lite.chapters.generalization_intervals.tables import (
    BINS,
    LABELS,
    MAIN,
    SPANS,
    counts,
    described,
    distributions,
    ends,
    main_network,
)
from gendyn_lite.charts.parts import STROKES, menu
from gendyn_lite.charts.theme import DASHES, PALETTE, SHAPES
from gendyn_lite.results.tables import mean_interval, mean_intervals, with_sizes

NAMES = list(LABELS.values())
COLOR = alt.Color("labels:N", title=None, scale=alt.Scale(domain=NAMES))
LINE_COLOR = alt.Color("labels:N", title=None, scale=alt.Scale(domain=NAMES), legend=STROKES)
DASH = alt.StrokeDash("labels:N", title=None, scale=alt.Scale(domain=NAMES, range=list(DASHES[:2])), legend=STROKES)
ROOT = alt.Scale(
    type="sqrt", domain=[0, 1], nice=False
)  # else the intervals that reach the whole range are all one sees
HALVES = alt.Axis(tickMinStep=0.5, tickCount=6)
LENGTH = alt.Scale(domain=[0, 3], nice=False)
SHAPE = alt.Shape("labels:N", title=None, scale=alt.Scale(domain=NAMES, range=list(SHAPES[:2])))
WORDS = {"pair": "pairs of one class", "midline": "midlines of triangles of one class"}
DIRECTIONS = {
    "pair": "another point of the class",
    "principal": "first principal component",
    "minor": "last principal component",
    "random": "at random",
    "means": "mean of another class",
    "adversarial": "nearest boundary",
}


def densities(table: pd.DataFrame, *, kind: str = "pair", by: str = "downsample") -> alt.LayerChart | alt.FacetChart:
    """How lengths are distributed on true and on random labels: mean over seeds, 95 % interval as a band.

    Args:
        table: A tidy table of experiment ``"generalization_intervals"``.
        kind: ``"pair"`` or ``"midline"``.
        by: What a second menu chooses beside the data: ``"downsample"`` or ``"widths"``.
    """
    runs = _with_subjects(ends(table), by)
    parts = [distributions(part, kind).assign(subject=name) for name, part in runs.groupby("subject", sort=False)]
    rows = _bands(pd.concat(parts))
    low, high = SPANS[kind]
    lengths = alt.Scale(domain=[0, high - low], nice=False)
    x = alt.X("length:Q", title="length of the interval, in α", axis=HALVES, scale=lengths)
    base = alt.Chart(rows).transform_filter("datum.subject === subject").encode(x=x, color=LINE_COLOR)
    band = base.mark_area(tooltip=None).encode(
        y=alt.Y("low:Q", title="share of lines (square-root scale)", scale=ROOT), y2="high:Q"
    )
    tip = ["labels:N", "length:Q", alt.Tooltip("share:Q", format=".3f"), "seeds:Q"]
    line = base.mark_line(point={"size": 14}).encode(y=alt.Y("share:Q", scale=ROOT), strokeDash=DASH, tooltip=tip)
    return (
        alt.layer(band, line)
        .add_params(menu("subject", list(rows["subject"].unique()), "data" if by == "downsample" else "network"))
        .properties(
            title=alt.Title(
                f"Lengths along {WORDS[kind]}", subtitle=f"At most {high - low:g}. Band: 95 % interval over seeds."
            ),
            description=f"Distribution of lengths along {WORDS[kind]}. Mean lengths: {_mean_words(runs, kind)}.",
        )
    )


def _with_subjects(runs: pd.DataFrame, by: str) -> pd.DataFrame:
    """The runs that a menu chooses among, with what it calls them as the column ``subject``."""
    if by == "downsample":
        runs = main_network(runs).sort_values("downsample", kind="stable")
        choice = runs["downsample"].map(lambda side: "" if side == 1 else f", 1/{side} of the side")
        return runs.assign(subject=runs["data"] + choice + runs["size"])
    runs = runs[(runs["downsample"] == 1) & (runs["model"] == "mlp")]
    several = runs.groupby("data", sort=False)["widths"].nunique()
    sets = list(several[several > 1].index) or [several.idxmax()]
    runs = runs[runs["data"].isin(sets)].sort_values(["data", "widths"], ascending=[False, True], kind="stable")
    return runs.assign(subject=runs["widths"] + ("" if len(sets) == 1 else ", " + runs["data"]) + runs["size"])


def _bands(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean share and interval of each bin over seeds."""
    return _drawn(mean_intervals(rows, ["subject", "labels", "length"], "share", name="share"))


def _drawn(frame: pd.DataFrame, highest: float = 1.0) -> pd.DataFrame:
    """Means with their intervals, cut to what can be."""
    low, high = (frame[name].clip(0, highest) for name in ("low", "high"))
    return frame.assign(low=low, high=high).round(4)


def _mean_words(runs: pd.DataFrame, kind: str) -> str:
    said = []
    for (subject, labels), part in runs.groupby(["subject", "labels"], sort=False):
        values = part.get(f"intervals/{kind}_mean", pd.Series(dtype=float)).dropna()
        if len(values):
            said.append(f"{subject}, {labels} {values.mean():.2f}")
    return "; ".join(said)


def directions(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Mean length by direction, on true and on random labels; a menu chooses the data.

    Args:
        table: As for `densities`.
    """
    runs = ends(table)
    runs = main_network(runs[runs["downsample"] == 1])
    rows = _by_direction(runs.assign(data=runs["data"] + runs["size"]))
    sets = list(rows["data"].unique())
    y = alt.Y("direction:N", title=None, sort=list(DIRECTIONS.values()), axis=alt.Axis(labelLimit=170))
    x = alt.X("length:Q", title="mean length, in α", axis=HALVES, scale=LENGTH)
    offset = alt.YOffset("labels:N", scale=alt.Scale(domain=NAMES, paddingInner=0.4, paddingOuter=0.3))
    base = alt.Chart(rows).transform_filter("datum.data === data_set").encode(y=y, yOffset=offset, color=COLOR)
    tip = ["direction:N", "labels:N", "length:Q", "low:Q", "high:Q", "seeds:Q"]
    layers = [
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("low:Q", scale=LENGTH), x2="high:Q"),
        base.mark_point(size=80).encode(x=x, shape=SHAPE, tooltip=tip),
    ]
    words = "; ".join(
        f"{r['data']}, {r['labels']}, {r['direction']} {r['length']:.2f}" for r in rows.to_dict("records")
    )
    return (
        alt.layer(*layers)
        .add_params(menu("data_set", sets, "data"))
        .properties(
            height=300,
            title=alt.Title(
                "Which way the class lasts", subtitle="α = 1 is as far as between two points of the class."
            ),
            description=f"Mean interval length by direction: {words}.",
        )
    )


def _by_direction(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean length over seeds: a row for each data set (and size), kind of labels and direction of lines."""
    found = []
    for (data, labels), part in runs.groupby(["data", "labels"], sort=False):
        for kind, name in DIRECTIONS.items():
            values = part.get(f"intervals/{kind}_mean")
            if values is not None and values.notna().any():
                found.append((data, labels, name, *mean_interval(values)))
    columns = ["data", "labels", "direction", "length", "low", "high", "seeds"]
    return _drawn(pd.DataFrame(found, columns=pd.Index(columns)), highest=3.0)


def during_training(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Mean interval length and accuracies against epoch, true labels; a menu chooses the data.

    Args:
        table: As for `densities`, with runs that were watched epoch by epoch.
    """
    means = _while_training(table)
    names = list(means["of"].unique())
    base = (
        alt.Chart(means)
        .transform_filter("datum.data === data_set")
        .encode(
            x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("of:N", title=None, scale=alt.Scale(domain=names)),
        )
    )
    share = alt.Scale(domain=[0, 1])
    dash = alt.Scale(domain=names, range=list(DASHES[: len(names)]))
    line = base.mark_line(point={"size": 16}).encode(
        y=alt.Y("value:Q", title="share", scale=share),
        strokeDash=alt.StrokeDash("of:N", title=None, scale=dash, legend=STROKES),
        tooltip=["of:N", "epoch:Q", alt.Tooltip("value:Q", format=".3f"), "seeds:Q"],
    )
    band = base.mark_area(tooltip=None, clip=True).encode(y=alt.Y("low:Q", scale=share), y2="high:Q")
    return (
        alt.layer(band, line)
        .add_params(menu("data_set", list(means["data"].unique()), "data"))
        .properties(
            title=alt.Title("Intervals while training", subtitle="True labels; band: 95 % interval over seeds."),
            description="Mean interval length along pairs, as a share of its range, beside both accuracies by epoch.",
        )
    )


def _while_training(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by epoch of the runs on true labels that were watched: a row for each curve."""
    runs = described(table)
    runs = with_sizes(runs[runs["training"] & (runs["label_corruption"] == 0)])
    runs = runs.assign(data=runs["data"] + runs["size"])
    low, high = SPANS["pair"]
    parts = {
        "length / 3": runs["intervals/pair_mean"] / (high - low),
        "length / 3, unfitted: 0": runs["intervals/pair_mean"] * runs["intervals/fitted"] / (high - low),
        "train accuracy": runs["train_accuracy"],
        "test accuracy": runs["test_accuracy"],
    }
    rows = pd.concat([runs[["data", "epoch", "seed"]].assign(value=value, of=name) for name, value in parts.items()])
    return _drawn(mean_intervals(rows, ["data", "of", "epoch"], name="value"))


def region_norms(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """The ∞-norms of linear regions over that of the product of the weights; a line at 1.

    Args:
        table: As for `densities`.
    """
    runs = ends(table)
    runs = runs[runs["intervals/norm_ratio"].notna() & (runs["downsample"] == 1)]
    runs = runs.sort_values(["data", "widths"], key=lambda names: names.where(names != MAIN, ""), kind="stable")
    middles = np.round((np.arange(BINS) + 0.5) * 1.5 / BINS, 4)
    found = []
    for _, run in runs.iterrows():
        share = counts(run.rename({"intervals/norm_bins": "intervals/_bins"}), "")
        frame = pd.DataFrame({"length": middles, "share": share / max(share.sum(), 1)})
        found.append(frame.assign(subject=f"{run['data']}, {run['widths']}{run['size']}", labels=run["labels"]))
    rows = _bands(pd.concat(found)).rename(columns={"length": "ratio"})
    x = alt.X("ratio:Q", title="‖W of a region‖∞ / ‖W‖∞", scale=alt.Scale(domain=[0, 1.5], nice=False))
    line = (
        alt.Chart(rows)
        .transform_filter("datum.subject === subject")
        .mark_line(point={"size": 14})
        .encode(x=x, y=alt.Y("share:Q", title="share of regions"), color=LINE_COLOR, strokeDash=DASH,
                tooltip=["labels:N", "ratio:Q", alt.Tooltip("share:Q", format=".3f")])
    )  # fmt: skip
    rule = alt.Chart(pd.DataFrame({"ratio": [1.0]})).mark_rule(strokeDash=[2, 3], color=PALETTE[4]).encode(x="ratio:Q")
    within = runs["intervals/norm_within"].mean()
    return (
        alt.layer(rule, line)
        .add_params(menu("subject", list(rows["subject"].unique()), "network"))
        .properties(
            title=alt.Title(
                "Norms of linear regions", subtitle="Left of the dotted line: no larger than without the ReLUs."
            ),
            description=f"Norms of regions over the norm of the weights' product; {within:.1%} lie within it.",
        )
    )
