"""Charts of chapter 2 over epochs: how alike paths stay, losses along paths, updates in isolation."""

from __future__ import annotations

import altair as alt
import pandas as pd

from gendyn_lite.chapters.path_functions.charts_epochs import over_epochs
from gendyn_lite.chapters.path_functions.tables import long_paths, milestones, named
from gendyn_lite.charts.parts import Chart, menu, slider, words_above
from gendyn_lite.charts.theme import PALETTE

LEVELS = ["mean", "q05", "q25", "q50", "q75", "q95"]
MEASURES = {
    ("cross", "paths"): "pairs, by paths",
    ("self", "paths"): "single images, by paths",
    ("cross", "activations"): "pairs, by activations",
    ("self", "activations"): "single images, by activations",
}
EPOCH = alt.X("epoch:Q", title="epoch t, compared with t − 1", axis=alt.Axis(tickMinStep=1))
CLOSE = alt.Scale(zero=False, nice=False)


def distributions(table: pd.DataFrame, *, prefix: str = "dist") -> Chart:
    """Quantiles of the similarity with the epoch before, over epochs; menus choose network, runs, layer and measure.

    A slider moves along the epochs and reads the numbers off.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
        prefix: Of the names of its parameters, which must differ between the charts of a page.
    """
    means = _quantiles(table)
    subjects, places = (list(means[name].unique()) for name in ("subject", "place"))
    whats = [what for what in MEASURES.values() if (means["what"] == what).any()]
    last = int(means["epoch"].max())
    params = [
        menu(f"{prefix}_subject", subjects, "runs"),
        menu(f"{prefix}_place", places, "layer", _last_place(means, subjects[0])),
        menu(f"{prefix}_what", whats, "similarity of"),
        slider(f"{prefix}_epoch", last, "epoch", first=1, value=1),
    ]
    chosen = " && ".join(f"datum.{name} === {prefix}_{name}" for name in ("subject", "place", "what"))
    base = alt.Chart(means).transform_filter(chosen)
    at = base.transform_filter(f"datum.epoch === min({prefix}_epoch, datum.last)")
    decays = _decays(table, f"datum.subject === {prefix}_subject")
    layers = [*_bands(base), decays, at.mark_rule(strokeWidth=1.5).encode(x=EPOCH), _medians(base), _said(at)]
    ends = means[((means["epoch"] == 1) | (means["epoch"] == means["last"])) & (means["what"] == whats[0])]
    told = "; ".join(
        f"{row['subject']}, layer {row['place']}, epoch {row['epoch']}: {row['q50']:.2f}"
        for row in ends.head(16).to_dict("records")
    )
    return (
        alt.layer(*[layer for layer in layers if layer is not None])
        .add_params(*params)
        .properties(
            title=alt.Title(
                "How alike paths are to those of the epoch before",
                subtitle="Line: median; bands: the middle half and the middle 90 %. Dotted: the learning rate decays.",
            ),
            description=f"Quantiles of similarity between epochs. Medians of {whats[0]}: {told}.",
        )
    )


