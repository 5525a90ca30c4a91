"""Charts of chapter 4: valid specifications that survive JSON, fields that carry the data, words that say it."""

from __future__ import annotations

import json

import vl_convert

from gendyn_lite.chapters.stiffness import charts as draw
from gendyn_lite.chapters.stiffness import charts_layers as draw_layers
from tests.chapters.specs import rows
from tests.chapters.stiffness import fake

CORNERS = {"two_moons": ((-1.0, -1.0), (1.0, 1.0)), "spirals": ((-2.0, -1.0), (2.0, 1.0))}


def test_the_map_is_drawn_where_its_points_are():
    """Vega splits the text and places the cells: a drawn map has a rectangle for every point."""
    spec = draw.neighbourhood_maps(fake.maps(), CORNERS).to_dict()
    svg = vl_convert.vegalite_to_svg(spec)
    assert svg.count('aria-roledescription="rect mark"') == 4
    assert "first coordinate: 0; second coordinate: −2; x2: 4.24; y2: 0.12; stiffness: −0.2; predicted class: 1" in svg


def test_a_deep_profile_has_the_layers_of_its_own_network_without_norms():
    shown = rows(draw_layers.deep_networks(fake.deep()))
    layers = shown.set_index(["network", "position"])["layer"].to_dict()
    expected = {"resnet18": ("conv", "block1a.conv1", "fc"), "vgg19": ("conv1_1", "conv1_2", "fc")}
    assert layers == {(name, i): layer for name, own in expected.items() for i, layer in enumerate(own, start=1)}
    assert set(shown["training"]) == {"untrained", "true labels", "random labels"}


def test_true_labels_stand_beside_random_ones_at_every_rate():
    true, random = ([json.dumps(layer["transform"]) for layer in panel["layer"]] for panel in
                    draw.over_training(fake.training()).to_dict()["hconcat"])  # fmt: skip
    assert "training_rate" in true[0] and "training_rate" not in "".join(random)
