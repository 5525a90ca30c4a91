"""Charts of chapter 2 with pictures of digits: pairs of them, ranks of neighbours, the nearest ones."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.charts.parts import TIME, Chart, menu, slider
from gendyn_lite.charts.theme import DASHES, PALETTE, SHAPES

RANK = alt.Y(
    "shown_rank:Q",
    title="rank (1 is nearest)",
    scale=alt.Scale(type="log", reverse=True, nice=False, domain=[0.8, 128]),
    axis=alt.Axis(values=[1, 2, 5, 10, 20, 50, 100]),
)


def scatter(pairs: pd.DataFrame, pictures: pd.DataFrame) -> Chart:
    """Path overlap against distance, a point for each pair of digits; the pair under the pointer is shown.

    Args:
        pairs: As `pictures`, of `gendyn_lite.chapters.path_functions.demo.scatter`.
        pictures: The digits.
    """
    layers, epochs = list(pairs["layer"].unique()), sorted(pairs["epoch"].unique())
    rows = pairs.assign(turn=pairs["epoch"].map({epoch: turn for turn, epoch in enumerate(epochs)}))
    picked = alt.selection_point(
        name="pair_picked", on="pointerover", nearest=True, fields=["i", "j"], empty=False, clear=False,
        value=[{"i": int(rows["i"].iloc[0]), "j": int(rows["j"].iloc[0])}],
    )  # fmt: skip
    base = alt.Chart(rows).transform_filter("datum.layer === pair_layer && datum.turn === pair_turn")
    base = base.transform_calculate(pair="datum.same ? 'one digit' : 'two digits'")
    told = []
    for (name, epoch), part in pairs.groupby(["layer", "epoch"], sort=False):
        if epoch in (epochs[0], epochs[-1]):
            rank = part["distance"].rank().corr(part["overlap"].rank())
            told.append(f"layer {name}, epoch {epoch}: {rank:.2f}")
    return (
        alt.layer(_pairs(base, picked), *_both(base.transform_filter(picked), pictures), _epoch_words(epochs))
        .add_params(menu("pair_layer", layers, "layer", layers[-1]), slider("pair_turn", len(epochs) - 1, TIME))
        .properties(
            height=300,
            title=alt.Title(
                "Near in pixels, near in paths?", subtitle="A point is a pair of digits; point at one to see them."
            ),
            description=f"Path overlap against distance of pairs of digits. Rank correlations: {'; '.join(told)}.",
        )
    )


def _pairs(base: alt.Chart, picked: alt.Parameter) -> alt.Chart:
    """A point for each pair, the larger for the one that is picked."""
    kinds = ["two digits", "one digit"]
    above = alt.Legend(offset=58)  # above the pictures
    dots = base.mark_point().encode(
        x=alt.X("distance:Q", title="distance of the two images", scale=alt.Scale(zero=False)),
        y=alt.Y("overlap:Q", title="share of units on for both", scale=alt.Scale(zero=False)),
        color=alt.Color("pair:N", title=None, scale=alt.Scale(domain=kinds, range=list(PALETTE[:2])), legend=above),
        shape=alt.Shape("pair:N", title=None, scale=alt.Scale(domain=kinds, range=list(SHAPES[:2])), legend=above),
        size=alt.condition(picked, alt.value(160), alt.value(22)),
        opacity=alt.condition(picked, alt.value(1), alt.value(0.55)),
        tooltip=["distance:Q", alt.Tooltip("overlap:Q", format=".3f"), "pair:N"],
    )
    return dots.add_params(picked)


def _both(shown: alt.Chart, pictures: pd.DataFrame) -> list[alt.Chart]:
    """The two pictures of the pair that is picked."""
    lookup = alt.LookupData(pictures, key="image", fields=["picture"])
    return [
        shown.transform_lookup(lookup=column, from_=lookup)
        .mark_image(width=44, height=44, tooltip=None)
        .encode(x=alt.value(place), y=alt.value(-30), url="picture:N")
        for column, place in (("i", 24), ("j", 74))
    ]


def _epoch_words(epochs: list[int]) -> alt.Chart:
    """Which epoch the slider is at, beside the pictures."""
    rows = pd.DataFrame({"turn": range(len(epochs)), "words": [f"epoch {epoch}" for epoch in epochs]})
    words = alt.Chart(rows).transform_filter("datum.turn === pair_turn")
    words = words.mark_text(align="left", baseline="middle", fontWeight=600)
    return words.encode(x=alt.value(108), y=alt.value(-30), text="words:N")


def ranks(rows: pd.DataFrame, pictures: pd.DataFrame) -> Chart:
    """How the six digits that are nearest to a digit at the end were ranked before; menus of the digit and the layer.

    Args:
        rows: As `pictures`, of `gendyn_lite.chapters.path_functions.demo.neighbours`.
        pictures: The digits.
    """
    rows = _in_words(rows, dict(zip(pictures["image"], pictures["digit"], strict=True)))
    anchors, layers = list(rows["who"].unique()), list(rows["layer"].unique())
    base = alt.Chart(rows).transform_filter("datum.who === rank_who && datum.layer === rank_layer")
    nearest = rows[rows["rank"] == 0].groupby(["layer", "anchor"])["neighbour"].nunique()
    second = layers[min(1, len(layers) - 1)]
    return (
        alt.layer(_rank_lines(base, rows), *_rank_pictures(base, pictures, int(rows["epoch"].max())))
        .add_params(menu("rank_who", anchors, "digit"), menu("rank_layer", layers, "layer", second))
        .properties(
            height=320,
            title=alt.Title(
                "Who was near before?",
                subtitle="Ranks of the six digits whose paths are nearest at the end; above: the digit itself.",
            ),
            description=(
                f"Ranks of neighbours by path over epochs, for {len(anchors)} digits and {len(layers)} layers. Of the "
                f"six that end nearest, {nearest.mean():.1f} on average were the very nearest at some epoch."
            ),
        )
    )


def _in_words(rows: pd.DataFrame, digit: dict[int, int]) -> pd.DataFrame:
    """Ranks from 1, the images in words, and each neighbour's rank at the end."""
    rows = rows.assign(
        who=[f"image {image}, a {digit[image]}" for image in rows["anchor"]],
        neighbour_is=[f"image {image}, a {digit[image]}" for image in rows["neighbour"]],
        shown_rank=rows["rank"] + 1,
    )
    ends = rows[rows["epoch"] == rows["epoch"].max()]
    order = ends.set_index(["layer", "anchor", "neighbour"])["rank"].rename("final")
    return rows.join(order, on=["layer", "anchor", "neighbour"])


