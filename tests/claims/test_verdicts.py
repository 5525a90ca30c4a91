"""Verdicts and p values: a wider interval never improves one, and the correction for testing many is Holm's."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendyn_lite.claims import AtLeast, Below, Near, judge
from gendyn_lite.claims.sections import holm

ANY = {"statement": "s", "source": "f", "paper_value": "1", "quantity": "x", "subject": "net", "null_value": 0.0}
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


@pytest.mark.parametrize("criterion", [AtLeast(0.1, weak=0), Below(0.1), Near(0.1, margin=0.3)], ids=str)
@given(values=st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_a_claim_holds_where_its_p_value_is_small(criterion, values):
    claim = judge(values, criterion, **ANY)
    edge = min(abs(claim.low - 0.1), abs(claim.high - 0.1), abs(claim.low + 0.2), abs(claim.high - 0.4)) < 1e-9
    if not edge:
        assert (claim.verdict == "holds") == (claim.p_value <= 0.025)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_seeds_have_no_interval_and_decide_nothing(count):
    claim = judge([1.0] * count, AtLeast(0.99, weak=0.9), **ANY)
    assert (claim.value, claim.n_seeds, claim.verdict) == (1.0, count, "not testable at this size")
    assert math.isnan(claim.low) and math.isnan(claim.p_value)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12))
def test_holm_is_no_smaller_keeps_the_order_and_never_exceeds_one(values):
    given = pd.Series(values, dtype=float)
    corrected = holm(given)
    assert corrected.isna().equals(given.isna())
    tested, after = given.dropna(), corrected.dropna()
    assert (after >= tested).all() and (after <= 1).all()
    assert after[tested.sort_values().index].is_monotonic_increasing


def test_holm_by_its_definition():
    rng = np.random.default_rng(0)
    p_values = rng.uniform(0, 0.2, 9)
    for level in (0.01, 0.05, 0.2, 0.5):
        rejected = set()
        for i, k in enumerate(np.argsort(p_values)):  # step down until one is not rejected
            if p_values[k] > level / (len(p_values) - i):
                break
            rejected.add(int(k))
        corrected = holm(pd.Series(p_values))
        assert set(corrected.index[corrected <= level]) == rejected
