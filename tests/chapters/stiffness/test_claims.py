"""Claims of chapter 4: each verdict follows from the table, and a claim that fails is shown as failing."""

from __future__ import annotations

import pytest

from gendyn_lite.chapters.stiffness import claims
from tests.chapters.stiffness import fake

APART = "Examples of one class are stiffer with each other than with another class"
FALLS = "Stiffness within a class falls towards zero as the network overfits"
SAME = "Training and test examples are as stiff with each other as training examples are"
LENGTH = "The critical length falls with training"
RATE = "Larger learning rates lead to lower stiffness"
RATE_LENGTH = "Larger learning rates lead to a smaller critical length"
RANDOM = "With random labels there is less stiffness within a class"
CHANGES = "Training changes the stiffness of the layers"
SPREAD = "Stiffness changes through the layers of a trained network"
TANH = "Networks of tanh have another profile through the layers than those of ReLU"
LEAKY = "Networks of LeakyReLU are as stiff as those of ReLU"
LATE = "Late layers set classes apart more than early ones"
LESS = "With random labels, classes are set apart less"
PLANE = "Stiffness with the neighbours shows the learned boundary"


@pytest.mark.parametrize(
    ("claimed", "statements"),
    [
        (claims.during_training(fake.training()), {APART, FALLS, SAME, LENGTH, RATE, RATE_LENGTH, RANDOM}),
        (claims.over_the_plane(fake.maps()), {PLANE}),
        (claims.by_layer(fake.layers()), {CHANGES, SPREAD, TANH, LEAKY}),
        (claims.of_deep_networks(fake.deep()), {LATE, LESS}),
    ],
    ids=["training", "plane", "layers", "deep"],
)
def test_runs_that_behave_as_claimed_hold_every_claim(claimed, statements):
    assert set(claimed["statement"]) == statements
    assert set(claimed["verdict"]) == {"holds"}
    assert set(claimed["n_seeds"]) == {3}


@pytest.mark.parametrize(
    ("claimed", "statement", "verdict"),
    [
        (claims.during_training(fake.training(between=0.45)), APART, "weaker"),
        (claims.during_training(fake.training(between=0.5)), APART, "not seen"),
        (claims.during_training(fake.training(end=0.4)), FALLS, "not seen"),
        (claims.during_training(fake.training(test=0.3)), SAME, "not seen"),
        (claims.during_training(fake.training(slower=1.5)), RATE_LENGTH, "not seen"),
        (claims.during_training(fake.training(random=0.5)), RANDOM, "not seen"),
        (claims.during_training(fake.training(seeds=1)), APART, "not testable at this size"),
        (claims.over_the_plane(fake.maps(contrast=0.1)), PLANE, "weaker"),
        (claims.over_the_plane(fake.maps(contrast=0.0)), PLANE, "not seen"),
        (claims.by_layer(fake.layers(change=0.0)), CHANGES, "not seen"),
        (claims.by_layer(fake.layers(tanh=0.0)), TANH, "not seen"),
        (claims.by_layer(fake.layers(leaky=0.3)), LEAKY, "not seen"),
        (claims.of_deep_networks(fake.deep(late=-0.3)), LATE, "not seen"),
        (claims.of_deep_networks(fake.deep(random=0.1)), LESS, "not seen"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_claim_that_fails_is_shown_as_failing(claimed, statement, verdict):
    assert set(claimed.loc[claimed["statement"] == statement, "verdict"]) == {verdict}


def test_values_are_those_of_the_table():
    found = claims.during_training(fake.training(peak=0.5, end=0.1, between=0.2)).set_index("statement")["value"]
    assert found[APART] == pytest.approx(0.3, abs=0.01)
    assert found[FALLS] == pytest.approx(0.2, abs=0.01)
    assert found[LENGTH] == pytest.approx(0.6, abs=0.01)
    assert found[RANDOM] == pytest.approx(0.4, abs=0.01)
    layers = claims.by_layer(fake.layers(change=0.3, tanh=0.3)).set_index("statement")["value"]
    assert layers[CHANGES] == pytest.approx(0.3)
    assert layers[SPREAD] == pytest.approx(0.4)
    assert layers[TANH] == pytest.approx(0.3)
    deep = claims.of_deep_networks(fake.deep(late=0.3)).set_index("statement")["value"]
    assert deep[LATE].tolist() == pytest.approx([0.3, 0.3], abs=0.01)


def test_the_untrained_network_is_no_peak():
    """Stiffness is largest before training; the peak is that of the trained network."""
    found = claims.during_training(fake.training(peak=0.5)).set_index("statement")["value"]
    assert found[APART] < 0.6


def test_runs_that_did_not_fit_have_no_claims_on_layers():
    assert claims.by_layer(fake.layers(accuracy=0.8)).empty
