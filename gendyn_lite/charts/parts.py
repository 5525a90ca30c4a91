"""What many charts have: menus and sliders that need no kernel, words above the drawing, one data set at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import altair as alt
import pandas as pd

from gendyn_lite.charts.figure import DASHES, PALETTE, SHAPES, captioned, show_switch
from gendyn_lite.results.published import provenance_line

Chart = alt.LayerChart | alt.FacetChart
Looks = tuple[alt.Color, alt.StrokeDash, alt.Shape]
Drawn = TypeVar("Drawn", alt.Chart, alt.HConcatChart, Chart)
EPOCH = alt.X("epoch:Q", title="epoch")
EPOCHS = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1))  # of runs so short that epochs are few
AROUND = alt.Scale(zero=False)  # an axis around the values
STROKES = alt.Legend(symbolType="stroke", symbolStrokeWidth=3, symbolSize=300)


def menu(name: str, options: Iterable[str], label: str, value: str = "") -> alt.Parameter:
    """A parameter with a menu, without one where there is nothing to choose.

    Args:
        name: Of the parameter, by which filters read it.
        options: What can be chosen, in order; one that is repeated, as in a column of a table, is offered once.
        label: The words before the menu.
        value: What is chosen at first; empty for the first option.

    >>> menu("data_set", ["MNIST", "digits", "MNIST"], "data").param.bind.options
    ['MNIST', 'digits']
    """
    choice = list(dict.fromkeys(options))
    bind = alt.binding_select(options=choice, name=f"{label} ") if len(choice) > 1 else alt.Undefined
    return alt.param(name=name, value=value or choice[0], bind=bind)


def slider(name: str, values: Iterable[float], label: str, *, value: float | None = None) -> alt.Parameter:
    """A parameter with a slider over some numbers, each shown as it is; Vega-Lite alone makes a menu of it.

    Args:
        name: Of the parameter, by which filters read it.
        values: Where it can stand, in any order and repeated as in a column of a table.
        label: The words before the slider.
        value: Where it stands at first; None for the largest number.

    >>> slider("epoch", [10, 0, 2, 2], "epoch").param.bind.options
    [0, 2, 10]
    """
    bind = stops(values, label)
    start = bind.options[-1] if value is None else value
    return alt.param(name=name, value=start, bind=bind if len(bind.options) > 1 else alt.Undefined)


def stops(values: Iterable[float], label: str) -> Any:
    """The binding of `slider`, for a selection.

    Args:
        values: As of `slider`.
        label: The words before it.

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
    """Colour, dash and shape of each name of a column: two of them, so that nothing is told by its colour alone.

    They go round where there are more names than values.

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
    shapes = alt.Scale(domain=list(names), range=_in_turn(names, SHAPES))
    shades = alt.Undefined if colours is None else [colours[i % len(colours)] for i in range(len(names))]
    return (
        alt.Color(f"{column}:N", scale=alt.Scale(domain=list(names), range=shades), **options),
        alt.StrokeDash(f"{column}:N", scale=alt.Scale(domain=list(names), range=_in_turn(names, dashes)), **options),
        alt.Shape(f"{column}:N", scale=shapes, **options),
    )


def _in_turn(names: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """A value for each name; every round begins one further, so that a colour that comes back meets another shape."""
    return [values[(i + i // len(values)) % len(values)] for i in range(len(names))]


def tooltips(form: str, *names: str) -> list[alt.Tooltip]:
    """What a mark shows of some numbers when it is pointed at, in one format; of an interval without names.

    >>> [tip.to_dict()["field"] for tip in tooltips(".2f")]
    ['mean', 'low', 'high', 'seeds']
    """
    shown = [alt.Tooltip(f"{name}:Q", format=form) for name in names or ("mean", "low", "high")]
    return shown if names else [*shown, alt.Tooltip("seeds:Q")]


def titled(chart: Drawn, title: str, subtitle: str, description: str, **properties: Any) -> Drawn:
    """A chart with its title, and a description for those who do not see it.

    Args:
        chart: With marks and encodings.
        title: What is drawn.
        subtitle: How to read it.
        description: The same in words, with the numbers that matter.
        **properties: Others of the chart, for instance its height.

    >>> titled(alt.Chart().mark_point(), "A", "B", "C").to_dict()["title"]
    {'text': 'A', 'subtitle': 'B'}
    """
    return chart.properties(title=alt.Title(title, subtitle=subtitle), description=description, **properties)


def layered(layers: Sequence[alt.Chart], title: str, subtitle: str, description: str, **properties: Any) -> Chart:
    """Layers as one chart with its title and description.

    Args:
        layers: From back to front.
        title: As the other arguments, of `titled`.
        subtitle: How to read it.
        description: The same in words.
        **properties: Others of the chart.
    """
    return titled(alt.layer(*layers), title, subtitle, description, **properties)


def chosen(rows: pd.DataFrame, choices: Mapping[str, alt.Parameter]) -> alt.Chart:
    """The rows that menus and sliders choose, as a chart without a mark that brings them along.

    Args:
        rows: The table.
        choices: Of `menu` and `slider`, by the column of which each chooses a value.

    >>> base = chosen(pd.DataFrame({"data": ["MNIST"]}), {"data": menu("data_set", ["MNIST"], "data")})
    >>> base.mark_bar().to_dict()["transform"]
    [{'filter': 'datum.data === data_set'}]
    """
    tests = [f"datum.{column} === {param.name}" for column, param in choices.items()]
    base = alt.Chart(rows).transform_filter(" && ".join(tests) or "true")
    return base.add_params(*choices.values()) if choices else base


def menus(rows: pd.DataFrame, prefix: str, labels: Mapping[str, str], **first: str) -> dict[str, alt.Parameter]:
    """A menu for each of some columns of a table, as `chosen` takes them.

    Args:
        rows: The table.
        prefix: Of the names of the parameters, which must differ between the charts of a page.
        labels: Column → the words before its menu.
        **first: What is chosen at first in a column, where that is not its first value.

    >>> menus(pd.DataFrame({"data": ["MNIST"]}), "norms", {"data": "data"})["data"].name
    'norms_data'
    """
    return {name: menu(f"{prefix}_{name}", rows[name], label, first.get(name, "")) for name, label in labels.items()}


def from_legend(column: str, *, name: str = "picked") -> tuple[alt.Parameter, Any]:
    """A selection of the names of a column by its legend, and the opacity that fades all others.

    Args:
        column: Of names, with a legend.
        name: Of the parameter.
    """
    picked = alt.selection_point(name=name, fields=[column], bind="legend")
    return picked, alt.condition(picked, alt.value(1), alt.value(0.15))


def told(rows: pd.DataFrame | pd.Series, form: str) -> str:
    """The rows of a table in words: what a chart's description says of its numbers.

    Args:
        rows: The table, or a column with names in its index.
        form: Words for a row, with columns (and names of the index) in braces.

    >>> told(pd.DataFrame({"data": ["MNIST", "digits"], "mean": [0.123, 0.4]}), "{data}: {mean:.2f}")
    'MNIST: 0.12; digits: 0.40'
    """
    return "; ".join(form.format_map(row) for row in rows.reset_index().to_dict("records"))


def latest(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Of each group of rows that of its last epoch, in the order of the epochs.

    Args:
        rows: A table with a column ``epoch``.
        keys: Columns that say what belongs together.

    >>> latest(pd.DataFrame({"seed": [0, 0, 1], "epoch": [1, 2, 1]}), ["seed"])["epoch"].tolist()
    [1, 2]
    """
    return rows.sort_values("epoch", kind="stable").groupby(keys, sort=False).tail(1)


