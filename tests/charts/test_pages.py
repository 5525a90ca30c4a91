"""The chart and table of a benchmark say what was reached, and what was not."""

from __future__ import annotations

import json
import re

import altair as alt
import pandas as pd
import pytest

from gendyn_lite.charts import pages as draw

ROWS = [("small", 300.0, "loop", 100.0, 3.0, 2.0), ("small", 300.0, "bare", 400.0, 0.75, float("nan"))]
ROWS += [("large", 20.0, "loop", 19.0, 1.05, 2.0)]
TABLE = pd.DataFrame(ROWS, columns=["case", "ours", "peer", "theirs", "ratio", "goal"])
TABLE = TABLE.assign(device="cpu", unit="images/s")


def test_the_chart_is_valid_and_survives_json():
    spec = draw.speed_ratios(TABLE, title="Speed").to_dict()
    assert alt.Chart.from_dict(json.loads(json.dumps(spec))).to_dict() == spec
    assert "small: 3 times loop" in spec["description"]


def test_the_device_is_named_where_there_are_several():
    table = pd.concat([TABLE, TABLE.assign(device="cuda")])
    assert "small · cuda: 3 times loop" in draw.speed_ratios(table, title="Speed").to_dict()["description"]


@pytest.mark.parametrize("text", ["≥ 2 ✓ reached", "≥ 2 ✗ not reached", "300 images/s", "0.75", "–"])
def test_the_table_shows(text):
    assert text in str(draw.speed_table(TABLE, caption="made up").data)


def test_two_tables_of_one_source_have_names_of_their_own():
    tables = [draw.speed_table(rows, caption="`one.py`") for _, rows in TABLE.groupby("peer")]
    labels = [label for table in tables for label in re.findall('aria-label="(.*?)"', str(table.data))]
    assert labels == ["Speed beside bare. one.py", "Speed beside loop. one.py"]
