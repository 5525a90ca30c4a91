"""Charts of chapter 4: valid specifications that survive JSON, fields that carry the data, words that say it."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import vl_convert

from gendyn_lite.chapters.stiffness import charts as draw
from gendyn_lite.chapters.stiffness import charts_layers as draw_layers
from tests.chapters.specs import rows
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


def test_the_changes_are_shown_per_step_size():
    shown = rows(draw.step_changes(changes()), "relative_actual")
    assert shown.groupby("step")["relative_predicted"].agg(set).to_dict() == {0.01: {-2, -1, 0}, 0.1: {-2, -1, 0}}


def test_the_map_is_drawn_where_its_points_are():
    """Vega splits the text and places the cells: a drawn map has a rectangle for every point."""
    spec = draw.neighbourhood_maps(fake.maps(), CORNERS).to_dict()
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count('aria-roledescription="rect mark"') == 4
    assert "first coordinate: 0; second coordinate: −2; x2: 4.24; y2: 0.12; stiffness: −0.2; predicted class: 1" in svg


def test_the_class_matrix_is_the_mean_over_seeds():
    after = rows(draw.class_matrix(fake.training())).query("when == 'after training'")
    expected = {(0, 0): 0.3, (0, 1): -0.05, (1, 0): -0.05, (1, 1): 0.25}
    assert after.set_index(["one", "other"])["stiffness"].to_dict() == expected


def test_the_profile_is_the_mean_over_seeds_in_the_order_of_the_layers():
    shown = rows(draw_layers.trained_and_untrained(fake.layers(change=0.3)))
    shown = shown.query("state == 'trained' and pairs == 'within a class' and activation == 'ReLU'")
    expected = {(f"fc{i}", i): 0.1 * i + 0.001 for i in range(1, 6)}
    assert shown.set_index(["layer", "position"])["mean"].to_dict() == pytest.approx(expected, abs=1e-4)


def test_a_deep_profile_has_the_layers_of_its_own_network_without_norms():
    shown = rows(draw_layers.deep_networks(fake.deep()))
    layers = shown.set_index(["network", "position"])["layer"].to_dict()
    expected = {"resnet18": ("conv", "block1a.conv1", "fc"), "vgg19": ("conv1_1", "conv1_2", "fc")}
    assert layers == {(name, i): layer for name, own in expected.items() for i, layer in enumerate(own, start=1)}
    assert set(shown["training"]) == {"untrained", "true labels", "random labels"}


def test_curves_are_means_with_intervals():
    table = rows(draw.over_training(fake.training(peak=0.5)), "curve")
    table = table[(table["labels"] == "true labels") & (table["rate"] == 0.01)]
    (row,) = table.query("epoch == 1 and curve == 'within, train-train' and kind == 'cosine'").to_dict("records")
    assert row["mean"] == pytest.approx(0.501) and row["low"] < row["mean"] < row["high"] and row["seeds"] == 3


def test_distances_are_decoded():
    shown = rows(draw.against_distance(fake.training()))
    assert set(zip(shown["distance"], shown["mean"], strict=True)) == {(0.1, 0.3), (0.4, 0.1)}


def test_every_state_of_the_menus_shows_true_beside_random_labels():
    true, random = draw.over_training(fake.training()).to_dict()["hconcat"]
    assert (true["title"], random["title"]) == ("true labels", "random labels, rate 0.01")
    filters = [json.dumps([layer["transform"] for layer in panel["layer"]]) for panel in (true, random)]
    assert "training_rate" in filters[0] and "training_rate" not in filters[1]


def test_activations_are_drawn_together_for_each_width():
    panels = draw_layers.architectures(fake.layers()).to_dict()["hconcat"]
    assert [panel["title"] for panel in panels] == ["8 units a layer", "32 units a layer"]
    colours = [layer["encoding"]["color"] for panel in panels for layer in panel["layer"]]
    assert {(one["field"], *one["scale"]["domain"]) for one in colours} == {("activation", "ReLU", "tanh", "LeakyReLU")}
