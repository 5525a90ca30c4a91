"""What chapter 4 publishes: that its text says what the tables say."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.stiffness.claims import of_deep_networks
from gendyn_lite.chapters.stiffness.tables import long_layers

DEEP = results.published("stiffness_deep")
KINDS = {(network, labels) for network in ("resnet18", "vgg19") for labels in (0.0, 1.0)}


def test_both_networks_fit_true_and_random_labels_with_five_seeds():
    ends = DEEP.sort_values("epoch").groupby("run_id").tail(1)
    assert ends["train_accuracy"].min() == 1
    seeds = ends.groupby(["network", "label_corruption"])["seed"].nunique()
    assert set(seeds.index) == KINDS and set(seeds) == {5}


def test_late_layers_set_classes_apart_and_random_labels_take_little_of_it():
    found = of_deep_networks(DEEP)
    late = found[found["statement"] == "Late layers set classes apart more than early ones"]
    assert len(late) == 2 and set(late["verdict"]) == {"holds"}
    less = found[found["statement"] == "With random labels, classes are set apart less"].set_index("subject")["value"]
    value = {subject.split(" ")[0]: size for subject, size in less.items()}
    assert -0.1 < value["resnet18"] < -0.03 < -0.02 < value["vgg19"] < 0.01


def test_untrained_networks_set_classes_apart_too_and_more():
    rows = long_layers(DEEP)
    rows = rows.assign(
        gap=rows["within"] - rows["between"],
        third=rows["number"] * 3 > 2 * rows.groupby("network")["number"].transform("max"),
    )
    late = rows[rows["third"]].groupby(["network", "state"])["gap"].mean()
    early = rows[~rows["third"]].groupby(["network", "state"])["gap"].mean()
    assert (late > early + 0.2).all()
    for network in ("resnet18", "vgg19"):
        assert late[network, "untrained"] > late[network, "trained"]


def test_what_the_text_says_of_training():
    """At the rate of 0.01: the fall from the peak, and random labels beside true ones at the peak and when fitted."""
    runs = results.published("stiffness_training")
    runs = runs[runs["learning_rate"] == 0.01]
    column = "stiffness/within_cosine"
    by = ["data", "label_corruption", "seed"]
    ends = runs.sort_values("epoch").groupby(by).tail(1).set_index(by)
    assert ends["train_accuracy"].min() == 1
    peak = runs[runs["epoch"] > 0].groupby(by)[column].max().groupby(by[:2]).mean().unstack()
    end = ends[column].groupby(by[:2]).mean().unstack()
    left = (end / peak)[0.0]
    assert (left["MNIST"], left["CIFAR-10 (JPEG q75)"]) == (pytest.approx(0.75, abs=0.05), pytest.approx(0.6, abs=0.02))
    assert (peak[1.0] / peak[0.0]).between(0.75, 0.85).all()
    kept = end[1.0] / end[0.0]
    assert (kept["MNIST"], kept["CIFAR-10 (JPEG q75)"]) == (pytest.approx(0.25, abs=0.03), pytest.approx(0.6, abs=0.04))
    test = ends["stiffness/test_within_cosine"].groupby(by[:2]).mean().unstack()
    assert (test < end).all(axis=None)  # once training images are memorized, those of the test set are helped less


def test_the_classes_of_a_map_are_text_with_their_zeros():
    """Tables from before apostrophes were written."""
    maps = results.published("stiffness_maps")["map/predicted"].dropna()
    assert set(maps.str.len()) == {36 * 36} and maps.str.startswith("0").any()
