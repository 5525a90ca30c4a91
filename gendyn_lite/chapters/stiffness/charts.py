"""Charts of chapter 4: the effect of one step, stiffness by class, during training, and by one setting at a time."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.stiffness import tables
from gendyn_lite.chapters.stiffness.tables import AFTER, BEFORE, HALF, RANDOM, TRUE
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import DASHES, PALETTE
from gendyn_lite.charts.parts import Chart, chosen, layered, looks, menu, of_runs, slider, titled, told, tooltips
from gendyn_lite.results.tables import mean_intervals, with_sizes

STEPPED_ON = ("itself", "same digit", "other digit")
CURVES = {
    "within, train-train": "stiffness/within_{kind}",
    "within, train-test": "stiffness/test_within_{kind}",
    "between, train-train": "stiffness/between_{kind}",
    "between, train-test": "stiffness/test_between_{kind}",
}
FACTORS = {  # setting → its name in a menu, and a function that names its values
    "label_corruption": ("labels", {0.0: TRUE, 0.5: HALF, 1.0: RANDOM}.get),
    "learning_rate": ("learning rate", "rate {:g}".format),
    "n_train": ("images", "{:,} images".format),
    "network": ("network", str),
}
LEVELS = tuple(round(10 ** (-k / 4), 5) for k in range(-1, 15))  # training losses in nats, from 1.8 to 0.0003


def step_changes(changes: pd.DataFrame) -> Chart:
    """Draw the actual against the predicted change of every loss by a step on one example.

    A menu chooses the example, a slider the step size.

    Args:
        changes: A table of `gendyn_lite.chapters.stiffness.demo.step_changes`.
    """
    steps = sorted(changes["step"].unique())
    relative = changes[["predicted", "actual"]].div(changes["step"], axis="index").add_prefix("relative_")
    rows = changes.join(relative.round(5))
    example = menu("stepped", rows["example"], "step on")
    size = slider("step_size", steps, "step size ε", value=steps[:2][-1])
    shown = chosen(rows, {"example": example, "step": size})
    line = shown.mark_line(strokeDash=[2, 3], color="currentColor", strokeWidth=1, tooltip=False)
    line = line.encode(x="relative_predicted:Q", y="relative_predicted:Q")
    color, _, shape = looks("pair", STEPPED_ON, colours=PALETTE, title="loss of")
    x = alt.X("relative_predicted:Q", title="predicted change of the loss / ε")
    y = alt.Y("relative_actual:Q", title="actual change of the loss / ε")
    ratios = {"relative_predicted": "predicted / ε", "relative_actual": "actual / ε"}
    tip = [alt.Tooltip(f"{name}:Q", title=title, format=".3f") for name, title in ratios.items()]
    tip = ["digit:N", "pair:N", "step:Q", *tip]
    points = shown.mark_point(size=70).encode(x=x, y=y, color=color, shape=shape, tooltip=tip)
    return layered(
        [line, points],
        "One step on one digit, and what it does to the others",
        "A point is a digit. On the dotted line the change is the predicted one; below 0 its loss falls.",
        "Scatter chart of the actual against the predicted change of each digit's loss by one gradient step on one "
        f"digit, both divided by the step size, for {rows['example'].nunique()} digits and step sizes from "
        f"{steps[0]:g} to {steps[-1]:g}. For small steps the points lie on the line of equality; losses of one digit "
        "fall most.",
    )


def class_matrix(runs: pd.DataFrame) -> alt.Chart:
    """Draw the mean stiffness of each pair of classes, before and after training, with true and random labels.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    entries = [
        (*run, first, second, value)
        for run, rows in tables.decoded(runs, "detail/classes", 100)
        for first, row in enumerate(rows)
        for second, value in enumerate(row)
    ]
    keys = ["condition", "when", "one", "other"]
    cells = pd.DataFrame(entries, columns=pd.Index([*keys[:2], "seed", *keys[2:], "stiffness"]))
    table = cells.groupby(keys, sort=False)["stiffness"].mean().round(3).reset_index()
    when = alt.param(name="class_when", value=AFTER, bind=alt.binding_radio(options=[BEFORE, AFTER], name=" "))
    after = table[table["when"] == AFTER]
    same = (after["one"] == after["other"]).map({True: "within", False: "between"})
    means = after.groupby(["condition", same], sort=False)["stiffness"].mean().unstack()
    scale = alt.Scale(scheme="purpleorange", domain=[-0.6, 0.6], clamp=True, reverse=True)
    start = tables.conditions(runs)[_judged(runs)]
    cells = chosen(table, {"condition": menu("class_condition", table["condition"], "runs", start), "when": when})
    cells = cells.mark_rect(stroke="currentColor", strokeOpacity=0.15).encode(
        x=alt.X("other:O", title="class of the other example"),
        y=alt.Y("one:O", title="class of the example"),
        color=alt.Color("stiffness:Q", title="cosine stiffness", scale=scale),
        tooltip=["one:O", "other:O", *tooltips(".2f", "stiffness")],
    )
    drawn = titled(
        cells,
        "Stiffness class by class",
        "Mean over pairs and seeds. On the diagonal: pairs within a class.",
        "Matrix of the mean cosine stiffness of training examples of each two classes. "
        f"After training: {told(means, '{condition}: {within:.2f} within, {between:.2f} between')}.",
        height=300,
    )
    return of_runs(drawn, runs, runs[runs["detail/classes"].notna()])


