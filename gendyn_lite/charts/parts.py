"""What many charts have: menus and sliders that need no kernel, words above the drawing, a legend of lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from gendyn_lite.charts.theme import DASHES, SHAPES

Chart = alt.LayerChart | alt.FacetChart
STROKES = alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=300)
TIME = "time, from start to end"  # before a slider over recorded epochs


def menu(name: str, options: list[str], label: str, value: str = "") -> alt.Parameter:
    """A parameter with a menu, without one where there is nothing to choose.

    Args:
        name: Of the parameter, by which filters read it.
        options: What can be chosen.
        label: What stands before the menu.
        value: What is chosen at first; empty for the first option.
    """
    bind = alt.binding_select(options=options, name=f"{label} ") if len(options) > 1 else alt.Undefined
    return alt.param(name=name, value=value or options[0], bind=bind)


def slider(
    name: str, last: int, label: str, *, first: int = 0, value: int | None = None, step: int = 1
) -> alt.Parameter:
    """A parameter with a slider over whole numbers.

    Args:
        name: Of the parameter, by which filters read it.
        last: The largest number.
        label: What stands before the slider.
        first: The smallest number.
        value: Where it stands at first; None for the largest number.
        step: From one number to the next.
    """
    bind = alt.binding_range(min=first, max=last, step=step, name=f"{label} ")
    return alt.param(name=name, value=last if value is None else value, bind=bind)


def looks(
    column: str,
    names: Sequence[str],
    *,
    colours: Sequence[str] | None = None,
    dashes: Sequence[Sequence[int]] = DASHES,
    **options: Any,
) -> tuple[alt.Color, alt.StrokeDash, alt.Shape]:
    """Colour, dash and shape of each name of a column: two of them, so that nothing is told by its colour alone.

    Args:
        column: Of names.
        names: Its values, in the order of the legend.
        colours: Of the names, in their order; those of the theme without it.
        dashes: Of the names likewise.
        **options: Of all three channels: title, legend, sort.

    >>> color, dash, shape = looks("labels", ["true", "random"], title=None)
    >>> dash.to_dict()["scale"]
    {'domain': ['true', 'random'], 'range': [[1, 0], [6, 3]]}
    """
    domain, count = list(names), len(names)
    shade = alt.Undefined if colours is None else list(colours[:count])
    return (
        alt.Color(f"{column}:N", scale=alt.Scale(domain=domain, range=shade), **options),
        alt.StrokeDash(f"{column}:N", scale=alt.Scale(domain=domain, range=list(dashes[:count])), **options),
        alt.Shape(f"{column}:N", scale=alt.Scale(domain=domain, range=list(SHAPES[:count])), **options),
    )


def tooltips(form: str, *names: str) -> list[alt.Tooltip]:
    """What a mark shows of some numbers when it is pointed at, in one format; of an interval without names.

    >>> [tip.to_dict()["field"] for tip in tooltips(".2f")]
    ['mean', 'low', 'high', 'seeds']
    """
    shown = [alt.Tooltip(f"{name}:Q", format=form) for name in names or ("mean", "low", "high")]
    return shown if names else [*shown, alt.Tooltip("seeds:Q")]


def words_above(rows: alt.Chart, *, y: float = -6) -> alt.Chart:
    """The field `words` of a chart's rows as a line of text above the drawing, at its left end.

    Args:
        rows: A chart without a mark, filtered to the row that is said.
        y: Pixels from the upper edge of the drawing, negative above it.
    """
    text = rows.mark_text(align="left", baseline="bottom", fontWeight=600)
    return text.encode(x=alt.value(0), y=alt.value(y), text="words:N")


def interval_bars(means: alt.Chart, *, width: float = 1.5) -> alt.Chart:
    """A bar from `low` to `high` on the vertical axis, where there is an interval.

    Args:
        means: A chart without a mark, whose horizontal axis and colours are encoded.
        width: Of the bar, in pixels.
    """
    return means.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=width).encode(y="low:Q", y2="high:Q")