def _rank_lines(base: alt.Chart, rows: pd.DataFrame) -> alt.Chart:
    last, finals = int(rows["epoch"].max()), list(range(int(rows["final"].max()) + 1))
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(domain=[0, last * 1.06], nice=False),
              axis=alt.Axis(tickMinStep=1, tickCount=last))  # fmt: skip
    color = alt.Color("final:O", legend=None, scale=alt.Scale(domain=finals, range=list(PALETTE)))
    dash = alt.StrokeDash("final:O", legend=None, scale=alt.Scale(domain=finals, range=list(DASHES)))
    tip = ["epoch:Q", alt.Tooltip("shown_rank:Q", title="rank"), alt.Tooltip("neighbour_is:N", title="neighbour")]
    return base.mark_line(point={"size": 22}).encode(x=x, y=RANK, color=color, strokeDash=dash, tooltip=tip)


def _rank_pictures(base: alt.Chart, pictures: pd.DataFrame, last: int) -> list[alt.Chart]:
    """The neighbours at the ends of their lines, and above the drawing the digit itself."""
    lookup = alt.LookupData(pictures, key="image", fields=["picture"])
    at_end = base.transform_filter(f"datum.epoch === {last}")
    images = at_end.transform_lookup(lookup="neighbour", from_=lookup).mark_image(width=20, height=20, tooltip=None)
    centre = at_end.transform_filter("datum.final === 0").transform_lookup(lookup="anchor", from_=lookup)
    centre = centre.mark_image(width=40, height=40, tooltip=None)
    x = alt.X("epoch:Q", scale=alt.Scale(domain=[0, last * 1.06]))
    return [
        images.encode(x=x, y=RANK, url="picture:N"),
        centre.encode(x=alt.value(22), y=alt.value(-26), url="picture:N"),
    ]


def nearest(rows: pd.DataFrame) -> Chart:
    """An image and those whose paths overlap most with its own, with the share of its units that they share.

    Args:
        rows: A table of `gendyn_lite.chapters.path_functions.demo.nearest`.
    """
    base = alt.Chart(rows.assign(words=[f"image {row.image}: a {row.digit}" for row in rows.itertuples()]))
    last = int(rows["place"].max())
    x = alt.X("place:Q", title="place (0: the image itself)", scale=alt.Scale(domain=[-0.5, last + 0.5], nice=False),
              axis=alt.Axis(values=list(range(last + 1)), format="d"))  # fmt: skip
    y = alt.Y("share:Q", title="share of its units on for both", scale=alt.Scale(domain=[0, 1.15], nice=False))
    tip = ["words:N", alt.Tooltip("share:Q", format=".3f")]
    stems = base.mark_rule(strokeWidth=2).encode(x=x, y=y)
    images = base.mark_image(width=40, height=40).encode(x=x, y=y, url="picture:N", tooltip=tip)
    told = ", ".join(f"a {row.digit} ({row.share:.2f})" for row in rows.iloc[1:].itertuples())
    return alt.layer(stems, images).properties(
        height=260,
        title=alt.Title("Whose path overlaps?", subtitle="The image itself first, then its nearest by path."),
        description=f"The nearest by path of a {rows['digit'].iloc[0]}: {told}.",
    )
