"""What chapter 1 publishes: verified tables, at least three seeds a row, and the fact that it is about."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.path_functions import claims as path_functions
from gendyn_lite.chapters.random_labels import claims as label_claims
from gendyn_lite.chapters.random_labels import tables

RUNS = results.published("random_labels")
SWITCHED = results.published("regularizers")
WHOLE = 50_000  # training images of CIFAR-10
ON_CIFAR = pd.concat([RUNS[RUNS["dataset"] == "cifar10"], SWITCHED], ignore_index=True)
CLAIMS = {
    "random labels": (RUNS, label_claims.claims),
    "regularizers": (ON_CIFAR, label_claims.regularizer_claims),
    "paths": (results.published("path_networks"), path_functions.over_training),
}


@pytest.mark.parametrize("name", ["random_labels", "regularizers"])
def test_every_small_row_has_three_seeds(name):
    runs = results.published(name).drop_duplicates("run_id")
    small = runs[runs["profile"] == "colab"]
    assert (small.groupby("group_id")["seed"].nunique() >= 3).all()
    assert set(runs["n_train"][runs["profile"] != "colab"]) == {WHOLE}


def test_every_network_on_cifar_fits_random_labels_and_tests_at_chance():
    ends = results.summarize(RUNS[(RUNS["dataset"] == "cifar10") & (RUNS["label_corruption"] == 1)])
    assert {"inception_small", "alexnet_small", "mlp_3x512", "mlp_1x512"} <= set(ends["network"])
    assert ends["train_accuracy"].min() >= 0.99
    assert (ends.groupby("network")["test_accuracy"].mean() - 0.1).abs().max() < 0.02


def test_every_row_of_table_1_has_three_seeds_on_a_part_of_the_images_and_random_labels_never_beat_chance():
    table = tables.table_1(ON_CIFAR)
    whole = table["our n, seeds"].str.startswith(f"{WHOLE:,}, ")
    small = table[~whole]
    assert not small.duplicated(["network", "regularizers", "labels", "our n, seeds"]).any()
    assert small.groupby(["network", "regularizers", "labels"]).ngroups == 19
    assert (small["train, ours"] == "100.0 ± 0.0").all()
    assert small["our n, seeds"].str.endswith(", 3").all()
    assert set(table.loc[whole, "our n, seeds"]) == {f"{WHOLE:,}, 1", f"{WHOLE:,}, 2"}
    assert not table.loc[whole, ["train, ours", "test, ours"]].stack().str.contains("±").any()
    tests = table["test, ours"].str.split(" ").str[0].astype(float)
    assert tests[table["labels"] == "true"].min() > 30 and tests[table["labels"] == "random"].max() < 12


def test_on_all_images_three_networks_of_four_fit_every_random_label_and_the_fourth_misses_two():
    ends = results.summarize(RUNS[(RUNS["n_train"] == WHOLE) & (RUNS["label_corruption"] == 1)])
    missed = ((1 - ends["train_accuracy"]) * WHOLE).round().astype(int).groupby(ends["network"]).max().to_dict()
    assert missed == {"alexnet_small": 0, "inception_small": 0, "mlp_1x512": 2, "mlp_3x512": 0}
    assert ends.loc[ends["network"] == "mlp_1x512", "epoch"].tolist() == [200]


def test_what_is_held_equal_decides_the_sign_of_random_crops_as_the_page_says():
    found = label_claims.regularizer_claims(ON_CIFAR)
    found = found[found["subject"].str.match(r"inception_small on .* n = (500|200)$")].set_index("id")
    ways = ("crops_help", "crops_help_at_equal_loss", "batch_norm_helps")
    said = [found.loc[[name]].dropna(subset="value").iloc[0] for name in ways]
    assert [round(row["value"], 3) for row in said] == [-0.036, 0.043, 0.117]
    assert [row["subject"][-3:] for row in said] == ["500", "500", "200"]
    assert {(row["n_seeds"], row["verdict"]) for row in said} == {(3, "undecided")}
    assert set(found.loc[["batch_norm_helps_at_equal_loss"], "verdict"]) == {"not run"}
    runs = tables.with_regularizers(ON_CIFAR)
    runs = runs[(runs["n_train"] == 200) & (runs["regularizers"] == tables.NONE) & ~runs["random"]]
    for _, pair in runs.groupby("seed"):
        least = pair.groupby("run_id")["train_loss"].min().max()
        for _, run in pair.sort_values("epoch").groupby("run_id"):
            loss = run["train_loss"]
            assert loss[loss > least].iloc[-1] > 10 * loss[loss <= least].iloc[0]


@pytest.mark.parametrize(("shift", "said"), [(-1, 0.042), (1, 0.037)], ids=["before", "after"])
def test_random_crops_gain_at_the_evaluation_before_or_after_the_equal_loss_too(shift, said):
    runs = tables.with_regularizers(ON_CIFAR)
    runs = runs[(runs["base"] == "inception_small") & (runs["n_train"] == 500)]
    gains = []
    for seed in range(3):
        kinds = [label_claims._true(runs[runs["seed"] == seed], words) for words in ("random crop", tables.NONE)]
        pair = [kind.sort_values("epoch").reset_index(drop=True) for kind in kinds]
        loss = max(run["train_loss"].min() for run in pair)
        at = [min(int((run["train_loss"] <= loss).argmax()) + shift, len(run) - 1) for run in pair]
        one, other = (run["test_accuracy"][k] for run, k in zip(pair, at, strict=True))
        gains.append(one - other)
    assert round(sum(gains) / 3, 3) == said and min(gains) > 0


@pytest.mark.parametrize("name", CLAIMS)
def test_runs_on_all_images_decide_nothing_and_change_no_claim_of_the_others(name):
    table, of = CLAIMS[name]
    whole, found = table["profile"] == "full", of(table)
    on_all = found["subject"].str.endswith(f"n = {WHOLE:,}")
    assert set(found.loc[on_all & (found["id"] != "fits_random"), "verdict"]) <= {"undecided", "not run"}
    pd.testing.assert_frame_equal(found[~on_all].reset_index(drop=True), of(table[~whole]))
