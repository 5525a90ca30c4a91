"""Published benchmarks: ratio, provenance, goals; edited tables and empty ones are refused."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.errors import UserError

ROWS = [
    {"case": "small", "device": "cpu", "unit": "images/s", "ours": 300.0, "peer": "loop", "theirs": 100.0},
    {"case": "small", "device": "cpu", "unit": "images/s", "ours": 300.0, "peer": "bare", "theirs": 400.0},
]


@pytest.fixture
def folder(tmp_path):
    results.publish_benchmark("made_up", ROWS, goals={"loop": 2.0}, to=tmp_path, command="bench", machine="a machine")
    return tmp_path


def test_ratio_and_goal_stand_beside_the_speeds(folder):
    table = results.benchmark("made_up", folder=folder)
    assert table["ratio"].tolist() == [3.0, 0.75]
    assert table["goal"].tolist()[0] == 2.0 and pd.isna(table["goal"].tolist()[1])
    assert results.benchmark_names(folder=folder) == ["made_up"]


def test_the_line_says_command_machine_and_version(folder):
    line = results.benchmark_line("made_up", folder=folder)
    assert line.startswith("bench; a machine; torch ") and "commit `" in line


def test_an_edited_table_is_refused(folder):
    path = folder / "performance" / "made_up.csv"
    path.write_text(path.read_text().replace("300", "900"))
    with pytest.raises(UserError, match=r"made_up.csv is not the table that was published \(its seal differs\)"):
        results.benchmark("made_up", folder=folder)


def test_an_unknown_one_is_named_with_its_nearest(folder):
    with pytest.raises(UserError, match=r"unknown benchmark 'made_app'.*made_up"):
        results.benchmark("made_app", folder=folder)


@pytest.mark.parametrize("rows", [[], [ROWS[0] | {"theirs": 0.0}], [ROWS[0] | {"ours": float("nan")}]], ids=str)
def test_no_rows_or_no_speed_publish_nothing(rows, tmp_path):
    with pytest.raises(UserError, match="'x' has no rows, or a speed that is not above 0"):
        results.publish_benchmark("x", rows, goals={}, to=tmp_path)
    assert not (tmp_path / "performance").exists()


@pytest.mark.parametrize("name", results.benchmark_names())
def test_what_is_published_is_whole(name):
    table = results.benchmark(name)
    assert (abs(table["ours"] / table["theirs"] / table["ratio"] - 1) < 2e-3).all()
    assert not table.duplicated(["case", "device", "peer"]).any()
    assert "+" not in results.benchmark_line(name).split("commit")[1]
