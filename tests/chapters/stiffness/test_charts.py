"""Charts of chapter 4: valid specifications that survive JSON, fields that carry the data, words that say it."""

from __future__ import annotations

import pandas as pd
import pytest
import vl_convert

from gendyn_lite.chapters.stiffness import charts as draw
from gendyn_lite.chapters.stiffness import charts_layers as draw_layers
from gendyn_lite.errors import UserError
from tests.chapters.stiffness import fake

CORNERS = {"two_moons": ((-1.0, -1.0), (1.0, 1.0)), "spirals": ((-2.0, -1.0), (2.0, 1.0))}


def changes() -> pd.DataFrame:
    rows = [
        ("digit 3 (number 0)", step, j, pair, -step * (2 - j), -step * (2 - j) + step**2)
        for step in (0.01, 0.1)
        for j, pair in enumerate(("itself", "same digit", "other digit"))
    ]
    return pd.DataFrame(rows, columns=["example", "step", "digit", "pair", "predicted", "actual"])


CHARTS = {"step_changes": lambda: draw.step_changes(changes())}


def rows_of(spec) -> list[dict]:
    return [row for rows in spec["datasets"].values() for row in rows]


def test_the_changes_are_shown_per_step_size():
    rows = [row for row in rows_of(draw.step_changes(changes()).to_dict()) if "relative_actual" in row]
    assert {(row["size"], row["relative_predicted"]) for row in rows} == {(s, p) for s in (0, 1) for p in (-2, -1, 0)}


def test_the_map_is_drawn_where_its_points_are():
    """Vega splits the text and places the cells: a drawn map has a rectangle for every point."""
    spec = draw.neighbourhood_maps(fake.maps(), CORNERS).to_dict()
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count('aria-roledescription="rect mark"') == 4
    assert "first coordinate: 0; second coordinate: −2; x2: 4.24; y2: 0.12; stiffness: −0.2; predicted class: 1" in svg


def test_a_table_without_maps_is_refused():
    table = fake.maps()
    with pytest.raises(UserError, match="no run of the table holds a map"):
        draw.neighbourhood_maps(table[table["seed"] > 0], CORNERS)


def test_the_class_matrix_is_the_mean_over_seeds():
    rows = rows_of(draw.class_matrix(fake.training()).to_dict())
    after = {(row["one"], row["other"]): row["stiffness"] for row in rows if row["when"] == "after training"}
    assert after == {(0, 0): 0.3, (0, 1): -0.05, (1, 0): -0.05, (1, 1): 0.25}


def test_the_profile_is_the_mean_over_seeds_in_the_order_of_the_layers():
    rows = rows_of(draw_layers.trained_and_untrained(fake.layers(change=0.3)).to_dict())
    shown = {
        (row["layer"], row["position"]): row["mean"]
        for row in rows
        if row["state"] == "trained" and row["pairs"] == "within a class" and row["activation"] == "ReLU"
    }
    assert shown == pytest.approx({(f"fc{i}", i): 0.1 * i + 0.001 for i in range(1, 6)}, abs=1e-4)


def test_a_deep_profile_has_the_layers_of_its_own_network_without_norms():
    rows = rows_of(draw_layers.deep_networks(fake.deep()).to_dict())
    layers = {(row["network"], row["position"]): row["layer"] for row in rows}
    assert layers == {
        ("resnet18", 1): "conv",
        ("resnet18", 2): "block1a.conv1",
        ("resnet18", 3): "fc",
        ("vgg19", 1): "conv1_1",
        ("vgg19", 2): "conv1_2",
        ("vgg19", 3): "fc",
    }
    assert {row["training"] for row in rows} == {"untrained", "true labels", "random labels"}


def test_curves_are_means_with_intervals():
    rows = rows_of(draw.over_training(fake.training(peak=0.5)).to_dict())
    (row,) = [
        row
        for row in rows
        if row["epoch"] == 1
        and row["curve"] == "within, train-train"
        and row["kind"] == "cosine"
        and "true labels, rate 0.01" in row["condition"]
    ]
    assert row["mean"] == pytest.approx(0.501)
    assert row["low"] < row["mean"] < row["high"]
    assert row["seeds"] == 3


def test_distances_are_decoded():
    rows = rows_of(draw.against_distance(fake.training()).to_dict())
    assert {(row["distance"], row["mean"]) for row in rows} == {(0.1, 0.3), (0.4, 0.1)}
