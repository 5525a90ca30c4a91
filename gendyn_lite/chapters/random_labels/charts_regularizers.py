"""Charts of regularizers, explicit and implicit (Zhang et al. 2017, Fig. 2), from tidy tables."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.random_labels.tables import NONE, with_regularizers
from gendyn_lite.charts.parts import menu, one_data_set
from gendyn_lite.charts.theme import DASHES, PALETTE
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import mean_intervals, summarize

BN = " without batch-norm"
BOTH = "random crop + weight decay"
SHORT = {BOTH: "crop + decay"}  # a legend of two columns fits on a phone
ORDER = (NONE, "weight decay", "random crop", SHORT[BOTH], "dropout")
NORMS = ("batch-norm", "batch-norm + decay", "no batch-norm", "no batch-norm + decay")
SUBTITLE = (
    "Mean over seeds, true labels; a run stops when it has fitted them. Shaded: up to the best accuracy so far. "
    "Pick a line in the legend."
)


def explicit_regularizers(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Test accuracy against epoch with each explicit regularizer, what early stopping could gain shaded (Fig. 2).

    Args:
        table: A tidy table of the experiments ``"regularizers"`` and ``"random_labels"`` on one data set.

    Raises:
        UserError: No run has true labels, or the runs are of several data sets.
    """
    rows = one_data_set(_true_labels(table), column="base")
    rows = rows.assign(setting=rows["regularizers"].replace(SHORT))
    rows = rows[rows["setting"].isin(ORDER)]
    bases = _most_tried_first(rows.groupby("base", sort=False)["setting"].nunique())
    chosen = bases[0]
    lines = _curves(rows, ORDER, menu("plain", bases, "network"))
    ends = summarize(rows).groupby(["base", "setting"], sort=False)["test_accuracy"].mean()
    words = "; ".join(f"{setting} {value:.2f}" for setting, value in ends.xs(chosen).items())
    return lines.properties(
        title=alt.Title(
            "Explicit regularizers, on and off",
            subtitle=SUBTITLE,
        ),
        description="Test accuracy against epoch, a line per regularizer, with a shaded area up to the best accuracy "
        f"of any earlier epoch. At the end, for {chosen}: {words}.",
    )


