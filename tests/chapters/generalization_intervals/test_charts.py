"""Charts of chapter 5: valid, described, their data those of the tables."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite.chapters.generalization_intervals import charts as intervals
from tests.chapters.generalization_intervals import fake as fake_intervals
from tests.chapters.specs import rows

TABLE = pd.concat(
    [fake_intervals.table(), fake_intervals.table(data="other data", networks=fake_intervals.NETWORKS[:1])]
)


def test_the_menu_offers_data_and_resolution():
    found = rows(intervals.densities(TABLE))
    assert set(found["subject"]) == {"made-up data", "made-up data, 1/4 of the side", "other data"}
    assert set(rows(intervals.densities(TABLE, by="widths"))["subject"]) == {"1x512", "3x128"}


def test_shares_add_up_to_one():
    found = rows(intervals.densities(TABLE))
    assert found.groupby(["subject", "labels"])["share"].sum().round(6).eq(1).all()


def test_an_interval_of_two_seeds_is_not_drawn():
    found = rows(intervals.directions(fake_intervals.table(seeds=2)))
    assert found["low"].isna().all() and found["length"].notna().all()


def test_training_shows_both_readings():
    found = rows(intervals.during_training(TABLE)).query("data == 'made-up data'").set_index(["of", "epoch"])
    assert found.loc[("length / 3", 0), "value"] == pytest.approx(2 / 3, abs=1e-3)
    assert found.loc[("length / 3, unfitted: 0", 0), "value"] == pytest.approx(0.2 / 3, abs=1e-3)


@pytest.fixture(scope="module")
def line() -> dict[str, pd.DataFrame]:
    about = {"labels": "true labels", "towards": "at random"}
    logits = pd.DataFrame(
        [{**about, "alpha": a, "logit": a, "of": name} for name in (intervals.OWN, intervals.OTHER) for a in (-1, 2)]
    )
    ends = pd.DataFrame([{**about, "lower": -0.5, "upper": 1.25, "regions": 7}])
    return {"logits": logits, "intervals": ends, "images": pd.DataFrame([{**about, "alpha": 0, "image": "data:,"}])}


def test_a_path_says_its_interval_and_leaves_room_for_pictures(line):
    chart = intervals.paths(**line)
    spec = chart.to_dict()
    assert "at random: -0.50 to 1.25" in spec["description"]
    assert [param["name"] for param in spec["params"]] == ["chosen_labels", "chosen_towards"]
    assert [layer["mark"]["type"] for layer in spec["layer"]] == ["rect", "line", "text", "point", "image"]
    alone = {name: table.drop(columns=["labels", "towards"]) for name, table in line.items()}
    spec = intervals.paths(alone["logits"], alone["intervals"], pd.DataFrame()).to_dict()
    assert "params" not in spec and len(spec["layer"]) == 3


def test_the_plane_moves_by_two_sliders():
    cells = pd.DataFrame([{"x": 0, "x2": 1, "y": 0, "y2": 1, "class": 0, "shade": 2}])
    points = pd.DataFrame([{"x": 0.5, "y": 0.5, "class": 1}])
    places = {f"{name}_{axis}{end}": 0.5 for name in ("whole", "part", "at") for axis in "xy" for end in ("", "2")}
    lines = pd.DataFrame([{"start": 1, "angle": 105, "lower": -1, "upper": 0.4, "regions": 3, **places}])
    lines = pd.concat([lines, lines.assign(angle=120), lines.assign(start=2)])
    knots = pd.DataFrame([{"start": 1, "angle": 105, "alpha": 0.2, "x": 0.5, "y": 0.6}])
    spec = intervals.planar(cells, points, lines, knots).to_dict()
    found = {param["name"]: param["bind"]["options"] for param in spec["params"]}
    assert found == {"start": [1, 2], "angle": [105, 120]}
    assert "interval is -1.00 to 0.40, through 3 regions" in spec["description"]
