"""What chapter 1 publishes: that its text says what the tables say."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import claims as label_claims
from gendyn_lite.chapters.random_labels import demo, tables

RUNS = results.published("random_labels")
ENDS = results.summarize(RUNS)
TRUE = ENDS[ENDS["inputs"] == "true"]
WHOLE = 50_000  # training images of CIFAR-10
SWITCHED = results.published("regularizers")
ALL_WATCHED = tables.stopped_early(tables.with_regularizers(SWITCHED[~SWITCHED["stop_when_fitted"].astype(bool)]))
WATCHED = ALL_WATCHED[ALL_WATCHED["base"].str.startswith("mlp")]
ALEXNET = ALL_WATCHED[ALL_WATCHED["base"] == "alexnet_small"]
INCEPTION = ALL_WATCHED[ALL_WATCHED["base"] == "inception_small"]
AUGMENTED = tables.with_variants(results.summarize(results.published("augmented_labels")))


def fitted(data, inputs="true", q=0.0):
    """Epochs to fit by network, size and seed."""
    chosen = ENDS[(ENDS["dataset"] == data) & (ENDS["inputs"] == inputs) & (ENDS["label_corruption"] == q)]
    return chosen.set_index(["network", "n_train", "seed"])["fit_epoch"]


def without(q=0.0, regularizers=tables.NONE, of=WATCHED):
    rows = of[(of["label_corruption"] == q) & (of["regularizers"] == regularizers)]
    return rows.set_index(["base", "seed"])


def test_all_runs_are_on_five_thousand_images_or_more_and_few_in_seeds():
    assert RUNS["n_train"].min() == 5000
    seeds = ENDS.groupby(["dataset", "network", "n_train", "group_id"])["seed"].nunique().groupby(level=[0, 1, 2])
    enough = seeds.agg(["min", "max"]).query("max > 3")
    assert enough.T.to_dict("list") == {("mnist", "mlp_1x512", 10_000): [5, 5]}
    kinds = ENDS.groupby(["dataset", "network", "n_train"])[["label_corruption", "inputs"]].nunique().sum(axis=1)
    at_every_q = {("cifar10", "mlp_1x512", 5000), ("mnist", "mlp_1x512", 10_000), ("cifar10", "alexnet_small", 10_000)}
    assert set(kinds[kinds > 3].index) == at_every_q
    alexnet = ENDS[(ENDS["network"] == "alexnet_small") & (ENDS["n_train"] == 10_000)]
    assert set(alexnet["seed"]) == {0} and sorted(alexnet["train_accuracy"].round(3))[:2] == [0.991, 1]


def test_on_all_images_three_networks_of_four_fit_every_random_label_and_the_fourth_misses_two():
    ends = TRUE[(TRUE["n_train"] == WHOLE) & (TRUE["label_corruption"] == 1)]
    missed = ((1 - ends["train_accuracy"]) * WHOLE).round().astype(int).groupby(ends["network"]).max().to_dict()
    assert missed == {"alexnet_small": 0, "inception_small": 0, "mlp_1x512": 2, "mlp_3x512": 0}
    assert ends.loc[ends["network"] == "mlp_1x512", "epoch"].tolist() == [200]
    mnist = TRUE[(TRUE["n_train"] == 60_000) & (TRUE["label_corruption"] == 1)]
    missed = ((1 - mnist["train_accuracy"]) * 60_000).round()
    assert (missed.min(), missed.max(), set(mnist["epoch"])) == (18, 43, {60})
    assert (TRUE[TRUE["label_corruption"] == 1]["test_accuracy"] - 0.1).abs().max() < 0.02
    assert TRUE.loc[TRUE["label_corruption"] == 1, "train_accuracy"].min() > 0.999  # as the page of all claims has it


@pytest.mark.parametrize(("data", "low", "high"), [("cifar10", 1.2, 2.8), ("mnist", 5, 7)])
def test_how_much_longer_random_labels_take(data, low, high):
    ratio = (fitted(data, q=1.0) / fitted(data)).dropna()
    assert low <= ratio.min() < low + 0.25 and high - 0.5 < ratio.max() <= high


def test_on_mnist_true_labels_are_learnt_sooner_and_random_ones_are_memorized_late():
    times = [fitted(data, q=q).agg(["min", "max"]).tolist() for data in ("mnist", "cifar10") for q in (0, 1)]
    assert times == [[9, 11], [56, 62], [14, 46], [18, 90]]
    assert label_claims.IN_SHORT["random_slower"] == "Random labels take less than ten times as long"
    assert label_claims.RECORD.entries["random_slower"].criterion == {"equal_to": 1, "delta": 9}  # a factor of ten


def test_the_last_labels_take_longer():
    """Runs stop at their last label, or when their epochs are over."""
    whole = TRUE[(TRUE["n_train"] == WHOLE) & TRUE["label_corruption"].isin((0, 1))]
    ends = whole.groupby(["network", "label_corruption"])[["epoch", "train_accuracy"]].agg(["min", "max"])
    epochs = ends["epoch"].apply(tuple, axis=1)
    assert epochs["alexnet_small"].tolist() == [(18, 20), (60, 60)]
    assert epochs["mlp_1x512"].tolist() == [(72, 72), (200, 200)]
    fully = ends["train_accuracy"]["min"] == 1
    assert fully["alexnet_small"].all() and fully["mlp_1x512"].tolist() == [True, False]
    assert set(RUNS.loc[RUNS["dataset"] == "cifar10", "eval_every"]) == {2}


def test_what_random_labels_cost_is_decided_on_one_network(claimed, said):
    asked = ["random_at_chance", "gap_jumps", "random_slower", "error_rises", "random_pixels_sooner", "gaussian_sooner"]
    decided = claimed[claimed["id"].isin(asked) & ~claimed["verdict"].isin(("undecided", "not run"))]
    assert set(decided["subject"]) == {"mlp_1x512 on MNIST, n = 10,000"} and set(decided["verdict"]) == {"holds"}
    assert sorted(decided["id"]) == sorted(asked) and all(said[name] == "holds" for name in asked)
    values = decided.set_index("id")["value"]
    assert 6 < values["random_slower"] < 7 and values["random_at_chance"] == pytest.approx(0.1, abs=0.005)


def test_error_rises_at_every_step():
    several = TRUE.groupby(["data", "network", "n_train"])["label_corruption"].transform("nunique") == 5
    means = TRUE[several].groupby(["data", "network", "label_corruption"])["test_error"].mean().unstack()
    assert len(means) == 3 and (means.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
    assert means[1.0].round(1).eq(0.9).all()
    assert set(TRUE.loc[several, "network"]) == {"mlp_1x512", "alexnet_small"}
    alone = TRUE[several].set_index(["data", "network", "seed", "label_corruption"])["test_error"].unstack()
    assert (alone.diff(axis=1).iloc[:, 1:] > 0).all(axis=None) and len(alone) == 9


def test_on_mnist_most_of_the_cost_of_noise_comes_while_it_is_memorized():
    every = RUNS[(RUNS["label_corruption"] == 0.5) & (RUNS["inputs"] == "true")].sort_values("epoch")
    half = every[every["network"] == "mlp_1x512"]
    best = half.loc[half.groupby("run_id")["test_accuracy"].idxmax()]
    at_best, end = (rows.groupby("dataset")["test_accuracy"].mean() for rows in (best, half.groupby("run_id").tail(1)))
    clean = TRUE[(TRUE["label_corruption"] == 0) & (TRUE["network"] == "mlp_1x512") & (TRUE["n_train"] < WHOLE)]
    clean = clean.groupby("dataset")["test_accuracy"].mean()
    assert at_best.round(2).to_dict() == {"cifar10": 0.30, "mnist": 0.91}
    assert end.round(2).to_dict() == {"cifar10": 0.27, "mnist": 0.65}
    assert clean.round(2).to_dict() == {"cifar10": 0.41, "mnist": 0.97}
    lost = (at_best - end) / (clean - end)
    assert lost["mnist"] > 0.8 and lost["cifar10"] < 0.25
    assert best.loc[best["dataset"] == "mnist", "epoch"].isin((2, 3, 4)).all()
    assert (best["train_accuracy"] < 0.56).all()  # of 0.55 that are true: few wrong labels are fitted
    alexnet = every[every["network"] == "alexnet_small"].set_index("epoch")["test_accuracy"]
    own = TRUE[(TRUE["network"] == "alexnet_small") & (TRUE["n_train"] == 10_000)].set_index("label_corruption")
    accuracy = alexnet.max(), alexnet.iloc[-1], own.loc[0, "test_accuracy"]
    assert alexnet.idxmax() == 6 and accuracy == pytest.approx((0.46, 0.36, 0.64), abs=0.005)
    assert 1 / 3 < (accuracy[0] - accuracy[1]) / (accuracy[2] - accuracy[1]) < 0.4


def test_noise_is_fitted_sooner_than_random_labels_and_random_pixels_keep_their_colours():
    by_kind = {kind: set(fitted("cifar10", kind).loc["mlp_1x512"]) for kind in ("gaussian", "random_pixels")}
    assert by_kind == {"gaussian": {4}, "random_pixels": {6}}
    assert set(fitted("cifar10", q=1.0).loc["mlp_1x512", 5000]) == {18}
    mnist = [fitted("mnist", kind).max() for kind in ("gaussian", "random_pixels")]
    assert max(mnist) < fitted("mnist", q=1.0).min()
    tests = ENDS[ENDS["inputs"] == "random_pixels"].groupby(["dataset", "network"])["test_accuracy"].mean().round(2)
    assert tests["mnist"].to_dict() == {"mlp_1x512": 0.1}
    assert tests["cifar10"].to_dict() == {"mlp_1x512": 0.17, "alexnet_small": 0.24}
    true = fitted("cifar10").loc["mlp_1x512", 5000], fitted("mnist").loc["mlp_1x512"]
    assert (set(true[0]), set(true[1]), set(fitted("mnist", "gaussian"))) == ({14}, {9, 10}, {6})


def test_alexnet_fits_noise_no_sooner_than_random_labels():
    kinds = ("true", "shuffled_pixels", "random_pixels", "gaussian")
    (true, shuffled, pixels, gaussian) = (fitted("cifar10", kind).loc["alexnet_small", 10_000, 0] for kind in kinds)
    assert (true, shuffled, pixels) == (20, 32, 34) and fitted("cifar10", q=1.0).loc["alexnet_small", 10_000, 0] == 32
    end = ENDS[(ENDS["inputs"] == "gaussian") & (ENDS["network"] == "alexnet_small")].iloc[0]
    assert math.isnan(gaussian) and (end["epoch"], round(end["train_accuracy"], 3)) == (60, 0.991)


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
    assert said["batch_norm_helps"] == "not run"
    accuracy = {name: rows["test_accuracy"].groupby("base").mean() for name, rows in (("none", none), ("both", both))}
    assert accuracy["none"].between(0.37, 0.38).all() and accuracy["both"].between(0.40, 0.41).all()
    assert means["weight decay"].round(3).tolist() == [0.003, 0.002]
    assert set(WATCHED["weight_decay"]) == {0, 0.005} and set(WATCHED["epoch"]) == {40}
    assert (
        WATCHED.loc[~WATCHED["crop"], "fit_epoch"].max() <= 24
        and WATCHED.loc[WATCHED["crop"], "fit_epoch"].isna().all()
    )
    held = ["not_necessary", "not_sufficient", "decay_acts", "crops_help", "crops_help_more", "fits_random"]
    assert (said[[*held, "augmented_fitted"]] == "holds").all()


def test_of_alexnet_on_500_images_crops_and_weight_decay_are_not_decided(claimed, said):
    assert set(ALL_WATCHED["base"]) == {"mlp_3x512", "mlp_1x512", "alexnet_small", "inception_small"}
    assert ALL_WATCHED.loc[~ALL_WATCHED["crop"], "fit_epoch"].max() == 24 and ALL_WATCHED["epoch"].eq(40).all()
    cropped = ALEXNET.loc[ALEXNET["crop"], "fit_epoch"]
    assert (cropped.min(), cropped.isna().sum(), len(cropped)) == (24, 1, 10)
    assert set(ALEXNET["n_train"]) == {500} and set(ALEXNET["weight_decay"]) == {0, 0.02}
    assert ALEXNET.groupby(["label_corruption", "regularizers"])["seed"].nunique().eq(5).all()
    own = claimed[claimed["subject"].str.startswith("alexnet_small on CIFAR-10 (JPEG q75), n = 500")].set_index("id")
    gains = own.loc[["crops_help", "weight_decay_helps"]]
    assert (gains["verdict"] == "undecided").all() and gains["value"].round(3).tolist() == [0.006, -0.011]
    assert (gains["high"] - gains["low"]).div(2).round(2).eq(0.02).all()
    kept = own.loc["not_necessary", ["value", "verdict"]]
    assert round(kept["value"], 2) == 0.97 and kept["verdict"] == "holds"
    assert own.loc["decay_acts", "value"] == pytest.approx(0.6, abs=0.005)
    assert ALEXNET.loc[ALEXNET["label_corruption"] == 1, "train_accuracy"].min() == 1
    assert ALEXNET["train_accuracy"].min() > 0.99 and set(ALEXNET["epoch"]) == {40}
    stopping = own.loc["stopping_helps_noisy", ["value", "low", "high"]].tolist()
    assert [round(value, 3) for value in stopping] == [0.016, -0.020, 0.053]
    assert own.loc["stopping_no_help", "verdict"] == "holds"
    assert said[["weight_decay_helps", "stopping_helps_noisy"]].eq("undecided").all()
    dense = claimed[claimed["id"].eq("weight_decay_helps") & claimed["subject"].str.startswith("mlp")]
    assert dense["verdict"].eq("negligible").all()


def test_dropout_in_three_seeds_of_inception_is_not_sufficient_and_not_decided_to_help(claimed, said):
    assert set(INCEPTION["n_train"]) == {500} and set(INCEPTION["epoch"]) == {40}
    seeds = INCEPTION.groupby(["label_corruption", "regularizers"])["seed"].nunique().to_dict()
    true = (tables.NONE, "dropout", "random crop", "random crop + weight decay", "weight decay")
    assert seeds == {**{(0, row): 3 for row in true}, (1, tables.NONE): 3, (1, "dropout + weight decay"): 3}
    accuracy = INCEPTION[INCEPTION["label_corruption"] == 0].groupby("regularizers")["test_accuracy"].mean().round(2)
    rows = ("random crop + weight decay", "random crop", "weight decay", tables.NONE)
    assert [accuracy[row] for row in rows] == [0.47, 0.46, 0.44, 0.44]
    assert INCEPTION["train_accuracy"].min() == 1
    own = claimed[claimed["subject"].str.startswith("inception_small on CIFAR-10 (JPEG q75), n = 500")].set_index("id")
    found = own.loc["dropout_helps", ["value", "low", "high"]].tolist()
    assert [round(100 * value, 1) for value in found] == [-0.7, -5.7, 4.3]
    assert said["dropout_helps"] == own.loc["dropout_helps", "verdict"] == "undecided"
    assert own.loc[["not_necessary", "decay_acts"], "value"].round(2).tolist() == [0.91, 0.36]
    assert set(own.loc[own.index != "not_sufficient", "verdict"]) == {"undecided", "not run"}


def test_of_the_regularizers_weight_decay_was_trained_on_random_labels_and_dropout_with_it():
    random = ALL_WATCHED[ALL_WATCHED["label_corruption"] == 1].groupby("base")["regularizers"].unique().map(set)
    assert random.pop("inception_small") == {tables.NONE, "dropout + weight decay"}
    assert all(each == {tables.NONE, "weight decay"} for each in random)
    assert label_claims.IN_SHORT["not_sufficient"] == "Weight decay is not sufficient to stop memorizing"


def test_on_all_images_accuracy_is_higher_with_weight_decay():
    plain = TRUE[(TRUE["n_train"] == WHOLE) & (TRUE["label_corruption"] == 0)]
    decayed = results.summarize(SWITCHED[SWITCHED["stop_when_fitted"].astype(bool) & (SWITCHED["random_crop"] == 0)])
    assert set(decayed["weight_decay"]) == {0.0005} and set(decayed["n_train"]) == {WHOLE}
    accuracy = [rows.groupby("network")["test_accuracy"].mean() for rows in (decayed, plain)]
    gain = (100 * (accuracy[0] - accuracy[1])).dropna().round(1).to_dict()
    assert gain == {"alexnet_small": 0.8, "mlp_1x512": 2.2, "mlp_3x512": 0.3}
    ends = [rows.set_index("network").loc["mlp_1x512", "epoch"] for rows in (decayed, plain)]
    assert ends == [200, 72] and plain.groupby("network")["seed"].nunique().max() == 2


def test_alexnet_on_all_images_with_one_regularizer_and_two():
    both = pd.concat([RUNS[RUNS["dataset"] == "cifar10"], SWITCHED], ignore_index=True)
    table = tables.table_1(both)
    alexnet = table[(table["network"] == "alexnet_small") & table["our n, seeds"].str.startswith("50,000")]
    found = alexnet.set_index(["regularizers", "labels"])[["test, ours", "our epochs"]].T
    said = {"random crop + weight decay": "78.9", "weight decay": "75.6", tables.NONE: "74.9"}
    assert {words: found[words, "true"]["test, ours"] for words in said} == said
    assert [found[words, "true"]["our epochs"] for words in said] == ["56", "20", "18–20"]
    whole = table["our n, seeds"].str.startswith("50,000")
    inception = table[(table["network"] == "inception_small") & whole].set_index(["regularizers", "labels"])
    inception = inception["test, ours"]
    assert inception[tables.NONE].to_dict() == {"true": "82.5", "random": "10.4"}  # drawn above: not 'not run'
    paper = table.drop_duplicates(["network", "regularizers", "labels"])
    assert len(paper) == len(tables.TABLE_1)


def test_early_stopping_on_true_labels_and_with_half_of_them_random(claimed, said):
    gain = {q: without(q)["stopped"] - without(q)["watched/test_accuracy"] for q in (0.0, 0.5)}
    by = claimed.query("id == 'stopping_no_help'").set_index("subject")
    network = by.index.str.partition(" ").get_level_values(0)
    verdicts = {"mlp_3x512": "holds", "mlp_1x512": "undecided", "alexnet_small": "holds"}
    assert dict(zip(network, by["verdict"], strict=True)) == {**verdicts, "inception_small": "undecided"}
    wide = by[network == "mlp_1x512"].iloc[0]
    assert (round(wide["low"], 3), round(wide["high"], 3)) == (-0.026, 0.012)
    noisy = gain[0.5].groupby("base").mean().round(2).to_dict()
    assert noisy == {"mlp_1x512": 0.04, "mlp_3x512": 0.06} and gain[0.0].min() < 0
    assert said["stopping_no_help"] == "undecided"
    chosen = without(0.5)["stopped_at"]
    runs = SWITCHED.set_index(["run_id", "epoch"])["train_accuracy"]
    at = [runs[run, epoch] for run, epoch in zip(without(0.5)["run_id"], chosen, strict=True)]
    assert chosen.between(2, 6).all() and set(chosen) == {2, 4, 6} and min(at) > 1 / 3 and max(at) < 2 / 3
    noisy = ALL_WATCHED[ALL_WATCHED["label_corruption"] == 0.5].groupby("base")["stopped_at"]
    first = {name: int((epochs == epochs.min()).sum()) for name, epochs in noisy if name != "mlp_3x512"}
    assert first == {"alexnet_small": 3, "mlp_1x512": 4}  # of five: at the first epoch that was evaluated
    assert noisy.min()[["alexnet_small", "mlp_1x512"]].to_dict() == {"alexnet_small": 4, "mlp_1x512": 2}


def test_augmented_random_labels_are_memorized_in_the_end(said):
    at = AUGMENTED.groupby("variants")["fit_epoch"].agg(["min", "max"])
    assert at.loc[[1, 2, 18]].to_numpy().tolist() == [[40, 40], [80, 80], [720, 920]]
    assert at.loc[50].tolist() == [3320, 4520] and set(at.index) == {1, 2, 18, 50}
    assert at.loc[50, "min"] / 40 > 80  # at least eighty times as long: 40 is the first epoch that was evaluated
    assert AUGMENTED.groupby("variants")["seed"].nunique().eq(5).all() and said["variants_slow"] == "holds"
    assert (demo.CONFIG.epochs, demo.CONFIG.train_size, set(AUGMENTED["n_train"])) == (40, 200, {200})
