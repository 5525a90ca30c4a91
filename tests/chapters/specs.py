"""What tests ask of a chart and read of it."""

from __future__ import annotations

import json

import altair as alt
import pandas as pd
import vl_convert

from gendyn_lite.charts.figure import figure_html


def rows(chart: alt.TopLevelMixin, *columns: str) -> pd.DataFrame:
    """The rows of a chart's data that have these columns; without any, those of its largest table."""
    tables = chart.to_dict()["datasets"].values()
    if not columns:
        return pd.DataFrame(max(tables, key=len))
    return pd.DataFrame([row for table in tables for row in table if set(columns) <= set(row)])


def described(chart: alt.TopLevelMixin) -> str:
    """The description of a chart, which is a valid figure and can be drawn."""
    spec = chart.to_dict()
    assert json.loads(json.dumps(spec)) == spec
    assert len(spec["description"]) > 30 and figure_html(spec)
    assert "<svg" in vl_convert.vegalite_to_svg(spec)
    names = [param["name"] for param in spec.get("params", [])]
    assert len(names) == len(set(names))
    return spec["description"]
