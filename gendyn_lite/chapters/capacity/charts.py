"""Charts of chapter 6: a network that fits any labels, kernels, descent to the minimum norm, widths and ridges."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.capacity.tables import POINTS, described, paper_errors
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, interval_bars, layered, looks, menu, of_runs, slider, told, tooltips
from gendyn_lite.results.tables import mean_intervals, with_sizes

LOG = alt.Scale(type="log")
PERCENT = alt.Axis(format=".2~%")
STARTS = {"zero": "from zero", "random": "from elsewhere"}
CHOSEN, NONE = "chosen on held-out images", "none"


def memorizing_curve(curves: pd.DataFrame) -> Chart:
    """Draw the network of Theorem 1 through random labels of points on a line; a slider sets the number of points.

    Args:
        curves: A table of `gendyn_lite.chapters.capacity.demo.memorizing_curves`.
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
    """Draw the test error of kernel regression against the number of training examples, with intervals over seeds.

    Args:
        table: A tidy table of experiment ``"kernel_regression"``; with several data sets a menu chooses one.
    """
    rows = _kernel_rows(table)
    means = mean_intervals(rows, ["data", "kind", "n"], "error", name="error").round(5)
    legend = alt.Legend(labelLimit=300)
    color, dash, shape = looks("kind", list(means["kind"].unique()), colours=PALETTE, title=None, legend=legend)
    ticks = alt.Axis(values=sorted(means["n"].unique()), labelOverlap=True)
    x = alt.X("n:Q", title="training examples n", scale=LOG, axis=ticks)
    y = alt.Y("error:Q", title="test error", scale=LOG, axis=PERCENT)
    base = chosen(means, {"data": menu("data_set", rows["data"], "data")}).encode(x=x, color=color)
    tip = ["kind:N", "n:Q", alt.Tooltip("error:Q", format=".2%"), "seeds:Q"]
    layers = [
        base.mark_line().encode(y=y, strokeDash=dash),
        base.transform_filter("isValid(datum.low) && datum.low > 0")
        .mark_rule(strokeWidth=2)
        .encode(y="low:Q", y2="high:Q"),
        base.mark_point(size=80).encode(y=y, shape=shape, tooltip=tip),
        *_paper_rules(rows),
    ]
    ends = means.sort_values("n", kind="stable").groupby(["data", "kind"], sort=False)["error"].last()
    words = told(ends, "{data}, {kind}: {error:.2%}")
    about = f"Test error of kernel regression against training set size. At the largest size: {words}."
    drawn = layered(layers, "Kernel regression: test error", "Mean, 95 % interval; dotted: the paper.", about)
    return of_runs(drawn, table, table)


def _kernel_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per regression: data, kind (points, ridge, labels), features, n, seed, test error."""
    rows = described(table).rename(columns={"n_train": "n"})
    ridge = rows["ridge"].map(lambda value: "no ridge" if value == 0 else f"ridge {value:g}")
    labels = rows["label_corruption"].map(lambda q: "" if q == 0 else f", q = {q:g}")
    return rows.assign(kind=rows["features"].map(POINTS) + ", " + ridge + labels)[
        ["kind", "features", "data", "n", "seed", "error"]
    ]


def _paper_rules(rows: pd.DataFrame) -> list[alt.Chart]:
    """Draw dotted lines at the paper's test errors for the data and features of these rows, if it reports any."""
    words = [
        {"data": data, "error": error, "words": f"Zhang et al. (2017), {features}, all training examples"}
        for data, features in rows[["data", "features"]].drop_duplicates().itertuples(index=False)
        if (error := paper_errors(data).get(features)) is not None
    ]
    if not words:
        return []
    rules = alt.Chart(pd.DataFrame(words)).transform_filter("datum.data === data_set").mark_rule(strokeDash=[2, 3])
    return [rules.encode(y="error:Q", tooltip=["words:N", alt.Tooltip("error:Q", format=".2~%")])]


def distance_to_minimum_norm(table: pd.DataFrame) -> Chart:
    """Draw the distance of mini-batch descent to the minimum-norm solution, started at zero and elsewhere.

    Args:
        table: A tidy table of experiment ``"minimum_norm"``; a menu chooses features and data.
    """
    rows = with_sizes(described(table))
    subject = rows["features"].map(POINTS) + ", " + rows["data"] + rows["size"]
    rows = rows.assign(subject=subject, start=rows["start"].map(STARTS)).query("passes > 0")
    keys = ["subject", "start", "passes"]
    means = rows.groupby(keys, sort=False)[["distance", "test_accuracy"]].mean().reset_index()
    means = means.assign(distance=means["distance"].map("{:.3g}".format).astype(float)).round({"test_accuracy": 3})
    color, dash, _ = looks("start", list(STARTS.values()), title=None)
    tip = ["start:N", *tooltips(".3g", "passes", "distance"), alt.Tooltip("test_accuracy:Q", format=".3f")]
    base = chosen(means, {"subject": menu("subject", means["subject"], "features")})
    lines = base.mark_line(point={"size": 18}).encode(
        x=alt.X("passes:Q", title="epochs", scale=LOG),
        y=alt.Y("distance:Q", title="distance / norm of the solution", scale=LOG, axis=alt.Axis(format=".0e")),
        color=color,
        strokeDash=dash,
        tooltip=tip,
    )
    ends = means.groupby(["subject", "start"], sort=False)["distance"].last()
    words = told(ends, "{subject}, {start}: {distance:.1e}")
    about = f"Distance to the interpolating solution of smallest norm against epochs. At the last one: {words}."
    title, batch = "Distance to the minimum-norm solution", int(table["batch_size"].iloc[0])
    drawn = layered([lines], title, f"Mini-batches of {batch} on least squares; mean over seeds.", about)
    return of_runs(drawn, table, rows)


