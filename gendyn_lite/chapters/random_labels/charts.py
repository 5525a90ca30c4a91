"""Charts of chapter 1: true and corrupted labels, explicit and implicit regularizers, augmented images."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from gendyn_lite.chapters.random_labels import tables
from gendyn_lite.chapters.random_labels.tables import NONE
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import AROUND, Chart, layered, looks, menu, of_runs, told, tooltips
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import mean_intervals, one_data_set, summarize

CONDITIONS = {
    "true labels": ("true", 0.0),
    "random labels": ("true", 1.0),
    "shuffled pixels": ("shuffled_pixels", 0.0),
    "random pixels": ("random_pixels", 0.0),
    "Gaussian inputs": ("gaussian", 0.0),
}
MOST_LETTERS = 45  # letters of all names together that fit in a legend of one line
# No chart parameter may be called "q": Sphinx's search script clears every input with that name.


def learning_curves(table: pd.DataFrame) -> Chart:
    """Draw train and test accuracy against epoch, a line per seed; a slider sets q, a menu the network.

    Args:
        table: A tidy table of `gendyn_lite.results.load` or `published`.

    Raises:
        UserError: No run has true inputs, or the runs are on several data sets.
    """
    runs = tables.with_true_inputs(table)
    columns = ["network", "label_corruption", "seed", "epoch", "train_accuracy", "test_accuracy"]
    rows = tables.thinned(runs)[columns].round(4).set_axis(["network", "q", "seed", "epoch", "train", "test"], axis=1)
    most, q = float(rows["q"].max()), parts.slider("corruption", rows["q"], "label corruption q")
    color, dash, _ = looks("split", ["train", "test"])
    y = alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1]))
    tip = ["split:N", "epoch:Q", *tooltips(".3f", "accuracy"), "seed:N"]
    lines = alt.Chart(rows).transform_filter("datum.q === corruption && datum.network === network")
    lines = lines.transform_fold(["train", "test"], as_=["split", "accuracy"])
    lines = lines.mark_line(point={"size": 18}, opacity=0.8).encode(
        x=parts.EPOCH, y=y, color=color.title("measured on"), strokeDash=dash, detail="seed:N", tooltip=tip
    )
    last = summarize(runs)
    means = last[last["label_corruption"] == most].groupby("network", sort=False)[["train_accuracy", "test_accuracy"]]
    layers = [lines.add_params(menu("network", rows["network"], "network"), q), _chance_rule(table, error=False)]
    about = (
        "Line chart of train and test accuracy against epoch, one line per seed, for the label corruption "
        f"q of the slider. At the end of training with q = {most:g}: "
        f"{told(means.mean(), '{network}: train {train_accuracy:.2f}, test {test_accuracy:.2f}')}."
    )
    return of_runs(layered(layers, "Fitting labels, true and corrupted", "A line is one seed.", about), table, runs)


def time_to_fit(table: pd.DataFrame) -> Chart:
    """Draw the epochs to fit all training labels at corruption q, relative to q = 0 with the same seed.

    Args:
        table: As for `learning_curves`.

    Raises:
        UserError: No network fitted its labels both at q = 0 and at another q.

    Source: Zhang et al. (2017), Fig. 1b.
    """
    runs = summarize(tables.with_true_inputs(table))
    keys = ["network", "seed"]
    clean = runs[runs["label_corruption"] == 0].set_index(keys)["fit_epoch"].rename("clean")
    runs = runs.join(clean, on=keys).assign(ratio=lambda each: each["fit_epoch"] / each["clean"])
    points = tables.seed_points(runs, "ratio")
    points = points[points.groupby("network")["q"].transform("nunique") > 1]  # else there is nothing to compare
    if points.empty:
        raise UserError("no run fitted its training labels at q = 0 and at another q with one seed: train longer")
    layers = _against_q(points, "epochs to fit, relative to q = 0", AROUND)
    words = _in_words(points, "times as long as true labels")
    about = f"Time to fit the training labels against label corruption q, relative to true labels. {words}"
    title, subtitle = "Time to fit against label corruption", "Mean and 95 % interval over seeds; points: seeds."
    return of_runs(layered(layers, title, subtitle, about), table, runs.dropna(subset=["ratio"]))


def test_error(table: pd.DataFrame) -> Chart:
    """Draw test error after training against q; brushing a range of q shows its mean error as a rule.

    Args:
        table: As for `learning_curves`.

    Source: Zhang et al. (2017), Fig. 1c.
    """
    runs = summarize(tables.with_true_inputs(table))
    points = tables.seed_points(runs, "test_error")
    brush = alt.selection_interval(name="brush", encodings=["x"])
    chosen = alt.Chart(points).transform_filter({"param": "brush", "empty": False})  # no mean of unequal sets of q
    rule = chosen.transform_aggregate(mean="mean(value)", groupby=["network"])
    tip = ["network:N", *tooltips(".3f", "mean")]
    rule = rule.mark_rule(strokeDash=[4, 4]).encode(y="mean:Q", color=_looks(points)[0], tooltip=tip)
    *layers, seeds = _against_q(points, "test error", alt.Scale(domain=[0, 1], clamp=True))
    layers += [seeds.add_params(brush), rule, _chance_rule(table, error=True)]
    title, subtitle = (
        "Test error against label corruption",
        "Drag over a range of q: dashed lines show its mean error.",
    )
    about = f"Test error after training against label corruption q. {_in_words(points, 'test error')}"
    return of_runs(layered(layers, title, subtitle, about), table, runs)


def loss_curves(table: pd.DataFrame) -> alt.Chart:
    """Draw training loss against epoch for true labels, random labels and inputs without structure.

    Args:
        table: As for `learning_curves`.

    Source: Zhang et al. (2017), Fig. 1a.
    """
    named, names = one_data_set(table), list(CONDITIONS)
    runs = pd.concat(
        tables.thinned(named[(named["inputs"] == inputs) & (named["label_corruption"] == q)]).assign(condition=name)
        for name, (inputs, q) in CONDITIONS.items()
    )
    rows = runs.groupby(["network", "condition", "epoch"], as_index=False, sort=False)["train_loss"].mean()
    rows["train_loss"] = rows["train_loss"].clip(lower=1e-4).round(5)
    picked, opacity = parts.from_legend("condition")
    color, dash, _ = looks("condition", names, title=None)
    lines = alt.Chart(rows).transform_filter("datum.network === loss_network").mark_line(point={"size": 18})
    y = alt.Y("train_loss:Q", title="training loss (nats)", scale=alt.Scale(type="log"))
    tip = ["condition:N", "epoch:Q", *tooltips(".4f", "train_loss")]
    color = color.sort(names).legend(columns=2)
    lines = lines.encode(x=parts.EPOCH, y=y, color=color, strokeDash=dash, opacity=opacity, tooltip=tip)
    drawn = parts.titled(
        lines.add_params(menu("loss_network", runs["network"], "network"), picked),
        "Training loss: true labels, random labels, inputs without structure",
        "Mean over the seeds still training; pick a condition in the legend.",
        f"Training loss against epoch, logarithmic, for five conditions: {', '.join(names)}. "
        "Losses below 0.0001 are drawn there.",
    )
    return of_runs(drawn, table, runs)


def corruption_grid(examples: pd.DataFrame) -> Chart:
    """Show images with their training labels; a slider on q redraws the labels as a run with that q would.

    Args:
        examples: A table of `gendyn_lite.chapters.random_labels.demo.corruption_examples`, a row per image: image (data
            URI), true and redrawn (labels), threshold (the q above which the label is redrawn).
    """
    columns, number = 8, np.arange(len(examples))
    q = parts.slider("corruption", np.arange(21) / 20, "label corruption q", value=0.5)
    base = alt.Chart(examples.assign(column=number % columns, row=number // columns)).transform_calculate(
        shown="datum.threshold < corruption ? datum.redrawn : datum.true",
        state="datum.threshold >= corruption ? 'true' : datum.redrawn === datum.true ? 'redrawn, same' "
        ": 'redrawn, other'",
    )
    base = base.encode(x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None))
    images = base.mark_image(width=40, height=40, yOffset=-12).encode(url="image:N")
    states = ["true", "redrawn, same", "redrawn, other"]
    hover = [alt.Tooltip("true:N", title="true label"), alt.Tooltip("shown:N", title="trained with"), "state:N"]
    color, *_ = looks("state", states, title="label is", sort=states)
    labels = base.mark_text(dy=24, fontSize=19, fontWeight="bold").encode(text="label:N", color=color, tooltip=hover)
    labels = labels.transform_calculate(label="datum.shown + (datum.state === 'redrawn, other' ? ' ✗' : '')")
    count, wrong = len(examples), int((examples["true"] != examples["redrawn"]).sum())
    about = (
        f"{count} handwritten digits, each with the label it is trained with. As the slider raises q, more "
        "labels are redrawn at random; a cross marks those that have become wrong. "
        f"At q = 1 {wrong} of {count} are wrong."
    )
    title, subtitle = "What the network is told", "Under each image, the label it is trained with."
    return layered([images, labels.add_params(q)], title, subtitle, about, height=90 * (count // columns))


def _chance_rule(table: pd.DataFrame, *, error: bool) -> alt.Chart:
    """Draw a dotted line at the accuracy (or error) of guessing."""
    chance = 1 / int(table["num_classes"].iloc[0])
    rule = alt.Chart(pd.DataFrame({"chance": [round(1 - chance if error else chance, 4)]})).mark_rule(strokeDash=[2, 3])
    return rule.encode(y="chance:Q", tooltip=alt.Tooltip("chance:Q", title="guessing"))


def _against_q(points: pd.DataFrame, title: str, scale: alt.Scale) -> list[alt.Chart]:
    """Draw means with intervals over seeds against q, a colour, shape and dash per network, and seeds as points."""
    means, (color, dash, shape) = mean_intervals(points, ["network", "q"]).round(4), _looks(points)
    axis = alt.Axis(values=sorted(means["q"].unique()), format=".2~f", labelOverlap=True)
    x = alt.X("q:Q", title="label corruption q", axis=axis)
    base, seeds = (alt.Chart(of).encode(x=x, color=color) for of in (means, points))
    between = base.transform_joinaggregate(levels="count()", groupby=["network"])
    between = between.transform_filter("datum.levels > 2")  # no line where only the ends were run
    y = alt.Y("mean:Q", title=title, scale=scale)
    lines = [between.mark_line().encode(y=y, strokeDash=dash)] if means["network"].value_counts().max() > 2 else []
    tip = ["network:N", "q:Q", *tooltips(".3f")]
    marks = base.mark_point(size=90).encode(y=y, tooltip=tip, shape=shape)
    tip = ["network:N", "q:Q", "seed:N", *tooltips(".3f", "value")]
    seeds = seeds.mark_point(size=22, opacity=0.5).encode(y="value:Q", tooltip=tip)
    return [*lines, parts.interval_bars(base, width=2), marks, seeds]


def _in_words(points: pd.DataFrame, unit: str) -> str:
    """Say the means of each network at its smallest and largest q, or at its only q, in a sentence."""
    means = mean_intervals(points, ["network", "q"]).round(4).sort_values("q", kind="stable")
    ends = means.groupby("network", sort=False)[["q", "mean"]].agg(["first", "last"])
    ends = ends.loc[points["network"].unique()].set_axis(["q", "last_q", "mean", "last"], axis=1)
    ends, form = ends.rename_axis("network"), "{network}: {mean:.2f} at q = {q:g}"
    alone = ends["q"] == ends["last_q"]
    words = [told(ends[~alone], form + ", {last:.2f} at q = {last_q:g}"), told(ends[alone], form + " alone")]
    return f"Mean over seeds ({unit}): {'; '.join(filter(None, words))}."


def _looks(points: pd.DataFrame) -> parts.Looks:
    """Return colour, dash and shape of each network, equal in all layers so that they share one legend."""
    names = list(points["network"].unique())
    legend = alt.Legend(labelLimit=340)
    if sum(map(len, names)) > MOST_LETTERS:
        shorter = "replace(datum.label, 'without', 'no')"  # else the longest is wider than a phone
        legend = alt.Legend(columns=1, labelLimit=340, titleOrient="top", labelExpr=shorter)
    return looks("network", names, colours=PALETTE, title="network", legend=legend)


HALF = "half of the labels random"
SHORT = {"random crop + weight decay": "crop + decay"}
ORDER = (NONE, "weight decay", "random crop", "crop + decay", "dropout", HALF)
KINDS = ["end of training", "early stopping"]


def final_accuracy(table: pd.DataFrame) -> Chart:
    """Draw test accuracy by regularizer after equal numbers of epochs, and with early stopping.

    Args:
        table: A tidy table of the experiment ``"regularizers"`` on one data set; runs that stop when their labels are
            fitted are left out.

    Raises:
        UserError: No run on true labels goes on to its last epoch, or the runs are on several data sets.
    """
    rows = tables.with_regularizers(table[~table["stop_when_fitted"].astype(bool)])
    rows = rows[rows["label_corruption"] < 1]
    if rows.empty:
        raise UserError("the table has no run on true labels to its last epoch, expected the experiment 'regularizers'")
    ends = tables.stopped_early(one_data_set(rows, column="base"))
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
    bars = bars if means["low"].notna().any() else []  # Vega warns of a layer without any value
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
    layers, height = [*bars, marks, seeds], 44 * int(tried.max())
    return of_runs(layered(layers, "Test accuracy by regularizer", subtitle, about, height=height), table, ends)


def augmented(table: pd.DataFrame) -> Chart:
    """Draw train accuracy on random labels against epoch, a line for each number of variants of an image.

    Args:
        table: A tidy table of the experiment ``"augmented_labels"`` on one data set.

    Raises:
        UserError: The runs are on several data sets.
    """
    runs = one_data_set(table[table["epoch"] > 0])
    drawn = tables.by_variants(runs)
    names = list(drawn["variants"].unique())
    color, dash, _ = looks("variants", names, colours=PALETTE, title="variants of each image")
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(type="log"))
    y = alt.Y("accuracy:Q", title="train accuracy", scale=alt.Scale(domain=[0, 1]))
    tip = ["variants:N", "epoch:Q", *tooltips(".2f", "accuracy")]
    lines = alt.Chart(drawn).transform_filter("datum.network === augmented").mark_line(point={"size": 18})
    lines = lines.encode(x=x, y=y, color=color, strokeDash=dash, tooltip=tip)
    fitted = tables.all_fitted(runs)
    about = (
        "Train accuracy on random labels against epoch, logarithmic, a line for each number of variants of an image. "
        f"All seeds have fitted: {told(fitted, '{network}, variants {variants}: by epoch {epoch}') or 'none'}."
    )
    lines = lines.add_params(menu("augmented", drawn["network"], "network"))
    subtitle = "Mean over seeds, measured without augmentation."
    return of_runs(layered([lines], "Memorizing augmented images", subtitle, about), table, runs)
