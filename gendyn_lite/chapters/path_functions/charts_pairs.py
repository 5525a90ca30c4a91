"""Charts of chapter 2 from runs: neighbours by path, overlap against distance, and many networks."""

from __future__ import annotations

import math

import altair as alt
import pandas as pd

from gendyn_lite.chapters.path_functions import tables
from gendyn_lite.chapters.path_functions.charts import means_told, over_epochs, stacked
from gendyn_lite.chapters.path_functions.tables import TRUE
from gendyn_lite.charts import parts
from gendyn_lite.charts.figure import DASHES, PALETTE
from gendyn_lite.charts.parts import AROUND, Chart, chosen, layered, menus, of_runs, told, tooltips, words_above

LAYERS = {"ratio": "mean of layers", "ratio_first": "first layer", "ratio_last": "last layer"}
ERRORS = {"gap": "test error − training error", "test_error": "test error", "train_loss": "training loss"}


def neighbours_kept(table: pd.DataFrame) -> Chart:
    """Draw the share of an image's six nearest images that were among them an epoch before, by path and activation.

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
            by_layer.append(stacked(own, ["setting", "run_id"], kinds).assign(place=f"{which}{number}: {layer}"))
    values = pd.concat(by_layer).dropna(subset=["value"])
    layers = over_epochs(values, "of", "kept", {"place": "layer"}, axis="share kept", within=(None, 1.0))
    means, title = means_told(values, ["setting", "of"], ".2f"), "How long neighbours stay"
    about = f"Share of nearest neighbours kept from epoch to epoch. Mean over layers and epochs: {means}."
    subtitle = "Share of the six nearest images that were among them one epoch before."
    return of_runs(layered(layers, title, subtitle, about), table, values)


def ranks(table: pd.DataFrame) -> Chart:
    """Draw the earlier ranks of the six images whose paths end nearest to an image; menus choose image and layer.

    Args:
        table: A tidy table of experiment ``"path_networks"``. Of each network the first run on true labels is drawn,
            with two layers.
    """
    rows = tables.ranks(table)
    places = rows["place"].unique()
    two = [places[min(1, len(places) - 1)], places[-1]]
    first_seed = rows.groupby("setting")["seed"].transform("min")
    runs = rows[(rows["seed"] == first_seed) & rows["place"].isin(two)]
    rows = runs.drop(columns=["seed", "run_id"])
    base = chosen(rows, menus(rows, "near", {"setting": "network", "place": "layer", "who": "image"}))
    finals = sorted(rows["final"].unique())
    color, dash, _ = parts.looks("final", finals, colours=PALETTE, dashes=DASHES, title="place at the end")
    y = alt.Y("rank:Q", title="rank (1 is nearest)", scale=alt.Scale(type="log", reverse=True, nice=False),
              axis=alt.Axis(values=[1, 2, 5, 10, 20, 50, 100]))  # fmt: skip
    lines = base.mark_line(point={"size": 16}).encode(
        x=parts.EPOCHS, y=y, color=color, strokeDash=dash, tooltip=["epoch:Q", "rank:Q", "neighbour:O"]
    )
    first = rows[rows["epoch"] == rows["epoch"].min()]
    about = "Ranks of neighbours by path over epochs. Of those that end nearest, the median rank before training was "
    about += f"{first['rank'].median():.0f} of {tables.FOLLOWED - 1}."
    drawn = layered([lines], "Who was near before, on CIFAR-10?", "The six images whose paths end nearest.", about)
    return of_runs(drawn, table, runs)


def overlap_by_distance(table: pd.DataFrame) -> Chart:
    """Draw path overlap against the distance of inputs at the end of training: quartiles in bins of pairs.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = tables.distances(table)
    rows = rows[rows["runs"] != tables.CONSTANT]
    places = {layer: f"{number}: {layer}" for number, layer in enumerate(rows["layer"].unique(), start=1)}
    rows = rows.assign(place=rows["layer"].map(places), runs=rows["runs"] + rows["size"])
    pairs = zip(rows["linear"], rows["rank"], strict=True)
    rows["words"] = [f"correlation {linear:.2f}, of ranks {rank:.2f}" for linear, rank in pairs]
    rows = rows.drop(columns=["layer", "network", "size", "linear", "seeds", "data"]).round(3)
    labels = {"runs": "runs", "space": "distance of", "place": "layer"}
    base = chosen(rows, menus(rows, "overlap", labels, place=rows["place"].unique()[-1]))
    x = alt.X("distance:Q", title="distance of the two images, ‖x − x′‖", scale=AROUND)
    y = alt.Y("low:Q", title="share of units on for both", scale=AROUND)
    band = base.mark_area(tooltip=None).encode(x=x, y=y, y2="high:Q")
    tip = tooltips(".3f", "distance", "low", "middle", "high")
    line = base.mark_line(point={"size": 30}).encode(x=x, y="middle:Q", tooltip=tip)
    each = told(rows.drop_duplicates(list(labels)), "{runs}, {space}, layer {place}: {words}")
    about = f"Path overlap by distance. {each}."
    title, subtitle = (
        "Path overlap against distance",
        "A point is a twelfth of the pairs of images; band: the middle half.",
    )
    layers = [band, line, words_above(base.transform_filter("datum.bin === 0"))]
    return of_runs(layered(layers, title, subtitle, about), table, tables.with_bins(table))


