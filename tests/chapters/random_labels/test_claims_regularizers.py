"""Claims on regularizers: each verdict follows from the table; the paper's tables stand beside our runs."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite.chapters.random_labels import tables
from gendyn_lite.chapters.random_labels.claims import regularizer_claims
from gendyn_lite.chapters.random_labels.tables import TABLE_1, table_1_row
from gendyn_lite.errors import UserError
from tests.chapters.random_labels import fake as fake_runs

NECESSARY = "Explicit regularizers are not necessary: without them networks still generalize"
SUFFICIENT = "Explicit regularizers are not sufficient: with them networks still fit random labels"
DECAY = "Weight decay improves test accuracy"
CROP = "Augmentation by random crops improves test accuracy"
MORE = "Augmentation helps more than weight decay"
DROPOUT = "Dropout improves test accuracy"
STOPPING = "Early stopping is not necessarily helpful on CIFAR-10"
NORM = "Batch-norm improves generalization"


def found(**options) -> pd.DataFrame:
    """The claims on the network with batch-norm, by statement."""
    table = regularizer_claims(fake_runs.regularized(**options))
    return table[~table["subject"].str.contains("without")].set_index("statement")


def test_runs_that_behave_as_the_paper_says_hold_every_claim():
    table = found()
    assert set(table.index) == {NECESSARY, SUFFICIENT, DECAY, CROP, MORE, DROPOUT, STOPPING, NORM}
    assert set(table["verdict"]) == {"holds"}


@pytest.mark.parametrize(
    ("options", "statement", "verdict"),
    [
        ({"none": 0.3}, NECESSARY, "not seen"),
        ({"none": 0.6}, NECESSARY, "weaker"),
        ({"random_train": 0.4}, SUFFICIENT, "not seen"),
        ({"random_train": 0.95}, SUFFICIENT, "weaker"),
        ({"decay": 0.7}, DECAY, "not seen"),
        ({"crop": 0.7}, CROP, "not seen"),
        ({"decay": 0.9}, MORE, "not seen"),
        ({"dropout": 0.7}, DROPOUT, "not seen"),
        ({"without_none": 0.9}, NORM, "not seen"),
        ({"seeds": 1}, NORM, "not testable at this size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_claim_that_fails_is_shown_as_failing(options, statement, verdict):
    assert found(**options).loc[statement, "verdict"] == verdict


def test_what_early_stopping_gains_is_the_best_minus_the_last():
    table = regularizer_claims(fake_runs.regularized())
    rows = table[table["statement"] == STOPPING].set_index("subject")["value"]
    assert rows["inception_small on made-up data, n = 1,000"] == pytest.approx(0.0)
    assert rows["inception_small without batch-norm on made-up data, n = 1,000"] == pytest.approx(0.05)
    assert set(table[table["statement"] == STOPPING]["verdict"]) == {"holds", "not seen"}


def test_values_are_paired_differences_of_the_table():
    table = found()
    assert table.loc[DECAY, "value"] == pytest.approx(0.01)
    assert table.loc[DECAY, ["low", "high"]].tolist() == pytest.approx([0.01, 0.01])  # the seeds' own noise cancels
    assert table.loc[NORM, "value"] == pytest.approx(0.04)
    assert table.loc[NECESSARY, "value"] == pytest.approx(0.7 / 0.75, abs=1e-3)


def test_the_papers_values_are_those_of_its_table():
    table = found()
    assert table.loc[DECAY, "paper_value"] == "+0.003 (CIFAR-10)"  # 86.03 − 85.75
    assert table.loc[CROP, "paper_value"] == "+0.036 (CIFAR-10)"  # 89.31 − 85.75
    assert table.loc[MORE, "paper_value"] == "+0.033 (CIFAR-10)"
    assert table.loc[NORM, "paper_value"] == "+0.037 (CIFAR-10)"  # 85.75 − 82.00
    assert table.loc[NECESSARY, "paper_value"] == "0.958 (CIFAR-10)"  # 75.75 / 79.05


def test_two_sizes_are_two_subjects():
    both = pd.concat(
        [fake_runs.regularized(), fake_runs.regularized(n_train=50).assign(run_id=lambda t: t.run_id + "b")]
    )
    subjects = regularizer_claims(both)["subject"]
    assert {subject.rpartition("n = ")[2] for subject in subjects} == {"1,000", "50"}


def test_a_network_that_was_never_regularized_has_no_claims_on_that():
    runs = fake_runs.regularized()
    plain = runs[(runs["random_crop"] == 0) & (runs["weight_decay"] == 0) & ~runs["model_options"].str.contains("drop")]
    assert set(regularizer_claims(plain)["statement"]) == {STOPPING, NORM}


def test_table_1_has_each_size_of_a_row():
    small = fake_runs.regularized(n_train=50, none=0.2).assign(run_id=lambda table: table["run_id"] + "b")
    table = tables.table_1(pd.concat([fake_runs.regularized(), small]))
    plain = table[(table["network"] == "inception_small") & (table["regularizers"] == "no regularizer")]
    true = plain.loc[plain["labels"] == "true", ["test, ours", "our n, seeds"]]
    assert true.to_numpy().tolist() == [["20.1 ± 0.2", "50, 3"], ["80.1 ± 0.2", "1,000, 3"]]


def test_table_1_has_the_papers_rows_in_its_order_with_ours_beside():
    table = tables.table_1(fake_runs.regularized())
    assert len(table) == len(TABLE_1) == 19
    assert table["network"].tolist() == [row.network for row in TABLE_1]
    first = table.iloc[0]
    assert (first["regularizers"], first["labels"]) == ("random crop + weight decay", "true")
    assert (first["test, paper"], first["test, ours"]) == ("89.05", "85.1 ± 0.2")
    assert table.iloc[4][["labels", "train, ours"]].tolist() == ["random", "99.99 ± 0.02"]
    assert set(table[table["network"] == "mlp_1x512"]["test, ours"]) == {"not run"}


def test_dropout_is_no_row_of_table_1():
    """Otherwise the runs with dropout would be averaged into the row without any regularizer."""
    table = tables.table_1(fake_runs.regularized(dropout=0.1))
    assert table.iloc[3]["test, ours"].startswith("80.1")


def test_table_1_of_two_data_sets_is_refused():
    both = pd.concat([fake_runs.regularized(), fake_runs.regularized(data="other data")])
    with pytest.raises(UserError, match="Table 1 has one data set, the runs have 2"):
        tables.table_1(both)


def test_every_network_of_the_paper_has_its_plain_rows():
    for network in {row.network for row in TABLE_1}:
        random = table_1_row(network, random_labels=True)
        assert random is not None
        assert 9 < random.test < 11 < table_1_row(network).test


def test_table_2_says_that_it_was_not_run():
    table = tables.table_2()
    assert len(table) == 8
    assert (table["ours"][:7] == "not run at full size").all()
    assert table.iloc[4]["top-1 train"] == "91.18"
