"""Charts of 'Which lens?': networks by a measure and by test error, and how well every measure ranks them."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from gendyn_lite.chapters.which_lens import tables
from gendyn_lite.chapters.which_lens.tables import AXES, CHEAT, LENS, MEASURES, NOTHING, RIVAL, SETTINGS
from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.parts import Chart, chosen, interval_bars, layered, looks, menu, menus, of_runs, titled, told

STATISTICS = {
    "granulated": "networks that differ in one setting",
    "worst axis": "the setting where it is worst",
    "overall": "all networks",
    "partial": "all, labels and epochs held fixed",
    "better of two": "the better of two unseen networks",
    "better of two alike": "two unseen ones, same images and augmentation",
}
KINDS = {LENS: "a lens of this book", RIVAL: "a usual measure", CHEAT: "sees test labels", NOTHING: "sees no network"}
AXIS_NAMES = {name: name.replace("_", " ") for name in AXES} | {
    "augmented": "augmentation",
    "train_size": "images",
    "label_corruption": "random labels",
}
DIGITS, HEIGHT = 3, 17  # significant digits of a value; height of a measure's row, in pixels


def called(measure: str) -> str:
    """Return the name of a measure in charts.

    >>> called("within"), called("settings")
    ('stiffness within classes', 'regression on the settings')
    """
    names = {SETTINGS: "regression on the settings", LENS: "the best lens elsewhere", RIVAL: "the best usual measure"}
    return MEASURES[measure].label if measure in MEASURES else names[measure]


def _with_subject(rows: pd.DataFrame) -> pd.DataFrame:
    """Name the networks of each row (family and data) in the column ``subject``; fully connected ones come first."""
    rows = rows.sort_values("family", ascending=False, kind="stable")
    return rows.assign(subject=rows["family"] + " on " + rows["data"])


def scatter(runs: pd.DataFrame) -> alt.Chart:
    """Draw each network by a measure and by its test error or gap, coloured by a setting; menus choose all four.

    Args:
        runs: Runs of experiment ``"which_lens"``; those that did not reach the training loss are left out.
    """
    each = tables.networks(runs)
    rows = _with_subject(each[each["reached"]])
    known = {name: called(name) for name in MEASURES if name in rows and rows[name].notna().any()}
    kept = [*AXES, *tables.TARGETS]
    table = rows[["subject", "seed", *kept]].rename(columns=AXIS_NAMES | tables.TARGETS)
    values = rows[list(known)].astype(float).map(lambda value: float(f"{value:.{DIGITS}g}")).rename(columns=known)
    table = pd.concat([table.round(4), values], axis=1).reset_index(drop=True)
    varied = [name for name in AXIS_NAMES.values() if table[name].nunique() > 1]
    table[varied] = table[varied].map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))
    lens = menu("lens_measure", known.values(), "measure", value=called("within"))
    target = menu("lens_target", tables.TARGETS.values(), "against")
    labels = AXIS_NAMES["label_corruption"]
    axis = menu("lens_axis", varied, "colour by", value=labels if labels in varied else "")
    base = chosen(table, {"subject": menu("lens_subject", table["subject"], "networks")}).add_params(lens, target, axis)
    base = base.transform_calculate(x="datum[lens_measure]", y="datum[lens_target]", setting="datum[lens_axis]")
    about = [alt.Tooltip(f"{name}:N") for name in varied] + [alt.Tooltip(f"{name}:Q") for name in ("x", "y")]
    around: Any = {"scale": alt.Scale(zero=False)}
    colour = alt.Color("setting:N", title=None, scale=alt.Scale(range=list(PALETTE)))
    points = base.transform_filter("isValid(datum.x)").mark_circle(size=30, opacity=0.7)
    points = points.encode(alt.X("x:Q", title="measure", **around), alt.Y("y:Q", title="test", **around), colour)
    counts = told(table.groupby("subject", sort=False).size().to_frame("n"), "{n} of {subject}")
    drawn = titled(
        points.encode(tooltip=about),
        "Each network by a measure and its test error",
        "A point is a network, trained to the same training loss.",
        f"Scatter chart of a measure of each network against its test error or generalization gap: {counts}.",
    )
    return of_runs(drawn, runs, rows)


def rankings(judged: pd.DataFrame) -> Chart:
    """Draw how well every measure orders the networks; menus choose the networks, the labels and the statistic.

    Args:
        judged: A table of `gendyn_lite.chapters.which_lens.judging.judged`.
    """
    rows = _with_subject(judged[judged["statistic"].isin(STATISTICS)])
    rows["how"], rows["measure"] = rows["statistic"].map(STATISTICS), rows["measure"].map(called)
    rows = rows.rename(columns={"labels": "trained_on"})
    table = rows[["subject", "trained_on", "how", "measure", "kind", "value", "low", "high", "n"]].round(3)
    table["kind"] = [KINDS.get(kind, KINDS[NOTHING]) for kind in table["kind"]]
    first = {"trained_on": "true labels", "how": STATISTICS["granulated"]}
    choices = menus(table, "rank", {"subject": "networks", "trained_on": "labels", "how": "judged on"}, **first)
    colour, _, shape = looks("kind", list(KINDS.values()), title=None, colours=PALETTE, legend=alt.Legend(columns=2))
    order = alt.EncodingSortField(field="value", order="descending")
    y = alt.Y("measure:N", title=None, sort=order, axis=alt.Axis(labelLimit=160, grid=True))
    x = alt.X("value:Q", title="agreement", scale=alt.Scale(zero=True))
    base = chosen(table, choices)
    tip = ["measure:N", "value:Q", "low:Q", "high:Q", "n:Q"]
    points = base.mark_point(size=45).encode(x=x, y=y, color=colour, shape=shape, tooltip=tip)
    bars = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=colour)
    best = rows[(rows["statistic"] == "granulated") & (rows["trained_on"] == "true labels") & (rows["kind"] == LENS)]
    best = best.sort_values("value", ascending=False).groupby("subject", sort=False).head(1)
    return layered(
        [bars, points],
        "How every measure orders the networks",
        "Mean and 95 % interval over settings; 0 is chance.",
        "Measures in the order of their agreement with test accuracy, with intervals. The best lens on networks that "
        f"differ in one setting: {told(best, '{subject}, {measure}: {value:.2f}')}.",
        height=HEIGHT * table["measure"].nunique(),
    )


def along_axes(judged: pd.DataFrame) -> Chart:
    """Draw along which settings each measure points the right way; a menu chooses the networks.

    Args:
        judged: A table of `gendyn_lite.chapters.which_lens.judging.judged`.
    """
    rows = _with_subject(judged[judged["statistic"].isin(AXES) & (judged["labels"] == "true labels")])
    rows["setting"], rows["measure"] = rows["statistic"].map(AXIS_NAMES), rows["measure"].map(called)
    table = rows[["subject", "setting", "measure", "value", "low", "high", "n"]].round(2)
    base = chosen(table, menus(table, "axis", {"subject": "networks"}))
    x = alt.X("setting:N", title=None, sort=list(AXIS_NAMES.values()), axis=alt.Axis(labelAngle=-40))
    y = alt.Y("measure:N", title=None, sort=None, axis=alt.Axis(labelLimit=160))
    colour = alt.Color("value:Q", title="agreement", scale=alt.Scale(scheme="purpleorange", domain=[-1, 1]))
    cells = base.mark_rect().encode(x=x, y=y, color=colour, tooltip=["measure:N", "setting:N", "value:Q", "n:Q"])
    share = (table["value"] < 0).groupby(table["subject"], sort=False).mean().to_frame("wrong")
    return layered(
        [cells],
        "Where each measure points the right way",
        "True labels; pairs of networks that differ in one setting. Below 0: the wrong way.",
        "Matrix of the agreement of each measure with test accuracy along each setting. Cells below zero: "
        f"{told(share, '{subject}: {wrong:.0%}')}.",
        height=HEIGHT * table["measure"].nunique(),
    )


def cases(judged: pd.DataFrame) -> Chart:
    """Draw in which cases each measure tells networks on the same images apart; a menu chooses the networks.

    Args:
        judged: A table of `gendyn_lite.chapters.which_lens.judging.in_each_case`.
    """
    rows = _with_subject(judged[judged["kind"].isin([LENS, RIVAL]) | judged["measure"].isin([tables.WIDE, SETTINGS])])
    about = zip(rows["train_size"], rows["augmented"], rows["label_corruption"], strict=True)
    rows["case"] = [_case(*each) for each in about]
    rows["measure"] = rows["measure"].map(called)
    rows[["value", "low", "high"]] = (100 * rows[["value", "low", "high"]]).round()
    least = rows.groupby("measure", sort=False)["value"].min()
    table = rows[["subject", "case", "measure", "value", "low", "high", "n"]]
    base = chosen(table, menus(table, "case", {"subject": "networks"}))
    x = alt.X("case:N", title="training images", sort=None, axis=alt.Axis(labelAngle=-40))
    y = alt.Y("measure:N", title=None, sort=[*least.sort_values(ascending=False).index], axis=alt.Axis(labelLimit=160))
    scale = alt.Scale(scheme="purpleorange", domain=[0, 100])
    colour = alt.Color("value:Q", title="right of 100", scale=scale)
    sure = alt.condition("datum.low > 50 || datum.high < 50", alt.value(1), alt.value(0.35))
    tip = ["measure:N", "case:N", "value:Q", "low:Q", "high:Q", "n:Q"]
    lowest = rows.groupby(["subject", "measure"], sort=False)["value"].min().to_frame("least").reset_index()
    lowest = lowest.sort_values("least", ascending=False, kind="stable").groupby("subject", sort=False).head(1)
    return layered(
        [base.mark_rect().encode(x=x, y=y, color=colour, opacity=sure, tooltip=tip)],
        "Which of two networks on the same images?",
        "Right choices of 100, in the source's direction. Pale: perhaps no better than a coin.",
        "Matrix of the share of pairs that each measure orders rightly, by amount of images, augmentation and random "
        "labels. The measure with the best worst case: "
        f"{told(lowest, '{subject}, {measure}: {least:.0f} of 100')}.",
        height=HEIGHT * table["measure"].nunique(),
    )


def _case(images: int, augmented: bool, corrupted: float) -> str:
    """Name what networks on the same images share: number of images, augmentation, share of random labels.

    >>> _case(1000, True, 0.0), _case(1000, False, 0.25)
    ('1,000 augmented', '1,000, 25 % random')
    """
    more = [" augmented"] * augmented + [f", {corrupted:.0%} random".replace("%", " %")] * (corrupted > 0)
    return "".join([f"{images:,}", *more])


def costs(judged: pd.DataFrame, each: pd.DataFrame) -> Chart:
    """Draw what each measure costs (processor time) against what it is worth (right choices between two networks).

    Args:
        judged: A table of `gendyn_lite.chapters.which_lens.judging.judged`.
        each: A table of `gendyn_lite.chapters.which_lens.tables.networks`.
    """
    rows = judged[(judged["statistic"] == "better of two") & (judged["labels"] == "true labels")]
    rows = _with_subject(rows[rows["measure"].isin([name for name, own in MEASURES.items() if own.seconds])])
    took = each.groupby(["data", "family"]).median(numeric_only=True).round(4).clip(lower=1e-4).to_dict("index")
    about = zip(rows["data"], rows["family"], rows["measure"], strict=True)
    rows["seconds"] = [took[data, family][f"{MEASURES[name].seconds}_seconds"] for data, family, name in about]
    rows["measure"] = rows["measure"].map(called)
    table = rows[["subject", "measure", "kind", "seconds", "value", "low", "high"]].round(4)
    table["kind"] = table["kind"].map(KINDS)
    base = chosen(table, menus(table, "cost", {"subject": "networks"}))
    shown = [KINDS[kind] for kind in (LENS, RIVAL, CHEAT)]
    colour, _, shape = looks("kind", shown, title=None, colours=PALETTE, legend=alt.Legend(columns=2))
    x = alt.X("seconds:Q", title="seconds on one core, per network", scale=alt.Scale(type="log"))
    y = alt.Y("value:Q", title="right choices beyond one half")
    base = base.encode(x=x, y=y, color=colour)
    tip = ["measure:N", "seconds:Q", "value:Q", "low:Q", "high:Q"]
    quick = rows.groupby("subject", sort=False)["seconds"].agg(["min", "max"])
    return layered(
        [interval_bars(base), base.mark_point(size=45).encode(shape=shape, tooltip=tip)],
        "What a measure costs and what it is worth",
        "Median over networks, on one core. Measures from one pass share its time.",
        "Share of right choices beyond one half against the processor time of each measure, "
        f"{told(quick, '{subject}: from {min:.2g} to {max:.2g} seconds')}.",
    )
