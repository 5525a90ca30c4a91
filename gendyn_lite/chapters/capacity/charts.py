"""Charts of chapter 1 on capacity: a network that fits anything, kernels, descent to the minimum norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.capacity.claims import paper_errors, with_features
from gendyn_lite.charts.parts import Chart, menu, slider
from gendyn_lite.charts.theme import DASHES, PALETTE, SHAPES
from gendyn_lite.results.tables import mean_intervals


def memorizing_curve(curves: pd.DataFrame) -> Chart:
    """The network of Theorem 1 through random labels on a line; a slider on the number of points.

    Args:
        curves: A table of `gendyn_lite.chapters.capacity.runs.memorizing_curves`.
    """
    counts = [int(n) for n in sorted(curves["n"].unique())]
    count = slider("count", counts[-1], "points n", first=counts[0], value=counts[len(counts) // 3])
    base = alt.Chart(curves.round(5)).transform_filter("datum.n === count")
    x = alt.X("x:Q", title="input x", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("value:Q", title="label and network output")
    tip = [alt.Tooltip("x:Q", format=".3f"), alt.Tooltip("value:Q", format=".3f")]
    bends = base.transform_filter("datum.kind === 'kink'")
    line = bends.mark_line(clip=True).encode(x=x, y=y, order="x:Q")
    kinks = bends.mark_tick(thickness=2, size=12, clip=True).encode(x=x, y=y, tooltip=tip)
    points = base.transform_filter("datum.kind === 'point'").mark_point(size=80, color=PALETTE[1])
    size = base.transform_aggregate(weights="max(weights)")
    size = size.transform_calculate(words="datum.weights + ' weights (2n + d)'")
    label = size.mark_text(align="right", baseline="top", dx=-6, dy=6)
    label = label.encode(x=alt.value("width"), y=alt.value(0), text="words:N")
    layers = alt.layer(line, kinks, points.encode(x=x, y=y, tooltip=tip), label).add_params(count)
    return layers.properties(
        title=alt.Title("A network through any labels", subtitle="Drag the number of points; ticks mark the kinks."),
        description="Random labels of points on a line and the two-layer ReLU network that passes through all of them, "
        f"for {counts[0]} to {counts[-1]} points. Each point adds one kink and two weights.",
    )


def kernel_error(table: pd.DataFrame) -> Chart:
    """Test error of kernel regression against the number of training examples; mean, interval and seeds.

    Args:
        table: A tidy table of experiment ``"kernel_regression"``; with several data sets a menu chooses one.
    """
    rows = _kernel_rows(table)
    means = mean_intervals(rows, ["data", "kind", "n"], "error", name="error").round(5)
    sets, kinds = list(rows["data"].unique()), list(means["kind"].unique())

    def looks(values: Sequence[Any]) -> dict[str, Any]:
        """A look for each kind, in turn; the same legend for all of them."""
        scale = alt.Scale(domain=kinds, range=[values[i % len(values)] for i in range(len(kinds))])
        return {"title": None, "scale": scale, "legend": alt.Legend(labelLimit=300)}

    ticks = alt.Axis(values=sorted(means["n"].unique()), labelOverlap=True)
    x = alt.X("n:Q", title="training examples n", scale=alt.Scale(type="log"), axis=ticks)
    y = alt.Y("error:Q", title="test error", scale=alt.Scale(type="log"), axis=alt.Axis(format=".2~%"))
    base = alt.Chart(means).transform_filter("datum.data === data_set")
    base = base.encode(x=x, color=alt.Color("kind:N", **looks(PALETTE)))
    bars = base.transform_filter("isValid(datum.low) && datum.low > 0").mark_rule(strokeWidth=2)
    tip = ["kind:N", "n:Q", alt.Tooltip("error:Q", format=".2%"), "seeds:Q"]
    points = base.mark_point(size=80).encode(y=y, shape=alt.Shape("kind:N", **looks(SHAPES)), tooltip=tip)
    layers = [
        base.mark_line().encode(y=y, strokeDash=alt.StrokeDash("kind:N", **looks(DASHES))),
        bars.encode(y="low:Q", y2="high:Q"),
        points.add_params(menu("data_set", sets, "data")),
        *_paper_rules(rows),
    ]
    ends = means.sort_values("n", kind="stable").groupby(["data", "kind"], sort=False)
    words = "; ".join(f"{data}, {kind}: {part['error'].iloc[-1]:.2%}" for (data, kind), part in ends)
    return alt.layer(*layers).properties(
        title=alt.Title("Kernel regression: test error", subtitle="Mean, 95 % interval; dotted: the paper."),
        description=f"Test error of kernel regression against training set size. At the largest size: {words}.",
    )


def _kernel_rows(table: pd.DataFrame) -> pd.DataFrame:
    """One row per regression: data, kind (features, ridge, labels), features, n, seed, test error."""
    rows = with_features(table).rename(columns={"n_train": "n"})
    named = rows["features"].mask(rows["filters"] > 0, rows["filters"].map("{:,.0f} random filters".format))
    ridge = rows["weight_decay"].map(lambda value: "no ridge" if value == 0 else f"ridge {value:g}")
    labels = rows["label_corruption"].map(lambda q: "" if q == 0 else f", q = {q:g}")
    return rows.assign(kind=named + ", " + ridge + labels)[["kind", "features", "data", "n", "seed", "error"]]


def _paper_rules(rows: pd.DataFrame) -> list[alt.Chart]:
    """Dotted lines at the paper's test errors for the data and features of these rows, if it has any."""
    words = [
        {"data": data, "error": error, "words": f"Zhang et al. (2017), {features}, all training examples"}
        for data, features in rows[["data", "features"]].drop_duplicates().itertuples(index=False)
        if (error := paper_errors(data).get(features)) is not None
    ]
    if not words:
        return []
    rules = alt.Chart(pd.DataFrame(words)).transform_filter("datum.data === data_set").mark_rule(strokeDash=[2, 3])
    return [rules.encode(y="error:Q", tooltip=["words:N", alt.Tooltip("error:Q", format=".2~%")])]


def distance_to_minimum_norm(paths: pd.DataFrame) -> alt.Chart:
    """Distance of gradient descent to the minimum-norm solution against step, from zero and from elsewhere.

    Args:
        paths: A table of `gendyn_lite.chapters.capacity.runs.descent_to_minimum_norm`.
    """
    rows = paths[paths["step"] > 0][["start", "step", "loss", "relative_distance"]]
    names = list(rows["start"].unique())
    last = rows.groupby("start")["relative_distance"].last()
    dash = alt.Scale(domain=names, range=list(DASHES[:2]))
    chart = alt.Chart(rows).mark_line(point={"size": 18})
    return chart.encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(type="log")),
        y=alt.Y("relative_distance:Q", title="distance / norm", scale=alt.Scale(type="log")),
        color=alt.Color("start:N", title="start", scale=alt.Scale(domain=names)),
        strokeDash=alt.StrokeDash("start:N", title="start", scale=dash),
        tooltip=["start:N", "step:Q", alt.Tooltip("relative_distance:Q", format=".2e"), "loss:Q"],
    ).properties(
        title=alt.Title("Distance to the minimum-norm solution", subtitle="Gradient descent on least squares."),
        description="Distance of gradient descent to the minimum-norm solution, relative to its norm, against step, "
        "both logarithmic. At the last step: " + "; ".join(f"from {n}: {last[n]:.1e}" for n in names) + ".",
    )
