"""Intervals stay in range, verdicts come out at the rates they promise, and every place of an interval has one."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from gendyn_lite.claims import inference
from gendyn_lite.claims.inference import LEVEL, SCALES, Estimate, PValues, all_of, estimate, mean_of, p_values
from tests.measures.networks import refused

DRAWS = 1000


def verdict(p: PValues, *, equivalence: bool = False, n: int = 5, needed: int = 5) -> str:
    """What the tests of one claim allow."""
    return inference.first(inference.places(p, equivalence=equivalence), n=n, needed=needed)


RANGES = {"number": (-1e6, 1e6), "ratio": (0.0, 1e6)}


def values_of(scale: str) -> st.SearchStrategy[list[float]]:
    low, high = RANGES.get(scale, (SCALES[scale].low, SCALES[scale].high))
    return st.lists(st.floats(low, high, allow_nan=False), min_size=0, max_size=8)


@pytest.mark.parametrize("scale", SCALES)
@given(data=st.data(), resolution=st.sampled_from([0.0, 1e-18, 1e-4, 0.05, 0.5, 3.0]))
def test_no_interval_leaves_its_range(scale: str, data: st.DataObject, resolution: float) -> None:
    found = estimate(data.draw(values_of(scale)), scale=scale, resolution=resolution)
    low, high = found.interval()
    if math.isnan(low):
        assert math.isnan(high) and math.isnan(found.above(0.3))
        return
    assert SCALES[scale].low <= low <= found.value <= high <= SCALES[scale].high
    assert 0 <= found.above(0.3) <= 1


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_seeds_that_agree_are_not_certain(scale: str, value: float) -> None:
    for seeds in ([value] * 5, [0.3, 0.1 + 0.2] * 3):  # which are the same seed but for rounding
        without = estimate(seeds, scale=scale)
        assert all(map(math.isnan, without.interval()))
        assert verdict(p_values(without, delta=0.1)) == "undecided"
    found = estimate([value] * 5, scale=scale, resolution=0.02)
    low, high = found.interval()
    assert high - low >= 0.02 - 1e-9  # at an end of the range there is one side only
    assert all(p > 0 for p in p_values(found, delta=0.1, null=0.3))


def test_a_number_has_students_interval() -> None:
    assert estimate([24.0] * 3, resolution=3.0).interval() == pytest.approx((21.0, 27.0))
    values = [1.0, 2.0, 4.0, 8.0]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert estimate(values).interval() == pytest.approx(expected)
    one_sided = stats.ttest_1samp(values, 0.0, alternative="greater")
    assert estimate(values).above(0.0) == pytest.approx(one_sided.pvalue)  # type: ignore[attr-defined]


IMPOSSIBLE = [
    ([0.5, 1.2], "share", "a share is 0.5 to 1.2, expected 0 to 1"),
    ([-1.5], "correlation", "a correlation is -1.5 to -1.5, expected -1 to 1"),
    ([-1.0, 2.0], "ratio", "a ratio is -1 to 2, expected 0 to inf"),
    ([1.0, math.inf], "number", "a number is 1 to inf, expected -inf to inf"),
    ([1.0], "percent", "the scale is 'percent', expected one of number, share, correlation"),
]
test_what_no_quantity_can_be_is_refused = refused(
    {scale: (estimate, (values,), {"scale": scale}, said) for values, scale, said in IMPOSSIBLE}
)


def place(low: float, high: float, *, delta: float = 1.0, equivalence: bool = False) -> str:
    """The verdict on an interval with these ends: that of a mean in its middle."""
    freedom = 9
    error = (high - low) / 2 / float(stats.t.isf(LEVEL, freedom))
    found = Estimate((low + high) / 2, error, freedom, "number", 10)
    return verdict(p_values(found, delta=delta), equivalence=equivalence, n=10)


@given(st.floats(-3, 3), st.floats(1e-3, 6))
@example(1.1, 0.9).via("holds")
@example(0.5, 1.0).via("holds, small")
@example(-0.5, 1.0).via("negligible")
@example(-1.5, 1.0).via("reversed")
@example(-2.0, 4.0).via("undecided")
def test_every_place_of_an_interval_has_one_verdict(low: float, width: float) -> None:
    high = low + width
    if min(abs(end - edge) for end in (low, high) for edge in (-1, 0, 1)) < 1e-6:
        return
    places = {
        "holds": low > 1,
        "holds, small": 0 < low < 1,
        "negligible": -1 < low < 0 and high < 1,
        "reversed": high < 0 and low < -1,
        "undecided": (-1 < low < 0 and high > 1) or (low < -1 and high > 0),
    }
    assert [place(low, high)] == [name for name, here in places.items() if here]
    alike = {"holds": low > -1 and high < 1, "reversed": low > 1 or high < -1}
    assert [place(low, high, equivalence=True)] == ([name for name, here in alike.items() if here] or ["undecided"])


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


@pytest.mark.parametrize(("n", "needed", "said"), [(4, 5, "undecided"), (4, 3, "holds"), (0, 3, "not run")])
def test_few_seeds_leave_a_difference_undecided_and_none_is_not_run(n: int, needed: int, said: str) -> None:
    clear, alone = (p_values(estimate(seeds), delta=1.0) for seeds in ([5.0, 5.1, 5.2, 5.3], [9.0]))
    assert verdict(clear, n=n, needed=needed) == said
    assert verdict(alone, n=1, needed=1) == "undecided"


def test_on_every_network_is_as_sure_as_on_the_least_sure() -> None:
    one, other = (p_values(estimate(values), delta=0.5) for values in ([3.0, 3.1, 3.2], [-1.0, 1.0, 2.0]))
    assert all_of([one, other]).beyond == max(one.beyond, other.beyond)
    nothing = all_of([p_values(estimate([-3.0, -3.1, -3.2]), delta=0.5), PValues(*[math.nan] * 5)])
    assert math.isnan(nothing.beyond)  # a network without an interval shows nothing
    assert nothing.negative < LEVEL  # and refutes nothing


def test_the_mean_over_networks_has_the_error_of_a_welch_test() -> None:
    one, other = [1.0, 2.0, 3.0, 5.0], [2.0, 2.5, 9.0]
    found = mean_of([estimate(one), estimate([-value for value in other])])
    welch = stats.ttest_ind(one, other, equal_var=False, alternative="greater")
    assert found.above(0.0) == pytest.approx(welch.pvalue)  # type: ignore[attr-defined]
    assert found.n == 3


@cache
def drawn(scale: str, null: float, center: float, spread: float) -> list[PValues]:
    """The tests of a thousand times five seeds whose mean on the open scale is `center`."""
    seeds = SCALES[scale].back(np.random.default_rng(0).normal(center, spread, (DRAWS, 5)))
    return [p_values(estimate(each, scale=scale), delta=0.2, null=null) for each in seeds]


MOST = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / DRAWS)  # what chance allows over so many draws


@pytest.mark.parametrize(("scale", "null"), [("number", 0.0), ("share", 0.5), ("ratio", 1.0), ("correlation", 0.0)])
def test_planted_effects_are_found_at_the_stated_rates(scale: str, null: float) -> None:
    """Exactly at δ 'holds' is false, exactly at zero 'holds, small' is: each at most in 2.5 % of all draws.

    Differences, and equivalences; an association is a difference whose statistic is a correlation.
    """
    edge = null * 1.2 if scale == "ratio" else null + 0.2
    at_delta, at_zero = (float(SCALES[scale].open(np.float64(value))) for value in (edge, null))

    def rate(said: str, center: float, *, spread: float = 0.3, equivalence: bool = False) -> float:
        found = drawn(scale, null, center, spread)
        return sum(verdict(p, equivalence=equivalence, n=5) in said.split("; ") for p in found) / DRAWS

    assert 0.2 * LEVEL < rate("holds", at_delta) <= MOST
    assert rate("holds; holds, small", at_zero) <= MOST
    assert rate("reversed", at_zero) <= MOST
    assert rate("holds", at_delta + 2.0) > 0.95
    assert rate("reversed", at_zero - 1.5) > 0.95
    assert rate("holds", at_delta, equivalence=True) <= MOST
    assert rate("reversed", at_delta, equivalence=True) <= MOST
    assert rate("holds", at_zero, spread=0.03, equivalence=True) > 0.95
    assert rate("reversed", at_delta + 2.0, equivalence=True) > 0.95
