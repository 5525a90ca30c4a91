"""Overlap against distance, neighbours and their ranks over time, and the early-to-mid ratio, one by one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.stats import spearmanr

from gendyn_lite.measures.relu_paths import (
    early_to_mid_ratio,
    neighbour_ranks,
    overlap_and_distance,
    path_gram,
    ranks_over_time,
)
from tests.measures.networks import refused
from tests.measures.relu_paths.nets import cosine, images, random_paths


def test_overlap_and_distance_pair_by_pair():
    paths, x = random_paths(7, 30), images(7, (2, 3))
    found = overlap_and_distance(paths, x)
    pairs = list(itertools.combinations(range(7), 2))
    assert list(zip(found.i.tolist(), found.j.tolist(), strict=True)) == pairs
    for k, (i, j) in enumerate(pairs):
        assert found.distance[k] == pytest.approx(float((x[i] - x[j]).double().norm()), rel=1e-6)
        assert found.overlap[k] == int((paths[i] & paths[j]).sum())
        assert found.cosine[k] == pytest.approx(cosine(paths[i], paths[j]))
    assert found.rank_correlation("cosine") == pytest.approx(spearmanr(found.distance, found.cosine).statistic)
    assert math.isnan(overlap_and_distance(torch.ones_like(paths), x).rank_correlation())  # a constant overlap


def test_ranks_by_sorting_one_by_one():
    similarity = path_gram(random_paths(9, 6))  # few units: many equals
    found = neighbour_ranks(similarity, [0, 4, 8])
    assert torch.equal(found, neighbour_ranks(similarity, torch.tensor([0, 4, 8])))
    for row, anchor in enumerate([0, 4, 8]):
        others = sorted((j for j in range(9) if j != anchor), key=lambda j: (-int(similarity[anchor, j]), j))
        assert found[row, anchor] == -1
        assert [int(found[row, j]) for j in others] == list(range(8))


def test_ranks_over_time():
    grams = {epoch: path_gram(random_paths(10, 50, seed=epoch)) for epoch in (0, 1, 2)}
    found = ranks_over_time(grams, [2, 7])
    assert found.ranks.shape == (3, 2, 10)
    nearest = [[int(neighbour_ranks(grams[t], [a])[0].tolist().index(0)) for a in (2, 7)] for t in (0, 1, 2)]
    assert found.nearest().tolist() == nearest
    expected = [sum(nearest[t][a] != nearest[t - 1][a] for t in (1, 2)) for a in (0, 1)]
    assert found.nearest_changes().tolist() == expected
    top = {j for j in range(10) if 0 <= found.ranks[1, 0, j] < 3}
    before = {j for j in range(10) if 0 <= found.ranks[0, 0, j] < 3}
    assert found.kept(top=3)[0, 0] == pytest.approx(len(top & before) / 3)
    table = found.table(top=4)
    assert len(table) == 3 * 2 * 4
    assert {row["rank"] for row in table if row["epoch"] == 2} == {0, 1, 2, 3}
    assert all(row["rank"] == found.ranks[row["epoch"], [2, 7].index(row["anchor"]), row["neighbour"]] for row in table)


def test_early_to_mid():
    values = {epoch: 0.1 * epoch for epoch in range(1, 10)}
    assert early_to_mid_ratio(values, [3, 6]) == pytest.approx(0.2 / 0.5)
    assert early_to_mid_ratio(values, [3]) == pytest.approx(0.2 / 0.65)


NAN = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
REFUSED = {
    "constant": (lambda: early_to_mid_ratio({1: 1.0}, []), "there is no milestone"),
    "epoch": (early_to_mid_ratio, ({1: 1.0, 3: 1.0}, [2]), {}, r"epoch 2 is missing .* epochs \[1, 3\]\): record"),
    "no-mid": (lambda: early_to_mid_ratio({1: 1.0, 2: 1.0}, [2]), "at least one in each"),
    "zero": (lambda: early_to_mid_ratio({1: 1.0, 2: 0.0}, [1]), "is 0: the ratio is not defined"),
    "square": (lambda: neighbour_ranks(torch.zeros(3, 2), [0]), r"similarity is \[3, 2\]"),
    "one": (lambda: neighbour_ranks(torch.zeros(1, 1), [0]), "at least 2 images"),
    "anchor": (lambda: neighbour_ranks(torch.zeros(3, 3), [3]), "anchor is 3, expected a whole number from 0 to 2"),
    "half": (lambda: neighbour_ranks(torch.eye(3), [0.5]), "anchor is 0.5, expected a whole number"),
    "NaN": (lambda: neighbour_ranks(NAN, [1, 0]), "the similarity of image 0 to another is NaN"),
    "no-epochs": (lambda: ranks_over_time({}, [0]), "there are no epochs"),
    "images": (lambda: overlap_and_distance(random_paths(3, 4), images(2, (2,))), "x has 2 images and paths 3"),
    "one-image": (lambda: overlap_and_distance(random_paths(1, 4), images(1, (2,))), "there is 1 image"),
}


test_bad_input_is_one_line = refused(REFUSED)
