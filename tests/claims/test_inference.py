"""Intervals stay in range, verdicts come out at the rates they promise, and every place of an interval has one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gendyn_lite.claims.inference import (
    LEVEL,
    SCALES,
    VERDICTS,
    Estimate,
    PValues,
    all_of,
    estimate,
    mean_of,
    of_difference,
    of_equivalence,
    of_existence,
    p_values,
)
from gendyn_lite.errors import UserError

DRAWS = 1000
RANGES = {"number": (-1e6, 1e6), "ratio": (0.0, 1e6)}


def values_of(scale: str) -> st.SearchStrategy[list[float]]:
    low, high = RANGES.get(scale, (SCALES[scale].low, SCALES[scale].high))
    return st.lists(st.floats(low, high, allow_nan=False), min_size=0, max_size=8)


@pytest.mark.parametrize("scale", SCALES)
@given(data=st.data(), resolution=st.sampled_from([0.0, 1e-4, 0.05, 0.5]))
def test_no_interval_leaves_its_range(scale: str, data: st.DataObject, resolution: float) -> None:
    found = estimate(data.draw(values_of(scale)), scale=scale, resolution=resolution)
    low, high = found.interval()
    if math.isnan(low):
        assert math.isnan(high)
        return
    assert SCALES[scale].low <= low <= found.value <= high <= SCALES[scale].high


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_seeds_that_agree_are_not_certain(scale: str, value: float) -> None:
    without = estimate([value] * 5, scale=scale)
    assert all(map(math.isnan, without.interval()))
    assert of_difference(p_values(without, delta=0.1), n=5) == "undecided"
    found = estimate([value] * 5, scale=scale, resolution=0.02)
    low, high = found.interval()
    assert high - low >= 0.02 - 1e-9  # at an end of the range there is one side only
    assert all(p > 0 for p in p_values(found, delta=0.1, null=0.3))


def test_an_evaluation_every_three_epochs_is_plus_or_minus_three() -> None:
    assert estimate([24.0] * 3, resolution=3.0).interval() == pytest.approx((21.0, 27.0))


def test_a_number_has_students_interval() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert estimate(values).interval() == pytest.approx(expected)
    assert estimate(values).above(0.0) == pytest.approx(
        stats.ttest_1samp(values, 0.0, alternative="greater").pvalue  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize(
    ("values", "scale", "said"),
    [
        ([0.5, 1.2], "share", "a share is 0.5 to 1.2, expected 0 to 1"),
        ([-1.5], "correlation", "a correlation is -1.5 to -1.5, expected -1 to 1"),
        ([-1.0, 2.0], "ratio", "a ratio is -1 to 2, expected 0 to inf"),
        ([1.0, math.inf], "number", "a number is 1 to inf, expected -inf to inf"),
        ([1.0], "percent", "the scale is 'percent', expected one of number, share, correlation"),
    ],
)
def test_what_no_quantity_can_be_is_refused(values: list[float], scale: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        estimate(values, scale=scale)


def place(low: float, high: float, *, delta: float = 1.0) -> str:
    """The verdict on an interval with these ends: that of a mean in its middle."""
    freedom = 9
    error = (high - low) / 2 / float(stats.t.isf(LEVEL, freedom))
    return of_difference(p_values(Estimate((low + high) / 2, error, freedom, "number", 10), delta=delta), n=10)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.1, 2.0, "holds"),
        (0.5, 1.5, "holds, small"),
        (0.2, 0.8, "holds, small"),
        (-0.5, 0.5, "negligible"),
        (-0.8, -0.2, "negligible"),
        (-1.5, -0.5, "reversed"),
        (-2.0, -1.1, "reversed"),
        (-0.5, 1.5, "undecided"),
        (-1.5, 0.5, "undecided"),
        (-2.0, 2.0, "undecided"),
    ],
)
def test_every_place_of_an_interval(low: float, high: float, verdict: str) -> None:
    assert place(low, high) == verdict


@given(st.floats(-3, 3), st.floats(1e-3, 6))
def test_the_verdict_says_where_the_interval_lies(low: float, width: float) -> None:
    high = low + width
    expected = {
        "holds": low >= 1,
        "holds, small": 0 <= low < 1,
        "negligible": low < 0 and low >= -1 and high <= 1,
        "reversed": high <= 0 and low < -1,
    }
    true = [verdict for verdict, here in expected.items() if here]
    if min(abs(end - edge) for end in (low, high) for edge in (-1, 0, 1)) > 1e-6:
        assert place(low, high) == (true[0] if true else "undecided")
        assert len(true) <= 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scale", ["number", "share", "correlation", "ratio"])
def test_less_is_more_of_the_opposite(scale: str, sign: int) -> None:
    """A claim of 'less' is judged as that of 'more' is on the mirrored values."""
    null = {"share": 0.5, "ratio": 1.0}.get(scale, 0.0)
    up = {"number": [0.3, 0.4, 0.5], "share": [0.7, 0.8, 0.9], "correlation": [0.4, 0.5, 0.6], "ratio": [2.0, 3.0, 4.0]}
    mirror = {"share": lambda value: 1 - value, "ratio": lambda value: 1 / value}.get(scale, lambda value: -value)
    given = up[scale] if sign > 0 else [mirror(value) for value in up[scale]]
    found = p_values(estimate(given, scale=scale), delta=0.1, null=null, sign=sign)
    assert found == pytest.approx(p_values(estimate(up[scale], scale=scale), delta=0.1, null=null))


def test_few_seeds_leave_a_difference_undecided_and_none_is_not_run() -> None:
    clear = p_values(estimate([5.0, 5.1, 5.2, 5.3]), delta=1.0)
    assert of_difference(clear, n=4) == "undecided"
    assert of_difference(clear, n=4, needed=3) == "holds"
    assert of_difference(clear, n=0) == of_equivalence(clear, n=0) == of_existence([], least=1.0) == "not run"


def test_one_seed_shows_existence_and_no_difference() -> None:
    assert of_existence([1.0], least=1.0) == "holds"
    assert of_difference(p_values(estimate([9.0]), delta=1.0), n=1, needed=1) == "undecided"


def test_on_every_network_is_as_sure_as_on_the_least_sure() -> None:
    one, other = (p_values(estimate(values), delta=0.5) for values in ([3.0, 3.1, 3.2], [-1.0, 1.0, 2.0]))
    assert all_of([one, other]).beyond == max(one.beyond, other.beyond)
    missing = PValues(*[math.nan] * 5)
    assert math.isnan(all_of([one, missing]).beyond)  # a network without an interval decides nothing


def test_the_mean_over_networks_has_the_error_of_a_welch_test() -> None:
    one, other = [1.0, 2.0, 3.0, 5.0], [2.0, 2.5, 9.0]
    found = mean_of([estimate(one), estimate([-value for value in other])])
    welch = stats.ttest_ind(one, other, equal_var=False, alternative="greater")
    assert found.above(0.0) == pytest.approx(welch.pvalue)  # type: ignore[attr-defined]
    assert found.n == 3


def rate(
    kind: str, center: float, *, scale: str = "number", spread: float = 0.3, null: float = 0.0
) -> dict[str, float]:
    """How often each verdict is reached on five seeds whose mean, on the open scale, is `center`."""
    draw = np.random.default_rng(0)
    judged = {"difference": of_difference, "equivalence": of_equivalence}[kind]
    said = []
    for _ in range(DRAWS):
        seeds = SCALES[scale].back(draw.normal(center, spread, 5))
        said.append(judged(p_values(estimate(seeds, scale=scale), delta=0.2, null=null), n=5))
    return {verdict: said.count(verdict) / DRAWS for verdict in VERDICTS}


MOST = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / DRAWS)  # what chance allows over so many draws
SHARE, RATIO = {"scale": "share", "null": 0.5}, {"scale": "ratio", "null": 1.0}


@pytest.mark.parametrize(
    "of", [{}, SHARE, RATIO, {"scale": "correlation"}], ids=["number", "share", "ratio", "correlation"]
)
def test_planted_effects_are_found_at_the_stated_rates(of: dict) -> None:
    """Exactly at δ 'holds' is false, exactly at zero 'holds, small' is: each at most in 2.5 % of all draws."""
    scale, null = of.get("scale", "number"), of.get("null", 0.0)
    edge = null * 1.2 if scale == "ratio" else null + 0.2
    opened = SCALES[scale].open
    at_delta, at_zero = (float(opened(np.float64(value))) for value in (edge, null))
    assert 0.2 * LEVEL < rate("difference", at_delta, **of)["holds"] <= MOST
    nothing = rate("difference", at_zero, **of)
    assert nothing["holds"] + nothing["holds, small"] <= MOST
    assert nothing["reversed"] <= MOST
    assert rate("difference", at_delta + 2.0, **of)["holds"] > 0.95
    assert rate("difference", at_zero - 1.5, **of)["reversed"] > 0.95
    assert rate("equivalence", at_delta, **of)["holds"] <= MOST
    assert rate("equivalence", at_delta, **of)["reversed"] <= 2 * MOST
    assert rate("equivalence", at_zero, spread=0.03, **of)["holds"] > 0.95
    assert rate("equivalence", at_delta + 2.0, **of)["reversed"] > 0.95
