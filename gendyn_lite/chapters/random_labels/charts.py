"""Charts of chapter 1, each from a tidy table of `gendyn_lite.results`; they respond without a kernel."""

from __future__ import annotations

import altair as alt
import numpy as np
import pandas as pd

from gendyn_lite.chapters.random_labels.charts_against_q import against_q, in_words, network_colour, seed_points
from gendyn_lite.charts.parts import one_data_set
from gendyn_lite.charts.theme import DASHES
from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import summarize

CONDITIONS = {
    "true labels": ("true", 0.0),
    "random labels": ("true", 1.0),
    "shuffled pixels": ("shuffled_pixels", 0.0),
    "random pixels": ("random_pixels", 0.0),
    "Gaussian inputs": ("gaussian", 0.0),
}
MOST_POINTS = 40  # epochs drawn of one run: enough for the eye, and light pages
# No chart parameter may be called "q": Sphinx's search script empties every input of that name.


def learning_curves(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Train and test accuracy against epoch, a line per seed; a slider on q, a choice of network.

    Args:
        table: A tidy table of `gendyn_lite.results.load` or `published`.
    """
    shown = _thin(_corrupted(table))
    rows = shown[["network", "label_corruption", "seed", "epoch", "train_accuracy", "test_accuracy"]].round(4)
    rows = rows.rename(columns={"label_corruption": "q", "train_accuracy": "train", "test_accuracy": "test"})
    networks = list(rows["network"].unique())
    slider = alt.param(name="corruption", value=float(rows["q"].max()), bind=_slider(rows["q"], "label corruption q "))
    network = alt.param(name="network", value=networks[0], bind=alt.binding_select(options=networks, name="network "))
    lines = (
        alt.Chart(rows)
        .transform_filter("abs(datum.q - corruption) < 0.001 && datum.network === network")
        .transform_fold(["train", "test"], as_=["split", "accuracy"])
        .mark_line(point={"size": 18}, opacity=0.8)
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            y=alt.Y("accuracy:Q", title="accuracy", scale=alt.Scale(domain=[0, 1])),
            color=alt.Color("split:N", title="measured on", scale=alt.Scale(domain=["train", "test"])),
            strokeDash=alt.StrokeDash("split:N", scale=alt.Scale(domain=["train", "test"], range=list(DASHES[:2]))),
            detail="seed:N",
            tooltip=["split:N", "epoch:Q", alt.Tooltip("accuracy:Q", format=".3f"), "seed:N"],
        )
        .add_params(slider, network)
    )
    chart = alt.layer(lines, _chance_rule(table, error=False))
    last = summarize(_corrupted(table))
    ends = last[last["label_corruption"] == last["label_corruption"].max()].groupby("network", sort=False)
    words = "; ".join(
        f"{name}: train {_word(runs['train_accuracy'])}, test {_word(runs['test_accuracy'])}" for name, runs in ends
    )
    return chart.properties(
        title=alt.Title(
            "Fitting labels, true and corrupted",
            subtitle="A line is one seed. Where nothing is drawn, that q was not run.",
        ),
        description=(
            "Line chart of train and test accuracy against epoch, one line per seed, for the label corruption q of the "
            f"slider. At the end of training with q = {last['label_corruption'].max():g}: {words}."
        ),
    )


def time_to_fit(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Epochs to fit every training label at corruption q, relative to q = 0 with the same seed (Fig. 1b)."""
    runs = summarize(_corrupted(table))
    clean = runs[runs["label_corruption"] == 0].set_index(["network", "seed"])["fit_epoch"]
    base = pd.Series([clean.get(key, np.nan) for key in zip(runs["network"], runs["seed"], strict=True)], runs.index)
    runs = runs.assign(ratio=runs["fit_epoch"] / base)
    if runs["ratio"].notna().sum() == 0:
        raise UserError("no run fitted its training labels at q = 0 and at another q with one seed: train longer")
    return alt.layer(*against_q(runs, "ratio", "epochs to fit, relative to q = 0")).properties(
        title=alt.Title(
            "Time to fit against label corruption", subtitle="Mean and 95 % interval over seeds; points: seeds."
        ),
        description="Time to fit the training labels against label corruption q, relative to true labels. "
        + in_words(runs, "ratio", "times as long as true labels"),
    )


def test_error(table: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Test error after training against q (Fig. 1c); brushing a range of q shows its mean error as a rule."""
    runs = summarize(_corrupted(table))
    brush = alt.selection_interval(name="brush", encodings=["x"])
    networks = list(runs["network"].unique())
    rule = (
        alt.Chart(seed_points(runs, "test_error"))
        .transform_filter(brush)
        .transform_aggregate(mean="mean(value)", groupby=["network"])
        .mark_rule(strokeDash=[4, 4])
        .encode(y="mean:Q", color=network_colour(networks), tooltip=["network:N", alt.Tooltip("mean:Q", format=".3f")])
    )
    layers = against_q(runs, "test_error", "test error", domain=(0, 1), brush=brush)
    return alt.layer(*layers, rule, _chance_rule(table, error=True)).properties(
        title=alt.Title(
            "Test error against label corruption",
            subtitle="Drag over a range of q: the dashed lines show its mean error.",
        ),
        description="Test error after training against label corruption q. "
        + in_words(runs, "test_error", "test error"),
    )


def loss_curves(table: pd.DataFrame) -> alt.Chart:
    """Training loss against epoch for true labels, random labels and inputs without structure (Fig. 1a)."""
    table, parts = one_data_set(table), []
    for name, (inputs, q) in CONDITIONS.items():
        rows = table[(table["inputs"] == inputs) & (table["label_corruption"] == q)]
        parts.append(_thin(rows).assign(condition=name))
    rows = pd.concat(parts)
    networks = list(rows["network"].unique())
    choice = alt.binding_select(options=networks, name="network ")
    network = alt.param(name="loss_network", value=networks[0], bind=choice)
    names = list(CONDITIONS)
    rows = rows.groupby(["network", "condition", "epoch"], as_index=False, sort=False)["train_loss"].mean()
    rows["train_loss"] = rows["train_loss"].clip(lower=1e-4).round(5)
    picked = alt.selection_point(name="picked", fields=["condition"], bind="legend")
    return (
        alt.Chart(rows)
        .transform_filter("datum.network === loss_network")
        .mark_line(point={"size": 18})
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            y=alt.Y("train_loss:Q", title="training loss (nats)", scale=alt.Scale(type="log")),
            color=alt.Color(
                "condition:N", title=None, scale=alt.Scale(domain=names), sort=names, legend=alt.Legend(columns=2)
            ),
            strokeDash=alt.StrokeDash("condition:N", title=None, scale=alt.Scale(domain=names, range=list(DASHES[:5]))),
            opacity=alt.condition(picked, alt.value(1), alt.value(0.15)),
            tooltip=["condition:N", "epoch:Q", alt.Tooltip("train_loss:Q", format=".4f")],
        )
        .add_params(network, picked)
        .properties(
            title=alt.Title(
                "Training loss: true labels, random labels, inputs without structure",
                subtitle="Mean over the seeds still training; pick a condition in the legend.",
            ),
            description="Training loss against epoch, logarithmic, for five conditions: "
            + ", ".join(names)
            + ". Losses below 0.0001 are drawn there.",
        )
    )


def corruption_grid(examples: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Images with the labels they are trained with; a slider on q redraws them, as a run with that q would.

    Args:
        examples: A row per image: image (data URI), true, redrawn (labels), threshold (the q from which the label is
            redrawn), as `gendyn_lite.chapters.random_labels.runs.corruption_examples` gives it.
    """
    columns = 8
    places = examples.assign(column=[i % columns for i in range(len(examples))])
    places["row"] = [i // columns for i in range(len(examples))]
    slider = alt.param(
        name="corruption", value=0.5, bind=alt.binding_range(min=0, max=1, step=0.05, name="label corruption q ")
    )
    base = (
        alt.Chart(places)
        .transform_calculate(
            shown="datum.threshold < corruption ? datum.redrawn : datum.true",
            state="datum.threshold >= corruption ? 'true' : datum.redrawn === datum.true ? 'redrawn, same' "
            ": 'redrawn, other'",
        )
        .encode(x=alt.X("column:O", axis=None), y=alt.Y("row:O", axis=None))
    )
    images = base.mark_image(width=40, height=40, yOffset=-12).encode(url="image:N")
    states = ["true", "redrawn, same", "redrawn, other"]
    labels = (
        base.mark_text(dy=24, fontSize=19, fontWeight="bold")
        .encode(
            text=alt.Text("label:N"),
            color=alt.Color("state:N", title="label is", scale=alt.Scale(domain=states), sort=states),
            tooltip=[
                alt.Tooltip("true:N", title="true label"),
                alt.Tooltip("shown:N", title="trained with"),
                "state:N",
            ],
        )
        .transform_calculate(label="datum.shown + (datum.state === 'redrawn, other' ? ' ✗' : '')")
        .add_params(slider)
    )
    return alt.layer(images, labels).properties(
        height=90 * (len(examples) // columns),
        title=alt.Title("What the network is told", subtitle="Under each image, the label it is trained with."),
        description=(
            f"{len(examples)} handwritten digits, each with the label it is trained with. As the slider raises q, more "
            "labels are redrawn at random; a cross marks those that have become wrong. At q = 1 "
            f"{int((examples['true'] != examples['redrawn']).sum())} of {len(examples)} are wrong."
        ),
    )


def _corrupted(table: pd.DataFrame) -> pd.DataFrame:
    """The rows trained on true inputs; refuse a table without any, or with several data sets."""
    rows = table[table["inputs"] == "true"]
    if rows.empty:
        raise UserError("the table has no run on true inputs, expected runs of the experiment 'random_labels'")
    return one_data_set(rows)


def _thin(table: pd.DataFrame) -> pd.DataFrame:
    """At most `MOST_POINTS` epochs of each network's runs, the first among them, and the last of each run."""

    def kept(epochs: pd.Series) -> pd.Series:
        every = np.sort(epochs.unique())
        return epochs.isin(every[np.linspace(0, len(every) - 1, MOST_POINTS).round().astype(int)])

    last = table.groupby("run_id")["epoch"].transform("max")
    return table[table.groupby("network")["epoch"].transform(kept) | (table["epoch"] == last)]


def _slider(values: pd.Series, name: str) -> alt.BindRange:
    """A slider that stops at every value."""
    levels = np.sort(values.unique())
    step = float(np.diff(levels).min().round(6)) if len(levels) > 1 else 1.0
    return alt.binding_range(min=float(levels[0]), max=float(levels[-1]), step=step, name=name)


def _chance_rule(table: pd.DataFrame, *, error: bool) -> alt.Chart:
    """A dotted line at the accuracy (or error) of guessing."""
    chance = 1 / int(table["num_classes"].iloc[0])
    level = round(1 - chance if error else chance, 4)
    return (
        alt.Chart(pd.DataFrame({"chance": [level]}))
        .mark_rule(strokeDash=[2, 3])
        .encode(y="chance:Q", tooltip=alt.Tooltip("chance:Q", title="guessing"))
    )


def _word(values: pd.Series) -> str:
    return f"{values.mean():.2f}"
