"""A report as one HTML file that loads nothing from other hosts: text, charts, tables and pictures. No torch."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gendyn_lite.charts import figure
from gendyn_lite.charts.html import plain_table
from gendyn_lite.reports import drawing
from gendyn_lite.reports.among import Among

HEADINGS = {
    "fit": "What it has learned",
    "paths": "Paths: which units are on",
    "fisher": "Fisher information: what the loss depends on",
    "stiffness": "Stiffness: does a step on one image help another?",
    "intervals": "Generalization intervals: how far a class lasts",
}
MEANINGS = {
    "fit": "A network with enough weights can fit any labels, random ones too, so that training accuracy alone says "
    "nothing; the gap to the test images is what generalization means.",
    "paths": "Two images that switch the same units on are treated by the same linear function. Where the nearest "
    "image by path is of the same class more often than by chance, classes are told apart by which units are on.",
    "fisher": "The information of a weight is the mean of its squared gradients over the images. It goes to zero as "
    "the labels are fitted, and it is usually held by few of the weights.",
    "stiffness": "Above zero, a small step on one image lowers the loss of another too. What a network learns of a "
    "class is shared by its images where stiffness within classes is above that between them.",
    "intervals": "The image is moved along the line to another one of its class, and further, until the class that the "
    "network names changes. A long interval is a region in which the network says the same.",
}
AMONG = "Among the networks of the book"
ALIKE = (
    "This describes your network and is no verdict on it: the chapter 'Which lens?' shows what each of these measures "
    "tells of generalization, and along which settings it points the wrong way."
)
STYLE = """
:root{color-scheme:light dark}
body{font:1rem/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:56rem;margin:0 auto;padding:1rem 1.25rem 4rem}
h1{line-height:1.2;overflow-wrap:anywhere}h2{margin-top:2.5rem;border-bottom:1px solid #8886;padding-bottom:.2rem}
.note{font-size:.9rem;opacity:.85}.warn{border-left:4px solid #cc1830;padding:.4rem .8rem;font-weight:600}
.pictures{display:flex;flex-wrap:wrap;gap:1rem;padding:0;list-style:none}.pictures li{max-width:13rem;font-size:.85rem}
.pictures img{width:84px;height:84px;object-fit:contain;image-rendering:pixelated;margin-right:4px;background:#8882}
"""
# The page makes no request. Vega needs 'unsafe-eval', because it compiles expressions to functions.
POLICY = "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data:"


def page(
    about: Mapping[str, Any],
    lenses: Sequence[Mapping[str, Any]],
    pictures: Mapping[int, tuple[str, str]],
    among: Among | None = None,
) -> str:
    """Write the report as HTML.

    Args:
        about: ``model``, ``data``, ``warning`` (empty for none), and ``facts`` by name.
        lenses: The lenses, as `gendyn_lite.reports.lenses.Lens.as_dict` gives them.
        pictures: Number of an image → its picture as a data URI, and its label.
        among: The comparison with the published networks, if there is one.

    Returns:
        The page.
    """
    title = html.escape(f"{about['model']} on {about['data']}")
    warning = f'<p class="warn">{html.escape(about["warning"])}</p>' if about["warning"] else ""
    facts = _table(("About", "Value"), about["facts"].items(), "What was looked at")
    found = "".join(f"<li>{html.escape(lens['told'])}</li>" for lens in lenses if lens["told"])
    found = found or "<li>No lens could be computed on this network; the reasons are in the second table below.</li>"
    missing = [(HEADINGS[lens["name"]], lens["refused"]) for lens in lenses if lens["refused"]]
    failed = _table(("Lens", "Why"), missing, "What could not be computed, and why") if missing else ""
    body = "".join(_lens(lens, pictures) for lens in lenses if not lens["refused"])
    body += _among(among) if among else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{figure.style()}{STYLE}</style></head>\n<body><main><h1>{title}</h1>{warning}"
        f"<h2>In short</h2><ul>{found}</ul>{facts}{failed}{body}</main>\n"
        f"<script>{_inline(figure.vega())}</script>\n<script>{_inline(figure.script())}</script></body></html>\n"
    )


def _inline(script: str) -> str:
    """Escape a script, so that no string in it can end the script element."""
    return script.replace("</script", "<\\/script")


def _table(heads: Sequence[str], rows: Iterable[Iterable[object]], caption: str) -> str:
    return str(plain_table(heads, rows, caption=caption).data)


def _lens(lens: Mapping[str, Any], pictures: Mapping[int, tuple[str, str]]) -> str:
    """Write the section of a lens: its finding, what it means, numbers, chart, layers, pictures."""
    name, numbers = lens["name"], lens["numbers"]
    rows = [(of, one["mean"], one["low"], one["high"]) for of, one in numbers.items()]
    table = _table(("Number", "Mean", "From", "To"), rows, f"{HEADINGS[name]}: means with intervals of 95 %")
    drawn = figure.figure_html(figure.spec_of(drawing.of(lens)), live=False)
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in lens["notes"])
    layers = ""
    if lens["layers"]:
        every = (row.values() for row in lens["layers"])
        values = _table(list(lens["layers"][0]), every, f"{HEADINGS[name]}: every row")
        layers = f"<details><summary>Every row as a table</summary>{values}</details>"
    words = f"<h2>{HEADINGS[name]}</h2><p>{html.escape(lens['told'])}</p><p>{MEANINGS[name]}</p>"
    took = f'<p class="note">It took {lens["seconds"]:.1f} s.</p>'
    return f"<section>{words}{table}{drawn}{layers}{_gallery(lens['examples'], pictures)}{notes}{took}</section>"


def _among(among: Among) -> str:
    """Write the section that compares the network with others."""
    warning = f'<p class="warn">{html.escape(among.warning)}</p>' if among.warning else ""
    heads = ("Measure", "Yours", "First quartile", "Median", "Third quartile", "Share below yours")
    table = _table(heads, (row.values() for row in among.rows), "Your network and those of the book")
    drawn = figure.figure_html(figure.spec_of(among.chart, ""), live=False)
    return f"<section><h2>{AMONG}</h2><p>{html.escape(among.told)}</p>{warning}<p>{ALIKE}</p>{table}{drawn}</section>"


def _gallery(examples: Sequence[Mapping[str, Any]], pictures: Mapping[int, tuple[str, str]]) -> str:
    """Write the examples by kind, with their pictures if there are any."""
    parts = []
    for kind in dict.fromkeys(row["kind"] for row in examples):
        items = "".join(_item(row, pictures) for row in examples if row["kind"] == kind)
        parts.append(f'<h3>{kind.capitalize()}</h3><ul class="pictures">{items}</ul>')
    return "".join(parts)


def _item(row: Mapping[str, Any], pictures: Mapping[int, tuple[str, str]]) -> str:
    """Write one example or pair."""
    which = [row[key] for key in ("i", "j") if key in row]
    shown = "".join(
        f'<img src="{pictures[i][0]}" alt="image {i}, {html.escape(pictures[i][1])}">' for i in which if i in pictures
    )
    labels = " and ".join(f"{i} ({html.escape(pictures[i][1])})" if i in pictures else str(i) for i in which)
    return f"<li>{shown}<br>image {labels}: {row['value']:.3g}</li>"
