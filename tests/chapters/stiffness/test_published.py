"""What chapter 4 publishes of deep networks: that its text says what the table says."""

from __future__ import annotations

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
