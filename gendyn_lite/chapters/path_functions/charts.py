"""Charts of chapter 2 over epochs of runs: similarities of paths, losses along paths, functions in isolation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.path_functions import tables
from gendyn_lite.chapters.path_functions.tables import KINDS_OF_RUNS
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import DASHES, PALETTE
from gendyn_lite.charts.parts import AROUND, Chart, chosen, layered, looks, menus, of_runs, told, tooltips, words_above
from gendyn_lite.results.tables import mean_intervals

LEVELS = ["mean", "q05", "q25", "q50", "q75", "q95"]
MEASURES = {
    ("cross", "paths"): "pairs, by paths",
    ("self", "paths"): "single images, by paths",
    ("cross", "activations"): "pairs, by activations",
    ("self", "activations"): "single images, by activations",
}
CURVES = {"paths": "the run", **tables.BESIDE}
CLOSE = alt.Scale(zero=False, nice=False)
Bounds = tuple[float | None, float | None]
SEEDS = "band: 95 % interval over seeds."


def means_told(values: pd.DataFrame, by: list[str], digits: str) -> str:
    """Say the means of groups of rows in words."""
    means = values.groupby(by, sort=False)["value"].agg(lambda each: each.mean())
    return told(means, ", ".join(f"{{{name}}}" for name in by) + f" {{value:{digits}}}")


def distributions(table: pd.DataFrame) -> Chart:
    """Draw quantiles of the similarity with the previous epoch, over epochs.

    Menus choose the runs, the layer and the kind of similarity; a slider reads off one epoch.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
    """
    rows = _similarities(table)
    means = _quantiles(rows)
    whats = [what for what in MEASURES.values() if what in set(means["what"])]
    places = means.loc[means["subject"] == means["subject"].iloc[0], "place"].unique()
    choices = menus(means, "dist", {"subject": "runs", "place": "layer"}, place=places[-1])
    choices["what"] = parts.menu("dist_what", whats, "similarity of")
    base = chosen(means, choices)
    at = base.transform_filter("datum.epoch === min(dist_epoch, datum.last)")
    x = alt.X("epoch:Q", title="epoch t, compared with t − 1", axis=alt.Axis(tickMinStep=1))
    bands = [
        base.mark_area(opacity=opacity, tooltip=None, color=PALETTE[0]).encode(
            x=x, y=alt.Y(f"{low}:Q", title="cosine similarity", scale=CLOSE), y2=f"{high}:Q"
        )
        for low, high, opacity in (("q05", "q95", 0.16), ("q25", "q75", 0.3))
    ]
    tip = ["epoch:Q", *tooltips(".3f", *LEVELS)]
    medians = base.mark_line(point={"size": 16}).encode(x=x, y=alt.Y("q50:Q", scale=CLOSE), tooltip=tip)
    words = at.transform_calculate(
        words="'epoch ' + datum.epoch + ': ' + format(datum.q50, '.3f') + ' (' + "
        "format(datum.q05, '.3f') + ' to ' + format(datum.q95, '.3f') + ')'"
    )
    what, turn = whats[0], parts.slider("dist_epoch", means["epoch"], "epoch", value=int(means["epoch"].min()))
    rule = at.mark_rule(strokeWidth=1.5).encode(x=x)
    ends = means[((means["epoch"] == 1) | (means["epoch"] == means["last"])) & (means["what"] == what)].head(16)
    drawn = layered(
        [*bands, *_decays(table), rule.add_params(turn), medians, words_above(words)],
        "How alike paths are to those of the epoch before",
        "Line: median; bands: the middle half and the middle 90 %. Dotted: the learning rate decays.",
        f"Quantiles of similarity between epochs. Medians of {what}: "
        f"{told(ends, '{subject}, layer {place}, epoch {epoch}: {q50:.2f}')}.",
    )
    return of_runs(drawn, table, rows)


def _similarities(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `long_paths`, with the kind of similarity in words in the column ``what``."""
    rows = tables.long_paths(table)
    rows = rows[rows["of"].isin(["paths", "activations"])]
    return rows.assign(what=[MEASURES[key] for key in zip(rows["measure"], rows["of"], strict=True)])


def _quantiles(rows: pd.DataFrame) -> pd.DataFrame:
    """Average the mean and quantiles of each kind of similarity over seeds; ``last`` is the subject's last epoch."""
    # One menu serves all networks, so each place lists the layers that the networks have there.
    names = rows.groupby("number", sort=False)["layer"].agg(lambda layers: " / ".join(layers.unique()))
    place = rows["number"].astype(str) + ": " + rows["number"].map(names)
    rows = rows.assign(subject=rows["setting"] + ", " + rows["runs"], place=place)
    means = rows.groupby(["subject", "place", "what", "epoch"], sort=False)[LEVELS].mean().round(3).reset_index()
    return means.assign(last=means.groupby("subject")["epoch"].transform("max"))


