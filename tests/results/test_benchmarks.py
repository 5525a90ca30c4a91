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


def test_what_the_page_says_of_speed():
    tables = {name: results.benchmark(name) for name in results.benchmark_names()}
    missed = {name: table[table["ratio"] < table["goal"]] for name, table in tables.items()}
    assert sum(table["goal"].notna().sum() for table in tables.values()) == 59
    numbers = {"fisher": 2, "paths": 1, "stiffness": 2, "training": 7}
    assert {name: len(rows) for name, rows in missed.items() if len(rows)} == numbers
    assert missed["paths"]["case"].str.endswith("packed").all()
    assert missed["training"]["case"].str.contains("alexnet|inception|resnet|vgg").sum() == 6
    ratios = tables["training"].groupby("peer")["ratio"].agg(["min", "max"])
    assert ratios.loc["bare step"].round(2).tolist() == [0.87, 1.06]
    assert ratios.loc["DataLoader loop"].round(1).tolist() == [1.9, 63.0]
    assert ratios.loc["one by one"].round().tolist() == [4, 9]
    deep = tables["training"].query("peer == 'DataLoader loop' and not case.str.startswith('mlp')")
    lower = deep["case"].str.contains("bfloat16")
    assert [(round(part.min(), 1), round(part.max(), 1)) for part in (deep["ratio"][~lower], deep["ratio"][lower])] == [
        (1.9, 3.0),
        (3.0, 4.8),
    ]


def test_what_the_page_says_of_the_best_peer_of_a_measure():
    best = {}
    for name in ("fisher", "stiffness", "paths", "intervals"):
        table = results.benchmark(name).query("peer != 'forward+backward'")
        least = table.loc[table.groupby("case", sort=False)["ratio"].idxmin()]
        best[name] = [(peer, round(ratio, 1)) for peer, ratio in zip(least["peer"], least["ratio"], strict=True)]
    assert best["fisher"] == [("nngeometry", 1.3), ("nngeometry", 1.6), ("loop", 1.5)]
    assert best["stiffness"] == [("nngeometry", 2.4), ("nngeometry", 3.2), ("torch.func", 2.9)]
    assert best["intervals"] == [("ExactLine", 4.3)]
    assert [ratio for _, ratio in best["paths"]] == [5.1, 4.5, 5.9, 1.0]