def batch_norm(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Test accuracy against epoch with and without batch-norm, weight decay on and off (Fig. 2b).

    Raises:
        UserError: No network was trained both ways, or the runs are of several data sets.
    """
    rows = _true_labels(table)
    rows = rows[rows["regularizers"].isin(ORDER[:2])]
    norm = rows["base"].str.contains(BN).map({True: "no batch-norm", False: "batch-norm"})
    rows = one_data_set(rows.assign(base=rows["base"].str.replace(BN, ""), norm=norm), column="base")
    rows = rows[rows.groupby("base")["norm"].transform("nunique") == 2]
    if rows.empty:
        raise UserError("no network was trained with and without batch-norm, expected runs of inception_small")
    more = rows["regularizers"].map({NONE: "", "weight decay": " + decay"})
    rows = rows.assign(setting=rows["norm"] + more)
    pairs = _most_tried_first(rows.groupby("base", sort=False)["setting"].nunique())
    ends = summarize(rows).groupby(["base", "setting"], sort=False)["test_accuracy"]
    words = "; ".join(f"{base}, {setting} {each.mean():.2f}" for (base, setting), each in ends)
    return _curves(rows, NORMS, menu("normed", pairs, "network")).properties(
        title=alt.Title(
            "Batch-norm, on and off" + (f": {pairs[0]}" if len(pairs) == 1 else ""),
            subtitle=SUBTITLE,
        ),
        description=f"Test accuracy against epoch with and without batch-norm. At the end: {words}.",
    )


def final_accuracy(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Test accuracy at the end and at the best epoch for every setting of a network, with the seeds as points.

    Raises:
        UserError: No run has true labels, or the runs are of several data sets.
    """
    rows = one_data_set(_true_labels(table), column="base")
    rows = rows.assign(regularizers=rows["regularizers"].replace(SHORT))
    ends = summarize(rows).assign(best=rows.groupby("run_id", sort=False)["test_accuracy"].max().to_numpy())
    points = ends[["base", "regularizers", "seed", "test_accuracy", "best"]]
    points = points.set_axis(["network", "setting", "seed", "end of training", "best epoch"], axis=1)
    points = points.melt(["network", "setting", "seed"], var_name="taken at", value_name="accuracy").round(4)
    means = _means(points)
    bases = _most_tried_first(ends["regularizers"].groupby(ends["base"], sort=False).nunique())
    network = menu("final", bases, "network")
    kinds = ["end of training", "best epoch"]
    y = alt.Y("setting:N", title=None, sort=list(ORDER), axis=alt.Axis(labelLimit=220))
    color = alt.Color("taken at:N", title="accuracy at", scale=alt.Scale(domain=kinds, range=list(PALETTE[:2])))
    offset = alt.YOffset("taken at:N", sort=kinds)
    axis = alt.Axis(format=".2f", tickCount=5)
    x = alt.X("mean:Q", title="test accuracy", scale=alt.Scale(zero=False), axis=axis)
    hover = ["setting:N", "taken at:N", *[alt.Tooltip(f"{name}:Q", format=".3f") for name in ("mean", "low", "high")]]
    base = alt.Chart(means).transform_filter("datum.network === final").encode(y=y, yOffset=offset, color=color)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    shape = alt.Shape("taken at:N", title="accuracy at", scale=alt.Scale(domain=kinds, range=["circle", "diamond"]))
    marks = base.mark_point(size=110).encode(x=x, shape=shape, tooltip=[*hover, "seeds:Q"]).add_params(network)
    seeds = (
        alt.Chart(points)
        .transform_filter("datum.network === final")
        .mark_point(size=22, opacity=0.5)
        .encode(x="accuracy:Q", y=y, yOffset=offset, color=color, tooltip=["seed:N", "accuracy:Q"])
    )
    words = "; ".join(
        f"{row['network']}, {row['setting']}: {row['mean']:.2f}"
        for row in means[means["taken at"] == kinds[0]].to_dict("records")
    )
    most = int(means.groupby("network")["setting"].nunique().max())
    return alt.layer(bars, marks, seeds).properties(
        height=44 * most,
        title=alt.Title(
            "Test accuracy by regularizer", subtitle="Mean and 95 % interval over seeds; small points: seeds."
        ),
        description=f"Test accuracy at the end of training and at the best epoch, by regularizer. At the end: {words}.",
    )


def _true_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The runs on true labels with their regularizers; refuse a table without any."""
    rows = with_regularizers(table)
    rows = rows[~rows["random"]]
    if rows.empty:
        raise UserError("the table has no run on true labels, expected runs of the experiment 'regularizers'")
    return rows


def _most_tried_first(settings: pd.Series) -> list[str]:
    """The networks by their number of settings, the largest first."""
    return list(settings.sort_values(ascending=False, kind="stable").index)


def _curves(rows: pd.DataFrame, order: tuple[str, ...], network: alt.Parameter) -> alt.LayerChart | alt.FacetChart:
    """A line per setting with the area up to the best accuracy so far."""
    means = _over_epochs(rows)
    names = [name for name in order if name in set(means["setting"])]
    picked = alt.selection_point(name="picked", fields=["setting"], bind="legend")
    base = alt.Chart(means).encode(x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(format="d", tickMinStep=1)))
    base = base.transform_filter(f"datum.network === {network.name}")
    scale = alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
    columns = 2 if max(map(len, names)) < 18 else 1
    legend = alt.Legend(
        columns=columns, labelLimit=240, symbolType="stroke", symbolSize=400, symbolStrokeWidth=2.5, symbolOpacity=1
    )
    color = alt.Color("setting:N", title=None, scale=scale, sort=names, legend=legend)
    area = base.mark_area().encode(
        y=alt.Y("test:Q", title="test accuracy", scale=alt.Scale(zero=False)),
        y2="best:Q",
        color=color,
        opacity=alt.condition(picked, alt.value(0.3), alt.value(0.02)),
    )
    dashes = alt.Scale(domain=names, range=list(DASHES[: len(names)]))
    dash = alt.StrokeDash("setting:N", title=None, scale=dashes, sort=names, legend=legend)
    hover = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("test", "best", "train")]
    lines = base.mark_line(point={"size": 18}).encode(
        y="test:Q",
        color=color,
        strokeDash=dash,
        opacity=alt.condition(picked, alt.value(1), alt.value(0.12)),
        tooltip=["setting:N", "epoch:Q", *hover],
    )
    return alt.layer(area, lines.add_params(network, picked))


def _over_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by epoch. A run that stops, its labels fitted, keeps the accuracy that it had."""
    parts = []
    for (network, setting), group in rows.groupby(["base", "setting"], sort=False):
        test, train = (
            group.pivot(index="epoch", columns="run_id", values=name).sort_index().ffill()
            for name in ("test_accuracy", "train_accuracy")
        )
        columns = {"test": test, "best": test.cummax(), "train": train}
        means = pd.DataFrame({name: values.mean(axis="columns") for name, values in columns.items()})
        parts.append(means.round(4).reset_index().assign(network=str(network), setting=str(setting)))
    return pd.concat(parts, ignore_index=True)


def _means(points: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval per network, setting and kind."""
    return mean_intervals(points, ["network", "setting", "taken at"], "accuracy").round(4)
