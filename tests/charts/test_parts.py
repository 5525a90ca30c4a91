"""What a chart's description says of its rows."""

import pandas as pd

from gendyn_lite.charts.parts import MOST_TOLD, told


def test_a_description_says_the_first_rows_and_how_many_more_there_are():
    rows = pd.DataFrame({"epoch": range(MOST_TOLD + 3), "error": 0.5})
    said = told(rows, "{epoch}: {error:.1f}").split("; ")
    assert said[0] == "0: 0.5" and said[MOST_TOLD - 1] == f"{MOST_TOLD - 1}: 0.5"
    assert said[MOST_TOLD:] == ["3 more in its data"]
    assert told(rows.head(MOST_TOLD), "{epoch}").count(";") == MOST_TOLD - 1


def test_what_was_not_measured_is_not_said():
    rows = pd.DataFrame({"of": ["a", "b"], "value": [1.0, float("nan")], "low": float("nan")})
    assert told(rows, "{of}: {value:g}") == "a: 1"
    assert told(rows.set_index("of")["value"], "{of}: {value:g}") == "a: 1"
