"""Building blocks of charts: menus and sliders that need no kernel, titles, colours, shapes, text above a drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from string import Formatter
from typing import Any, TypeVar

import altair as alt
import pandas as pd

from gendyn_lite.charts.figure import DASHES, PALETTE, SHAPES, captioned, show_switch
from gendyn_lite.results.published import provenance_line

Chart = alt.LayerChart | alt.FacetChart
Looks = tuple[alt.Color, alt.StrokeDash, alt.Shape]
Drawn = TypeVar("Drawn", alt.Chart, alt.HConcatChart, Chart)
EPOCH = alt.X("epoch:Q", title="epoch")
EPOCHS = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1))  # for runs with few epochs
MOST_TOLD = 12  # rows that a description says; a reader who hears them has the rest in the table of the data
AROUND = alt.Scale(zero=False)  # an axis that need not start at zero
STROKES = alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=300)


def menu(name: str, options: Iterable[str], label: str, value: str = "") -> alt.Parameter:
    """Make a parameter with a menu, or without one if there is only one option.

    Args:
        name: Name of the parameter, for filters.
        options: The options in order; repeated ones, as in a column of a table, are offered once.
        label: The words before the menu.
        value: The initial option; empty for the first one.

    >>> menu("data_set", ["MNIST", "digits", "MNIST"], "data").param.bind.options
    ['MNIST', 'digits']
    """
    choice = list(dict.fromkeys(options))
    bind = alt.binding_select(options=choice, name=f"{label} ") if len(choice) > 1 else alt.Undefined
    return alt.param(name=name, value=value or choice[0], bind=bind)


def slider(name: str, values: Iterable[float], label: str, *, value: float | None = None) -> alt.Parameter:
    """Make a parameter with a slider over some numbers. (In plain Vega-Lite, without the page's script, it is a menu.)

    Args:
        name: Name of the parameter, for filters.
        values: The numbers in any order; they may be repeated, as in a column of a table.
        label: The words before the slider.
        value: The initial number; None for the largest one.

    >>> slider("epoch", [10, 0, 2, 2], "epoch").param.bind.options
    [0, 2, 10]
    """
    bind = stops(values, label)
    start = bind.options[-1] if value is None else value
    return alt.param(name=name, value=start, bind=bind if len(bind.options) > 1 else alt.Undefined)


def stops(values: Iterable[float], label: str) -> Any:
    """Make the binding of a `slider`, for a selection.

    Args:
        values: As for `slider`.
        label: The words before the slider.

    >>> stops([0.5, 0, 1], "q").labels
    ['0', '0.5', '1']
    """
    options: list[Any] = sorted({int(each) if float(each).is_integer() else float(each) for each in values})
    words = [str(each) if isinstance(each, int) else f"{each:.3g}" for each in options]
    return alt.binding_select(options=options, labels=words, name=f"{label} ")


def looks(
    column: str,
    names: Sequence[str],
    *,
    colours: Sequence[str] | None = None,
    dashes: Sequence[Sequence[int]] = DASHES,
    **options: Any,
) -> Looks:
    """Return the encodings of a column of names by colour, dash and shape, so that no chart relies on colour alone.

    If there are more names than colours, dashes or shapes, these are reused.

    Args:
        column: The column of names.
        names: Its values, in the order of the legend.
        colours: Colours of the names; default: those of the theme.
        dashes: Dashes of the names.
        **options: Options of all three channels: title, legend, sort.

    >>> color, dash, shape = looks("labels", ["true", "random"], title=None)
    >>> dash.to_dict()["scale"]
    {'domain': ['true', 'random'], 'range': [[1, 0], [6, 3]]}
    """
    shapes = alt.Scale(domain=list(names), range=_in_turn(names, SHAPES))
    shades = alt.Undefined if colours is None else [colours[i % len(colours)] for i in range(len(names))]
    return (
        alt.Color(f"{column}:N", scale=alt.Scale(domain=list(names), range=shades), **options),
        alt.StrokeDash(f"{column}:N", scale=alt.Scale(domain=list(names), range=_in_turn(names, dashes)), **options),
        alt.Shape(f"{column}:N", scale=shapes, **options),
    )


def _in_turn(names: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """Return a value for each name; each round starts one further, so that a reused colour gets another shape."""
    return [values[(i + i // len(values)) % len(values)] for i in range(len(names))]


def tooltips(form: str, *names: str) -> list[alt.Tooltip]:
    """Return tooltips of some numbers in one format; without names those of a mean with its interval.

    >>> [tip.to_dict()["field"] for tip in tooltips(".2f")]
    ['mean', 'low', 'high', 'seeds']
    """
    shown = [alt.Tooltip(f"{name}:Q", format=form) for name in names or ("mean", "low", "high")]
    return shown if names else [*shown, alt.Tooltip("seeds:Q")]


def titled(chart: Drawn, title: str, subtitle: str, description: str, **properties: Any) -> Drawn:
    """Add a title to a chart, and a description for readers who cannot see it.

    Args:
        chart: A chart with marks and encodings.
        title: What is drawn.
        subtitle: How to read it.
        description: The content in words, with the important numbers.
        **properties: Further properties of the chart, for instance its height.

    >>> titled(alt.Chart().mark_point(), "A", "B", "C").to_dict()["title"]
    {'text': 'A', 'subtitle': 'B'}
    """
    return chart.properties(title=alt.Title(title, subtitle=subtitle), description=description, **properties)


def layered(layers: Sequence[alt.Chart], title: str, subtitle: str, description: str, **properties: Any) -> Chart:
    """Combine layers to one chart with a title and a description.

    Args:
        layers: The layers, from back to front.
        title: What is drawn.
        subtitle: How to read it.
        description: The content in words, with the important numbers.
        **properties: Further properties of the chart.
    """
    return titled(alt.layer(*layers), title, subtitle, description, **properties)


def chosen(rows: pd.DataFrame, choices: Mapping[str, alt.Parameter]) -> alt.Chart:
    """Return a chart without a mark, of the rows that menus and sliders choose; it includes their parameters.

    Args:
        rows: The table.
        choices: Column → the parameter of `menu` or `slider` that chooses its value.

    >>> base = chosen(pd.DataFrame({"data": ["MNIST"]}), {"data": menu("data_set", ["MNIST"], "data")})
    >>> base.mark_bar().to_dict()["transform"]
    [{'filter': 'datum.data === data_set'}]
    """
    tests = [f"datum.{column} === {param.name}" for column, param in choices.items()]
    base = alt.Chart(rows).transform_filter(" && ".join(tests) or "true")
    return base.add_params(*choices.values()) if choices else base


def menus(rows: pd.DataFrame, prefix: str, labels: Mapping[str, str], **first: str) -> dict[str, alt.Parameter]:
    """Make a menu for each of some columns of a table, for `chosen`.

    Args:
        rows: The table.
        prefix: Prefix of the parameters' names, which must differ between the charts of a page.
        labels: Column → the words before its menu.
        **first: Column → its initial value, if that is not its first one.

    >>> menus(pd.DataFrame({"data": ["MNIST"]}), "norms", {"data": "data"})["data"].name
    'norms_data'
    """
    return {name: menu(f"{prefix}_{name}", rows[name], label, first.get(name, "")) for name, label in labels.items()}


def from_legend(column: str, *, name: str = "picked") -> tuple[alt.Parameter, Any]:
    """Make a selection of names by the legend, and the opacity that fades all other names.

    Args:
        column: The column of names, which must have a legend.
        name: Name of the parameter.
    """
    picked = alt.selection_point(name=name, fields=[column], bind="legend")
    return picked, alt.condition(picked, alt.value(1), alt.value(0.15))


def told(rows: pd.DataFrame | pd.Series, form: str) -> str:
    """Say the first `MOST_TOLD` rows of a table in words, for the description of a chart.

    Args:
        rows: The table, or a series. Rows with a missing value in what is said are left out.
        form: Format of a row, with names of columns (and of the index) in braces.

    >>> told(pd.DataFrame({"data": ["MNIST", "digits"], "mean": [0.123, 0.4]}), "{data}: {mean:.2f}")
    'MNIST: 0.12; digits: 0.40'
    """
    rows = rows.reset_index()
    rows = rows.dropna(subset=list({name for _, name, *_ in Formatter().parse(form) if name}))
    more = [f"{len(rows) - MOST_TOLD} more in its data"] if len(rows) > MOST_TOLD else []
    return "; ".join([form.format_map(row) for row in rows.head(MOST_TOLD).to_dict("records")] + more)


def latest(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return the row of the last epoch of each group, in the order of epochs.

    Args:
        rows: A table with a column ``epoch``.
        keys: Columns that define the groups.

    >>> latest(pd.DataFrame({"seed": [0, 0, 1], "epoch": [1, 2, 1]}), ["seed"])["epoch"].tolist()
    [1, 2]
    """
    return rows.sort_values("epoch", kind="stable").groupby(keys, sort=False).tail(1)


def strokes(column: str, names: Sequence[str], *, legend: alt.Legend = STROKES) -> dict[str, Any]:
    """Return the `looks` of lines: colour and dash, with one legend.

    Args:
        column: The column of names.
        names: Its values, in order.
        legend: The legend of both.

    >>> sorted(strokes("labels", ["true", "random"]))
    ['color', 'strokeDash']
    """
    color, dash, _ = looks(column, names, title=None, legend=legend)
    return {"color": color, "strokeDash": dash}


def marks(column: str, names: Sequence[str], *, offset: int) -> dict[str, Any]:
    """Return the `looks` of points: colour and shape, with one legend.

    Args:
        column: The column of names.
        names: Its values, in order.
        offset: Pixels between the legend and the drawing.
    """
    color, _, shape = looks(column, names, colours=PALETTE, title=None, legend=alt.Legend(offset=offset))
    return {"color": color, "shape": shape}


def words_above(rows: alt.Chart, *, y: float = -6) -> alt.Chart:
    """Write the field `words` of a row as a line of text above the drawing, at its left end.

    Args:
        rows: A chart without a mark, filtered to one row.
        y: Pixels below the upper edge of the drawing; negative above it.
    """
    text = rows.mark_text(align="left", baseline="bottom", fontWeight=600)
    return text.encode(x=alt.value(0), y=alt.value(y), text="words:N")


def interval_bars(means: alt.Chart, *, width: float = 1.5) -> alt.Chart:
    """Draw a vertical bar from `low` to `high` for each row with an interval.

    Args:
        means: A chart without a mark, whose horizontal axis and colours are encoded.
        width: Width of the bar, in pixels.
    """
    return means.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=width).encode(y="low:Q", y2="high:Q")


def of_runs(chart: Drawn, table: pd.DataFrame, rows: pd.DataFrame) -> Drawn:
    """Add the provenance of exactly the drawn runs to a chart, as its caption.

    Args:
        chart: The chart.
        table: The tidy table that it was made from. Without the column ``run_id``, as in a live explorer, the chart is
            returned unchanged.
        rows: The drawn rows, with the column ``run_id``.
    """
    if "run_id" not in table:
        return chart
    return captioned(chart, provenance_line(table[table["run_id"].isin(rows["run_id"])]))


def show_runs(draw: Callable[[pd.DataFrame], Chart], published: pd.DataFrame, own: pd.DataFrame) -> None:
    """Display one figure of the published runs and, behind a switch, of a page's own small runs.

    Args:
        draw: Draws the chart of a tidy table, with the caption of `of_runs`.
        published: The published runs.
        own: The page's own runs.
    """
    show_switch(draw(published), draw(own))
