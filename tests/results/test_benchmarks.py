"""Published benchmarks: ratio, provenance, goals; edited tables and empty ones are refused."""

from __future__ import annotations

import json

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


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["env"].update(commit="0" * 12),
        lambda record: record.update(goals={}),
        lambda record: record.update(seal={}),
    ],
    ids=["commit", "goals", "seal"],
)
def test_an_edited_record_is_refused(folder, change):
    path = folder / "performance" / "made_up.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    for attempt in (results.benchmark, results.benchmark_line):
        with pytest.raises(UserError, match="its seal differs"):
            attempt("made_up", folder=folder)


def test_a_damaged_record_is_named(folder):
    path = folder / "performance" / "made_up.json"
    path.write_bytes(b"\xfb" + path.read_bytes()[1:])
    with pytest.raises(UserError, match=r"made_up.json cannot be read .* restore its files"):
        results.benchmark("made_up", folder=folder)


def test_another_benchmark_leaves_the_first_as_it_is(folder):
    before = (folder / "performance" / "made_up.csv").read_bytes()
    results.publish_benchmark("second", ROWS[:1], goals={}, to=folder)
    assert results.benchmark_names(folder=folder) == ["made_up", "second"]
    assert (folder / "performance" / "made_up.csv").read_bytes() == before


def test_a_benchmark_has_a_name(tmp_path):
    with pytest.raises(UserError, match=r"benchmark is '../x', expected up to 64 letters"):
        results.publish_benchmark("../x", ROWS, goals={}, to=tmp_path)


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
