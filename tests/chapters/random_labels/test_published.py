"""What chapter 1 publishes: that its text says what the tables say."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import demo, tables

RUNS = results.published("random_labels")
ENDS = results.summarize(RUNS)
TRUE = ENDS[ENDS["inputs"] == "true"]
WHOLE = 50_000  # training images of CIFAR-10
SWITCHED = results.published("regularizers")
WATCHED = tables.stopped_early(tables.with_regularizers(SWITCHED[~SWITCHED["stop_when_fitted"].astype(bool)]))
AUGMENTED = tables.with_variants(results.summarize(results.published("augmented_labels")))


def fitted(data, inputs="true", q=0.0):
    """Epochs to fit by network, size and seed."""
    chosen = ENDS[(ENDS["dataset"] == data) & (ENDS["inputs"] == inputs) & (ENDS["label_corruption"] == q)]
    return chosen.set_index(["network", "n_train", "seed"])["fit_epoch"]


def without(q=0.0, regularizers=tables.NONE):
    rows = WATCHED[(WATCHED["label_corruption"] == q) & (WATCHED["regularizers"] == regularizers)]
    return rows.set_index(["base", "seed"])


def test_all_runs_are_on_five_thousand_images_or_more_and_few_in_seeds():
    assert RUNS["n_train"].min() == 5000
    assert set(ENDS.groupby("group_id")["seed"].nunique()) <= {1, 2, 3}
    kinds = ENDS.groupby(["dataset", "network", "n_train"])[["label_corruption", "inputs"]].nunique().sum(axis=1)
    assert set(kinds[kinds > 3].index) == {("cifar10", "mlp_1x512", 5000), ("mnist", "mlp_1x512", 10_000)}


def test_on_all_images_three_networks_of_four_fit_every_random_label_and_the_fourth_misses_two():
    ends = TRUE[(TRUE["n_train"] == WHOLE) & (TRUE["label_corruption"] == 1)]
    missed = ((1 - ends["train_accuracy"]) * WHOLE).round().astype(int).groupby(ends["network"]).max().to_dict()
    assert missed == {"alexnet_small": 0, "inception_small": 0, "mlp_1x512": 2, "mlp_3x512": 0}
    assert ends.loc[ends["network"] == "mlp_1x512", "epoch"].tolist() == [200]
    mnist = TRUE[(TRUE["n_train"] == 60_000) & (TRUE["label_corruption"] == 1)]
    missed = ((1 - mnist["train_accuracy"]) * 60_000).round()
    assert (missed.min(), missed.max(), set(mnist["epoch"])) == (18, 43, {60})
    assert (TRUE[TRUE["label_corruption"] == 1]["test_accuracy"] - 0.1).abs().max() < 0.02


@pytest.mark.parametrize(("data", "low", "high"), [("cifar10", 1.2, 2.8), ("mnist", 5, 7)])
def test_how_much_longer_random_labels_take(data, low, high):
    ratio = (fitted(data, q=1.0) / fitted(data)).dropna()
    assert low <= ratio.min() < low + 0.25 and high - 0.5 < ratio.max() <= high


def test_error_rises_at_every_step():
    several = TRUE.groupby(["data", "network", "n_train"])["label_corruption"].transform("nunique") == 5
    means = TRUE[several].groupby(["data", "network", "label_corruption"])["test_error"].mean().unstack()
    assert len(means) == 2 and (means.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
    assert means[1.0].round(1).eq(0.9).all()


def test_noise_is_fitted_sooner_than_random_labels_and_random_pixels_keep_their_colours():
    by_kind = {kind: set(fitted("cifar10", kind)) for kind in ("gaussian", "random_pixels")}
    assert by_kind == {"gaussian": {4}, "random_pixels": {6}}
    assert set(fitted("cifar10", q=1.0).loc["mlp_1x512", 5000]) == {18}
    mnist = [fitted("mnist", kind).max() for kind in ("gaussian", "random_pixels")]
    assert max(mnist) < fitted("mnist", q=1.0).min()
    tests = ENDS[ENDS["inputs"] == "random_pixels"].groupby("dataset")["test_accuracy"].mean()
    assert tests.round(2).to_dict() == {"cifar10": 0.17, "mnist": 0.1}


def test_regularizers_are_not_necessary_and_not_sufficient(said):
    words = (tables.NONE, "weight decay", "random crop", "random crop + weight decay")
    none, decay, crop, both = (without(regularizers=name) for name in words)
    assert {name for name, _ in none.index} == {"mlp_3x512", "mlp_1x512"} and set(WATCHED["n_train"]) == {2000}
    assert WATCHED.groupby(["base", "label_corruption", "regularizers"])["seed"].nunique().eq(5).all()
    gained = {
        name: (rows["test_accuracy"] - none["test_accuracy"])
        for name, rows in zip(words, (none, decay, crop, both), strict=True)
    }
    means = {name: each.groupby("base").mean() for name, each in gained.items()}
    assert means["random crop"].between(0.025, 0.035).all() and means["weight decay"].between(0.001, 0.005).all()
    kept = ((none["test_accuracy"] - 0.1) / (both["test_accuracy"] - 0.1)).groupby("base").mean()
    assert kept.between(0.88, 0.92).all()
    assert (decay["watched/weight_norm"] / none["watched/weight_norm"]).between(0.6, 0.7).all()
    assert without(1.0, "weight decay")["train_accuracy"].min() == 1
    assert pd.concat([none, decay])["train_accuracy"].min() == 1
    means_of = [rows["train_accuracy"].groupby("base").mean() for rows in (crop, both)]
    assert min(each.min() for each in means_of) > 0.945 and max(each.max() for each in means_of) < 0.99
    assert pd.concat([crop, both])["train_accuracy"].max() < 1
    assert WATCHED.groupby("base")["epoch"].nunique().eq(1).all()
    assert (said[["dropout_helps", "batch_norm_helps"]] == "not run").all()
    held = ["not_necessary", "not_sufficient", "decay_acts", "crops_help", "crops_help_more", "fits_random"]
    assert (said[[*held, "augmented_fitted"]] == "holds").all() and said["weight_decay_helps"] == "negligible"


def test_alexnet_on_all_images_with_one_regularizer_and_two():
    both = pd.concat([RUNS[RUNS["dataset"] == "cifar10"], SWITCHED], ignore_index=True)
    table = tables.table_1(both)
    alexnet = table[(table["network"] == "alexnet_small") & table["our n, seeds"].str.startswith("50,000")]
    found = alexnet.set_index(["regularizers", "labels"])[["test, ours", "our epochs"]].T
    said = {"random crop + weight decay": "78.9", "weight decay": "75.6", tables.NONE: "74.9"}
    assert {words: found[words, "true"]["test, ours"] for words in said} == said
    assert [found[words, "true"]["our epochs"] for words in said] == ["56", "20", "18–20"]
    paper = table.drop_duplicates(["network", "regularizers", "labels"])
    assert len(paper) == len(tables.TABLE_1)


def test_early_stopping_on_true_labels_and_with_half_of_them_random(claimed, said):
    gain = {q: without(q)["stopped"] - without(q)["watched/test_accuracy"] for q in (0.0, 0.5)}
    by = claimed.query("id == 'stopping_no_help'").set_index("subject")
    network = by.index.str.partition(" ").get_level_values(0)
    assert dict(zip(network, by["verdict"], strict=True)) == {"mlp_3x512": "holds", "mlp_1x512": "undecided"}
    wide = by[network == "mlp_1x512"].iloc[0]
    assert (round(wide["low"], 3), round(wide["high"], 3)) == (-0.026, 0.012)
    noisy = gain[0.5].groupby("base").mean().round(2).to_dict()
    assert noisy == {"mlp_1x512": 0.04, "mlp_3x512": 0.06} and gain[0.0].min() < 0
    assert said["stopping_helps_noisy"] == "holds, small" and said["stopping_no_help"] == "undecided"


def test_augmented_random_labels_are_memorized_in_the_end(said):
    at = AUGMENTED.groupby("variants")["fit_epoch"].agg(["min", "max"])
    assert at.loc[[1, 2, 18]].to_numpy().tolist() == [[40, 40], [80, 80], [720, 920]]
    assert at.loc[50].tolist() == [3320, 4520] and set(at.index) == {1, 2, 18, 50}
    assert AUGMENTED.groupby("variants")["seed"].nunique().eq(5).all() and said["variants_slow"] == "holds"
    assert (demo.CONFIG.epochs, demo.CONFIG.train_size, set(AUGMENTED["n_train"])) == (40, 200, {200})
