"""Published benchmarks: ratio, provenance, goals; edited tables and empty ones are refused. The status counts all."""

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


def test_ratio_goal_and_provenance_stand_beside_the_speeds(folder):
    table = results.benchmark("made_up", folder=folder)
    assert table["ratio"].tolist() == [3.0, 0.75]
    assert table["goal"].tolist()[0] == 2.0 and pd.isna(table["goal"].tolist()[1])
    line = results.benchmark_line("made_up", folder=folder)
    assert line.startswith("bench; a machine; torch ") and "commit `" in line


@pytest.mark.parametrize(
    ("kind", "old", "new", "said"),
    [
        ("csv", b"300", b"900", r"made_up.csv is not the table .* \(its seal differs\)"),
        ("json", b"a machine", b"another", "its seal differs"),
        ("json", b"2.0", b"1.0", "its seal differs"),
        ("json", b'"seal"', b'"sael"', "its seal differs"),
        ("json", b"{", b"\xfb", r"made_up.json cannot be read .* restore its files"),
    ],
    ids=["table", "environment", "goals", "seal", "damaged"],
)
def test_what_was_edited_or_damaged_is_refused(folder, kind, old, new, said):
    path = folder / "performance" / f"made_up.{kind}"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new))
    for attempt in (results.benchmark, results.benchmark_line):
        with pytest.raises(UserError, match=said):
            attempt("made_up", folder=folder)


@pytest.mark.parametrize("rows", [[], [ROWS[0] | {"theirs": 0.0}], [ROWS[0] | {"ours": float("nan")}]], ids=str)
def test_no_rows_or_no_speed_publish_nothing(rows, tmp_path):
    with pytest.raises(UserError, match="'x' has no rows, or a speed that is not above 0"):
        results.publish_benchmark("x", rows, goals={}, to=tmp_path)
    assert not (tmp_path / "performance").exists()


def test_names_are_names_and_unknown_ones_get_the_nearest(folder):
    with pytest.raises(UserError, match=r"benchmark is '../x', expected up to 64 letters"):
        results.publish_benchmark("../x", ROWS, goals={}, to=folder)
    with pytest.raises(UserError, match=r"unknown benchmark 'made_app'.*made_up"):
        results.benchmark("made_app", folder=folder)


@pytest.mark.parametrize("name", results.benchmark_names())
def test_what_is_published_is_whole(name):
    table = results.benchmark(name)
    assert (abs(table["ours"] / table["theirs"] / table["ratio"] - 1) < 2e-3).all()
    assert not table.duplicated(["case", "device", "peer"]).any()
    assert "+" not in results.benchmark_line(name).split("commit")[1]


def test_the_status_counts_every_published_run_once():
    status, names = results.status(), results.published_experiments()
    assert status["runs"].sum() == sum(results.published(name)["run_id"].nunique() for name in names)
    assert (status["hours"] >= 0).all() and (status["seeds"] >= 1).all()
