"""Charts of chapter 2 on pairs of images and on many networks: neighbours, overlap by distance, early-to-mid ratio."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.path_functions.charts_epochs import over_epochs
from gendyn_lite.chapters.path_functions.tables import TRUE, correlation, distances, layers_of, named, networks_of_ratio
from gendyn_lite.charts.parts import Chart, menu, words_above
from gendyn_lite.charts.theme import PALETTE, SHAPES
from gendyn_lite.results.tables import with_sizes

LAYERS = {"ratio": "mean of layers", "ratio_first": "first layer", "ratio_last": "last layer"}
ERRORS = {"gap": "test error − training error", "test_error": "test error", "train_error": "training error"}


def neighbours_kept(table: pd.DataFrame) -> Chart:
    """Share of an image's six nearest that were among them an epoch before, by path and by activation; layer menu.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = named(table)
    rows = rows[(rows["runs"] == TRUE) & (rows["epoch"] >= 1)]
    parts = []
    for (network, setting), own in rows.groupby(["network", "setting"], sort=False):
        which = f"{setting}, " if rows["setting"].nunique() > 1 else ""
        for number, layer in enumerate(layers_of(table, str(network)), start=1):
            for of, kind in (("by paths", "neighbours"), ("by activations", "activations")):
                one = own[["setting", "seed", "epoch"]].assign(value=own[f"{kind}/{layer}:kept"])
                parts.append(one.assign(place=f"{which}{number}: {layer}", of=of))
    values = pd.concat(parts)
    chart = over_epochs(values, by="of", title="share kept", prefix="kept", menus={"place": "layer"}, most=1.0)
    means = values.groupby(["setting", "of"], sort=False)["value"]
    told = "; ".join(f"{setting}, {of} {each.mean():.2f}" for (setting, of), each in means)
    return chart.properties(
        title=alt.Title(
            "How long neighbours stay", subtitle="Of the six nearest images, those that were so an epoch before."
        ),
        description=f"Share of nearest neighbours kept from epoch to epoch. Mean over layers and epochs: {told}.",
    )


def overlap_by_distance(table: pd.DataFrame) -> Chart:
    """Path overlap against input distance at the end of training: quartiles in bins of pairs; menus of runs and layer.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = distances(table)
    order = {layer: number for number, layer in enumerate(rows["layer"].unique(), start=1)}
    rows = rows.assign(
        place=[f"{order[layer]}: {layer}" for layer in rows["layer"]], runs=rows["runs"] + rows["size"]
    ).drop(columns=["layer", "network", "size"])
    runs, places = list(rows["runs"].unique()), list(rows["place"].unique())
    rows = rows.assign(words=[f"rank correlation {value:.2f}" for value in rows["rank"]]).round(4)
    base = alt.Chart(rows).transform_filter("datum.runs === overlap_runs && datum.place === overlap_place")
    x = alt.X("distance:Q", title="distance of the two images, ‖x − x′‖", scale=alt.Scale(zero=False))
    band = base.mark_area(tooltip=None).encode(
        x=x, y=alt.Y("low:Q", title="share of units on for both", scale=alt.Scale(zero=False)), y2="high:Q"
    )
    tip = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("distance", "low", "middle", "high")]
    line = base.mark_line(point={"size": 30}).encode(x=x, y="middle:Q", tooltip=tip)
    told = rows.drop_duplicates(["runs", "place"])
    return (
        alt.layer(band, line, words_above(base.transform_filter("datum.bin === 0")))
        .add_params(menu("overlap_runs", runs, "runs"), menu("overlap_place", places, "layer", places[-1]))
        .properties(
            title=alt.Title(
                "Path overlap against distance",
                subtitle="Pairs of images, a twelfth at a point; band: the middle half.",
            ),
            description="Path overlap by distance. Rank correlations: "
            + "; ".join(f"{row['runs']}, layer {row['place']}: {row['rank']:.2f}" for row in told.to_dict("records"))
            + ".",
        )
    )


def ratio(table: pd.DataFrame, *, prefix: str = "ratio") -> Chart:
    """Early-to-mid ratio of cross-path similarity against generalization error, a point for each network.

    Args:
        table: A tidy table of experiment ``"path_ratio"``.
        prefix: Of the names of its parameters.
    """
    networks = with_sizes(networks_of_ratio(table), of="data")
    networks = networks.assign(on=networks["data"] + networks["size"])
    sizes = list(networks["on"].unique())
    rows = pd.concat([_ratio_rows(part) for _, part in networks.groupby("on", sort=False)])
    shown = " && ".join(f"datum.{name} === {prefix}_{name}" for name in ("on", "of", "error"))
    base = alt.Chart(rows).transform_filter(shown)
    told = "; ".join(
        f"{on}, {error} against {of}: {part['words'].iloc[0]}"
        for (on, of, error), part in rows.groupby(["on", "of", "error"], sort=False)
    )
    return (
        alt.layer(_ratio_points(base, rows), words_above(base.transform_aggregate(groupby=["words"])))
        .add_params(
            menu(f"{prefix}_on", sizes, "data"),
            menu(f"{prefix}_of", list(LAYERS.values()), "similarity in"),
            menu(f"{prefix}_error", list(ERRORS.values()), "error"),
        )
        .properties(
            title=alt.Title(
                "Does the ratio predict generalization?",
                subtitle=f"{len(networks)} networks of different width, depth, learning rate and regularization.",
            ),
            description=f"Scatter chart of {len(networks)} networks. {told}.",
        )
    )


def _ratio_rows(networks: pd.DataFrame) -> pd.DataFrame:
    """A row for each network (of one size), ratio and error, with the rank correlation over networks in words."""
    parts = []
    for column, of in LAYERS.items():
        for error, named_error in ERRORS.items():
            rho, low, high = correlation(networks[column].tolist(), networks[error].tolist())
            words = f"rank correlation {rho:.2f} ({low:.2f} to {high:.2f})"
            one = networks[["name", "on", "seeds"]].assign(x=networks[column], y=networks[error])
            kind = ["convolutional" if "alexnet" in name else "fully connected" for name in networks["network"]]
            parts.append(one.assign(kind=kind, of=of, error=named_error, words=words))
    return pd.concat(parts).round(4)


def _ratio_points(base: alt.Chart, rows: pd.DataFrame) -> alt.Chart:
    kinds = sorted(rows["kind"].unique(), reverse=True)
    above = alt.Legend(offset=26)  # above the words
    tip = ["name:N", *(alt.Tooltip(f"{c}:Q", title=t, format=".3f") for c, t in (("x", "ratio"), ("y", "error")))]
    return base.mark_point(size=110).encode(
        x=alt.X("x:Q", title="early-to-mid ratio", scale=alt.Scale(zero=False)),
        y=alt.Y("y:Q", title="error", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "kind:N", title=None, scale=alt.Scale(domain=kinds, range=list(PALETTE[: len(kinds)])), legend=above
        ),
        shape=alt.Shape(
            "kind:N", title=None, scale=alt.Scale(domain=kinds, range=list(SHAPES[: len(kinds)])), legend=above
        ),
        tooltip=[*tip, "seeds:Q"],
    )
