"""Charts of chapter 2: valid, described, their data those of the tables."""

from __future__ import annotations

import json
from itertools import product

import altair as alt
import pandas as pd
import pytest

from gendyn_lite.chapters.path_functions import charts, charts_demo, tables
from gendyn_lite.charts.figure import figure_html
from tests.chapters.path_functions import fake

RUNS, DEEP, RATIO = fake.networks(), fake.deep(), fake.ratio()
PICTURES = pd.DataFrame({"image": [0, 1, 2], "digit": [7, 4, 7], "picture": ["data:,a", "data:,b", "data:,c"]})
PAIRS = pd.DataFrame(
    [
        {
            "layer": layer,
            "epoch": epoch,
            "i": i,
            "j": j,
            "distance": 1.0 + i + j,
            "overlap": 0.5 - 0.1 * j,
            "same": i + j == 2,
        }
        for layer in ("2: relu2", "4: relu4")
        for epoch in (0, 10)
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
)
RANKS = pd.DataFrame(
    [
        {"layer": layer, "epoch": epoch, "anchor": 0, "neighbour": other, "rank": (other + epoch) % 2}
        for layer in ("1: relu1", "2: relu2")
        for epoch in (0, 1)
        for other in (1, 2)
    ]
)
MAPS = pd.DataFrame([{"epoch": epoch, "cells": "0123" * 4, "accuracy": 0.5} for epoch in (0, 3)])
POINTS = pd.DataFrame([{"x": 0.5, "y": 0.5, "class": 1}])
UNITS = pd.DataFrame(
    [
        {"epoch": epoch, "point": 1, "layer": layer, "unit": unit, "on": unit % 2, "switched": int(epoch > 0)}
        for epoch in (0, 3)
        for layer in (1, 2)
        for unit in (1, 2, 3)
    ]
)
FUNCTIONS = pd.DataFrame(
    [
        {"epoch": epoch, "point": 1, "x": 0.5, "y": 0.5, "on": 2, "switched": 1, "x1": x, "y1": x, "x2": x, "y2": x}
        for epoch, x in ((0, None), (3, 0.5))
    ]
)
CHARTS = {
    "distributions": lambda: charts.distributions(RUNS),
    "deep": lambda: charts.distributions(DEEP),
    "kinds": lambda: charts.kinds_of_runs(RUNS),
    "franken": lambda: charts.franken(RUNS),
    "unseen": lambda: charts.unseen(fake.unseen()),
    "isolation": lambda: charts.isolation(RUNS),
    "kept": lambda: charts.neighbours_kept(RUNS),
    "overlap": lambda: charts.overlap_by_distance(RUNS),
    "ratio": lambda: charts.ratio(RATIO),
    "plane": lambda: charts_demo.plane(MAPS, POINTS, UNITS, FUNCTIONS),
    "scatter": lambda: charts_demo.scatter(PAIRS, PICTURES),
    "ranks": lambda: charts_demo.ranks(RANKS, PICTURES),
    "nearest": lambda: charts_demo.nearest(
        pd.DataFrame(
            {"place": [0, 1], "image": [0, 2], "digit": [7, 7], "share": [1.0, 0.8], "picture": ["data:,", "data:,"]}
        )
    ),
}


def rows(chart: alt.TopLevelMixin) -> pd.DataFrame:
    data = chart.to_dict()["datasets"]
    return pd.DataFrame(max(data.values(), key=len))


def params(chart: alt.TopLevelMixin) -> list[str]:
    return [param["name"] for param in chart.to_dict()["params"]]


@pytest.mark.parametrize("name", CHARTS)
def test_it_is_a_figure(name):
    chart = CHARTS[name]()
    spec = chart.to_dict()
    assert alt.LayerChart.from_dict(json.loads(json.dumps(spec))).to_dict()["layer"]
    assert spec["description"]
    assert figure_html(spec)


def test_distributions_offer_runs_layer_measure_and_a_slider():
    chart = CHARTS["distributions"]()
    assert params(chart) == ["dist_subject", "dist_place", "dist_what", "dist_epoch"]
    found = rows(chart)
    assert set(found["place"]) == {"1: relu1", "2: relu2", "3: relu3"}
    assert set(found["what"]) == set(charts.MEASURES.values())
    one = found[(found["epoch"] == 1) & (found["subject"] == "alexnet_small, true labels")]
    assert one["q50"].eq(0.8005).all()
    assert one["q05"].lt(one["q95"]).all()


def test_the_decays_are_drawn_where_there_are_some():
    decays = [
        layer for layer in CHARTS["distributions"]().to_dict()["layer"] if layer["mark"].get("strokeDash") == [2, 3]
    ]
    assert len(decays) == 1
    constant = RUNS[RUNS["schedule"] == "constant"]
    assert len(charts.distributions(constant).to_dict()["layer"]) == 5


def test_kinds_of_runs_keep_their_colours_and_intervals():
    found = rows(CHARTS["kinds"]())
    assert list(found["runs"].unique()) == list(tables.KINDS_OF_RUNS)
    assert found["low"].notna().all()
    assert rows(charts.kinds_of_runs(fake.networks(seeds=2)))["low"].isna().all()


def test_franken_shows_both_losses():
    found = rows(CHARTS["franken"]()).query("epoch == 3 and subject == 'alexnet_small, true labels'").set_index("of")
    assert found["mean"].to_dict() == pytest.approx({"along today's paths": 1.7, "along yesterday's paths": 1.6})
    assert "true labels +0.100" in CHARTS["franken"]().to_dict()["description"]


def test_the_ratio_says_its_correlation_with_an_interval():
    chart = CHARTS["ratio"]()
    found = rows(chart)
    assert len(found) == 14 * 9
    assert found["words"].iloc[0].startswith("rank correlation -1.00 (")
    assert "mlp (widths 8), learning rate 0.01, weight decay 0.005, random crop" in set(found["name"])


def test_the_plane_moves_by_time_and_point():
    spec = CHARTS["plane"]().to_dict()
    assert {param["name"]: param["bind"]["input"] for param in spec["params"]} == {
        "plane_turn": "range",
        "plane_point": "range",
    }
    assert "2 units are on for the first point" in spec["description"]


def test_the_scatter_shows_the_pictures_of_the_pair_under_the_pointer():
    spec = CHARTS["scatter"]().to_dict()
    images = [layer for layer in spec["layer"] if layer["mark"]["type"] == "image"]
    assert [layer["transform"][-1]["lookup"] for layer in images] == ["i", "j"]
    assert "layer 2: relu2, epoch 0: -0." in spec["description"]


def test_no_parameter_is_called_q():
    for make in CHARTS.values():
        assert "q" not in [param["name"] for param in make().to_dict().get("params", [])]


def test_every_choice_of_the_menus_has_data_where_networks_name_their_layers_differently():
    vgg = DEEP["network"] == "vgg19"
    other_names = {name: str(name).replace("paths/", "paths/features_") for name in DEEP}
    both = pd.concat([DEEP[~vgg], DEEP[vgg].rename(columns=other_names)], ignore_index=True)
    spec = charts.distributions(both).to_dict()
    menus = {param["name"].removeprefix("dist_"): param["bind"]["options"] for param in spec["params"] if
             param.get("bind", {}).get("input") == "select"}  # fmt: skip
    found = {tuple(row[name] for name in menus) for rows in spec["datasets"].values() for row in rows if "what" in row}
    assert found == set(product(*menus.values()))
    assert menus["place"][0].count(" / ") == 1
