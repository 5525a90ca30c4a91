"""Charts of chapter 1: valid specifications that survive JSON, fields that carry the data, words that say it."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import charts as draw
from gendyn_lite.chapters.random_labels import claims as label_claims
from gendyn_lite.chapters.random_labels import demo
from gendyn_lite.charts import tables
from gendyn_lite.errors import UserError
from tests.chapters.random_labels import fake as fake_runs


def spec_of(chart) -> dict:
    return chart.to_dict()  # validates against the Vega-Lite schema


def test_the_slider_stops_at_every_q():
    spec = spec_of(draw.learning_curves(fake_runs.table(corruptions=(0.0, 0.25, 0.5, 0.75, 1.0))))
    slider = next(param["bind"] for param in spec["params"] if param["name"] == "corruption")
    assert slider["options"] == [0, 0.25, 0.5, 0.75, 1]
    assert slider["labels"] == ["0", "0.25", "0.5", "0.75", "1"]


def test_the_learning_curves_keep_first_and_last_epoch_of_each_run():
    table = fake_runs.table(slowdown=12.0)
    rows = next(iter(spec_of(draw.learning_curves(table))["datasets"].values()))
    shown = {(row["q"], row["seed"], row["epoch"]) for row in rows if "epoch" in row}
    for (q, seed), run in table[table["inputs"] == "true"].groupby(["label_corruption", "seed"]):
        assert {(q, seed, 0), (q, seed, run["epoch"].max())} <= shown


def test_the_means_are_those_of_the_summary():
    table = fake_runs.table()
    spec = spec_of(draw.test_error(table))
    rows = [row for data in spec["datasets"].values() for row in data if "mean" in row]
    expected = results.summarize(table[table["inputs"] == "true"]).groupby("label_corruption")["test_error"].mean()
    assert {row["q"]: row["mean"] for row in rows} == pytest.approx(expected.to_dict(), abs=1e-4)


def test_no_run_on_true_inputs_is_refused():
    with pytest.raises(UserError, match="no run on true inputs"):
        draw.learning_curves(fake_runs.table(corruptions=()))


def test_runs_that_never_fit_have_no_time_to_fit():
    with pytest.raises(UserError, match="no run fitted its training labels"):
        draw.time_to_fit(fake_runs.table(fitted=False))


def test_the_grid_says_how_many_labels_are_wrong_at_the_end():
    examples = demo.corruption_examples(24)
    spec = spec_of(draw.corruption_grid(examples))
    wrong = int((examples["true"] != examples["redrawn"]).sum())
    assert f"At q = 1 {wrong} of 24 are wrong" in spec["description"]


def test_every_claim_has_a_row_with_its_verdict():
    found = label_claims.claims(fake_runs.table(fitted=False))
    page = tables.claims_table(found, caption="Claims").data
    assert page.count('<th scope="row"') == len(found)
    for verdict in set(found["verdict"]):
        assert f"{tables.SIGNS[verdict]}&nbsp;{verdict}" in page
    assert "nan" not in page


def test_the_runs_table_names_data_and_hours():
    page = tables.runs_table(results.overview(fake_runs.table()), caption="Runs").data
    assert "made-up data" in page
    assert page.count("<tr ") == 2
