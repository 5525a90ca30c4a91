"""Charts of chapter 1: their data are the means, the best epochs and the verdicts of the table."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import charts as draw
from gendyn_lite.chapters.random_labels import claims as label_claims
from gendyn_lite.chapters.random_labels import demo
from gendyn_lite.charts import tables
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.specs import rows

CHARTS = {"grid": lambda: draw.corruption_grid(demo.corruption_examples(24))}


def test_the_learning_curves_keep_first_and_last_epoch_of_each_run():
    table = fake_runs.table(slowdown=12.0)
    found = rows(draw.learning_curves(table), "epoch")
    shown = set(zip(found["q"], found["seed"], found["epoch"], strict=True))
    for (q, seed), run in table[table["inputs"] == "true"].groupby(["label_corruption", "seed"]):
        assert {(q, seed, 0), (q, seed, run["epoch"].max())} <= shown


def test_the_means_are_those_of_the_summary():
    table = fake_runs.table()
    shown = rows(draw.test_error(table), "mean").set_index("q")["mean"].to_dict()
    expected = results.summarize(table[table["inputs"] == "true"]).groupby("label_corruption")["test_error"].mean()
    assert shown == pytest.approx(expected.to_dict(), abs=1e-4)


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


def test_the_shaded_area_reaches_from_the_accuracy_to_the_best_so_far():
    shown = rows(draw.batch_norm(fake_runs.regularized()), "test", "best")
    assert (shown["best"] >= shown["test"] - 1e-9).all()
    plain = shown[shown["setting"] == "no batch-norm"].set_index("epoch")
    assert plain.loc[3, "best"] - plain.loc[3, "test"] == pytest.approx(0.05)
    assert plain.loc[0, "best"] == plain.loc[0, "test"]


def test_a_run_that_stopped_keeps_its_accuracy():
    """Seed 1 trains one epoch longer; the mean there is over all three seeds."""
    shown = rows(draw.explicit_regularizers(fake_runs.regularized()), "test", "best")
    plain = shown[(shown["setting"] == "no regularizer") & (shown["network"] == "inception_small")].set_index("epoch")
    assert plain.loc[4, "test"] == pytest.approx(0.801)


def test_the_final_means_are_those_of_the_seeds():
    shown = rows(draw.final_accuracy(fake_runs.regularized()), "mean", "setting")
    ends = shown[shown["taken at"] == "end of training"].set_index(["network", "setting"])["mean"]
    assert ends["inception_small", "crop + decay"] == pytest.approx(0.851)
    assert ends["inception_small without batch-norm", "no regularizer"] == pytest.approx(0.761)


def test_random_labels_are_not_drawn():
    shown = rows(draw.explicit_regularizers(fake_runs.regularized(random_train=0.2)), "train")
    assert shown.groupby("setting")["train"].max().min() == pytest.approx(1)
