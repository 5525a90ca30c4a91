"""Charts of chapter 4 against epochs and distance: means over seeds with intervals."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.charts.parts import interval_bars
from gendyn_lite.charts.theme import DASHES, PALETTE
from gendyn_lite.results.tables import mean_intervals, with_sizes

CURVES = {
    "within, train-train": "stiffness/within_{kind}",
    "within, train-test": "stiffness/test_within_{kind}",
    "between, train-train": "stiffness/between_{kind}",
    "between, train-test": "stiffness/test_between_{kind}",
}
KINDS = ("cosine", "sign")
BEFORE, AFTER = "before training", "after training"


def over_training(runs: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Train-train and train-test stiffness against epoch, within and between classes; choose the runs and the kind.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    table = _over_epochs(runs)
    options, names = list(table["condition"].unique()), list(CURVES)
    runs_of = alt.param(name="training_runs", value=options[0], bind=alt.binding_select(options=options, name="runs "))
    kind = alt.param(
        name="training_kind", value="cosine", bind=alt.binding_radio(options=list(KINDS), name="stiffness ")
    )
    picked = alt.selection_point(name="curve_picked", fields=["curve"], bind="legend")
    base = (
        alt.Chart(table)
        .transform_filter("datum.condition === training_runs && datum.kind === training_kind")
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            color=alt.Color(
                "curve:N", title=None, scale=alt.Scale(domain=names), sort=names, legend=alt.Legend(columns=2)
            ),
            opacity=alt.condition(picked, alt.value(1), alt.value(0.15)),
        )
    )
    line = base.mark_line(point={"size": 22}).encode(
        y=alt.Y("mean:Q", title="mean stiffness"),
        strokeDash=alt.StrokeDash(
            "curve:N", title=None, scale=alt.Scale(domain=names, range=list(DASHES[:4])), sort=names
        ),
        tooltip=["curve:N", "epoch:Q", *interval_tooltips()],
    )
    last = table.groupby("condition")["epoch"].transform("max")
    ends = table[(table["kind"] == "cosine") & (table["epoch"] == last)]
    words = "; ".join(f"{row['condition']}, {row['curve']}: {row['mean']:.2f}" for _, row in ends.head(8).iterrows())
    return alt.layer(interval_bars(base), line.add_params(runs_of, kind, picked)).properties(
        title=alt.Title(
            "Stiffness during training", subtitle="Mean and 95 % interval over seeds; pick a curve in the legend."
        ),
        description=(
            "Mean stiffness against epoch, within and between classes, of pairs of training examples and of a training "
            f"and a test example. At the end of training (cosine): {words}."
        ),
    )


def _over_epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean stiffness over seeds by epoch: of each kind of runs and of stiffness, a row for each curve."""
    parts = []
    for kind in KINDS:
        for curve, column in CURVES.items():
            values = runs[["epoch", "seed"]].assign(condition=conditions(runs), kind=kind, curve=curve)
            parts.append(values.assign(value=runs[column.format(kind=kind)]))
    return mean_intervals(pd.concat(parts), ["condition", "kind", "curve", "epoch"]).round(4)