def _decays(table: pd.DataFrame) -> list[alt.Chart]:
    """Draw dotted lines where the learning rate of the chosen runs decays; nothing if no run's does."""
    rows = tables.named(table)
    subjects = rows.groupby(rows["setting"] + ", " + rows["runs"], sort=False)
    found = [(subject, epoch + 0.5) for subject, runs in subjects for epoch in tables.milestones(runs)]
    marks = alt.Chart(pd.DataFrame(found, columns=pd.Index(["subject", "epoch"])))
    marks = marks.transform_filter("datum.subject === dist_subject").mark_rule(strokeDash=[2, 3], opacity=0.5)
    return [marks.encode(x="epoch:Q")] if found else []


def over_epochs(
    values: pd.DataFrame, by: str, prefix: str, labels: dict[str, str], *, axis: str, within: Bounds = (None, None)
) -> list[alt.Chart]:
    """Draw means over seeds with 95 % intervals against epochs, a line for each value of a column.

    Kinds of runs have the same colour and dash in every chart.

    Args:
        values: The columns of `labels`, the column `by`, seed, epoch and value.
        by: The column whose values are the lines.
        prefix: Prefix of the parameters' names.
        labels: Column → the words before its menu.
        axis: Title of the vertical axis.
        within: Smallest and largest possible value, at which intervals are cut.
    """
    means = mean_intervals(values, [*labels, by, "epoch"])
    means = means.assign(low=means["low"].clip(lower=within[0]), high=means["high"].clip(upper=within[1])).round(3)
    order = KINDS_OF_RUNS if by == "runs" else tuple(means[by].unique())
    names = [name for name in order if name in set(means[by])]
    colours, dashes = [PALETTE[order.index(name)] for name in names], [DASHES[order.index(name)] for name in names]
    about: dict[str, Any] = {"title": None, "sort": names, "legend": parts.STROKES}
    color, dash, _ = looks(by, names, colours=colours, dashes=dashes, **about)
    base = chosen(means, menus(means, prefix, labels)).encode(x=parts.EPOCHS, color=color)
    # Where there is no interval the band has no height. Without it the layer could be empty, and Vega would warn.
    edges = {f"band_{name}": f"isValid(datum.{name}) ? datum.{name} : datum.mean" for name in ("low", "high")}
    band = base.transform_calculate(**edges).mark_area(tooltip=None)
    band = band.encode(y=alt.Y("band_low:Q", title=axis, scale=AROUND), y2="band_high:Q")
    tip = [f"{by}:N", "epoch:Q", *tooltips(".3f")]
    line = base.mark_line(point={"size": 16})
    line = line.encode(y=alt.Y("mean:Q", title=axis, scale=AROUND), strokeDash=dash, tooltip=tip)
    return [band, line] if means["low"].notna().any() else [line]


def kinds_of_runs(table: pd.DataFrame) -> Chart:
    """Draw the mean similarity with the previous epoch by kind of runs: true labels, random labels, no decay.

    Networks with runs of one kind only are left out.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
    """
    rows = _similarities(table).query("of == 'paths'").rename(columns={"mean": "value"})
    rows = rows[rows.groupby("setting")["runs"].transform("nunique") > 1].sort_values("measure", kind="stable")
    rows = rows.assign(place=rows["setting"] + ", " + rows["number"].astype(str) + ": " + rows["layer"])
    labels = {"place": "layer", "what": "similarity of"}
    cross = rows[(rows["measure"] == "cross") & (rows["of"] == "paths")]
    ends = cross[cross["epoch"] == cross.groupby("setting")["epoch"].transform("max")]
    means = means_told(ends, ["setting", "runs"], ".3f")
    layers = over_epochs(rows, "runs", "kinds", labels, axis="mean similarity", within=(None, 1.0))
    about = f"Mean similarity by kind of runs over epochs. Pairs by paths, last epoch: {means}."
    title = "True labels, random labels, and a constant learning rate"
    return of_runs(layered(layers, title, f"Similarity with the epoch before; {SEEDS}", about), table, rows)


