"""Charts of regularizers, explicit and implicit, and of random labels under augmentation."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.random_labels.tables import NONE, stopped_early, with_regularizers, with_variants
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import AROUND, Chart, layered, looks, menu, one_data_set, told, tooltips
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import FITTED, mean_intervals

HALF = "half of the labels random"
SHORT = {"random crop + weight decay": "crop + decay"}
ORDER = (NONE, "weight decay", "random crop", "crop + decay", "dropout", HALF)
KINDS = ["end of training", "early stopping"]


def final_accuracy(table: pd.DataFrame) -> Chart:
    """Test accuracy by regularizer after equal numbers of epochs, and with early stopping; small points are seeds.

    Args:
        table: A tidy table of the experiment ``"regularizers"`` on one data set; runs that stop when their labels are
            fitted are left out.

    Raises:
        UserError: No run has true labels and goes on to its last epoch, or the runs are of several data sets.
    """
    rows = with_regularizers(table[~table["stop_when_fitted"].astype(bool)])
    rows = rows[rows["label_corruption"] < 1]
    if rows.empty:
        raise UserError("the table has no run on true labels to its last epoch, expected the experiment 'regularizers'")
    ends = stopped_early(one_data_set(rows, column="base"))
    half = ends["label_corruption"] > 0
    ends["setting"] = ends["regularizers"].replace(SHORT).mask(half, HALF)
    keys = ["network", "setting", "seed"]
    points = ends[["base", "setting", "seed", "watched/test_accuracy", "stopped"]].set_axis([*keys, *KINDS], axis=1)
    points = points.melt(keys, var_name="taken at", value_name="accuracy").round(4)
    means = mean_intervals(points, ["network", "setting", "taken at"], "accuracy").round(4)
    y = alt.Y("setting:N", title=None, sort=list(ORDER), axis=alt.Axis(labelLimit=220))
    color, _, _ = looks("taken at", KINDS, colours=PALETTE, title="accuracy at")
    shapes = alt.Scale(domain=KINDS, range=["circle", "diamond"])
    base, seeds = (
        alt.Chart(of)
        .transform_filter("datum.network === final")
        .encode(y=y, yOffset=alt.YOffset("taken at:N", sort=KINDS), color=color)
        for of in (means, points)
    )
    bars = [base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")]
    bars = bars if means["low"].notna().any() else []  # a layer without any value has no scale
    axis = alt.Axis(format=".2f", tickCount=5)
    marks = base.mark_point(size=110).encode(
        x=alt.X("mean:Q", title="test accuracy", scale=AROUND, axis=axis),
        shape=alt.Shape("taken at:N", title="accuracy at", scale=shapes),
        tooltip=["setting:N", "taken at:N", *tooltips(".3f")],
    )
    tried = ends.groupby("base", sort=False)["setting"].nunique().sort_values(ascending=False, kind="stable")
    marks = marks.add_params(menu("final", list(tried.index), "network"))
    seeds = seeds.mark_point(size=22, opacity=0.5).encode(x="accuracy:Q", tooltip=["seed:N", "accuracy:Q"])
    last = means[means["taken at"] == KINDS[0]]
    about = (
        "Test accuracy at the end of training, and at the epoch that other test images choose, by regularizer. At the "
        f"end: {told(last, '{network}, {setting}: {mean:.2f}')}."
    )
    subtitle = "Equal epochs; mean and 95 % interval over seeds; small points: seeds."
    return layered([*bars, marks, seeds], "Test accuracy by regularizer", subtitle, about, height=44 * int(tried.max()))


def augmented(table: pd.DataFrame) -> Chart:
    """Train accuracy on random labels against epoch, a line for each number of variants of an image.

    Args:
        table: A tidy table of the experiment ``"augmented_labels"`` on one data set.

    Raises:
        UserError: The runs are of several data sets.
    """
    rows, found = with_variants(one_data_set(table[table["epoch"] > 0])), []
    for (network, variants), runs in rows.groupby(["network", "variants"], sort=False):
        means = runs.pivot(index="epoch", columns="run_id", values="train_accuracy")
        means = means.reindex(sorted(rows.loc[rows["network"] == network, "epoch"].unique())).ffill()  # fitted stays so
        means = means.mean(axis="columns").round(4).rename("accuracy").reset_index()
        found.append(means.assign(network=str(network), variants=str(variants)))
    drawn = pd.concat(found, ignore_index=True)
    color, dash, _ = looks(
        "variants", list(drawn["variants"].unique()), colours=PALETTE, title="variants of each image"
    )
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(type="log"))
    y = alt.Y("accuracy:Q", title="train accuracy", scale=alt.Scale(domain=[0, 1]))
    tip = ["variants:N", "epoch:Q", *tooltips(".2f", "accuracy")]
    lines = alt.Chart(drawn).transform_filter("datum.network === augmented").mark_line(point={"size": 18})
    lines = lines.encode(x=x, y=y, color=color, strokeDash=dash, tooltip=tip)
    fitted = drawn[drawn["accuracy"] >= FITTED].groupby(["network", "variants"], sort=False).first().reset_index()
    about = (
        "Train accuracy on random labels against epoch, logarithmic, a line for each number of variants of an image. "
        f"All seeds have fitted: {told(fitted, '{network}, variants {variants}: by epoch {epoch}') or 'none'}."
    )
    lines = lines.add_params(menu("augmented", drawn["network"], "network"))
    return layered([lines], "Memorizing augmented images", "Mean over seeds, measured without augmentation.", about)
