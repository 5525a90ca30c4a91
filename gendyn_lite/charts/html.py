"""Tables as HTML for phones and screen readers, and the formatting of their numbers."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

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
# For tables of many claims: the claim's column is the widest, so that rows have two lines, and the caption is on top.
COMPACT = (
    "<style>h3:has(+.gendyn-claims){margin:1.2rem 0 .2rem;font-size:1.3rem}"
    ".gendyn-claims .gendyn-wide caption{caption-side:top;order:0;opacity:1}"
    ".gendyn-claims th small{font-weight:400;color:var(--pst-color-text-muted,inherit)}"
    "@media(min-width:40rem){.gendyn-claims table{width:100%}"
    ".gendyn-claims .gendyn-wide :is(th,td){line-height:1.3;padding:.2rem .4rem}"
    ".gendyn-claims thead th{width:16%}.gendyn-claims thead th:first-child{width:51%}}</style>"
)


def plain_table(heads: Sequence[str], rows: Iterable[Iterable[object]], *, caption: str, label: str = "") -> HTML:
    """Write a table of plain values; floats have three significant digits.

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
    """Write a table whose cells are HTML; on a narrow screen each row is shown as a card.

    Roles are explicit, because cards would lose them, and each cell carries the name of its column.

    Args:
        heads: The names of the columns.
        rows: The cells of each row; the first cell is the row's heading. A string is a heading of the rows below it.
        caption: What the table shows and where its numbers come from.
        label: The table's name for screen readers, if its caption occurs twice on the page; default: the caption.
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
    """Write a cell with a text, and a second one in small letters below it.

    >>> two_lines("0.9", "Fig. 1 & 2")
    '0.9<br><small>Fig. 1 &amp; 2</small>'
    """
    return f"{html.escape(text)}<br><small>{html.escape(below)}</small>"


def interval(value: float, low: float, high: float) -> str:
    """Format a mean with its interval, with three decimals.

    >>> interval(0.5, 0.25, 0.75), interval(0.5, math.nan, math.nan), interval(math.nan, math.nan, math.nan)
    ('0.500 (0.250 to 0.750)', '0.500 (no interval)', 'not run')
    """
    if math.isnan(value):
        return "not run"
    ends = "no interval" if math.isnan(low) else f"{signed(low)} to {signed(high)}"
    return f"{signed(value)} ({ends})"


def signed(value: float) -> str:
    """Format a number with three decimals and a true minus sign."""
    return f"{value:.3f}".replace("-", "−")


def three_digits(value: float) -> str:
    """Format a number with three significant digits, and with commas between thousands.

    >>> three_digits(184984.6), three_digits(0.7712)
    ('185,000', '0.771')
    """
    return f"{float(f'{value:.3g}'):,.10g}"
