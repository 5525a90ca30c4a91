"""Charts of chapter 4: valid specifications that survive JSON, fields that carry the data, words that say it."""

from __future__ import annotations

import json

import pytest
import vl_convert

from gendyn_lite.chapters.stiffness import charts as draw
from gendyn_lite.chapters.stiffness import charts_layers as draw_layers
from gendyn_lite.chapters.stiffness import charts_maps as draw_maps
from tests.chapters.specs import rows
from tests.chapters.stiffness import fake

CORNERS = {"two_moons": ((-1.0, -1.0), (1.0, 1.0)), "spirals": ((-2.0, -1.0), (2.0, 1.0))}


def test_the_map_is_drawn_where_its_points_are():
    """Vega splits the text and places the cells: a drawn map has a rectangle for every point."""
    spec = draw_maps.neighbourhood_maps(fake.maps(), CORNERS).to_dict()
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count('aria-roledescription="rect mark"') == 4
    assert "first coordinate: 0; second coordinate: −2; x2: 4.24; y2: 0.12; stiffness: −0.2; predicted class: 1" in svg


def test_a_deep_profile_has_the_layers_of_its_own_network_without_norms():
    shown = rows(draw_layers.deep_networks(fake.deep()))
    layers = shown.set_index(["network", "position"])["layer"].to_dict()
    expected = {"resnet18": ("conv", "block1a.conv1", "fc"), "vgg19": ("conv1_1", "conv1_2", "fc")}
    assert layers == {(name, i): layer for name, own in expected.items() for i, layer in enumerate(own, start=1)}
    without = {"moved at random as far", "untrained, statistics lag"}
    assert set(shown["training"]) == {"untrained", "true labels", "random labels"} | without


def test_true_labels_stand_beside_random_ones_at_every_rate():
    true, random = ([json.dumps(layer["transform"]) for layer in panel["layer"]] for panel in
                    draw.over_training(fake.training()).to_dict()["hconcat"])  # fmt: skip
    assert "training_rate" in true[0] and "training_rate" not in "".join(random)


def test_one_setting_at_a_time_has_the_centre_in_each_and_ends_at_one_loss():
    """Two panels: at equal epochs and at equal training loss; the made-up runs all end at a loss of 0.01."""
    shown = draw.one_factor(fake.training()).to_dict()
    at_end = [row for data in shown["datasets"].values() for row in data if row.get("level") == 0.01]
    means = {(row["factor"], row["setting"]): row["mean"] for row in at_end}
    assert means["labels", "true labels"] == means["learning rate", "rate 0.01"] == 0.101
    assert means["labels", "random labels"] == pytest.approx(0.021) and means["learning rate", "rate 0.03"] == 0.031
    assert {factor for factor, _ in means} == {"labels", "learning rate"}


def test_every_depth_is_drawn_with_all_of_its_layers():
    drawn = rows(draw_layers.depths(fake.layers()), "depth")
    assert drawn.groupby("depth")["position"].max().to_dict() == {2: 3, 4: 5, 8: 9}


def test_a_contrast_is_drawn_for_each_baseline():
    drawn = rows(draw_maps.boundary_contrasts(fake.maps())).drop_duplicates(["data", "kind"])
    found = drawn[drawn["data"] == "made-up spirals"].set_index("kind")["mean"]
    assert found[draw_maps.CONTRASTS].round(1).tolist() == [0.5, 0.2, 0.3, 0.4, 0.1]
