"""Charts of explicit and implicit regularizers, Fig. 2 of chapter 1's paper: runs on true labels."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.random_labels.tables import BN, NONE, with_regularizers
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import AROUND, Chart, layered, looks, menu, one_data_set, told, tooltips
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import mean_intervals, summarize

SHORT = {"random crop + weight decay": "crop + decay"}  # a legend of two columns fits on a phone
ORDER = (NONE, "weight decay", "random crop", "crop + decay", "dropout")
NORMS = ("batch-norm", "batch-norm + decay", "no batch-norm", "no batch-norm + decay")
SUBTITLE = (
    "Mean over seeds, true labels; a run stops when it has fitted them. Shaded: up to the best accuracy so far. "
    "Pick a line in the legend."
)


def explicit_regularizers(table: pd.DataFrame) -> Chart:
    """Test accuracy against epoch with each explicit regularizer, what early stopping could gain shaded (Fig. 2).

    Args:
        table: A tidy table of the experiments ``"regularizers"`` and ``"random_labels"`` on one data set.

    Raises:
        UserError: No run has true labels, or the runs are of several data sets.
    """
    rows = one_data_set(_true_labels(table), column="base")
    rows = rows[rows["setting"].isin(ORDER)]
    first = _most_tried_first(rows)[0]
    ends = summarize(rows[rows["base"] == first]).groupby("setting", sort=False)["test_accuracy"].mean()
    words = told(ends, "{setting} {test_accuracy:.2f}")
    about = (
        "Test accuracy against epoch, a line per regularizer, with a shaded area up to the best accuracy of any "
        f"earlier epoch. At the end, for {first}: {words}."
    )
    return layered(_curves(rows, ORDER, "plain"), "Explicit regularizers, on and off", SUBTITLE, about)


def batch_norm(table: pd.DataFrame) -> Chart:
    """Test accuracy against epoch with and without batch-norm, weight decay on and off (Fig. 2b).

    Args:
        table: As for `explicit_regularizers`.

    Raises:
        UserError: No network was trained both ways, or the runs are of several data sets.
    """
    rows = _true_labels(table)
    rows = rows[rows["setting"].isin(ORDER[:2])]
    norm = rows["base"].str.contains(BN).map({True: "no batch-norm", False: "batch-norm"})
    rows = one_data_set(rows.assign(base=rows["base"].str.replace(BN, ""), norm=norm), column="base")
    rows = rows[rows.groupby("base")["norm"].transform("nunique") == 2]
    if rows.empty:
        raise UserError("no network was trained with and without batch-norm, expected runs of inception_small")
    rows = rows.assign(setting=rows["norm"] + rows["setting"].map({NONE: "", "weight decay": " + decay"}))
    pairs = _most_tried_first(rows)
    ends = summarize(rows).groupby(["base", "setting"], sort=False)["test_accuracy"].mean()
    layers = _curves(rows, NORMS, "normed")
    words = told(ends, "{base}, {setting} {test_accuracy:.2f}")
    about = f"Test accuracy against epoch with and without batch-norm. At the end: {words}."
    return layered(layers, "Batch-norm, on and off" + (f": {pairs[0]}" if len(pairs) == 1 else ""), SUBTITLE, about)


def final_accuracy(table: pd.DataFrame) -> Chart:
    """Test accuracy at the end and at the best epoch for every setting of a network, with the seeds as points.

    Args:
        table: As for `explicit_regularizers`.

    Raises:
        UserError: No run has true labels, or the runs are of several data sets.
    """
    rows = one_data_set(_true_labels(table), column="base")
    ends = summarize(rows).assign(best=rows.groupby("run_id", sort=False)["test_accuracy"].max().to_numpy())
    kinds, keys = ["end of training", "best epoch"], ["network", "setting", "seed"]
    points = ends[["base", "setting", "seed", "test_accuracy", "best"]].set_axis([*keys, *kinds], axis=1)
    points = points.melt(keys, var_name="taken at", value_name="accuracy").round(4)
    means = mean_intervals(points, ["network", "setting", "taken at"], "accuracy").round(4)
    y = alt.Y("setting:N", title=None, sort=list(ORDER), axis=alt.Axis(labelLimit=220))
    color, _, _ = looks("taken at", kinds, colours=PALETTE, title="accuracy at")
    shapes = alt.Scale(domain=kinds, range=["circle", "diamond"])
    axis = alt.Axis(format=".2f", tickCount=5)
    base, seeds = (
        alt.Chart(of)
        .transform_filter("datum.network === final")
        .encode(y=y, yOffset=alt.YOffset("taken at:N", sort=kinds), color=color)
        for of in (means, points)
    )
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    marks = base.mark_point(size=110).encode(
        x=alt.X("mean:Q", title="test accuracy", scale=AROUND, axis=axis),
        shape=alt.Shape("taken at:N", title="accuracy at", scale=shapes),
        tooltip=["setting:N", "taken at:N", *tooltips(".3f")],
    )
    last = means[means["taken at"] == kinds[0]]
    marks = marks.add_params(menu("final", _most_tried_first(rows), "network"))
    seeds = seeds.mark_point(size=22, opacity=0.5).encode(x="accuracy:Q", tooltip=["seed:N", "accuracy:Q"])
    layers = [bars, marks, seeds]
    about = (
        "Test accuracy at the end of training and at the best epoch, by regularizer. At the end: "
        f"{told(last, '{network}, {setting}: {mean:.2f}')}."
    )
    title, subtitle = "Test accuracy by regularizer", "Mean and 95 % interval over seeds; small points: seeds."
    return layered(layers, title, subtitle, about, height=44 * int(means.groupby("network")["setting"].nunique().max()))


def _true_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The runs on true labels and, as their setting, their regularizers; refuse a table without any."""
    rows = with_regularizers(table)
    rows = rows[~rows["random"]]
    if rows.empty:
        raise UserError("the table has no run on true labels, expected runs of the experiment 'regularizers'")
    return rows.assign(setting=rows["regularizers"].replace(SHORT))


