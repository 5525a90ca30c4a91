"""The claims of all papers in one chart and one table."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

import altair as alt
import pandas as pd
from IPython.display import HTML

from gendyn_lite.charts.tables import SIGNS, html_table, interval, two_lines, verdict_cell
from gendyn_lite.charts.theme import PALETTE

COLOURS = {"holds": PALETTE[3], "weaker": PALETTE[1], "not seen": PALETTE[4], "not testable at this size": PALETTE[5]}


def verdicts(claims: pd.DataFrame) -> alt.LayerChart | alt.FacetChart:
    """How many tests of each paper's claims came to which verdict; a menu picks a paper, bars show its claims.

    Args:
        claims: A table of `gendyn_lite.chapters.what_holds.all_claims`.
    """
    counts = claims.groupby(["paper", "verdict"], sort=False).size().rename("tests").reset_index()
    names = [f"{SIGNS[verdict]} {verdict}" for verdict in COLOURS]
    counts["verdict"] = counts["verdict"].map(dict(zip(COLOURS, names, strict=True)))
    counts["order"] = counts["verdict"].map(names.index)
    colour = alt.Color("verdict:N", title=None, scale=alt.Scale(domain=names, range=list(COLOURS.values())), sort=names)
    picked = alt.selection_point(name="picked", fields=["verdict"], bind="legend")
    papers = list(claims["paper"].unique())
    base = alt.Chart(counts).encode(
        x=alt.X("tests:Q", title="tests of claims", stack="zero"),
        y=alt.Y("paper:N", title=None, sort=papers, axis=alt.Axis(labelLimit=190)),
        order="order:Q",
        opacity=alt.condition(picked, alt.value(1.0), alt.value(0.15)),
        tooltip=["paper:N", "verdict:N", "tests:Q"],
    )
    bars = base.mark_bar(size=24).encode(color=colour).add_params(picked)
    words = "; ".join(f"{row['paper']}, {row['verdict']}: {row['tests']}" for row in counts.to_dict("records"))
    return alt.layer(bars).properties(
        height=44 * len(papers),
        title=alt.Title("Verdicts by paper", subtitle="Pick a verdict in the legend."),
        description=f"Number of verdicts by paper. {words}.",
    )


def statements_table(statements: pd.DataFrame, *, caption: str) -> HTML:
    """Each claim of a paper: on how many networks and data sets it holds, and where its figure stands.

    Args:
        statements: Rows of `gendyn_lite.chapters.what_holds.statements`.
        caption: What the table shows and where its numbers come from.
    """
    heads = ("Claim", "Holds", "Otherwise", "Holds, corrected", "Figure")
    rows = [
        (
            two_lines(row["statement"], row["source"]),
            f"<strong>{SIGNS['holds'] if row['holds'] else '–'}&nbsp;{_of(row['holds'], row['subjects'])}</strong>",
            _otherwise(row),
            _of(row["certain"], row["subjects"]),
            f'<a href="{row["chapter"]}.html#{row["section"]}">chapter&nbsp;{row["chapter"][:2].lstrip("0")}</a>',
        )
        for row in statements.to_dict("records")
    ]
    return html_table(heads, rows, caption=caption)


def tests_table(claims: pd.DataFrame, *, caption: str) -> HTML:
    """Each test of a claim: the paper's value, ours with its interval, seeds, verdict, p value after correction.

    Args:
        claims: Rows of `gendyn_lite.chapters.what_holds.all_claims`.
        caption: What the table shows and where its numbers come from.
    """
    heads = ("Claim, and on what", "Paper", "Ours (95 % interval)", "Verdict", "p, corrected")
    rows = [
        (
            two_lines(row["statement"], row["subject"]),
            two_lines(row["paper_value"], row["source"]),
            two_lines(interval(row["value"], row["low"], row["high"]), f"{row['n_seeds']} seed(s)"),
            verdict_cell(row["verdict"], row["criterion"]),
            _p_value(row["p_holm"]),
        )
        for row in claims.to_dict("records")
    ]
    return html_table(heads, rows, caption=caption)


def papers_tables(claims: pd.DataFrame, statements: pd.DataFrame, *, caption: str) -> HTML:
    """Under each paper's name its claims, and folded away every test of them.

    Args:
        claims: A table of `gendyn_lite.chapters.what_holds.all_claims`.
        statements: Its `gendyn_lite.chapters.what_holds.statements`.
        caption: What the tables show.
    """
    parts = []
    for paper, rows in statements.groupby("paper", sort=False):
        tests = claims[claims["paper"] == paper]
        words = f"Every test: values, intervals, seeds ({len(tests)})"
        parts += [
            f"<h3>{html.escape(str(paper))}</h3>",
            str(statements_table(rows, caption=f"{paper}. {caption}").data),
            f"<details><summary>{words}</summary>{tests_table(tests, caption=f'{paper}. {words}.').data}</details>",
        ]
    return HTML("".join(parts))


def _p_value(value: float) -> str:
    """A p value with two digits; a small one only as such.

    >>> _p_value(0.0123), _p_value(1e-9), _p_value(math.nan)
    ('0.012', '&lt;&nbsp;0.0001', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.2g}" if value >= 1e-4 else "&lt;&nbsp;0.0001"


def _of(count: int, total: int) -> str:
    return f"{count}&nbsp;of&nbsp;{total}"


def _otherwise(row: Mapping[Any, Any]) -> str:
    """The verdicts that are not "holds", counted.

    >>> _otherwise({"weaker": 2, "not seen": 0, "not testable at this size": 1})
    '≈ 2 weaker<br>– 1 not testable at this size'
    """
    return "<br>".join(f"{SIGNS[name]} {row[name]} {name}" for name in SIGNS if name != "holds" and row[name]) or "–"
