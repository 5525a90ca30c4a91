"""The paper's tables stand beside our runs, and what has been run is counted by size."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import tables
from gendyn_lite.chapters.random_labels.tables import TABLE_1, table_1_row
from tests.chapters import fake_sizes
from tests.chapters.random_labels import fake as fake_runs


def test_table_1_has_each_size_of_a_row():
    small = fake_runs.regularized(n_train=50, none=0.2).assign(run_id=lambda table: table["run_id"] + "b")
    table = tables.table_1(pd.concat([fake_runs.regularized(), small]))
    plain = table[(table["network"] == "inception_small") & (table["regularizers"] == "no regularizer")]
    true = plain.loc[plain["labels"] == "true", ["test, ours", "our n, seeds"]]
    assert true.to_numpy().tolist() == [["20.1 ± 0.2", "50, 3"], ["80.1 ± 0.2", "1,000, 3"]]


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


@pytest.mark.parametrize("field", fake_sizes.SIZES)
def test_what_has_been_run_is_counted_by_size(field):
    table = fake_runs.regularized()
    few = fake_sizes.other(table, field)
    both = pd.concat([table, few[few["seed"] == 0]], ignore_index=True)
    assert set(tables.row_by_row(both)["seeds"]) == set(results.overview(both)["seeds"]) == {1, 3}
    assert all(words in results.provenance_line(both) for words in ("1 to 3 seeds", fake_sizes.WORDS[field]))
