"""What chapter 1 publishes: that its text says what the tables say."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters import what_holds
from gendyn_lite.chapters.random_labels import demo, tables

RUNS = results.published("random_labels")
ENDS = results.summarize(RUNS)
TRUE = ENDS[ENDS["inputs"] == "true"]
WHOLE = 50_000  # training images of CIFAR-10
SWITCHED = results.published("regularizers")
WATCHED = tables.stopped_early(tables.with_regularizers(SWITCHED[~SWITCHED["stop_when_fitted"].astype(bool)]))
AUGMENTED = tables.with_variants(results.summarize(results.published("augmented_labels")))
CLAIMS, OVERALL = what_holds.judged("01_random_labels")
SAID = OVERALL.set_index("id")["verdict"]


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


def test_regularizers_are_not_necessary_and_not_sufficient_as_far_as_these_runs_go():
    none, decay = (without(regularizers=words) for words in (tables.NONE, "weight decay"))
    assert {name for name, _ in none.index} <= {"mlp_3x512", "mlp_1x512"} and set(WATCHED["n_train"]) == {2000}
    assert (none["test_accuracy"] - decay["test_accuracy"]).abs().max() <= 0.01
    assert (decay["watched/weight_norm"] / none["watched/weight_norm"]).max() < 2 / 3
    assert without(1.0, "weight decay")["train_accuracy"].min() == 1
    assert WATCHED.groupby("base")["epoch"].nunique().eq(1).all()
    assert (SAID[["crops_help", "crops_help_more", "dropout_helps", "batch_norm_helps"]] == "not run").all()
    undecided = ["not_necessary", "weight_decay_helps", "stopping_no_help", "stopping_helps_noisy"]
    assert (SAID[undecided] == "undecided").all()
    assert (SAID[["not_sufficient", "fits_random", "augmented_fitted"]] == "holds").all()


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


def test_early_stopping_hardly_matters_on_true_labels_and_gains_with_half_of_them_random():
    gain = {q: without(q)["stopped"] - without(q)["watched/test_accuracy"] for q in (0.0, 0.5)}
    assert gain[0.0].abs().max() < 0.02 and gain[0.5].min() > 0.02
    assert gain[0.0].min() < 0  # it can lose


def test_augmented_random_labels_are_memorized_in_the_end():
    at = AUGMENTED.groupby("variants")["fit_epoch"].agg(["min", "max"])
    assert at.loc[[1, 2, 18]].to_numpy().tolist() == [[40, 40], [80, 80], [720, 920]]
    assert at.loc[50].tolist() == [3320, 4520] and set(at.index) == {1, 2, 18, 50}
    assert AUGMENTED.groupby("variants")["seed"].nunique().eq(5).all() and SAID["variants_slow"] == "holds"
    assert (demo.CONFIG.epochs, demo.CONFIG.train_size, set(AUGMENTED["n_train"])) == (40, 200, {200})
