"""What chapter 2 publishes: verified tables from a clean commit, and that what its text says is what the tables say."""

from __future__ import annotations

from itertools import product

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.path_functions import claims
from gendyn_lite.chapters.path_functions import tables as paths

NAMES = ("path_networks", "path_unseen", "path_deep", "path_ratio")
TABLES = {name: results.published(name) for name in NAMES}
SMALL = TABLES["path_networks"][TABLES["path_networks"]["n_train"] == 1000]  # what the text speaks of
FOUND = claims.over_training(SMALL).set_index("statement")


def test_the_main_runs_follow_their_images_long_enough_with_three_seeds_each_and_small_ones_are_of_the_small_profile():
    assert {name for table in TABLES.values() for name in table.loc[table["n_train"] < 50_000, "profile"]} == {"colab"}
    assert SMALL["epoch"].max() >= 20
    assert (SMALL.groupby("group_id")["seed"].nunique() >= 3).all()
    many = paths.networks_of_ratio(TABLES["path_ratio"])
    assert many.groupby("seeds").size().to_dict() == {3: 13, 1: 1}


def test_random_labels_are_fitted_and_nothing_is_learnt_from_them():
    ends = SMALL.groupby("run_id").tail(1)
    random = ends[ends["label_corruption"] == 1]
    assert random["train_accuracy"].min() > 0.99 and random["test_accuracy"].max() < 0.15
    assert ends.loc[ends["label_corruption"] == 0, "test_accuracy"].min() > 0.3


SAID = [("imperfect_last", 0.55, 1.0), ("higher_late", 0.05, 1.0), ("random_less_diverse", -1.0, 0.0)]
SAID += [("new_path_worse_true", 0.0, 0.1), ("no_distance_second", 0.6, 0.9), ("no_distance_last", 0.2, 0.6)]


@pytest.mark.parametrize(("name", "low", "high"), SAID)
def test_what_the_text_says_is_what_the_table_says(name, low, high):
    """Three seeds decide nothing; where their interval lies, they say."""
    row = FOUND[FOUND["id"] == name].iloc[0]
    assert low < row["low"] < row["high"] < high
    assert (row["n_seeds"], row["verdict"]) == (3, "undecided")


def test_with_a_learning_rate_that_stays_each_seed_ends_lower_and_paths_settle_only_without_loss():
    runs = paths.named(SMALL)
    ends = runs.groupby("run_id").tail(1)
    accuracy = ends.pivot(index="seed", columns="runs", values="test_accuracy")
    true, kept = accuracy[paths.TRUE], accuracy[paths.CONSTANT]
    assert len(accuracy) == 3 and (true > kept).all()
    assert (true.mean(), kept.mean()) == pytest.approx((0.427, 0.398), abs=5e-4)
    assert sorted(ends.loc[ends["runs"] == paths.CONSTANT, "train_accuracy"]) == [0.991, 0.998, 1]
    settled = paths.mean_of_layers(runs, "cross").groupby("run_id").tail(1).set_index("run_id")["value"] > 0.95
    constant = ends[ends["runs"] == paths.CONSTANT].set_index("run_id")
    assert 0 < settled[constant.index].mean() < 0.5
    assert (constant.loc[settled[constant.index], "train_loss"] < 1e-3).all()


def test_on_all_images_one_seed_each_was_followed_and_the_difference_has_the_other_sign():
    runs = TABLES["path_networks"][TABLES["path_networks"]["n_train"] == 50_000]
    about = runs.drop_duplicates("run_id").set_index("label_corruption")[["seed", "epochs", "precision"]]
    assert about.reset_index().to_numpy().tolist() == [[0.0, 0, 36, "bfloat16"], [1.0, 0, 36, "bfloat16"]]
    words = "On true labels, the path that an image is newly given fits it worse than yesterday's"
    value = claims.over_training(runs).set_index("statement").loc[words, "value"]
    assert value < 0 and abs(value) < FOUND.loc[words, "value"]
    unseen = claims.unseen(TABLES["path_unseen"]).set_index("id")
    assert unseen.loc["unseen_do_not_share", "high"] < 0


def test_deep_networks_settle_once_they_fit_and_before_the_rate_decays_whatever_their_labels():
    runs = paths.named(TABLES["path_deep"])
    seeds = runs.groupby(["network", "runs"])["seed"].nunique().to_dict()
    assert seeds == dict.fromkeys(product(("resnet18", "vgg19"), (paths.RANDOM, paths.TRUE)), 3)
    similarity = paths.mean_of_layers(runs, "cross").set_index(["run_id", "epoch"])["value"]
    for name, run in runs.set_index("epoch").groupby("run_id"):
        assert (run.loc[5:6, "train_accuracy"] > 0.99).any()
        before_decay = similarity[name].loc[:11]
        assert before_decay.iloc[0] < 0.7 < 0.95 < before_decay.iloc[-1]
    ends = runs.groupby("run_id").tail(1).groupby("runs")["test_accuracy"]
    assert ends.min()[paths.TRUE] >= 0.25 and ends.max()[paths.RANDOM] < 0.13
    found = claims.over_training(TABLES["path_deep"]).set_index("statement")
    diverse = found.loc["With random labels, which do not generalize, paths are less diverse over training"]
    assert len(diverse) == 2 and (diverse["low"] < 0).all() and (diverse["high"] > 0).all()
    assert diverse[["low", "high"]].abs().to_numpy().max() < 0.05
    vgg = found[found["subject"].str.startswith("vgg19") & found.index.str.contains("fits it worse than yesterday's")]
    assert len(vgg) == 2 and vgg["high"].max() < 0
