"""What chapter 5 publishes beyond the paper: that its text says what the table says."""

from __future__ import annotations

from gendyn_lite import results
from gendyn_lite.chapters.generalization_intervals.tables import counts, ends

ENDS = ends(results.published("generalization_intervals"))
DIGITS = ENDS[ENDS["dataset"] == "digits"]


def test_every_group_has_five_seeds():
    assert set(ENDS.groupby("group_id")["seed"].nunique()) == {5}


def test_only_alexnet_is_followed_by_samples():
    methods = ENDS.groupby("model")["intervals/method"].unique().map(list).to_dict()
    assert methods == {"mlp": ["exact"], "alexnet_small": ["grid"], "resnet18": ["exact"]}
    deep = DIGITS[DIGITS["model"] == "resnet18"]
    assert {counts(run, kind).sum() for _, run in deep.iterrows() for kind in ("pair", "midline")} == {4}
    assert deep["intervals/fitted"].min() >= 0.95


def test_random_labels_shorten_intervals_of_resnet_far_more_than_those_of_the_papers_network():
    means = DIGITS.groupby(["model", "label_corruption"])[["intervals/pair_mean", "intervals/midline_mean"]].mean()
    left = means.xs(1.0, level="label_corruption") / means.xs(0.0, level="label_corruption")
    assert 0.8 < left.loc["mlp", "intervals/pair_mean"] < 0.87
    assert left.loc["resnet18", "intervals/pair_mean"] < 0.4
    assert left.loc["resnet18", "intervals/midline_mean"] < 1 / 3
