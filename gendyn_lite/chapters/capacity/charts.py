"""Charts of chapter 1 on capacity: a network that fits anything, kernels, descent to the minimum norm."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.capacity.tables import described, paper_errors
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, looks, menu, slider, titled, told, tooltips
from gendyn_lite.results.tables import mean_intervals


def memorizing_curve(curves: pd.DataFrame) -> Chart:
    """The network of Theorem 1 through random labels on a line; a slider on the number of points.

    Args:
        curves: A table of `gendyn_lite.chapters.capacity.runs.memorizing_curves`.
    """
    counts = [int(n) for n in sorted(curves["n"].unique())]
    count = slider("count", counts, "points n", value=counts[len(counts) // 3])
    base = chosen(curves.round(5), {"n": count})
    x = alt.X("x:Q", title="input x", scale=alt.Scale(domain=[0, 1]))
    y = alt.Y("value:Q", title="label and network output")
    tip = tooltips(".3f", "x", "value")
    bends = base.transform_filter("datum.kind === 'kink'")
    line = bends.mark_line(clip=True).encode(x=x, y=y, order="x:Q")
    kinks = bends.mark_tick(thickness=2, size=12, clip=True).encode(x=x, y=y, tooltip=tip)
    points = base.transform_filter("datum.kind === 'point'").mark_point(size=80, color=PALETTE[1])
    size = base.transform_aggregate(weights="max(weights)")
    size = size.transform_calculate(words="datum.weights + ' weights (2n + d)'")
    label = size.mark_text(align="right", baseline="top", dx=-6, dy=6)
    label = label.encode(x=alt.value("width"), y=alt.value(0), text="words:N")
    layers = [line, kinks, points.encode(x=x, y=y, tooltip=tip), label]
    about = (
        "Random labels of points on a line and the two-layer ReLU network that passes through all of them, "
        f"for {counts[0]} to {counts[-1]} points. Each point adds one kink and two weights."
    )
    return layered(layers, "A network through any labels", "Drag the number of points; ticks mark the kinks.", about)


def kernel_error(table: pd.DataFrame) -> Chart:
    """Test error of kernel regression against the number of training examples; mean, interval and seeds.

    Args:
        table: A tidy table of experiment ``"kernel_regression"``; with several data sets a menu chooses one.
    """
    rows = _kernel_rows(table)
    means = mean_intervals(rows, ["data", "kind", "n"], "error", name="error").round(5)
    legend = alt.Legend(labelLimit=300)
    color, dash, shape = looks("kind", list(means["kind"].unique()), colours=PALETTE, title=None, legend=legend)
    ticks = alt.Axis(values=sorted(means["n"].unique()), labelOverlap=True)
    x = alt.X("n:Q", title="training examples n", scale=alt.Scale(type="log"), axis=ticks)
    y = alt.Y("error:Q", title="test error", scale=alt.Scale(type="log"), axis=alt.Axis(format=".2~%"))
    base = chosen(means, {"data": menu("data_set", rows["data"], "data")}).encode(x=x, color=color)
    bars = base.transform_filter("isValid(datum.low) && datum.low > 0").mark_rule(strokeWidth=2)
    tip = ["kind:N", "n:Q", alt.Tooltip("error:Q", format=".2%"), "seeds:Q"]
    points = base.mark_point(size=80).encode(y=y, shape=shape, tooltip=tip)
    line, bars = base.mark_line().encode(y=y, strokeDash=dash), bars.encode(y="low:Q", y2="high:Q")
    layers = [line, bars, points, *_paper_rules(rows)]
    ends = means.sort_values("n", kind="stable").groupby(["data", "kind"], sort=False)["error"].last()
    words = told(ends, "{data}, {kind}: {error:.2%}")
    about = f"Test error of kernel regression against training set size. At the largest size: {words}."
    return layered(layers, "Kernel regression: test error", "Mean, 95 % interval; dotted: the paper.", about)


def _kernel_rows(table: pd.DataFrame) -> pd.DataFrame:
    """One row per regression: data, kind (features, ridge, labels), features, n, seed, test error."""
    rows = described(table).rename(columns={"n_train": "n"})
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
    color, dash, _ = looks("start", names, title="start")
    x = alt.X("step:Q", title="step", scale=alt.Scale(type="log"))
    y = alt.Y("relative_distance:Q", title="distance / norm", scale=alt.Scale(type="log"))
    tip = ["start:N", "step:Q", *tooltips(".2e", "relative_distance"), "loss:Q"]
    lines = alt.Chart(rows).mark_line(point={"size": 18})
    lines = lines.encode(x=x, y=y, color=color, strokeDash=dash, tooltip=tip)
    words = "; ".join(f"from {name}: {last[name]:.1e}" for name in names)
    about = (
        "Distance of gradient descent to the minimum-norm solution, relative to its norm, against step, both "
        f"logarithmic. At the last step: {words}."
    )
    return titled(lines, "Distance to the minimum-norm solution", "Gradient descent on least squares.", about)