def strokes(column: str, names: Sequence[str], *, legend: alt.Legend = STROKES) -> dict[str, Any]:
    """Encodings of lines that differ in colour and dash, with one legend: `looks` of lines.

    Args:
        column: Of names.
        names: All of them, in order; at most six.
        legend: Of both.

    >>> sorted(strokes("labels", ["true", "random"]))
    ['color', 'strokeDash']
    """
    color, dash, _ = looks(column, names, title=None, legend=legend)
    return {"color": color, "strokeDash": dash}


def marks(column: str, names: Sequence[str], *, offset: int) -> dict[str, Any]:
    """Encodings of points that differ in colour and shape, with one legend: `looks` of points.

    Args:
        column: Of names.
        names: All of them, in order.
        offset: Pixels between the legend and the drawing.
    """
    color, _, shape = looks(column, names, colours=PALETTE, title=None, legend=alt.Legend(offset=offset))
    return {"color": color, "shape": shape}


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


def of_runs(chart: Drawn, table: pd.DataFrame, rows: pd.DataFrame) -> Drawn:
    """A chart that says in its caption which runs of a table are drawn in it, and no others.

    Args:
        chart: The chart.
        table: The tidy table that it was made from. Without the column ``run_id``, as in a live explorer, the chart is
            left as it is.
        rows: What is drawn of it, as rows with the column ``run_id``.
    """
    if "run_id" not in table:
        return chart
    return captioned(chart, provenance_line(table[table["run_id"].isin(rows["run_id"])]))


def show_runs(draw: Callable[[pd.DataFrame], Chart], published: pd.DataFrame, own: pd.DataFrame) -> None:
    """Display one figure of the published runs and, behind a switch, of a page's own small ones.

    Args:
        draw: A chart of a tidy table, `of_runs` that are drawn.
        published: The published runs.
        own: The runs of the page.
    """
    show_switch(draw(published), draw(own))
