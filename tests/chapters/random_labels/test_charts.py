"""Charts and tables of chapter 1: every run, claim and size has its place, the paper's tables beside ours."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import charts as draw
from gendyn_lite.chapters.random_labels import claims as label_claims
from gendyn_lite.chapters.random_labels import demo, tables
from gendyn_lite.chapters.random_labels.tables import TABLE_1, table_1_row
from gendyn_lite.charts import tables as pages
from tests.chapters import fake_sizes
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.specs import described, rows


def test_the_grid_says_how_many_labels_are_wrong():
    assert "At q = 1 23 of 24 are wrong" in described(draw.corruption_grid(demo.corruption_examples(24)))


def test_the_learning_curves_keep_first_and_last_epoch_of_each_run():
    table = fake_runs.table(slowdown=12.0)
    found = rows(draw.learning_curves(table), "epoch")
    shown = set(zip(found["q"], found["seed"], found["epoch"], strict=True))
    for (q, seed), run in table[table["inputs"] == "true"].groupby(["label_corruption", "seed"]):
        assert {(q, seed, 0), (q, seed, run["epoch"].max())} <= shown


def test_every_claim_has_a_row_with_its_verdict():
    found = label_claims.claims(fake_runs.table(fitted=False))
    page = pages.claims_table(found, caption="Claims").data
    assert page.count('<th scope="row"') == len(found)
    for verdict in set(found["verdict"]):
        assert f"{pages.SIGNS[verdict]}&nbsp;{verdict}" in page
    assert "nan" not in page


def test_the_runs_table_names_data_and_hours():
    page = pages.runs_table(results.overview(fake_runs.table()), caption="Runs").data
    assert "made-up data" in page
    assert page.count("<tr ") == 2


def test_each_setting_stands_beside_what_early_stopping_gives():
    shown = rows(draw.final_accuracy(fake_runs.regularized(fall=-0.05)), "mean").set_index(["setting", "taken at"])[
        "mean"
    ]
    none = shown["no regularizer"].groupby("taken at").first()
    assert none["early stopping"] - none["end of training"] == pytest.approx(-0.05)
    assert "half of the labels random" in shown and shown.min() > 0.3  # no random labels, which end at chance


def test_memorizing_is_drawn_by_the_number_of_variants():
    shown = rows(draw.augmented(fake_runs.augmented()), "accuracy").set_index(["variants", "epoch"])["accuracy"]
    assert [shown[variants, 40] for variants in ("1", "2", "18", "50")] == sorted(
        shown.xs(40, level="epoch"), reverse=True
    )


def test_table_1_has_the_papers_rows_in_its_order_with_ours_beside():
    table = tables.table_1(fake_runs.regularized())
    assert table["network"].tolist() == [row.network for row in TABLE_1] and len(TABLE_1) == 19
    first = table.iloc[0][["regularizers", "labels", "test, paper", "test, ours"]]
    assert first.tolist() == ["random crop + weight decay", "true", "89.05", "85.1 ± 0.2"]
    assert table.iloc[4][["labels", "train, ours"]].tolist() == ["random", "99.99 ± 0.02"]
    assert set(table[table["network"] == "mlp_1x512"]["test, ours"]) == {"not run"}


def test_dropout_is_no_row_of_table_1():
    """Otherwise the runs with dropout would be averaged into the row without any regularizer."""
    table = tables.table_1(fake_runs.regularized(dropout=0.1))
    assert table.iloc[3]["test, ours"].startswith("80.1")


def test_every_network_of_the_paper_has_its_plain_rows():
    for network in {row.network for row in TABLE_1}:
        random = table_1_row(network, random_labels=True)
        assert random is not None
        assert 9 < random.test < 11 < table_1_row(network).test


def test_table_2_says_that_it_was_not_run():
    table = tables.table_2()
    assert table["ours"].tolist() == ["not run at full size"] * 7 + ["–"]
    assert table.iloc[4]["top-1 train"] == "91.18"


def test_table_1_has_a_row_for_each_size():
    table = fake_runs.regularized()
    found = tables.table_1(fake_sizes.both(table, *fake_sizes.SIZES))
    ours = found[found["our n, seeds"] != "–"].groupby(["network", "regularizers", "labels"])["our n, seeds"].agg(list)
    assert {tuple(counts) for counts in ours} == {("1,000, float32, 3", "50,000, bfloat16, 3")}
    assert (found["train, ours"] == "not run").sum() == len(found) - 2 * len(ours)
    assert found["test, ours"].iloc[:2].tolist() == ["85.1 ± 0.2", "84.1 ± 0.2"]
