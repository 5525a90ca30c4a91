"""The judgement of measures, against scipy, slow twins and planted answers."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from gendyn_lite.chapters.which_lens import judging, ranking
from gendyn_lite.errors import UserError

AXES = ["width", "depth", "rate"]


@pytest.fixture(scope="module")
def networks() -> pd.DataFrame:
    """72 settings, two seeds: the error falls with width and depth and rises with the rate; labels decide most."""
    rows = [
        {"width": width, "depth": depth, "rate": rate, "corruption": corruption, "seed": seed}
        for width, depth, rate, corruption in product((64, 128, 256), (1, 2, 3), (0.01, 0.03), (0.0, 0.2, 0.4, 0.6))
        for seed in range(2)
    ]
    table = pd.DataFrame(rows)
    noise = np.random.default_rng(0).normal(0, 0.01, len(table))
    error = 0.7 - 0.05 * np.log2(table["width"]) - 0.02 * table["depth"] + 2 * table["rate"]
    table["error"] = error + 0.3 * table["corruption"] + noise
    table["setting"] = table[[*AXES, "corruption"]].astype(str).agg(" ".join, axis=1)
    return table


def along(table: pd.DataFrame, measure: np.ndarray) -> dict[str, ranking.Ranked]:
    pairs = ranking.pairs_along(table, [*AXES, "corruption"])
    agreeing = ranking.signs(measure, table["error"].to_numpy(), pairs)
    return ranking.along_axes(agreeing, pairs, ranking.draws(table["setting"], count=200)).ranked()


def test_tau_is_scipy_s_and_that_of_a_loop():
    random = np.random.default_rng(1)
    one, other = random.integers(0, 8, 40).astype(float), random.normal(size=40)
    assert ranking.tau(one, other) == kendalltau(one, other).statistic
    pairs = list(combinations(range(40), 2))
    agree = sum(np.sign(one[i] - one[j]) * np.sign(other[i] - other[j]) for i, j in pairs)
    untied = [sum(values[i] != values[j] for i, j in pairs) for values in (one, other)]
    assert ranking.tau(one, other) == pytest.approx(agree / math.sqrt(untied[0] * untied[1]), abs=1e-12)
    assert math.isnan(ranking.tau(np.ones(5), other[:5])) and math.isnan(ranking.tau(one[:1], other[:1]))


def test_partial_tau_with_one_variable_is_kendall_s_formula():
    random = np.random.default_rng(2)
    fixed = random.normal(size=60)
    one, other = fixed + random.normal(size=60), fixed + random.normal(size=60)
    xy, xz, yz = (kendalltau(*both).statistic for both in ((one, other), (one, fixed), (other, fixed)))
    expected = (xy - xz * yz) / math.sqrt((1 - xz**2) * (1 - yz**2))
    assert ranking.partial_tau(one, other, [fixed]) == pytest.approx(expected, abs=1e-12)
    assert ranking.partial_tau(one, other, [np.ones(60)]) == pytest.approx(xy, abs=1e-12)
    assert math.isnan(ranking.partial_tau(one, other, [one]))


def test_pairs_along_an_axis_are_those_of_a_loop(networks):
    names = [*AXES, "corruption"]
    found = ranking.pairs_along(networks, names)
    expected = set()
    for i, j in combinations(range(len(networks)), 2):
        a, b = networks.iloc[i], networks.iloc[j]
        differing = [name for name in names if a[name] != b[name]]
        if a["seed"] == b["seed"] and len(differing) == 1:
            expected.add((i, j, differing[0]))
    assert {(int(i), int(j), str(axis)) for i, j, axis in zip(*found, strict=True)} == expected
    assert len(found.first) == len(expected)


def test_a_planted_perfect_measure_ranks_first_and_a_random_one_is_undecided(networks):
    target = networks["error"].to_numpy()
    weights = ranking.draws(networks["setting"], count=200)
    random = np.random.default_rng(3).normal(size=len(target))
    measures = {"perfect": target**3, "noisy": target + np.random.default_rng(4).normal(0, 0.1, len(target))}
    measures["random"] = random
    found = {name: ranking.overall(values, target, weights) for name, values in measures.items()}
    assert found["perfect"].value == pytest.approx(1) and found["perfect"].low == pytest.approx(1)
    assert 0 < found["noisy"].low < found["noisy"].value < found["noisy"].high < 1
    assert found["random"].low < 0 < found["random"].high and found["random"].p > 0.05
    assert along(networks, target)["worst axis"].value == 1
    assert along(networks, random)["granulated"].low < 0 < along(networks, random)["granulated"].high


def test_a_measure_of_one_axis_alone_looks_good_overall_and_fails_along_the_others(networks):
    """The share of corrupted labels decides the error here: what knows it and nothing else is no lens."""
    measure = networks["corruption"].to_numpy() + 1e-3 * np.random.default_rng(5).normal(size=len(networks))
    target = networks["error"].to_numpy()
    weights = ranking.draws(networks["setting"], count=200)
    assert ranking.overall(measure, target, weights).low > 0.4
    found = along(networks, measure)
    assert found["corruption"].value == 1 and found["worst axis"].value < 0.3
    given = [networks["corruption"].to_numpy()]
    assert abs(ranking.partial_tau(measure, target, given)) < 0.2


def test_signs_and_their_means_are_those_of_a_loop(networks):
    pairs = ranking.pairs_along(networks, AXES, same=("seed", "corruption"))
    measure, target = networks["depth"].to_numpy(dtype=float), networks["error"].to_numpy()
    agreeing = ranking.signs(measure, target, pairs)
    assert set(agreeing[pairs.axis == "width"]) == {0.0}  # a tie of the measure is neither right nor wrong
    found = ranking.along_axes(agreeing, pairs, ranking.draws(networks["setting"], count=50)).ranked()
    depth = [
        -1.0 if (target[i] - target[j]) * (measure[i] - measure[j]) < 0 else 1.0
        for i, j, axis in zip(*pairs, strict=True)
        if axis == "depth"
    ]
    assert found["depth"].value == pytest.approx(np.mean(depth)) and found["depth"].n == len(depth)
    assert found["granulated"].value == pytest.approx(np.mean([found[axis].value for axis in AXES]))


def test_resampled_taus_are_those_of_the_networks_drawn(networks):
    random = np.random.default_rng(9)
    measure, target = np.round(random.normal(size=len(networks)), 1), networks["error"].to_numpy()
    given = [networks["corruption"].to_numpy(), networks["width"].to_numpy(dtype=float)]
    weights = ranking.draws(networks["setting"], count=12)
    for fixed in ([], given):
        drawn = [np.repeat(np.arange(len(target)), counts) for counts in weights]
        each = [ranking.partial_tau(measure[some], target[some], [one[some] for one in fixed]) for some in drawn]
        found = ranking.resampled([measure, target, *fixed], weights)
        np.testing.assert_allclose(found, each, rtol=1e-5, atol=1e-7)


def test_the_interval_over_settings_is_wider_than_one_over_networks(networks):
    """Ten copies of each network make no more evidence: settings are drawn, not networks."""
    many = pd.concat([networks] * 5, ignore_index=True)
    measure = networks["error"].to_numpy() + np.random.default_rng(6).normal(0, 0.1, len(networks))
    few = ranking.overall(measure, networks["error"].to_numpy(), ranking.draws(networks["setting"], count=200))
    copies = ranking.draws(many["setting"], count=200)
    same = ranking.overall(np.tile(measure, 5), many["error"].to_numpy(), copies)
    assert same.value == pytest.approx(few.value, abs=1e-9)
    assert same.high - same.low == pytest.approx(few.high - few.low, rel=1e-6)


def test_the_better_of_two_is_chosen_among_settings_not_looked_at(networks):
    target = networks["error"].to_numpy()
    measures = {"perfect": -target, "random": np.random.default_rng(7).normal(size=len(target))}
    settings = networks[[*AXES, "corruption"]]
    found = judging.chosen_better(measures, target, networks["setting"], settings)
    drawn = found.shares(ranking.draws(networks["setting"], count=200))
    shares = {name: ranking.interval(*share, len(found.first)) for name, share in drawn.items()}
    assert shares["perfect"].value == 0.5 and shares["settings"].value > 0.4
    assert shares["random"].low < 0 < shares["random"].high
    groups = {"both": ["random", "perfect"], "poor": ["random"]}
    grouped = judging.chosen_better(measures, target, networks["setting"], settings, groups=groups).right
    assert (grouped["both"] == grouped["perfect"]).all() and (grouped["poor"] == grouped["random"]).all()
    measures["perfect"][0] = math.nan  # a network without it: no choice, and nothing else changes
    missing = judging.chosen_better(measures, target, networks["setting"], settings)
    with_it = (missing.first == 0) | (missing.second == 0)
    assert (missing.right["perfect"][with_it] == 0.5).all() and (missing.right["perfect"][~with_it] == 1).all()
    setting = networks["setting"].to_numpy()
    assert (setting[found.first] != setting[found.second]).all()
    with pytest.raises(UserError, match="3 settings cannot be divided"):
        few = networks[networks["setting"].isin(networks["setting"].unique()[:3])]
        judging.chosen_better({}, few["error"].to_numpy(), few["setting"], few[AXES])


def test_pairs_within_noise_are_left_out_and_noise_has_a_ceiling():
    random = np.random.default_rng(8)
    accuracy, n_test = random.uniform(0.3, 0.5, 60), np.full(60, 500)
    first, second = np.triu_indices(60, 1)
    pairs = ranking.Pairs(first, second, np.full(1770, "any"))
    kept = pairs.only(ranking.beyond_noise(accuracy, n_test, first, second))
    least = np.abs(accuracy[kept.first] - accuracy[kept.second]).min()
    assert 0 < len(kept.first) < 1770 and least > 2 * math.sqrt(2 * 0.21 / 500) * 0.99
    assert ranking.ceiling(accuracy, n_test * 1000) > ranking.ceiling(accuracy, n_test) > 0.3
    assert ranking.ceiling(np.full(30, 0.5), np.full(30, 500)) == pytest.approx(0, abs=0.05)
