"""Charts of chapter 2 from tables of runs: over epochs, by distance, and over many networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.path_functions import tables
from gendyn_lite.chapters.path_functions.tables import KINDS_OF_RUNS, TRUE
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import DASHES, PALETTE
from gendyn_lite.charts.parts import AROUND, Chart, chosen, layered, looks, menus, told, tooltips, words_above
from gendyn_lite.results.tables import mean_intervals, with_sizes

LEVELS = ["mean", "q05", "q25", "q50", "q75", "q95"]
MEASURES = {
    ("cross", "paths"): "pairs, by paths",
    ("self", "paths"): "single images, by paths",
    ("cross", "activations"): "pairs, by activations",
    ("self", "activations"): "single images, by activations",
}
LAYERS = {"ratio": "mean of layers", "ratio_first": "first layer", "ratio_last": "last layer"}
ERRORS = {"gap": "test error − training error", "test_error": "test error", "train_error": "training error"}
CLOSE = alt.Scale(zero=False, nice=False)
Bounds = tuple[float | None, float | None]
SEEDS = "band: 95 % interval over seeds."


def _means_told(values: pd.DataFrame, by: list[str], digits: str) -> str:
    """The means of groups of rows in words."""
    means = values.groupby(by, sort=False)["value"].agg(lambda each: each.mean())
    return told(means, ", ".join(f"{{{name}}}" for name in by) + f" {{value:{digits}}}")


def distributions(table: pd.DataFrame) -> Chart:
    """Quantiles of the similarity with the epoch before, over epochs; menus choose what, a slider reads them off.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
    """
    means = _quantiles(table)
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
    return layered(
        [*bands, *_decays(table), rule.add_params(turn), medians, words_above(words)],
        "How alike paths are to those of the epoch before",
        "Line: median; bands: the middle half and the middle 90 %. Dotted: the learning rate decays.",
        f"Quantiles of similarity between epochs. Medians of {what}: "
        f"{told(ends, '{subject}, layer {place}, epoch {epoch}: {q50:.2f}')}.",
    )


def _similarities(table: pd.DataFrame) -> pd.DataFrame:
    """`long_paths` with the kind of similarity in words, in the column ``what``."""
    rows = tables.long_paths(table)
    return rows.assign(what=[MEASURES[key] for key in zip(rows["measure"], rows["of"], strict=True)])


def _quantiles(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and quantiles of each kind of similarity, mean over seeds, beside the ``last`` epoch of the subject."""
    rows = _similarities(table)
    # One menu serves every network: a place has the names of all layers that stand there.
    names = rows.groupby("number", sort=False)["layer"].agg(lambda layers: " / ".join(layers.unique()))
    place = rows["number"].astype(str) + ": " + rows["number"].map(names)
    rows = rows.assign(subject=rows["setting"] + ", " + rows["runs"], place=place)
    means = rows.groupby(["subject", "place", "what", "epoch"], sort=False)[LEVELS].mean().round(4).reset_index()
    return means.assign(last=means.groupby("subject")["epoch"].transform("max"))


def _decays(table: pd.DataFrame) -> list[alt.Chart]:
    """Dotted lines where the learning rate of the chosen runs decays; none where that of no run does."""
    rows = tables.named(table)
    subjects = rows.groupby(rows["setting"] + ", " + rows["runs"], sort=False)
    found = [(subject, epoch + 0.5) for subject, runs in subjects for epoch in tables.milestones(runs)]
    marks = alt.Chart(pd.DataFrame(found, columns=pd.Index(["subject", "epoch"])))
    marks = marks.transform_filter("datum.subject === dist_subject").mark_rule(strokeDash=[2, 3], opacity=0.5)
    return [marks.encode(x="epoch:Q")] if found else []


def _over_epochs(
    values: pd.DataFrame, by: str, prefix: str, labels: dict[str, str], *, axis: str, within: Bounds = (None, None)
) -> list[alt.Chart]:
    """Means over seeds with 95 % intervals against epochs, a line for each kind of `by`, menus for the other columns.

    `labels` are the words before the menus, `axis` the title of the vertical axis; intervals are cut at `within`, the
    smallest and largest value that can be. Kinds of runs look the same in every chart.
    """
    means = mean_intervals(values, [*labels, by, "epoch"])
    means = means.assign(low=means["low"].clip(lower=within[0]), high=means["high"].clip(upper=within[1])).round(4)
    order = KINDS_OF_RUNS if by == "runs" else tuple(means[by].unique())
    names = [name for name in order if name in set(means[by])]
    colours, dashes = [PALETTE[order.index(name)] for name in names], [DASHES[order.index(name)] for name in names]
    about: dict[str, Any] = {"title": None, "sort": names, "legend": parts.STROKES}
    color, dash, _ = looks(by, names, colours=colours, dashes=dashes, **about)
    base = chosen(means, menus(means, prefix, labels)).encode(x=parts.EPOCHS, color=color)
    # Where there is no interval the band has no height: were it left out, a choice without any would be an empty layer,
    # of which Vega warns.
    edges = {f"band_{name}": f"isValid(datum.{name}) ? datum.{name} : datum.mean" for name in ("low", "high")}
    band = base.transform_calculate(**edges).mark_area(tooltip=None)
    band = band.encode(y=alt.Y("band_low:Q", title=axis, scale=AROUND), y2="band_high:Q")
    tip = [f"{by}:N", "epoch:Q", *tooltips(".3f")]
    line = base.mark_line(point={"size": 16})
    line = line.encode(y=alt.Y("mean:Q", title=axis, scale=AROUND), strokeDash=dash, tooltip=tip)
    return [band, line] if means["low"].notna().any() else [line]


