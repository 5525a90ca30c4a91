"""What tests read of a chart."""

from __future__ import annotations

import altair as alt
import pandas as pd


def rows(chart: alt.TopLevelMixin, *columns: str) -> pd.DataFrame:
    """The rows of a chart's data that have these columns; without any, those of its largest table."""
    tables = chart.to_dict()["datasets"].values()
    if not columns:
        return pd.DataFrame(max(tables, key=len))
    return pd.DataFrame([row for table in tables for row in table if set(columns) <= set(row)])
