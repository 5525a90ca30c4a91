"""Charts of chapter 2: valid, described, their data those of the tables."""

from __future__ import annotations

from itertools import product

import altair as alt
import pandas as pd
import pytest

from gendyn_lite.chapters.path_functions import charts, charts_demo, tables
from tests.chapters.path_functions import fake
from tests.chapters.specs import rows

RUNS, DEEP = fake.networks(), fake.deep()
PICTURES = pd.DataFrame({"image": [0, 1, 2], "digit": [7, 4, 7], "picture": ["data:,a", "data:,b", "data:,c"]})
PAIRS = pd.DataFrame(
    [
        (layer, epoch, i, j, 1.0 + i + j, 0.5 - 0.1 * j, i + j == 2)
        for layer, epoch, (i, j) in product(("2: relu2", "4: relu4"), (0, 10), ((0, 1), (0, 2), (1, 2)))
    ],
    columns=["layer", "epoch", "i", "j", "distance", "overlap", "same"],
)
RANKS = pd.DataFrame(product(("1: relu1", "2: relu2"), (0, 1), (1, 2)), columns=["layer", "epoch", "neighbour"])
RANKS = RANKS.assign(anchor=0, rank=(RANKS["neighbour"] + RANKS["epoch"]) % 2)
MAPS = pd.DataFrame({"epoch": [0, 3], "cells": "0123" * 4, "accuracy": 0.5})
POINTS = pd.DataFrame([{"x": 0.5, "y": 0.5, "class": 1}])
UNITS = pd.DataFrame(product((0, 3), (1, 2), (1, 2, 3)), columns=["epoch", "layer", "unit"])
UNITS = UNITS.assign(point=1, on=UNITS["unit"] % 2, switched=(UNITS["epoch"] > 0).astype(int))
FUNCTIONS = pd.DataFrame({"epoch": [0, 3], "point": 1, "x": 0.5, "y": 0.5, "on": 2, "switched": 1})
FUNCTIONS = pd.concat([FUNCTIONS, FUNCTIONS.assign(point=2)], ignore_index=True)
FUNCTIONS = FUNCTIONS.assign(**{end: [None, 0.5] * 2 for end in ("x1", "y1", "x2", "y2")})
NEAREST = pd.DataFrame({"place": [0, 1], "image": [0, 2], "digit": 7, "share": [1.0, 0.8], "picture": "data:,"})
CHARTS = {
    "plane": lambda: charts_demo.plane(MAPS, POINTS, UNITS, FUNCTIONS),
    "scatter": lambda: charts_demo.scatter(PAIRS, PICTURES),
    "ranks": lambda: charts_demo.ranks(RANKS, PICTURES),
    "nearest": lambda: charts_demo.nearest(NEAREST),
}


def params(chart: alt.TopLevelMixin) -> list[str]:
    return [param["name"] for param in chart.to_dict()["params"]]


def test_distributions_offer_runs_layer_measure_and_a_slider():
    chart = charts.distributions(RUNS)
    assert params(chart) == ["dist_subject", "dist_place", "dist_what", "dist_epoch"]
    found = rows(chart)
    assert set(found["place"]) == {"1: relu1", "2: relu2", "3: relu3"}
    assert set(found["what"]) == set(charts.MEASURES.values())
    one = found[(found["epoch"] == 1) & (found["subject"] == "alexnet_small, true labels")]
    assert one["q50"].eq(0.8005).all()
    assert one["q05"].lt(one["q95"]).all()


def test_the_decays_are_drawn_where_there_are_some():
    layers = charts.distributions(RUNS).to_dict()["layer"]
    assert [layer["mark"].get("strokeDash") for layer in layers].count([2, 3]) == 1
    constant = RUNS[RUNS["schedule"] == "constant"]
    assert len(charts.distributions(constant).to_dict()["layer"]) == 5


def test_kinds_of_runs_keep_their_colours_and_intervals():
    found = rows(charts.kinds_of_runs(RUNS))
    assert list(found["runs"].unique()) == list(tables.KINDS_OF_RUNS)
    assert found["low"].notna().all()


def test_franken_shows_both_losses():
    found = rows(charts.franken(RUNS)).query("epoch == 3 and subject == 'alexnet_small, true labels'").set_index("of")
    assert found["mean"].to_dict() == pytest.approx({"along today's paths": 1.7, "along yesterday's paths": 1.6})


def test_the_ratio_says_its_correlation_with_an_interval():
    found = rows(charts.ratio(fake.ratio()))
    assert len(found) == 14 * 9
    assert found["words"].iloc[0].startswith("rank correlation -1.00 (")
    assert "mlp (widths 8), learning rate 0.01, weight decay 0.005, random crop" in set(found["name"])


def test_the_scatter_shows_the_pictures_of_the_pair_under_the_pointer():
    spec = CHARTS["scatter"]().to_dict()
    images = [layer for layer in spec["layer"] if layer["mark"]["type"] == "image"]
    assert [layer["transform"][-1]["lookup"] for layer in images] == ["i", "j"]


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