def kinds_of_runs(table: pd.DataFrame) -> Chart:
    """Mean similarity with the epoch before by kind of runs: true labels, random labels, no decay; a menu of layers.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
    """
    rows = _similarities(table).rename(columns={"mean": "value"})
    rows = rows.assign(place=rows["setting"] + ", " + rows["number"].astype(str) + ": " + rows["layer"])
    labels = {"place": "layer", "what": "similarity of"}
    cross = rows[(rows["measure"] == "cross") & (rows["of"] == "paths")]
    ends = cross[cross["epoch"] == cross.groupby("setting")["epoch"].transform("max")]
    means = _means_told(ends, ["setting", "runs"], ".3f")
    layers = _over_epochs(rows, "runs", "kinds", labels, axis="mean similarity", within=(None, 1.0))
    about = f"Mean similarity by kind of runs over epochs. Pairs by paths, last epoch: {means}."
    title = "True labels, random labels, and a learning rate that stays"
    return layered(layers, title, f"Similarity with the epoch before; {SEEDS}", about)


def _stacked(rows: pd.DataFrame, keys: list[str], kinds: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Values of several kinds below each other: the columns `keys`, seed, epoch, of (the kind) and value."""
    return rows[[*keys, "seed", "epoch"]].assign(**kinds).melt([*keys, "seed", "epoch"], var_name="of")


def franken(table: pd.DataFrame) -> Chart:
    """Loss of the followed training images along today's paths and along yesterday's; a menu of runs.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
    """
    rows = tables.named(table)
    rows = rows[rows["epoch"] >= 1].assign(subject=lambda each: each["setting"] + ", " + each["runs"])
    today, yesterday = rows["paths/own:loss"], rows["paths/before:loss"]
    values = _stacked(rows, ["subject"], {"along today's paths": today, "along yesterday's paths": yesterday})
    early = rows.assign(value=today - yesterday)[rows["epoch"] <= 3]
    means = _means_told(early, ["setting", "runs"], "+.3f")
    layers = _over_epochs(values, "of", "franken", {"subject": "runs"}, axis="loss, in nats", within=(0.0, None))
    about = f"Loss against epoch along two paths. Today's minus yesterday's, mean of epochs 1 to 3: {means}."
    title, subtitle = "Today's weights along today's and yesterday's paths", f"128 training images; {SEEDS}"
    return layered(layers, title, subtitle, about)


def unseen(table: pd.DataFrame) -> Chart:
    """Loss along today's paths minus that along yesterday's, of training images and of images never seen.

    Args:
        table: A tidy table of experiment ``"path_unseen"``.
    """
    rows = tables.named(table[table["epoch"] >= 1])
    trained, unseen = (rows[f"{kind}/own:loss"] - rows[f"{kind}/before:loss"] for kind in ("trained", "unseen"))
    values = _stacked(rows, ["setting"], {"training images": trained, "images never seen": unseen})
    layers = _over_epochs(values, "of", "unseen", {"setting": "runs"}, axis="loss today − yesterday, in nats")
    means, title = _means_told(values, ["setting", "of"], "+.3f"), "The same for images that were never trained on"
    about = f"Difference of the losses along two paths over epochs. Mean: {means}."
    return layered(layers, title, "Above 0, yesterday's paths fit better. Band: 95 % interval over seeds.", about)


def isolation(table: pd.DataFrame) -> Chart:
    """Correlation of an image's update in isolation with the whole network, and of two images' updates, over epochs.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = tables.named(table)
    rows = rows[rows["isolation/mean"].notna()].assign(runs=lambda each: each["runs"] + each["size"])
    kinds = {"with the whole network": rows["isolation/mean"], "of two images": rows["isolation/between"]}
    values = _stacked(rows, ["runs"], kinds)
    layers = _over_epochs(values, "of", "alone", {"runs": "runs"}, axis="correlation")
    means, title = _means_told(values, ["of", "runs"], ".2f"), "One image's update as a network of its own"
    about = f"Correlation of functions in isolation over epochs. Mean over epochs: {means}."
    subtitle = "Correlation of outputs at 32 test images; mean over 8 images; band: 95 % interval."
    return layered(layers, title, subtitle, about)


def neighbours_kept(table: pd.DataFrame) -> Chart:
    """Share of an image's six nearest that were among them an epoch before, by path and by activation; layer menu.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = tables.named(table)
    rows = rows[(rows["runs"] == TRUE) & (rows["epoch"] >= 1)]
    by_layer = []
    for (network, setting), own in rows.groupby(["network", "setting"], sort=False):
        which = f"{setting}, " if rows["setting"].nunique() > 1 else ""
        for number, layer in enumerate(tables.layers_of(table, str(network)), start=1):
            kinds = {"by paths": own[f"neighbours/{layer}:kept"], "by activations": own[f"activations/{layer}:kept"]}
            by_layer.append(_stacked(own, ["setting"], kinds).assign(place=f"{which}{number}: {layer}"))
    values = pd.concat(by_layer)
    layers = _over_epochs(values, "of", "kept", {"place": "layer"}, axis="share kept", within=(None, 1.0))
    means, title = _means_told(values, ["setting", "of"], ".2f"), "How long neighbours stay"
    about = f"Share of nearest neighbours kept from epoch to epoch. Mean over layers and epochs: {means}."
    return layered(layers, title, "Of the six nearest images, those that were so an epoch before.", about)


def overlap_by_distance(table: pd.DataFrame) -> Chart:
    """Path overlap against input distance at the end of training: quartiles in bins of pairs; menus of runs and layer.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = tables.distances(table)
    places = {layer: f"{number}: {layer}" for number, layer in enumerate(rows["layer"].unique(), start=1)}
    rows = rows.assign(place=rows["layer"].map(places), runs=rows["runs"] + rows["size"])
    rows["words"] = rows["rank"].map("rank correlation {:.2f}".format)
    rows = rows.drop(columns=["layer", "network", "size"]).round(4)
    base = chosen(rows, menus(rows, "overlap", {"runs": "runs", "place": "layer"}, place=rows["place"].unique()[-1]))
    x = alt.X("distance:Q", title="distance of the two images, ‖x − x′‖", scale=AROUND)
    y = alt.Y("low:Q", title="share of units on for both", scale=AROUND)
    band = base.mark_area(tooltip=None).encode(x=x, y=y, y2="high:Q")
    tip = tooltips(".3f", "distance", "low", "middle", "high")
    line = base.mark_line(point={"size": 30}).encode(x=x, y="middle:Q", tooltip=tip)
    correlations = rows.drop_duplicates(["runs", "place"])
    about = f"Path overlap by distance. Rank correlations: {told(correlations, '{runs}, layer {place}: {rank:.2f}')}."
    title, subtitle = "Path overlap against distance", "Pairs of images, a twelfth at a point; band: the middle half."
    return layered([band, line, words_above(base.transform_filter("datum.bin === 0"))], title, subtitle, about)


def ratio(table: pd.DataFrame) -> Chart:
    """Early-to-mid ratio of cross-path similarity against generalization error, a point for each network.

    Args:
        table: A tidy table of experiment ``"path_ratio"``.
    """
    networks = with_sizes(tables.networks_of_ratio(table), of="data")
    networks = networks.assign(on=networks["data"] + networks["size"])
    rows = pd.concat([_ratio_rows(part) for _, part in networks.groupby("on", sort=False)])
    labels = {"on": "data", "of": "similarity in", "error": "error"}
    base = chosen(rows, menus(rows, "ratio", labels))
    tip = ["name:N", *(alt.Tooltip(f"{c}:Q", title=t, format=".3f") for c, t in (("x", "ratio"), ("y", "error")))]
    x, y = alt.X("x:Q", title="early-to-mid ratio", scale=AROUND), alt.Y("y:Q", title="error", scale=AROUND)
    looks = parts.marks("kind", sorted(rows["kind"].unique(), reverse=True), offset=26)  # above the words
    points = base.mark_point(size=110).encode(x=x, y=y, **looks, tooltip=[*tip, "seeds:Q"])
    each = rows.drop_duplicates(list(labels))
    return layered(
        [points, words_above(base.transform_aggregate(groupby=["words"]))],
        "Does the ratio predict generalization?",
        f"{len(networks)} networks of different width, depth, learning rate and regularization.",
        f"Scatter chart of {len(networks)} networks. {told(each, '{on}, {error} against {of}: {words}')}.",
    )


def _ratio_rows(networks: pd.DataFrame) -> pd.DataFrame:
    """A row for each network (of one size), ratio and error, with the rank correlation over networks in words."""
    kind = ["convolutional" if "alexnet" in name else "fully connected" for name in networks["network"]]
    about = networks[["name", "on", "seeds"]]
    found = []
    for column, of in LAYERS.items():
        for error, words in ERRORS.items():
            x, y = networks[column], networks[error]
            rho, low, high = tables.correlation(x.tolist(), y.tolist())
            said = f"rank correlation {rho:.2f} ({low:.2f} to {high:.2f})"
            found.append(about.assign(x=x, y=y, kind=kind, of=of, error=words, words=said))
    return pd.concat(found).round(4)