def critical_lengths(runs: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """The critical length against epoch, a line per learning rate; choose the network and data.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    true = runs[runs["label_corruption"] == 0]
    values = true[["epoch", "seed"]].assign(
        subject=subjects(true),
        rate=true["learning_rate"].map("{:g}".format),
        value=true["stiffness/critical_length"],
    )
    table = mean_intervals(values.dropna(subset=["value"]), ["subject", "rate", "epoch"]).round(4)
    options = list(table["subject"].unique())
    rates = sorted(table["rate"].unique(), key=float)
    chosen = alt.param(name="length_subject", value=options[0], bind=alt.binding_select(options=options, name="data "))
    base = (
        alt.Chart(table)
        .transform_filter("datum.subject === length_subject")
        .encode(
            x=alt.X("epoch:Q", title="epoch"),
            color=alt.Color("rate:N", title="learning rate", scale=alt.Scale(domain=rates), sort=rates),
        )
    )
    line = base.mark_line(point={"size": 22}).encode(
        y=alt.Y("mean:Q", title="critical length ξ (1 − cos of inputs)", scale=alt.Scale(zero=False)),
        strokeDash=alt.StrokeDash(
            "rate:N", title="learning rate", scale=alt.Scale(domain=rates, range=list(DASHES[: len(rates)]))
        ),
        tooltip=["rate:N", "epoch:Q", *interval_tooltips()],
    )
    ends = table.sort_values("epoch").groupby(["subject", "rate"], sort=False).tail(1)
    words = "; ".join(f"{row['subject']}, learning rate {row['rate']}: {row['mean']:.2f}" for _, row in ends.iterrows())
    return alt.layer(interval_bars(base), line.add_params(chosen)).properties(
        title=alt.Title(
            "The critical length",
            subtitle="Distance of inputs at which stiffness within a class vanishes; mean and interval.",
        ),
        description=f"Critical length against epoch for several learning rates. At the last epoch: {words}.",
    )


def against_distance(runs: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """Stiffness of pairs within a class against the distance of their inputs, before and after training.

    Args:
        runs: A tidy table of experiment ``"stiffness_training"``.
    """
    table = _by_distance(runs)
    names, times = list(table["condition"].unique()), [BEFORE, AFTER]
    chosen = alt.param(name="distance_runs", value=names[0], bind=alt.binding_select(options=names, name="runs "))
    base = (
        alt.Chart(table)
        .transform_filter("datum.condition === distance_runs")
        .encode(
            x=alt.X("distance:Q", title="distance of the inputs, 1 − cos", scale=alt.Scale(zero=False)),
            color=alt.Color(
                "when:N", title=None, scale=alt.Scale(domain=times, range=[PALETTE[1], PALETTE[0]]), sort=times
            ),
        )
    )
    line = base.mark_line(point={"size": 30}).encode(
        y=alt.Y("mean:Q", title="cosine stiffness within classes"),
        strokeDash=alt.StrokeDash("when:N", title=None, scale=alt.Scale(domain=times, range=list(DASHES[1::-1]))),
        tooltip=["when:N", "distance:Q", *interval_tooltips()],
    )
    nearest, farthest = (
        table[(table["when"] == times[1]) & (table["bin"] == each)] for each in (0, table["bin"].max())
    )
    words = "; ".join(
        f"{a['condition']}: {a['mean']:.2f} for the nearest pairs, {b['mean']:.2f} for the farthest"
        for (_, a), (_, b) in zip(nearest.iterrows(), farthest.iterrows(), strict=True)
    )
    return alt.layer(interval_bars(base), line.add_params(chosen)).properties(
        title=alt.Title(
            "Stiffness against the distance of inputs",
            subtitle="Pairs of one class in bins of equal size; mean and interval.",
        ),
        description=f"Mean cosine stiffness of pairs within a class against distance. After training: {words}.",
    )


def _by_distance(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean distance and stiffness of each bin of pairs, with intervals over seeds."""
    rows = runs[runs["detail/bins"].notna()]
    parts = []
    for (_, run), condition in zip(rows.iterrows(), conditions(rows), strict=True):
        for number, pair in enumerate(str(run["detail/bins"]).split("/")):
            distance, value = (float(part) / 1000 for part in pair.split())
            parts.append((condition, before_or_after(run), number, int(run["seed"]), distance, value))
    bins = pd.DataFrame(parts, columns=pd.Index(["condition", "when", "bin", "seed", "distance", "value"]))
    keys = ["condition", "when", "bin"]
    distances = bins.groupby(keys, sort=False)["distance"].mean().to_numpy().round(3)
    return mean_intervals(bins, keys).round(4).assign(distance=distances)


def before_or_after(run: pd.Series) -> str:
    """Whether a row is of the untrained network."""
    return BEFORE if run["epoch"] == 0 else AFTER


def subjects(runs: pd.DataFrame) -> pd.Series:
    """The data of each run, its network where there is more than one on the same data, and its size likewise."""
    several = runs.groupby("data")["network"].transform("nunique") > 1
    return runs["data"].where(~several, runs["network"] + " on " + runs["data"]) + with_sizes(runs)["size"]


def conditions(runs: pd.DataFrame) -> pd.Series:
    """What each run is, short enough for a menu on a phone: data, labels, learning rate."""
    labels = runs["label_corruption"].map(lambda q: "random labels" if q == 1 else "true labels")
    return subjects(runs) + ", " + labels + runs["learning_rate"].map(", rate {:g}".format)


def interval_tooltips() -> list[alt.Tooltip]:
    """What a mean shows when it is pointed at."""
    return [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("mean", "low", "high")] + [alt.Tooltip("seeds:Q")]
