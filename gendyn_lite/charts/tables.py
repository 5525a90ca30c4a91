"""Tables that a reader sees: claims with their verdicts, and what has been run."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

import pandas as pd
from IPython.display import HTML

from gendyn_lite.charts.figure import coded

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
# A sign beside the word: a verdict must not hang on colour.
SIGNS = {"holds": "✓", "weaker": "≈", "not seen": "✗", "not testable at this size": "–"}


def claims_table(claims: pd.DataFrame, *, caption: str) -> HTML:
    """The claims as a table, grouped by subject: the paper's value, ours with its interval, the verdict.

    Args:
        claims: A table of `gendyn_lite.claims`.
        caption: What the table shows and where its numbers come from.
    """
    heads = ("Claim", "Paper", "Ours (95 % interval)", "Effect", "Verdict")
    body = []
    for subject, rows in claims.groupby("subject", sort=False):
        title = f'<th scope="rowgroup" role="rowheader" colspan="{len(heads)}">{html.escape(str(subject))}</th>'
        body.append(f'<tr role="row">{title}</tr>')
        body += [_row(heads, _claim_cells(row)) for _, row in rows.iterrows()]
    return _table(heads, body, caption)


def runs_table(overview: pd.DataFrame, *, caption: str) -> HTML:
    """What has been run: a table of `gendyn_lite.results.overview`."""
    return plain_table([str(name) for name in overview.columns], overview.itertuples(index=False), caption=caption)


def plain_table(heads: Sequence[str], rows: Iterable[Iterable[object]], *, caption: str) -> HTML:
    """A table of plain values: text as it is, numbers with three digits.

    Args:
        heads: The names of the columns.
        rows: The values of each row.
        caption: What the table shows and where its numbers come from.
    """
    return _table(heads, [_row(heads, [html.escape(_plain(value)) for value in row]) for row in rows], caption)


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str) -> HTML:
    """A table whose cells are HTML already, the first of a row saying what the row is about."""
    return _table(heads, [_row(heads, cells) for cells in rows], caption)


def _claim_cells(row: pd.Series) -> list[str]:
    seeds = "1 seed" if row["n_seeds"] == 1 else f"{row['n_seeds']} seeds"
    return [
        html.escape(row["statement"]),
        two_lines(row["paper_value"], row["source"]),
        two_lines(interval(row["value"], row["low"], row["high"]), seeds),
        "–" if math.isnan(row["effect"]) else f"{row['effect']:+.3f}",
        verdict_cell(row["verdict"], row["criterion"]),
    ]


def two_lines(text: str, below: str) -> str:
    """A cell with a text, and another in small letters below it.

    >>> two_lines("0.9", "Fig. 1 & 2")
    '0.9<br><small>Fig. 1 &amp; 2</small>'
    """
    return f"{html.escape(text)}<br><small>{html.escape(below)}</small>"


def verdict_cell(verdict: str, criterion: str) -> str:
    """A cell with a verdict, its sign, and below it what it was held to."""
    return f"<strong>{SIGNS[verdict]}&nbsp;{verdict}</strong><br><small>holds if {html.escape(criterion)}</small>"


def interval(value: float, low: float, high: float) -> str:
    """A mean with its interval, three digits.

    >>> interval(0.5, 0.25, 0.75), interval(0.5, math.nan, math.nan), interval(math.nan, math.nan, math.nan)
    ('0.500 (0.250 to 0.750)', '0.500 (no interval)', 'not run')
    """
    if math.isnan(value):
        return "not run"
    return f"{value:.3f} " + ("(no interval)" if math.isnan(low) else f"({low:.3f} to {high:.3f})")


def _plain(value: object) -> str:
    if isinstance(value, float):
        return three_digits(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _row(heads: Sequence[str], cells: Sequence[str]) -> str:
    """A row of HTML cells, the first of which says what the row is about; each knows its column's name for phones."""
    first = f'<th scope="row" role="rowheader">{cells[0]}</th>'
    named = zip(heads[1:], cells[1:], strict=True)
    rest = (f'<td role="cell" data-label="{html.escape(head)}">{cell}</td>' for head, cell in named)
    return f'<tr role="row">{first}{"".join(rest)}</tr>'


def _table(heads: Sequence[str], rows: list[str], caption: str) -> HTML:
    """A table that a narrow screen shows as cards; its roles are written out, since cards would lose them."""
    head = "".join(f'<th scope="col" role="columnheader">{html.escape(name)}</th>' for name in heads)
    plain = caption.replace("`", "")
    return HTML(
        f'<div class="gendyn-wide" role="region" tabindex="0" aria-label="{html.escape(plain)}">{STYLE}'
        f'<table role="table"><caption>{coded(caption)}</caption>'
        f'<thead><tr role="row">{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def complexity_table(account: pd.DataFrame, *, caption: str) -> HTML:
    """Complexity measures on true and on random labels: value, bound, the gap it should bound, whether it separates.

    Args:
        account: Rows of `gendyn_lite.measures.capacity.label_account`.
        caption: What the table shows and where its numbers come from.
    """
    heads = ("Measure", "Value (true / random)", "Bound of the gap", "Gap seen (true / random)", "Tells them apart?")
    rows = []
    for row in account.to_dict("records"):
        verdict = "yes" if row["separates"] else "no"
        cells = [
            html.escape(str(row["measure"])),
            _pair(row["value_true"], row["value_random"]),
            _pair(row["bound_true"], row["bound_random"]),
            _pair(row["gap_true"], row["gap_random"]),
            f"<strong>{verdict}</strong><br><small>{html.escape(str(row['why']))}</small>",
        ]
        rows.append(_row(heads, cells))
    return _table(heads, rows, caption)


def _pair(true: float, random: float) -> str:
    """Two numbers, three digits; one where they are equal.

    >>> _pair(1234567.0, 1234567.0), _pair(0.093, 0.9)
    ('1,230,000', '0.093 / 0.9')
    """
    texts = [three_digits(value) for value in (true, random)]
    return texts[0] if texts[0] == texts[1] else " / ".join(texts)


def three_digits(value: float) -> str:
    """A number with three significant digits, thousands with commas.

    >>> three_digits(184984.6), three_digits(0.7712)
    ('185,000', '0.771')
    """
    return f"{float(f'{value:.3g}'):,.10g}"