def norms_and_errors(table: pd.DataFrame) -> Chart:
    """Draw test error against norm of interpolating kernels of several widths; a menu chooses the data.

    Args:
        table: A tidy table of experiment ``"ridge_paths"``.
    """
    rows = with_sizes(described(table)).query("ridge == 0 and features != 'random_conv'")
    rows = rows.assign(points=rows["features"].map(POINTS), width=rows.groupby("run_id").cumcount())
    rows = rows.assign(data=rows["data"] + rows["size"])
    keys, names = ["data", "points", "width"], ["norm", "error", "of_features"]
    means = rows.groupby(keys, sort=False)[names].mean().reset_index().round(4)
    sets = means.groupby("data", sort=False)["points"].nunique().sort_values(ascending=False, kind="stable")
    color, dash, shape = looks("points", list(means["points"].unique()), title=None)
    base = chosen(means, {"data": menu("norms_data", sets.index, "data")}).encode(
        x=alt.X("norm:Q", title="norm ‖f‖", scale=alt.Scale(zero=False)),
        y=alt.Y("error:Q", title="test error", axis=PERCENT, scale=alt.Scale(zero=False)),
        color=color,
        order="width:Q",
    )
    tip = ["points:N", *tooltips(".3g", "of_features", "norm"), alt.Tooltip("error:Q", format=".2%")]
    layers = [
        base.mark_line().encode(strokeDash=dash),
        base.mark_point(size=80, filled=True).encode(shape=shape, tooltip=tip),
    ]
    words = told(means, "{data}, {points}, width {of_features:.3g}: norm {norm:.3g}, error {error:.1%}")
    title, subtitle = "Norm and test error", "Each point is a kernel width; all interpolate. Mean over seeds."
    about = f"Test error against the norm of the interpolating function: {words}."
    return of_runs(layered(layers, title, subtitle, about), table, rows)


def widths_and_ridges(table: pd.DataFrame) -> Chart:
    """Draw the test error of random filters against features per image, with and without a ridge: double descent.

    Args:
        table: A tidy table of experiment ``"ridge_paths"``; a menu chooses the data.
    """
    rows = with_sizes(described(table)).query("features == 'random_conv'")
    rows = rows.assign(data=rows["data"] + rows["size"])
    best = rows.loc[rows.groupby(["run_id", "share"])["held_out_error"].idxmin()].assign(kind=CHOSEN)
    shown = rows[rows["ridge"].isin([0, 0.001, 0.1])]
    shown = shown.assign(kind=shown["ridge"].map(lambda ridge: f"{ridge:g}" if ridge else NONE))
    means = mean_intervals(pd.concat([shown, best]), ["data", "kind", "share"], "error", name="error").round(4)
    means = means.assign(low=means["low"].clip(0.001, 1), high=means["high"].clip(0, 1))
    color, dash, shape = looks("kind", list(means["kind"].unique()), title="ridge", legend=alt.Legend(labelLimit=220))
    # The domains are given, because with one seed there is no interval to take them from.
    lowest = means[["error", "low"]].min().min()
    up = alt.Scale(type="log", domain=[lowest, 1])
    across = alt.Scale(type="log", domain=[float(means["share"].min()), float(means["share"].max())])
    base = chosen(means, {"data": menu("widths_data", means["data"], "data")}).encode(
        x=alt.X("share:Q", title="features / images fitted", scale=across), color=color
    )
    tip = ["kind:N", *tooltips(".3g", "share"), alt.Tooltip("error:Q", format=".1%"), "seeds:Q"]
    y = alt.Y("error:Q", title="test error", scale=up, axis=PERCENT)
    rule = alt.Chart(pd.DataFrame({"share": [1.0]})).mark_rule(strokeDash=[2, 3])
    layers = [
        rule.encode(x=alt.X("share:Q", scale=across)),
        interval_bars(base).encode(y=alt.Y("low:Q", scale=up)),
        base.mark_line().encode(y=y, strokeDash=dash),
        base.mark_point(size=50).encode(y=y, shape=shape, tooltip=tip),
    ]
    words = "; ".join(_turns(rows) for _, rows in means[means["kind"] == NONE].groupby("data", sort=False))
    about = f"Test error against features per image, with and without a ridge. Without one: {words}."
    title, subtitle = "Through the interpolation threshold", "Mean, 95 % interval. Dotted: as many features as images."
    return of_runs(layered(layers, title, subtitle, about), table, rows)


def _turns(rows: pd.DataFrame) -> str:
    """Say the error of one data set with the fewest features, its minimum below the threshold, at it, and with most."""
    at = (rows["share"] - 1).abs().idxmin()
    lowest = rows.loc[rows["share"] <= rows["share"][at], "error"].idxmin()
    turns = rows.loc[[rows.index[0], lowest, at, rows.index[-1]]].drop_duplicates("share")
    return f"{rows['data'].iloc[0]}, " + ", ".join(f"{row.error:.1%} at {row.share:.3g}" for row in turns.itertuples())