def one_factor(runs: pd.DataFrame) -> alt.HConcatChart:
    """Draw stiffness within a class while one setting varies, at equal epochs and at equal training loss.

    The other settings are those of the central run: see `_by_factor`.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    column = CURVES["within, train-train"].format(kind="cosine")
    rows = _by_factor(runs)
    keys = ["data", "factor", "setting"]
    epochs = mean_intervals(rows.assign(value=rows[column]), [*keys, "epoch"]).round(4)
    losses = mean_intervals(tables.by_loss(rows, column, LEVELS, apart=["factor"]), [*keys, "level"]).round(4)
    choices = parts.menus(epochs, "one", {"data": "data", "factor": "change"})
    ordered = rows.sort_values(["label_corruption", "learning_rate", "n_train"], kind="stable")
    names = {name: list(ordered.loc[ordered["factor"] == name, "setting"].unique()) for name, _ in FACTORS.values()}
    here = {
        data: {factor: list(each.unique()) for factor, each in of.groupby("factor")["setting"]}
        for data, of in ordered.groupby("data")
    }
    shown: Any = alt.ExprRef(f"({json.dumps(here)})[one_data][one_factor]")
    legend = alt.Legend(columns=2, values=shown)
    named = looks("setting", list(chain(*names.values())), colours=PALETTE, title=None, legend=legend)
    y = alt.Y("mean:Q", title="cosine stiffness within classes")
    falls = alt.X("level:Q", title="training loss, falling", scale=alt.Scale(type="log", reverse=True))
    panels = [
        alt.layer(*_curves(chosen(table, choices), x, y, named)).properties(title=title)
        for table, x, title in (
            (epochs, time_axis(epochs), "at equal epochs"),
            (losses, falls, "at equal training loss"),
        )
    ]
    ends = parts.latest(epochs, keys)
    drawn = titled(
        alt.hconcat(*panels).resolve_scale(y="shared"),
        "One setting changed at a time",
        "Mean and 95 % interval over seeds; pairs of training examples of one class.",
        "Mean cosine stiffness of training examples of one class by labels, learning rate, images or network. "
        f"At the end of training: {told(ends, '{data}, {factor}, {setting}: {mean:.2f}')}.",
    )
    return of_runs(drawn, runs, rows)


def _by_factor(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that differ from the central run in one setting, with that setting as the column ``factor``.

    The central run has true labels, the middle learning rate and the fewest images; it is part of every factor.
    """
    rows = runs.assign(data=runs["data"] + with_sizes(runs)["rest"])
    found = []
    for _, group in rows.groupby("data", sort=False):
        true = group[group["label_corruption"] == 0]
        rates = sorted(true["learning_rate"].unique())
        least = true["n_train"].min()
        centre = {"label_corruption": 0.0, "learning_rate": rates[len(rates) // 2], "n_train": least}
        centre["network"] = true.loc[true["n_train"] == least, "network"].iloc[0]
        for column, (factor, words) in FACTORS.items():
            rest = pd.Series({name: value for name, value in centre.items() if name != column})
            part = group[(group[list(rest.index)] == rest).all(axis=1)]
            if part[column].nunique() > 1:
                found.append(part.sort_values([column, "epoch"]).assign(factor=factor, setting=part[column].map(words)))
    return pd.concat(found, ignore_index=True)


def time_axis(rows: pd.DataFrame) -> alt.X:
    """Return an axis of epochs that is stretched near 0, to show the first epoch beside the last ones."""
    marks = [0, 0.1, 0.5, *(2**k for k in range(12))]
    axis = alt.Axis(values=[mark for mark in marks if mark <= rows["epoch"].max()], format="~g")
    return alt.X("epoch:Q", title="epoch", scale=alt.Scale(type="symlog", constant=0.1), axis=axis)


def over_training(runs: pd.DataFrame) -> alt.HConcatChart:
    """Draw train-train and train-test stiffness against epoch, on true labels and beside it on random ones.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    both = runs[runs["label_corruption"].isin([0, 1])].assign(data_shown=tables.subjects)
    random = both.loc[both["label_corruption"] == 1, "data_shown"]
    both = both[both["data_shown"].isin(random)] if len(random) else both  # no panel of a choice is empty
    about = both[["epoch", "seed"]].assign(
        data=both["data_shown"], labels=tables.labelled(both), rate=both["learning_rate"]
    )
    curves = {
        (kind, curve): both[column.format(kind=kind)] for kind in ("cosine", "sign") for curve, column in CURVES.items()
    }
    rows = pd.concat(about.assign(kind=kind, curve=curve, value=value) for (kind, curve), value in curves.items())
    table = mean_intervals(rows, ["data", "labels", "rate", "kind", "curve", "epoch"]).round(4)
    judged = about.loc[_judged(both)]
    data = menu("training_data", table["data"], "data", judged["data"])
    rate = parts.slider("training_rate", table.loc[table["labels"] == TRUE, "rate"], "rate", value=judged["rate"])
    bind = alt.binding_radio(options=["cosine", "sign"], name="stiffness ")
    kind = alt.param(name="training_kind", value="cosine", bind=bind)
    picked, opacity = parts.from_legend("curve", name="curve_picked")
    named = looks("curve", list(CURVES), title=None, legend=alt.Legend(columns=2))
    y = alt.Y("mean:Q", title="mean stiffness")
    panels = []
    for labels, choices in ((TRUE, {"data": data, "rate": rate, "kind": kind}), (RANDOM, {"data": data, "kind": kind})):
        rows = table[table["labels"] == labels]
        bars, line = _curves(chosen(rows, choices), time_axis(table), y, named, opacity=opacity, detail="rate:N")
        rates = ", rate " + " and ".join(map("{:g}".format, rows["rate"].unique())) if labels == RANDOM else ""
        line = line if panels else line.add_params(picked)  # the panels have one legend
        panels.append(alt.layer(bars, line).properties(title=labels + rates))
    ends = parts.latest(table[table["kind"] == "cosine"], ["data", "labels", "rate", "curve"])
    drawn = titled(
        alt.hconcat(*panels).resolve_scale(y="shared"),
        "Stiffness during training",
        "Mean and 95 % interval over seeds; pick a curve in the legend.",
        "Mean stiffness against epoch on true and, beside them, on random labels, within and between classes, of pairs "
        "of training examples and of a training and a test example. At the end of training (cosine): "
        f"{told(ends, '{data}, {labels}, rate {rate:g}, {curve}: {mean:.2f}')}.",
    )
    return of_runs(drawn, runs, both)


def critical_lengths(runs: pd.DataFrame) -> Chart:
    """Draw the critical length against epoch, a line per learning rate; a menu chooses network and data.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    true = runs[runs["label_corruption"] == 0].rename(columns={"stiffness/critical_length": "value"})
    true = true.assign(subject=tables.subjects(true), rate=true["learning_rate"].map("{:g}".format))
    true = true.dropna(subset=["value"])
    table = mean_intervals(true, ["subject", "rate", "epoch"]).round(4)
    ends = parts.latest(table, ["subject", "rate"])
    options = list(table["subject"].unique())
    bind = alt.binding_select(options=options, name="data ")  # a menu even for one option, which names the data
    shown = chosen(table, {"subject": alt.param(name="length_subject", value=options[0], bind=bind)})
    y = alt.Y("mean:Q", title="critical length ξ (1 − cos of inputs)", scale=parts.AROUND)
    named = looks("rate", sorted(table["rate"].unique(), key=float), title="learning rate")
    drawn = layered(
        _curves(shown, time_axis(table), y, named),
        "The critical length",
        "Distance between inputs at which stiffness within a class reaches zero; mean and interval.",
        "Critical length against epoch for several learning rates. At the last epoch: "
        f"{told(ends, '{subject}, learning rate {rate}: {mean:.2f}')}.",
    )
    return of_runs(drawn, runs, true)


def against_distance(runs: pd.DataFrame) -> Chart:
    """Draw stiffness of pairs within a class against the distance of their inputs, before and after training.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    entries = [
        (*run, number, *pair)
        for run, rows in tables.decoded(runs, "detail/bins", 1000)
        for number, pair in enumerate(rows)
    ]
    keys = ["condition", "when", "bin"]
    bins = pd.DataFrame(entries, columns=pd.Index([*keys[:2], "seed", "bin", "distance", "value"]))
    distances = bins.groupby(keys, sort=False)["distance"].mean().to_numpy().round(3)
    table = mean_intervals(bins, keys).round(4).assign(distance=distances)
    ends = table[table["when"] == AFTER].groupby("condition", sort=False)["mean"].agg(["first", "last"])
    shown = chosen(table, {"condition": menu("distance_runs", table["condition"], "runs")})
    x = alt.X("distance:Q", title="distance of the inputs, 1 − cos", scale=parts.AROUND)
    y = alt.Y("mean:Q", title="cosine stiffness within classes")
    named = looks("when", [BEFORE, AFTER], colours=PALETTE[1::-1], dashes=DASHES[1::-1], title=None)
    words = told(ends, "{condition}: {first:.2f} for the nearest pairs, {last:.2f} for the farthest")
    drawn = layered(
        _curves(shown, x, y, named, size=30),
        "Stiffness against the distance of inputs",
        "Pairs of one class in bins of equal size; mean and interval.",
        f"Mean cosine stiffness of pairs within a class against distance. After training: {words}.",
    )
    return of_runs(drawn, runs, runs[runs["detail/bins"].notna()])


def _judged(runs: pd.DataFrame) -> Any:
    """Return the index of a row that claims are judged by: last data set, true labels, middle learning rate."""
    true = runs[runs["label_corruption"] == 0]
    true = true[true["data"] == true["data"].iloc[-1]]
    rates = sorted(true["learning_rate"].unique())
    return true.index[true["learning_rate"] == rates[len(rates) // 2]][0]


def _curves(
    shown: alt.Chart, x: alt.X, y: alt.Y, named: parts.Looks, *, size: int = 22, **more: Any
) -> list[alt.Chart]:
    """Draw intervals over seeds and a line of means for each name; `more` are further encodings of both."""
    color, dash, _ = named
    base = shown.encode(x=x, color=color, **more)
    tip = [str(color.shorthand), str(x.shorthand), *tooltips(".3f")]
    return [parts.interval_bars(base), base.mark_line(point={"size": size}).encode(y=y, strokeDash=dash, tooltip=tip)]