def _quantiles(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and quantiles of each kind of similarity, mean over seeds: columns subject, place, what, epoch, `LEVELS`.

    Beside them stands the ``last`` epoch of the subject.
    """
    rows = long_paths(table)
    # One menu serves every network: a place has the names of all layers that stand there.
    names = rows.groupby("number", sort=False)["layer"].agg(lambda layers: " / ".join(layers.unique()))
    rows = rows.assign(
        subject=rows["setting"] + ", " + rows["runs"],
        place=rows["number"].astype(str) + ": " + rows["number"].map(names),
        what=[MEASURES[key] for key in zip(rows["measure"], rows["of"], strict=True)],
    )
    keys = ["subject", "place", "what", "epoch"]
    means = rows.groupby(keys, sort=False)[LEVELS].mean().round(4).reset_index()
    return means.assign(last=means.groupby("subject")["epoch"].transform("max"))


def _last_place(means: pd.DataFrame, subject: str) -> str:
    """The last layer of the runs that are shown at first."""
    return list(means.loc[means["subject"] == subject, "place"].unique())[-1]


def _bands(base: alt.Chart) -> list[alt.Chart]:
    """The middle 90 %, and over it the middle half."""
    return [
        base.mark_area(opacity=opacity, tooltip=None, color=PALETTE[0]).encode(
            x=EPOCH, y=alt.Y(f"{low}:Q", title="cosine similarity", scale=CLOSE), y2=f"{high}:Q"
        )
        for low, high, opacity in (("q05", "q95", 0.16), ("q25", "q75", 0.3))
    ]


def _medians(base: alt.Chart) -> alt.Chart:
    tip = ["epoch:Q", *(alt.Tooltip(f"{level}:Q", format=".3f") for level in LEVELS)]
    return base.mark_line(point={"size": 16}).encode(x=EPOCH, y=alt.Y("q50:Q", scale=CLOSE), tooltip=tip)


def _said(at: alt.Chart) -> alt.Chart:
    """The numbers of the epoch that the slider is at."""
    words = at.transform_calculate(
        words="'epoch ' + datum.epoch + ': ' + format(datum.q50, '.3f') + ' (' + "
        "format(datum.q05, '.3f') + ' to ' + format(datum.q95, '.3f') + ')'"
    )
    return words_above(words)


def _decays(table: pd.DataFrame, chosen: str) -> alt.Chart | None:
    """Dotted lines where the learning rate of the chosen runs decays."""
    rows = named(table)
    subjects = rows.groupby(rows["setting"] + ", " + rows["runs"], sort=False)
    found = [(subject, epoch + 0.5) for subject, runs in subjects for epoch in milestones(runs)]
    if not found:
        return None
    marks = alt.Chart(pd.DataFrame(found, columns=pd.Index(["subject", "epoch"]))).transform_filter(chosen)
    return marks.mark_rule(strokeDash=[2, 3], opacity=0.5).encode(x="epoch:Q")


def kinds_of_runs(table: pd.DataFrame, *, prefix: str = "kinds") -> Chart:
    """Mean similarity with the epoch before by kind of runs: true labels, random labels, no decay; a menu of layers.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
        prefix: Of the names of its parameters.
    """
    rows = long_paths(table)
    rows = rows.assign(
        value=rows["mean"],
        place=rows["setting"] + ", " + rows["number"].astype(str) + ": " + rows["layer"],
        what=[MEASURES[key] for key in zip(rows["measure"], rows["of"], strict=True)],
    )
    chart = over_epochs(
        rows,
        by="runs",
        title="mean similarity",
        prefix=prefix,
        menus={"place": "layer", "what": "similarity of"},
        most=1.0,
    )
    cross = rows[(rows["measure"] == "cross") & (rows["of"] == "paths")]
    last = cross[cross["epoch"] == cross.groupby("setting")["epoch"].transform("max")]
    ends = last.groupby(["setting", "runs"], sort=False)["value"]
    told = "; ".join(f"{setting}, {name} {each.mean():.3f}" for (setting, name), each in ends)
    return chart.properties(
        title=alt.Title(
            "True labels, random labels, and a learning rate that stays",
            subtitle="Similarity with the epoch before; band: 95 % interval over seeds.",
        ),
        description=f"Mean similarity by kind of runs over epochs. Pairs by paths, last epoch: {told}.",
    )


def franken(table: pd.DataFrame, *, prefix: str = "franken") -> Chart:
    """Loss of the followed training images along today's paths and along yesterday's; a menu of runs.

    Args:
        table: A tidy table of experiment ``"path_networks"`` or ``"path_deep"``.
        prefix: Of the names of its parameters.
    """
    rows = named(table)
    rows = rows[rows["epoch"] >= 1].assign(subject=lambda each: each["setting"] + ", " + each["runs"])
    kinds = {"along today's paths": "paths/own:loss", "along yesterday's paths": "paths/before:loss"}
    values = pd.concat([rows[["subject", "seed", "epoch"]].assign(of=name, value=rows[c]) for name, c in kinds.items()])
    chart = over_epochs(values, by="of", title="loss, in nats", prefix=prefix, menus={"subject": "runs"}, least=0.0)
    difference = rows["paths/own:loss"] - rows["paths/before:loss"]
    early = difference[rows["epoch"] <= 3].groupby(rows["subject"], sort=False).mean()
    told = "; ".join(f"{name} {value:+.3f}" for name, value in early.items())
    return chart.properties(
        title=alt.Title(
            "Today's weights along today's and yesterday's paths",
            subtitle="128 training images; band: 95 % interval over seeds.",
        ),
        description=f"Loss against epoch along two paths. Today's minus yesterday's, mean of epochs 1 to 3: {told}.",
    )


def unseen(table: pd.DataFrame) -> Chart:
    """Loss along today's paths minus that along yesterday's, of training images and of images never seen.

    Args:
        table: A tidy table of experiment ``"path_unseen"``.
    """
    rows = named(table[table["epoch"] >= 1])
    kinds = {"training images": "trained", "images never seen": "unseen"}
    values = pd.concat(
        [
            rows[["setting", "seed", "epoch"]].assign(
                of=name, value=rows[f"{kind}/own:loss"] - rows[f"{kind}/before:loss"]
            )
            for name, kind in kinds.items()
        ]
    )
    chart = over_epochs(
        values, by="of", title="loss today − yesterday, in nats", prefix="unseen", menus={"setting": "runs"}
    )
    means = values.groupby(["setting", "of"], sort=False)["value"]
    told = "; ".join(f"{setting}, {key} {each.mean():+.3f}" for (setting, key), each in means)
    return chart.properties(
        title=alt.Title(
            "The same for images that were never trained on",
            subtitle="Above 0, yesterday's paths fit better. Band: 95 % interval over seeds.",
        ),
        description=f"Difference of the losses along two paths over epochs. Mean: {told}.",
    )


def isolation(table: pd.DataFrame) -> Chart:
    """Correlation of an image's update in isolation with the whole network, and of two images' updates, over epochs.

    Args:
        table: A tidy table of experiment ``"path_networks"``.
    """
    rows = named(table)
    rows = rows[rows["isolation/mean"].notna()].assign(runs=lambda each: each["runs"] + each["size"])
    kinds = {"with the whole network": "isolation/mean", "of two images": "isolation/between"}
    values = pd.concat([rows[["runs", "seed", "epoch"]].assign(of=name, value=rows[c]) for name, c in kinds.items()])
    chart = over_epochs(values, by="of", title="correlation", prefix="alone", menus={"runs": "runs"})
    means = values.groupby(["of", "runs"], sort=False)["value"]
    told = "; ".join(f"{name}, {runs} {each.mean():.2f}" for (name, runs), each in means)
    return chart.properties(
        title=alt.Title(
            "One image's update as a network of its own",
            subtitle="Correlation of outputs at 32 test images; mean over 8 images; band: 95 % interval.",
        ),
        description=f"Correlation of functions in isolation over epochs. Mean over epochs: {told}.",
    )