def _most_tried_first(rows: pd.DataFrame) -> list[str]:
    """The networks by their number of settings, the largest first."""
    settings = rows.groupby("base", sort=False)["setting"].nunique()
    return list(settings.sort_values(ascending=False, kind="stable").index)


def _curves(rows: pd.DataFrame, order: tuple[str, ...], name: str) -> list[alt.Chart]:
    """A line per setting with the area up to the best accuracy so far; the parameter `name` chooses the network."""
    means = _over_epochs(rows)
    names = [setting for setting in order if setting in set(means["setting"])]
    picked, opacity = parts.from_legend("setting", faint=0.12)
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(format="d", tickMinStep=1))
    strokes: dict[str, Any] = {"symbolType": "stroke", "symbolSize": 400, "symbolStrokeWidth": 2.5, "symbolOpacity": 1}
    legend = alt.Legend(columns=2 if max(map(len, names)) < 18 else 1, labelLimit=240, **strokes)
    color, dash, _ = looks("setting", names, colours=PALETTE, title=None, sort=names, legend=legend)
    base = alt.Chart(means).transform_filter(f"datum.network === {name}").encode(x=x, color=color)
    y = alt.Y("test:Q", title="test accuracy", scale=AROUND)
    area = base.mark_area().encode(y=y, y2="best:Q", opacity=alt.condition(picked, alt.value(0.3), alt.value(0.02)))
    tip = ["setting:N", "epoch:Q", *tooltips(".3f", "test", "best", "train")]
    lines = base.mark_line(point={"size": 18}).encode(y="test:Q", strokeDash=dash, opacity=opacity, tooltip=tip)
    return [area, lines.add_params(menu(name, _most_tried_first(rows), "network"), picked)]


def _over_epochs(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds by epoch. A run that stops, its labels fitted, keeps the accuracy that it had."""
    found = []
    for (network, setting), group in rows.groupby(["base", "setting"], sort=False):
        test, train = (
            group.pivot(index="epoch", columns="run_id", values=name).sort_index().ffill()
            for name in ("test_accuracy", "train_accuracy")
        )
        columns = {"test": test, "best": test.cummax(), "train": train}
        means = pd.DataFrame({name: values.mean(axis="columns") for name, values in columns.items()})
        found.append(means.round(4).reset_index().assign(network=str(network), setting=str(setting)))
    return pd.concat(found, ignore_index=True)
