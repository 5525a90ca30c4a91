"""Tables that a reader sees: claims with their verdicts, what has been run, and the claims of all papers together."""

from __future__ import annotations

import html
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
from IPython.display import HTML

from gendyn_lite.charts.figure import PALETTE, coded
from gendyn_lite.charts.parts import Chart, layered, told

STYLE = (
    "<style>.gendyn-wide{overflow-x:auto}.gendyn-wide table{border-collapse:collapse;text-align:left}"
    ".gendyn-wide th,.gendyn-wide td{text-align:left;vertical-align:top;padding:.35rem .6rem;font-size:.9rem;"
    "border-bottom:1px solid #8886}.gendyn-wide tbody th[scope=row]{font-weight:400}"
    ".gendyn-wide caption{caption-side:bottom;text-align:left;font-size:.85rem;opacity:.85;padding:.4rem 0}"
    # On a phone a row becomes a card: each cell under the name of its column.
    "@media(max-width:40rem){.gendyn-wide tbody,.gendyn-wide tr,.gendyn-wide th,.gendyn-wide td,"
    ".gendyn-wide caption{display:block}.gendyn-wide thead{position:absolute;clip-path:inset(50%)}"
    ".gendyn-wide th,.gendyn-wide td{border:0;padding:.1rem .3rem}.gendyn-wide tbody th[scope=row]{font-weight:600}"
    ".gendyn-wide table{display:flex;flex-direction:column}.gendyn-wide caption{order:1}"
    ".gendyn-wide tr{border-bottom:1px solid #8886;padding:.45rem 0}"
    ".gendyn-wide td[data-label]::before{content:attr(data-label) ': ';font-weight:600}}</style>"
)
# A sign beside the word: a verdict must not depend on colour.
SIGNS = {"holds": "✓", "weaker": "≈", "not seen": "✗", "not testable at this size": "–"}
COLOURS = {"holds": PALETTE[3], "weaker": PALETTE[1], "not seen": PALETTE[4], "not testable at this size": PALETTE[5]}


def claims_table(claims: pd.DataFrame, *, caption: str) -> HTML:
    """The claims as a table, grouped by subject: the paper's value, ours with its interval, the verdict.

    Args:
        claims: A table of `gendyn_lite.claims`.
        caption: What the table shows and where its numbers come from.
    """
    rows: list[Sequence[str] | str] = []
    for subject, own in claims.groupby("subject", sort=False):
        rows.append(html.escape(str(subject)))
        for row in own.to_dict("records"):
            effect = "–" if math.isnan(row["effect"]) else f"{row['effect']:+.3f}"
            seeds = "1 seed" if row["n_seeds"] == 1 else f"{row['n_seeds']} seeds"
            rows.append([html.escape(row["statement"]), *_values(row, seeds), effect, _verdict(row)])
    return html_table(("Claim", "Paper", "Ours (95 % interval)", "Effect", "Verdict"), rows, caption=caption)


def runs_table(overview: pd.DataFrame, *, caption: str) -> HTML:
    """What has been run: a table of `gendyn_lite.results.overview`."""
    return plain_table(list(map(str, overview)), overview.itertuples(index=False), caption=caption)


def plain_table(heads: Sequence[str], rows: Iterable[Iterable[object]], *, caption: str, label: str = "") -> HTML:
    """A table of plain values: text as it is, numbers with three digits.

    Args:
        heads: The names of the columns.
        rows: The values of each row.
        caption: What the table shows and where its numbers come from.
        label: As for `html_table`.
    """
    cells = [[html.escape(_plain(value)) for value in row] for row in rows]
    return html_table(heads, cells, caption=caption, label=label)