def ratio(table: pd.DataFrame) -> Chart:
    """Draw the early-to-mid ratio of cross-path similarity against generalization error, a point for each network.

    Args:
        table: A tidy table of experiment ``"path_ratio"``.
    """
    networks = tables.networks_of_ratio(table)
    networks = networks.assign(on=networks["data"])
    rows = pd.concat([_ratio_rows(part) for _, part in networks.groupby("on", sort=False)])
    labels = {"on": "data", "of": "similarity in", "error": "against"}
    base = chosen(rows, menus(rows, "ratio", labels))
    tip = ["name:N", *(alt.Tooltip(f"{c}:Q", title=t, format=".3f") for c, t in (("x", "ratio"), ("y", "error")))]
    x, y = alt.X("x:Q", title="early-to-mid ratio", scale=AROUND), alt.Y("y:Q", title="error or loss", scale=AROUND)
    looks = parts.marks("kind", sorted(rows["kind"].unique(), reverse=True), offset=26)  # above the words
    points = base.mark_point(size=110).encode(x=x, y=y, **looks, tooltip=[*tip, "seeds:Q"])
    each = rows.drop_duplicates(list(labels))
    fitted = f"{int(networks['fitted'].sum())} of {len(networks)} fit at least 99 % of their images"
    drawn = layered(
        [points, words_above(base.transform_aggregate(groupby=["words"]))],
        "Does the ratio predict generalization?",
        f"Networks of different width, depth and training; {fitted}.",
        f"Scatter chart of {len(networks)} networks. {told(each, '{on}, {error} against {of}: {words}')}.",
    )
    return of_runs(drawn, table, table)


def _ratio_rows(networks: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each network, ratio and error, with the rank correlation over the fitted networks in words."""
    image = networks["network"].str.contains("alexnet")
    kind = [f"{'convolutional' if conv else 'fully connected'}{'' if fitted else ', not fitted'}"
            for conv, fitted in zip(image, networks["fitted"], strict=True)]  # fmt: skip
    about, fitted = networks[["name", "on", "seeds"]], networks[networks["fitted"]]
    found = []
    for column, of in LAYERS.items():
        for error, words in ERRORS.items():
            rho, low, high = tables.correlation(fitted[column].tolist(), fitted[error].tolist())
            said = f"rank correlation {rho:.2f} ({low:.2f} to {high:.2f})"
            if math.isnan(rho):
                said = "no correlation: too few networks have fitted"
            values = {"x": networks[column], "y": networks[error], "kind": kind, "of": of}
            found.append(about.assign(**values, error=words, words=said))
    return pd.concat(found).round(4)
