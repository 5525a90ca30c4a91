"""Charts of chapter 5: valid, described, their data those of the tables."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite.chapters.generalization_intervals import charts as intervals
from gendyn_lite.chapters.generalization_intervals.tables import convolutional
from tests.chapters.generalization_intervals import fake as fake_intervals
from tests.chapters.specs import rows

TABLE = pd.concat(
    [fake_intervals.table(), fake_intervals.table(data="other data", networks=fake_intervals.NETWORKS[:1])]
)
ABOUT = {"labels": "true labels", "towards": "at random"}
LOGITS = pd.DataFrame(
    [{"alpha": a, "logit": a, "of": of, **ABOUT} for of in (intervals.OWN, intervals.OTHER) for a in (-1, 2)]
)
ENDS = pd.DataFrame([{"lower": -0.5, "upper": 1.25, "regions": 7, **ABOUT}])
IMAGES = pd.DataFrame([{"alpha": 0, "image": "data:,", **ABOUT}])
CELLS = pd.DataFrame([{"x": 0, "x2": 1, "y": 0, "y2": 1, "class": 0, "shade": 2}])
POINTS = pd.DataFrame([{"x": 0.5, "y": 0.5, "class": 1}])
PLACES = {f"{name}_{axis}{end}": 0.5 for name in ("whole", "part", "at") for axis in "xy" for end in ("", "2")}
LINES = pd.DataFrame([{"start": 1, "angle": 105, "lower": -1, "upper": 0.4, "regions": 3, **PLACES}])
LINES = pd.concat([LINES, LINES.assign(angle=120), LINES.assign(start=2)])
KNOTS = pd.DataFrame([{"start": 1, "angle": 105, "alpha": 0.2, "x": 0.5, "y": 0.6}])
CHARTS = {
    "planar": lambda: intervals.planar(CELLS, POINTS, LINES, KNOTS),
    "paths": lambda: intervals.paths(LOGITS, ENDS, IMAGES),
    "path alone": lambda: intervals.paths(*(each.drop(columns=[*ABOUT]) for each in (LOGITS, ENDS)), pd.DataFrame()),
}


def test_a_path_leaves_room_for_pictures_where_it_has_some():
    marks = {name: [layer["mark"]["type"] for layer in CHARTS[name]().to_dict()["layer"]] for name in list(CHARTS)[1:]}
    assert marks == {"paths": ["rect", "line", "text", "point", "image"], "path alone": ["rect", "line", "text"]}


def test_the_menu_offers_data_and_resolution():
    found = rows(intervals.densities(TABLE))
    assert set(found["subject"]) == {"made-up data", "made-up data, 1/4 of the side", "other data"}
    assert set(rows(intervals.densities(TABLE, by="widths"))["subject"]) == {"1x512", "3x128"}


def test_shares_add_up_to_one():
    found = rows(intervals.densities(TABLE))
    assert found.groupby(["subject", "labels"])["share"].sum().round(6).eq(1).all()


def test_training_shows_both_readings():
    found = rows(intervals.during_training(TABLE)).query("data == 'made-up data'").set_index(["of", "epoch"])
    assert found.loc[("length / 3", 0), "value"] == pytest.approx(2 / 3, abs=1e-3)
    assert found.loc[("length / 3, unfitted: 0", 0), "value"] == pytest.approx(0.2 / 3, abs=1e-3)


def test_the_bound_s_reach_stands_beside_the_distance_to_new_images():
    table = fake_intervals.table(bound_reach=0.001, bound_nearest=2.0)
    found = rows(intervals.bound_reach(table)).groupby("of")["distance"].unique().map(list).to_dict()
    assert found == {intervals.REACH: [0.001], intervals.NEAREST: [2.0]}
    assert f"3x128, {intervals.REACH}: 0.001" in intervals.bound_reach(table).to_dict()["description"]


def test_convolutional_networks_have_a_row_for_each_kind_of_labels():
    found = convolutional(fake_intervals.table(conv=True).assign(**{"intervals/method": "certified"}))
    assert [row[2:] for row in found] == [
        ("true labels", "100%", "2.70", "4.60", "50", "certified"),
        ("random labels", "100%", "2.70", "3.60", "50", "certified"),
    ]
