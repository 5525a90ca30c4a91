"""Claims of chapter 1: each verdict follows from the table, and a claim that fails is shown as failing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendyn_lite.chapters.random_labels import claims as label_claims
from gendyn_lite.claims import AtLeast, Below, Near
from tests.chapters.random_labels import fake as fake_runs

FITS = "Networks fit completely random labels"
CHANCE = "After fitting random labels, test accuracy is at chance"
FACTOR = "Random labels take longer to fit than true labels only by a small constant factor"
STEADY = "Test error rises steadily with the fraction of corrupted labels"
GAP = "Randomizing the labels alone makes the generalization error jump"
SOONER = "Gaussian inputs are fitted sooner than random labels"


def verdicts(**options):
    found = label_claims.claims(fake_runs.table(**options))
    return found.set_index("statement")


def test_runs_that_behave_as_the_paper_says_hold_every_claim():
    found = verdicts()
    assert set(found["verdict"]) == {"holds"}
    assert len(found) == 10


@pytest.mark.parametrize(
    ("options", "statement", "verdict"),
    [
        ({"fitted": False}, FITS, "not seen"),
        ({"chance_accuracy": 0.3}, CHANCE, "not seen"),
        ({"slowdown": 20.0}, FACTOR, "not seen"),
        ({"slowdown": 0.5}, SOONER, "not seen"),
        ({"chance_accuracy": 0.9}, GAP, "not seen"),
        ({"seeds": 1}, FITS, "not testable at this size"),
        ({"corruptions": (0.0, 1.0)}, STEADY, "not testable at this size"),
        ({"fitted": False}, FACTOR, "not testable at this size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_claim_that_fails_is_shown_as_failing(options, statement, verdict):
    assert verdicts(**options).loc[statement, "verdict"] == verdict


def test_values_are_those_of_the_table():
    found = verdicts(slowdown=3.0)
    assert found.loc[FACTOR, "value"] == pytest.approx(3.0)
    assert found.loc[FACTOR, "effect"] == pytest.approx(3.0 - 10)
    assert found.loc[CHANCE, "value"] == pytest.approx(0.1)
    assert found.loc[CHANCE, "effect"] == pytest.approx(0.0)
    assert found.loc[GAP, "value"] == pytest.approx(0.8)
    assert found.loc[FITS, "n_seeds"] == 3


def test_each_network_is_its_own_subject():
    found = label_claims.claims(fake_runs.table(networks=("mlp_1x512", "alexnet_small")))
    assert found["subject"].nunique() == 2
    assert found["paper_value"].str.contains("0.0986|0.099").any()


def test_the_paper_values_are_those_of_its_table():
    found = verdicts()
    assert found.loc[FITS, "paper_value"] == "0.993 (CIFAR-10)"
    assert found.loc[CHANCE, "paper_value"] == "0.106 (CIFAR-10)"
    assert found.loc[GAP, "paper_value"] == "0.392 (CIFAR-10)"  # (99.34 − 10.61) − (100 − 50.51)


CRITERIA = [AtLeast(0.5, weak=0.2), Below(0.5), Near(0.5, margin=0.1)]


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
@given(mean=st.floats(-1, 2), half=st.floats(0, 1))
def test_a_wider_interval_never_improves_a_verdict(criterion, mean, half):
    order = {"holds": 0, "weaker": 1, "not seen": 2}
    narrow, wide = (criterion.verdict(mean, mean - h, mean + h) for h in (half, half + 0.3))
    if narrow == "holds" or wide == "holds":
        assert order[narrow] <= order[wide]


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_no_interval_no_verdict(criterion):
    assert criterion.verdict(0.5, math.nan, math.nan) == "not testable at this size"