def _plain(value: object) -> str:
    if isinstance(value, float):
        return three_digits(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str] | str], *, caption: str, label: str = "") -> HTML:
    """A table whose cells are HTML already; a narrow screen shows each row as a card.

    The roles are written out, since cards would lose them, and each cell knows its column's name.

    Args:
        heads: The names of the columns.
        rows: The cells of each row, the first of which says what the row is about; a string is a heading over the rows
            below it.
        caption: What the table shows and where its numbers come from.
        label: What a screen reader calls the table, where its caption is not its own on the page; else the caption.
    """
    head = "".join(f'<th scope="col" role="columnheader">{html.escape(name)}</th>' for name in heads)
    body = ""
    for row in rows:
        if isinstance(row, str):
            body += f'<tr role="row"><th scope="rowgroup" role="rowheader" colspan="{len(heads)}">{row}</th></tr>'
            continue
        named = zip(heads[1:], row[1:], strict=True)
        cells = (f'<td role="cell" data-label="{html.escape(name)}">{cell}</td>' for name, cell in named)
        body += f'<tr role="row"><th scope="row" role="rowheader">{row[0]}</th>{"".join(cells)}</tr>'
    plain = (label or caption).replace("`", "")
    return HTML(
        f'<div class="gendyn-wide" role="region" tabindex="0" aria-label="{html.escape(plain)}">{STYLE}'
        f'<table role="table"><caption>{coded(caption)}</caption>'
        f'<thead><tr role="row">{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def two_lines(text: str, below: str) -> str:
    """A cell with a text, and another in small letters below it.

    >>> two_lines("0.9", "Fig. 1 & 2")
    '0.9<br><small>Fig. 1 &amp; 2</small>'
    """
    return f"{html.escape(text)}<br><small>{html.escape(below)}</small>"


def _values(row: Mapping[Hashable, Any], seeds: str) -> tuple[str, str]:
    """The cells of a claim's two values: the paper's with its source, ours with its interval and the seeds."""
    ours = interval(row["value"], row["low"], row["high"])
    return two_lines(row["paper_value"], row["source"]), two_lines(ours, seeds)


def _verdict(row: Mapping[Hashable, Any]) -> str:
    """The cell of a claim's verdict, with its sign, and below it what it was held to."""
    verdict, criterion = row["verdict"], html.escape(row["criterion"])
    return f"<strong>{SIGNS[verdict]}&nbsp;{verdict}</strong><br><small>holds if {criterion}</small>"


def interval(value: float, low: float, high: float) -> str:
    """A mean with its interval, three digits.

    >>> interval(0.5, 0.25, 0.75), interval(0.5, math.nan, math.nan), interval(math.nan, math.nan, math.nan)
    ('0.500 (0.250 to 0.750)', '0.500 (no interval)', 'not run')
    """
    if math.isnan(value):
        return "not run"
    return f"{value:.3f} " + ("(no interval)" if math.isnan(low) else f"({low:.3f} to {high:.3f})")


def three_digits(value: float) -> str:
    """A number with three significant digits, thousands with commas.

    >>> three_digits(184984.6), three_digits(0.7712)
    ('185,000', '0.771')
    """
    return f"{float(f'{value:.3g}'):,.10g}"


def complexity_table(account: pd.DataFrame, *, caption: str) -> HTML:
    """Complexity measures on true and on random labels: value, bound, the gap it should bound, whether it separates.

    Args:
        account: Rows of `gendyn_lite.measures.capacity.label_account`.
        caption: What the table shows and where its numbers come from.
    """
    heads = ("Measure", "Value (true / random)", "Bound of the gap", "Gap seen (true / random)", "Tells them apart?")
    rows = [
        (
            html.escape(row["measure"]),
            *(_pair(row[f"{name}_true"], row[f"{name}_random"]) for name in ("value", "bound", "gap")),
            f"<strong>{'yes' if row['separates'] else 'no'}</strong><br><small>{html.escape(row['why'])}</small>",
        )
        for row in account.to_dict("records")
    ]
    return html_table(heads, rows, caption=caption)


def _pair(true: float, random: float) -> str:
    """Two numbers, three digits; one where they are equal.

    >>> _pair(1234567.0, 1234567.0), _pair(0.093, 0.9)
    ('1,230,000', '0.093 / 0.9')
    """
    texts = [three_digits(value) for value in (true, random)]
    return texts[0] if texts[0] == texts[1] else " / ".join(texts)


def verdicts(claims: pd.DataFrame) -> Chart:
    """How many tests of each paper's claims came to which verdict; the legend picks a verdict.

    Args:
        claims: A table of `gendyn_lite.chapters.what_holds.all_claims`.
    """
    counts = claims.groupby(["paper", "verdict"], sort=False).size().rename("tests").reset_index()
    names = [f"{sign} {verdict}" for verdict, sign in SIGNS.items()]
    counts["verdict"] = counts["verdict"].map(dict(zip(SIGNS, names, strict=True)))
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
    words = told(counts, "{paper}, {verdict}: {tests}")
    about = f"Number of verdicts by paper. {words}."
    return layered([bars], "Verdicts by paper", "Pick a verdict in the legend.", about, height=44 * len(papers))


def papers_tables(claims: pd.DataFrame, statements: pd.DataFrame, *, caption: str) -> HTML:
    """Under each paper's name its claims, and folded away every test of them.

    Args:
        claims: A table of `gendyn_lite.chapters.what_holds.all_claims`.
        statements: Its `gendyn_lite.claims.sections.statements`.
        caption: What the tables show.
    """
    parts = []
    for paper, rows in statements.groupby("paper", sort=False):
        tests = claims[claims["paper"] == paper]
        words = f"Every test: values, intervals, seeds ({len(tests)})"
        parts += [
            f"<h3>{html.escape(str(paper))}</h3>",
            str(_statements_table(rows, caption=f"{paper}. {caption}").data),
            f"<details><summary>{words}</summary>{_tests_table(tests, caption=f'{paper}. {words}.').data}</details>",
        ]
    return HTML("".join(parts))


def _statements_table(statements: pd.DataFrame, *, caption: str) -> HTML:
    """Each claim of a paper: on how many networks and data sets it holds, and where to find its figure."""
    heads = ("Claim", "Holds", "Otherwise", "Holds, corrected", "Figure")
    rows = [
        (
            two_lines(row["statement"], row["source"]),
            f"<strong>{SIGNS['holds'] if row['holds'] else '–'}&nbsp;{_of(row, 'holds')}</strong>",
            _otherwise(row),
            _of(row, "certain"),
            f'<a href="{row["chapter"]}.html#{row["section"]}">chapter&nbsp;{row["chapter"][:2].lstrip("0")}</a>',
        )
        for row in statements.to_dict("records")
    ]
    return html_table(heads, rows, caption=caption)


def _tests_table(claims: pd.DataFrame, *, caption: str) -> HTML:
    """Each test of a claim: the paper's value, ours with its interval, seeds, verdict, p value after correction."""
    heads = ("Claim, and on what", "Paper", "Ours (95 % interval)", "Verdict", "p, corrected")
    rows = [
        (
            two_lines(row["statement"], row["subject"]),
            *_values(row, f"{row['n_seeds']} seed(s)"),
            _verdict(row),
            _p_value(row["p_holm"]),
        )
        for row in claims.to_dict("records")
    ]
    return html_table(heads, rows, caption=caption)


def _p_value(value: float) -> str:
    """A p value with two digits; a small one only as such.

    >>> _p_value(0.0123), _p_value(1e-9), _p_value(math.nan)
    ('0.012', '&lt;&nbsp;0.0001', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.2g}" if value >= 1e-4 else "&lt;&nbsp;0.0001"


def _of(row: Mapping[Hashable, Any], name: str) -> str:
    return f"{row[name]}&nbsp;of&nbsp;{row['subjects']}"


def _otherwise(row: Mapping[Hashable, Any]) -> str:
    """The verdicts that are not "holds", counted.

    >>> _otherwise({"weaker": 2, "not seen": 0, "not testable at this size": 1})
    '≈ 2 weaker<br>– 1 not testable at this size'
    """
    return "<br>".join(f"{SIGNS[name]} {row[name]} {name}" for name in SIGNS if name != "holds" and row[name]) or "–"
