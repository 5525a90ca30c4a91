"""Figures: charts as HTML that works without a mouse, a network connection or sight. Equal charts give equal bytes.

All charts have one theme, which is legible on light and dark pages, on phones, and with colour blindness.
"""

from __future__ import annotations

import copy
import html
import json
import re
import unicodedata
from importlib.resources import files
from typing import Any

import altair as alt
from IPython.display import display

from gendyn_lite.errors import UserError

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Contrast of at least 3:1 with white and with the book's dark page, and distinct under the three kinds of dichromacy
# (tests/book/test_theme.py checks both). Charts must still not rely on colour alone: add `DASHES` or `SHAPES`.
PALETTE = ("#2060f0", "#d87800", "#a830b4", "#3c9c78", "#cc1830", "#a884b4")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [1, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
TEXT = "currentColor"  # the page's text colour, so that switching to a dark page needs no redrawing
DIGITS = 6  # significant digits of a chart's numbers, which keeps pages small and equal on every processor
RUNS = {"published": "Published runs", "own": "This page's own small run (the method, no evidence)"}
_COMPOSED = ("hconcat", "vconcat", "concat", "facet", "repeat", "spec")
_AUTOMATIC_NAME = re.compile(r"\b(param|view)_(\d+)(?![0-9A-Za-z])")


def theme() -> alt.theme.ThemeConfig:
    """Return the chart theme, a Vega-Lite configuration without a background.

    >>> theme()["config"]["range"]["category"][0]
    '#2060f0'
    """
    text = {"labelColor": TEXT, "labelFontSize": 12, "titleColor": TEXT, "titleFontSize": 13, "titleFontWeight": 600}
    lines = {"gridColor": TEXT, "gridOpacity": 0.14, "domainColor": TEXT, "domainOpacity": 0.5}
    ticks = {"tickColor": TEXT, "tickOpacity": 0.5, "labelPadding": 4, "titlePadding": 8}
    above = {"orient": "top", "direction": "horizontal", "titleOrient": "left", "symbolSize": 120, "labelLimit": 320}
    schemes = {"heatmap": "viridis", "ramp": "viridis", "ordinal": "viridis", "diverging": "purpleorange"}
    ranges = {name: {"scheme": scheme} for name, scheme in schemes.items()}
    config: Any = {
        "background": "transparent",
        "font": FONT,
        "padding": 4,
        "view": {"stroke": None, "continuousHeight": 280, "discreteHeight": 280, "continuousWidth": 300},
        "range": {"category": list(PALETTE), "symbol": list(SHAPES), **ranges},
        "axis": {**text, **lines, **ticks},
        "axisX": {"grid": False, "labelAngle": 0},
        "axisXQuantitative": {"labelOverlap": "greedy", "labelSeparation": 6},
        "legend": {**text, **above},
        "header": {**text, "labelFontWeight": 600},
        "title": {"color": TEXT, "subtitleColor": TEXT, "fontSize": 14, "anchor": "start"},
        # Marks without an encoded colour have the first colour of the palette, text and rules that of the page.
        "mark": {"color": PALETTE[0], "tooltip": True},
        "line": {"strokeWidth": 2.25, "strokeCap": "round", "strokeJoin": "round"},
        "point": {"filled": True, "size": 55, "opacity": 0.95},
        "circle": {"size": 55, "opacity": 0.95},
        "area": {"opacity": 0.2},
        "errorband": {"band": {"opacity": 0.2}},
        "bar": {"cornerRadiusEnd": 2},
        "rule": {"color": TEXT, "opacity": 0.7, "tooltip": None},
        "text": {"color": TEXT, "fontSize": 12, "tooltip": None},
    }
    return alt.theme.ThemeConfig(config=config)


def enable() -> None:
    """Make Altair use this theme and renderer; the set-up cell of every chapter calls it.

    >>> enable(); alt.renderers.active, alt.theme.active
    ('gendyn', 'gendyn')
    """
    alt.theme.register("gendyn", enable=True)(theme)
    alt.renderers.register("gendyn", _render)
    alt.renderers.enable("gendyn")


def captioned(chart: Any, caption: str) -> Any:
    """Add a caption to a chart, which says where its numbers come from. Text in backticks is shown as code.

    >>> captioned(alt.Chart().mark_point(), "3 runs").to_dict()["usermeta"]["caption"]
    '3 runs'
    """
    return chart.properties(usermeta={"caption": caption})


def show(chart: Any, *, caption: str = "") -> None:
    """Display a chart as a figure with its title, its data as a table, and a caption.

    Args:
        chart: An Altair chart.
        caption: Where its numbers come from.

    Raises:
        UserError: The chart has no title or no description.
    """
    display(_render(spec_of(chart, caption)), raw=True)


def show_switch(published: Any, own: Any) -> None:
    """Display two charts as one figure with a switch between the published runs and the page's own small runs.

    Args:
        published: The chart of the published runs; the figure opens with it and has its title.
        own: The same chart of the page's own runs, which show the method and are no evidence.

    Raises:
        UserError: A chart has no title or no description.
    """
    display(_render(spec_of(published), spec_of(own)), raw=True)


def spec_of(chart: Any, caption: str = "") -> dict[str, Any]:
    """Return the specification of a chart with the theme and a caption."""
    enable()
    return (captioned(chart, caption) if caption else chart).to_dict()


def _render(spec: dict[str, Any], own: dict[str, Any] | None = None, **_: Any) -> dict[str, str]:
    """Render a Vega-Lite specification, or two with a switch, as a MIME bundle; this is Altair's renderer."""
    return {"text/html": figure_html(spec, own), "text/plain": f"Chart: {plain_title(spec)}"}


def plain_title(spec: dict[str, Any]) -> str:
    """Return the title of a specification as one line."""
    title = spec.get("title", "")
    text = title.get("text", "") if isinstance(title, dict) else title
    return " ".join(text) if isinstance(text, list) else str(text)


def figure_html(spec: dict[str, Any], own: dict[str, Any] | None = None, *, live: bool = True) -> str:
    """Write a chart as one `<figure>`: title, drawing with a text alternative, caption, data as a folded table.

    Args:
        spec: A Vega-Lite specification with a title and a description, as `chart.to_dict()` gives it.
        own: A second specification, of the page's own runs, shown by a switch (below the first one without scripts).
        live: Whether to include the script that draws it in a live notebook; a built page replaces it by its own copy.

    Returns:
        HTML whose id is made from the title, so that equal charts give equal text. The empty element
        ``gendyn-number`` is for the number that a page gives the figure.

    Raises:
        UserError: The title or the description is missing.

    >>> figure_html({"mark": "point"})
    Traceback (most recent call last):
    gendyn_lite.errors.UserError: this chart has no title, expected .properties(title=..., description=...)
    """
    panels = [_panel(spec, "published" if own else "")]
    if own:
        panels.append(_panel(own, "own"))
    title = plain_title(spec)
    words = {"title": html.escape(title), "panels": "\n".join(panels), "live": _live() if live else ""}
    return _FIGURE.format(id=f"chart-{slug(title)}", **words)


def slug(title: str) -> str:
    """Turn a title into a name for files and addresses.

    >>> slug("Test error against label corruption: Δ > 0.5")
    'test-error-against-label-corruption-0-5'
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "figure"


def _panel(spec: dict[str, Any], runs: str) -> str:
    """Write a drawing with its text, caption, table and specification; `runs` says which of two in a figure it is."""
    title, description = plain_title(spec), str(spec.get("description", ""))
    for name, text in (("title", title), ("description", description)):
        if not text.strip():
            where = f"the chart {title!r}" if title else "this chart"
            raise UserError(f"{where} has no {name}, expected .properties(title=..., description=...)")
    caption = spec.get("usermeta", {}).get("caption", "")
    subtitle = spec["title"].get("subtitle", "") if isinstance(spec["title"], dict) else ""
    subtitle = " ".join(subtitle) if isinstance(subtitle, list) else subtitle
    return _PANEL.format(
        runs=f' data-runs="{runs}"' if runs else "",
        heading=f'<p class="gendyn-runs">{RUNS[runs]}</p>\n' if runs else "",
        subtitle=f'<p class="gendyn-subtitle">{html.escape(subtitle)}</p>\n' if subtitle else "",
        description=html.escape(description),
        caption=f'<p class="gendyn-caption">{coded(caption)}</p>\n' if caption else "",
        spec=embeddable(spec),
    )


def embeddable(spec: dict[str, Any]) -> str:
    """Write a specification as JSON for a page: as wide as its container, compact, deterministic, safe inside HTML.

    Its data are written column by column, so that each name stands once; `read_spec` and ``figure.js`` read them.

    >>> embeddable({"title": "t", "datasets": {"d": [{"x": 0.1234567}]}, "params": [{"name": "param_9"}]})
    '{"datasets":{"d":{"x":[0.123457]}},"params":[{"name":"param_1"}],"width":"container"}'
    """
    spec = copy.deepcopy(spec)
    for name in ("title", "usermeta"):  # the figure shows them as text, which wraps and can be searched
        spec.pop(name, None)
    faceted = {"row", "column", "facet"} & set(spec.get("encoding", {}))
    if not faceted and not any(name in spec for name in _COMPOSED):
        spec.setdefault("width", "container")
    numbers: dict[str, str] = {}

    def renumber(found: re.Match[str]) -> str:
        known = sum(name.startswith(found[1]) for name in numbers)
        return numbers.setdefault(found[0], f"{found[1]}_{known + 1}")

    spec = _rounded(spec)  # parameters too, because filters compare them with the data
    datasets = spec.pop("datasets", None)
    # Altair 5 numbers its automatic names over the whole session.
    spec = json.loads(_AUTOMATIC_NAME.sub(renumber, json.dumps(spec, sort_keys=True)))
    if datasets is not None:
        spec["datasets"] = {name: _columns(rows) for name, rows in datasets.items()}
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c")


def _columns(rows: list[Any]) -> Any:
    """Turn rows that all have the same names into columns; leave others as they are."""
    first = rows[0] if rows else None
    if not isinstance(first, dict) or not first or any(row.keys() != first.keys() for row in rows):
        return rows
    return {name: [row[name] for row in rows] for name in first}


def read_spec(text: str) -> dict[str, Any]:
    """Read a specification that `embeddable` wrote: data as rows, whole numbers too long for JavaScript as text.

    >>> read_spec('{"datasets":{"d":{"x":[1,2]}}}')
    {'datasets': {'d': [{'x': 1}, {'x': 2}]}}
    """
    spec = json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 16 else digits)
    for name, data in spec.get("datasets", {}).items():
        if isinstance(data, dict):
            spec["datasets"][name] = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    return spec


def _rounded(value: Any) -> Any:
    """Round every float in nested lists and dicts to `DIGITS` significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def coded(text: str) -> str:
    """Escape text for HTML, and turn text in backticks into code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def script() -> str:
    """Return the script of a page with figures, which draws each figure when it comes into view.

    >>> script().endswith("gendynCharts.drawSeen();\\n")
    True
    """
    return asset("figure.js") + asset("figure_reader.js") + "gendynCharts.drawSeen();\n"


def vega() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script from vl-convert, so that pages need no other host.

    Raises:
        UserError: vl-convert is not installed.

    >>> "vegaEmbed" in vega()
    True
    """
    try:
        import vl_convert
    except ImportError:
        raise UserError("pages with charts need vl-convert: pip install vl-convert-python") from None
    minor = "v" + ".".join(alt.VEGALITE_VERSION.split(".")[:2])
    # Wrapped in a function, because the bundle's top-level names collide with those of other scripts.
    bundle = vl_convert.javascript_bundle(vl_version=minor)  # type: ignore[call-arg]  # its stub asks for a snippet
    return f"(function(){{{bundle}\n}})();\n"


def style() -> str:
    """Return the style sheet of a page with figures."""
    return asset("figure.css")


def asset(name: str) -> str:
    """Read a file beside this module."""
    return files("gendyn_lite.charts").joinpath(name).read_text(encoding="utf-8")


def _live() -> str:
    """Return style and script for a live notebook, where each output is independent and Vega comes from a CDN."""
    style, script = asset("figure.css"), asset("figure.js")
    versions = {"vega": alt.VEGA_VERSION, "vega-lite": alt.VEGALITE_VERSION, "vega-embed": alt.VEGAEMBED_VERSION}
    call = f"window.gendynCharts.live({json.dumps(versions)});"
    return f'<style data-gendyn="live">{style}</style>\n<script data-gendyn="live">{script}\n{call}</script>'


# book/_ext/offline removes every `data-gendyn="live"` element from a built page.
_FIGURE = """<figure class="gendyn-chart" id="{id}" aria-labelledby="{id}-title">
<figcaption class="gendyn-title" id="{id}-title"><span class="gendyn-number"></span>{title}</figcaption>
{panels}
{live}
</figure>"""
_PANEL = """<div class="gendyn-panel"{runs}>
{heading}{subtitle}<div class="gendyn-view" role="group" aria-label="{description}"><p class="gendyn-alternative">\
{description}</p></div>
{caption}<details class="gendyn-data"><summary>Data as a table; save as SVG or CSV</summary></details>
<script type="application/json" class="gendyn-spec">{spec}</script>
</div>"""
