"""One look for every chart: reads well on a light and a dark page, on a phone, and without seeing all colours."""

from __future__ import annotations

from typing import Any

import altair as alt

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# At least 3:1 against white and against the book's dark page, and distinct with any of the three dichromacies
# (tests/book/test_theme.py computes both). Charts still never rely on colour alone: use `DASHES` or `SHAPES` beside it.
PALETTE = ("#2060f0", "#d87800", "#a830b4", "#3c9c78", "#cc1830", "#a884b4")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [12, 4], [1, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
TEXT = "currentColor"  # whatever the page writes in, so that a switch to dark needs no redrawing


def theme() -> alt.theme.ThemeConfig:
    """The chart theme, as a Vega-Lite configuration without a background.

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
        # What has no encoded colour takes the first of the palette, text and rules that of the page.
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
