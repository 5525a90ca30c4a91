"""Rademacher complexity against exact suprema; VC, stability and the account against their formulas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gendyn_lite.measures import capacity
from tests.measures.capacity.test_memorize import points
from tests.measures.networks import refused


def best_constant(x, signs):
    sign = 1.0 if signs.sum() >= 0 else -1.0
    return lambda inputs: torch.full((len(inputs),), sign)


def test_two_constants_have_the_complexity_of_a_random_walk():
    n = 6
    exact = sum(abs(sum(signs)) for signs in itertools.product([-1, 1], repeat=n)) / 2**n / n
    found = capacity.empirical_rademacher(best_constant, torch.zeros(n, 1), draws=3000, confidence=0.9999)
    assert found.low <= exact <= found.high


def test_interval_is_students_sizes_do_not_count_and_draws_are_seeded():
    given = {"x": torch.zeros(20, 1), "draws": 5, "confidence": 0.9}
    found, other = (capacity.empirical_rademacher(best_constant, seed=seed, **given) for seed in (0, 1))
    half = 2.131847 * float(found.values.std()) / math.sqrt(5)  # t of 0.95 with 4 degrees of freedom
    assert found.high - found.mean == pytest.approx(half, rel=1e-5)
    assert found.mean == pytest.approx(float(found.values.mean()))
    small = capacity.empirical_rademacher(lambda x, s: lambda i: 1e-3 * best_constant(x, s)(i), **given)
    assert torch.equal(found.values, small.values) and not torch.equal(found.values, other.values)


def nearest(x, y):
    return lambda inputs: y[torch.cdist(inputs, x).argmin(1)]


def majority(x, y):
    return lambda inputs: torch.full((len(inputs),), int(y.bincount().argmax()))


FOUR, LABELS = points(4, 2), torch.tensor([0, 1, 0, 1])
ONE, ZEROS = torch.empty(0, 1), torch.zeros(3, 1)
FITS = {"shape": lambda x, s: lambda i: i, "inf": lambda x, s: lambda i: s / 0.0, "none": lambda x, s: lambda i: None}
rademacher, stability = capacity.empirical_rademacher, capacity.replace_one_stability
REFUSED = {
    "n=0": (rademacher, (best_constant, ONE), {}, "n ≥ 1"),
    "draws": (rademacher, (best_constant, ZEROS), {"draws": 1}, "draws is 1, expected .* from 2 to 100,000"),
    "confidence": (rademacher, (best_constant, ZEROS), {"confidence": 1.0}, "confidence is 1.0"),
    "shape": (rademacher, (FITS["shape"], ZEROS), {}, r"gave \(3, 1\), expected .* of shape \(3,"),
    "inf": (rademacher, (FITS["inf"], ZEROS), {}, "expected finite numbers"),
    "none": (rademacher, (FITS["none"], ZEROS), {}, "gave NoneType"),
    "gap-n": (capacity.rademacher_gap_bound, (0.1, 0), {}, "n 0"),
    "gap-nan": (capacity.rademacher_gap_bound, (math.nan, 10), {}, "complexity is nan"),
    "gap-n-nan": (capacity.rademacher_gap_bound, (0.1, math.nan), {}, "n nan"),
    "one-width": (capacity.vc_dimension_bound, ((5,),), {}, r"widths is \(5,\), expected whole numbers"),
    "zero-width": (capacity.vc_dimension_bound, ((5, 0, 1),), {}, r"widths is \(5, 0, 1\)"),
    "dimension": (capacity.vc_gap_bound, (0.5, 10), {}, "dimension is 0.5"),
    "delta": (capacity.vc_gap_bound, (5, 10), {"delta": 1.0}, "delta 1.0"),
    "beta": (capacity.stability_gap_bound, (-0.1, 10), {}, "beta is -0.1"),
    "swaps": (stability, (nearest, FOUR, LABELS), {"swaps": 0}, "swaps is 0, expected .* from 1 to 4"),
    "many-swaps": (stability, (nearest, FOUR, LABELS), {"swaps": 5}, "swaps is 5"),
    "real-labels": (stability, (nearest, FOUR, torch.rand(4)), {}, "labels are float32"),
    "no-classes": (stability, (best_constant, FOUR, LABELS), {"swaps": 2}, "gave no classes"),
    "account-n": (capacity.label_account, (), {"n": 0, "gap_true": 0.1, "gap_random": 0.9}, "n is 0"),
    "account-gap": (capacity.label_account, (), {"n": 9, "gap_true": 1.1, "gap_random": 0.9}, "gaps are 1.1 and 0.9"),
}


test_bad_input_gets_one_line = refused(REFUSED)


def test_vc_bound_by_hand():
    """Layers of 9 and 4 weights, L = 2, sum up to each layer 9 + 13, R = 1·3 + 2·1."""
    assert capacity.vc_dimension_bound((2, 3, 1)) == 2 + 22 * math.log2(20 * math.e * math.log2(10 * math.e))


@given(st.floats(1, 1e9), st.integers(1, 10**7))
def test_vc_gap_shrinks_with_examples_and_grows_with_the_dimension(dimension, n):
    assert capacity.vc_gap_bound(dimension, 2 * n) <= capacity.vc_gap_bound(dimension, n) * (1 + 1e-9)
    assert capacity.vc_gap_bound(2 * dimension, n) >= capacity.vc_gap_bound(dimension, n) * (1 - 1e-9)


X60, SKEWED = points(60, 2), (torch.arange(60) > 40).long()


@pytest.mark.parametrize(
    ("fit", "y", "beta"), [(nearest, (X60[:, 0] > 0).long(), 1.0), (nearest, SKEWED, 1.0), (majority, SKEWED, 0.0)]
)
def test_who_fits_every_label_has_stability_one_and_who_ignores_one_is_stable(fit, y, beta):
    found = capacity.replace_one_stability(fit, X60, y, swaps=8)
    assert found.beta == beta and found.at_replaced.tolist() == [beta] * 8


def test_only_one_label_is_replaced_and_by_another_class():
    seen = []
    x, y = points(12, 2), torch.arange(12) % 3
    capacity.replace_one_stability(lambda a, b: seen.append(b) or nearest(a, b), x, y, swaps=12)
    assert torch.equal(seen[0], y)
    assert [int((labels != y).sum()) for labels in seen[1:]] == [1] * 12
    assert torch.equal(torch.stack(seen[1:]).ne(y).sum(0), torch.ones(12).long())
    assert torch.equal(y, torch.arange(12) % 3)


def test_the_account_shows_that_nothing_blind_to_labels_separates():
    found = capacity.empirical_rademacher(lambda x, s: lambda inputs: s, torch.zeros(50, 1), draws=2)
    gaps = {"n": 50_000, "gap_true": 0.11, "gap_random": 0.9, "squared_norms": (0.1 * 50_000, 25 * 50_000)}
    classical = {"vc_dimension": capacity.vc_dimension_bound((2352, 512, 10)), "stability": (1.0, 1.0)}
    *blind, norm = capacity.label_account(**gaps, **classical, rademacher=found)
    assert [row["sees_labels"] for row in (*blind, norm)] == [False, False, False, True]
    for row in blind:
        assert row["value_true"] == row["value_random"] and row["bound_true"] == row["bound_random"] >= 1
        assert row["vacuous"] and not row["separates"]
    assert norm["separates"] and norm["value_true"] == pytest.approx(math.sqrt(0.1))
    assert [row["measure"] for row in capacity.label_account(**gaps)] == ["kernel norm"]  # only what was given
