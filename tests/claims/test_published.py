"""What chapter 1 publishes: verified tables, at least three seeds a row, and the fact that it is about."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite import claims, results
from gendyn_lite.charts import random_labels, regularizers
from gendyn_lite.results.published import provenance

RUNS = results.published("random_labels")
SWITCHED = results.published("regularizers")
DATA = list(RUNS["data"].unique())


@pytest.mark.parametrize("name", ["random_labels", "regularizers"])
def test_the_tables_are_those_that_were_published_with_three_seeds_a_row_and_a_clean_commit(name):
    results.verify(name)
    runs = results.published(name).drop_duplicates("run_id")
    assert (runs.groupby("group_id")["seed"].nunique() >= 3).all()
    commits = {run["commit"] for run in provenance(name)["runs"].values()}
    assert not any(commit.endswith("+") for commit in commits)


def test_data_that_is_no_original_says_so():
    assert sorted(DATA) == ["CIFAR-10 (JPEG q75)", "MNIST"]
    assert set(SWITCHED["data"]) == {"CIFAR-10 (JPEG q75)"}


def test_every_network_on_cifar_fits_random_labels_and_tests_at_chance():
    ends = results.summarize(RUNS[(RUNS["dataset"] == "cifar10") & (RUNS["label_corruption"] == 1)])
    assert {"inception_small", "alexnet_small", "mlp_3x512", "mlp_1x512"} <= set(ends["network"])
    assert ends["train_accuracy"].min() >= 0.99
    assert (ends.groupby("network")["test_accuracy"].mean() - 0.1).abs().max() < 0.02


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", ["learning_curves", "time_to_fit", "test_error", "loss_curves"])
def test_every_chart_of_fig_1_draws_each_data_set(data, name):
    spec = getattr(random_labels, name)(RUNS[RUNS["data"] == data]).to_dict()
    assert spec["description"]


def test_the_charts_and_claims_of_regularizers_draw_what_is_published():
    switched = pd.concat([RUNS[RUNS["dataset"] == "cifar10"], SWITCHED], ignore_index=True)
    for draw in (regularizers.explicit_regularizers, regularizers.final_accuracy):
        assert draw(switched).to_dict()["description"]
    found = claims.regularizers.claims(switched)
    assert set(found["verdict"]) <= set(claims.VERDICTS)
    assert found["statement"].str.startswith("Explicit regularizers are not necessary").any()


def test_every_row_of_table_1_has_three_seeds_and_networks_without_random_labels_beat_chance():
    switched = pd.concat([RUNS[RUNS["dataset"] == "cifar10"], SWITCHED], ignore_index=True)
    table = claims.paper_tables.table_1(switched)
    assert len(table) == 19
    assert (table["train, ours"] == "100.0 ± 0.0").all()
    assert table["our n, seeds"].str.endswith(", 3").all()
    tests = table["test, ours"].str.split(" ").str[0].astype(float)
    assert tests[table["labels"] == "true"].min() > 30 and tests[table["labels"] == "random"].max() < 12