def stacked(rows: pd.DataFrame, keys: list[str], kinds: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Stack several kinds of values: the columns `keys`, seed, epoch, of (the kind) and value."""
    return rows[[*keys, "seed", "epoch"]].assign(**kinds).melt([*keys, "seed", "epoch"], var_name="of")


def franken(table: pd.DataFrame) -> Chart:
    """Draw the loss of the followed training images along the paths of this epoch and of the previous one.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
    """
    rows = tables.named(table)
    rows = rows[rows["epoch"] >= 1].assign(subject=lambda each: each["setting"] + ", " + each["runs"])
    rows = rows.dropna(subset=["paths/own:loss", "paths/before:loss"], how="all")
    today, yesterday = rows["paths/own:loss"], rows["paths/before:loss"]
    values = stacked(rows, ["subject"], {"along today's paths": today, "along yesterday's paths": yesterday})
    early = rows.assign(value=today - yesterday)[rows["epoch"] <= 3]
    means = means_told(early, ["setting", "runs"], "+.3f")
    layers = over_epochs(values, "of", "franken", {"subject": "runs"}, axis="loss, in nats", within=(0.0, None))
    about = f"Loss against epoch along two paths. Today's minus yesterday's, mean of epochs 1 to 3: {means}."
    title, subtitle = "Loss of today's weights along today's and yesterday's paths", f"128 training images; {SEEDS}"
    return of_runs(layered(layers, title, subtitle, about), table, rows)


def unseen(table: pd.DataFrame) -> Chart:
    """Draw the loss along the paths of this epoch minus that along the previous ones, for seen and unseen images.

    Args:
        table: A tidy table of experiment ``"path_unseen"``.
    """
    rows = tables.named(table[table["epoch"] >= 1])
    trained, unseen = (rows[f"{kind}/own:loss"] - rows[f"{kind}/before:loss"] for kind in ("trained", "unseen"))
    values = stacked(rows, ["setting"], {"training images": trained, "images never seen": unseen})
    layers = over_epochs(values, "of", "unseen", {"setting": "runs"}, axis="loss today − yesterday, in nats")
    means, title = means_told(values, ["setting", "of"], "+.3f"), "The same for images that were never trained on"
    about = f"Difference of the losses along two paths over epochs. Mean: {means}."
    subtitle = "Above 0, yesterday's paths fit better. Band: 95 % interval over seeds."
    return of_runs(layered(layers, title, subtitle, about), table, rows)


def beside(table: pd.DataFrame) -> Chart:
    """Draw cross-path similarity of the runs beside baselines that learn nothing: frozen weights and random steps.

    Args:
        table: A tidy table of experiment ``"path_deep"`` or ``"path_networks"``.
    """
    rows = tables.long_paths(table)
    rows = rows[(rows["measure"] == "cross") & rows["of"].isin(CURVES) & (rows["runs"] != tables.CONSTANT)]
    rows = rows.assign(of=rows["of"].map(CURVES), value=rows["mean"], subject=rows["setting"] + ", " + rows["runs"])
    keys = ["subject", "of", "seed", "epoch"]
    mean = rows.groupby(keys, sort=False)["value"].mean().reset_index().assign(layer="mean of layers")
    several = rows.groupby("subject")["of"].transform("nunique") > 2
    names = [name for name in CURVES.values() if name in set(rows["of"])]
    both = pd.concat([mean, rows[several][[*keys, "layer", "value"]]])
    both = both.sort_values("of", key=lambda column: column.map(names.index), kind="stable")
    layers = over_epochs(both, "of", "beside", {"subject": "runs", "layer": "layer"}, axis="mean similarity of pairs",
                          within=(0.0, 1.0))  # fmt: skip
    told_of = means_told(mean[mean["epoch"] <= 3], ["subject", "of"], ".2f")
    about = f"Cross-path similarity over epochs beside its baselines. Mean over layers and epochs 1 to 3: {told_of}."
    subtitle = f"Similarity of pairs with the epoch before; {SEEDS}"
    return of_runs(layered(layers, "What needs no learning", subtitle, about), table, rows)


def further_apart(table: pd.DataFrame) -> Chart:
    """Draw self-similarity with the paths of one to eight epochs before, mean over layers.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = tables.named(table).assign(subject=lambda each: each["setting"] + ", " + each["runs"])
    kinds = {"1 epoch": "paths/{}:self:mean", **{f"{lag} epochs": f"apart/{{}}:self{lag}" for lag in (2, 4, 8)}}
    kinds["another image, 1 epoch"] = "apart/{}:others"
    found = []
    for network, own in rows.groupby("network", sort=False):
        layers = tables.layers_of(table, str(network))
        values = {name: own[[each.format(layer) for layer in layers]].mean(axis=1) for name, each in kinds.items()}
        found.append(stacked(own, ["subject", "run_id"], values))
    values = pd.concat(found).dropna(subset=["value"])
    drawn = over_epochs(values, "of", "apart", {"subject": "runs"}, axis="cosine of paths", within=(0.0, 1.0))
    about = f"Cosine of an image's path with earlier paths. Means over epochs: {means_told(values, ['of'], '.2f')}."
    subtitle = f"Mean over layers and images; {SEEDS}"
    return of_runs(layered(drawn, "How much of an older path is left", subtitle, about), table, values)


def isolation(table: pd.DataFrame) -> Chart:
    """Draw how functions in isolation correlate with the whole network, with each other, and for random weights.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = tables.named(table)
    rows = rows[rows["isolation/random"].notna()].assign(runs=lambda each: each["runs"] + each["size"])
    kinds = {"with the whole network": rows["isolation/mean"], "of two images": rows["isolation/between"]}
    kinds["random weights with the network"] = rows["isolation/random"]
    values = stacked(rows, ["runs"], kinds)
    layers = over_epochs(values, "of", "alone", {"runs": "runs"}, axis="correlation")
    means, title = means_told(values, ["of", "runs"], ".2f"), "One image's update as a network of its own"
    about = f"Correlation of functions in isolation over epochs. Mean over epochs: {means}."
    subtitle = "Correlation of outputs at 16 test images, mean over 6 images, no biases; band: 95 % interval."
    return of_runs(layered(layers, title, subtitle, about), table, rows)
