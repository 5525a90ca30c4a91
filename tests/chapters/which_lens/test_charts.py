"""Charts of 'Which lens?' are figures that say their numbers, and show the networks and no others."""

from __future__ import annotations

import pytest

from gendyn_lite.chapters.which_lens import charts, judging, tables
from gendyn_lite.results import provenance_line
from tests.chapters.specs import described, rows
from tests.chapters.which_lens import fake

RUNS = fake.runs(settings=4)
NETWORKS = tables.networks(RUNS)
JUDGED = judging.judged(NETWORKS, resamples=20)
DRAWN = {
    "scatter": charts.scatter(RUNS),
    "rankings": charts.rankings(JUDGED),
    "along_axes": charts.along_axes(JUDGED),
    "cases": charts.cases(judging.in_each_case(NETWORKS, resamples=20)),
    "costs": charts.costs(JUDGED, NETWORKS),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_chart_is_a_figure_that_says_its_numbers(name):
    assert "fully connected on planted" in described(DRAWN[name])


def test_each_network_that_reached_the_loss_is_a_point_with_all_of_its_measures():
    table = rows(DRAWN["scatter"])
    assert len(table) == NETWORKS["reached"].sum() == len(NETWORKS) - 1
    assert {charts.called(name) for name in tables.MEASURES} <= set(table)
    reached = NETWORKS[NETWORKS["reached"]]
    assert table["test error"].tolist() == reached["error"].round(4).tolist()
    named = RUNS[RUNS["run_id"].isin(reached["run_id"])]
    assert DRAWN["scatter"].to_dict()["usermeta"]["caption"] == provenance_line(named)


def test_rankings_show_every_measure_with_the_number_that_was_judged():
    table = rows(DRAWN["rankings"])
    one = table[(table["how"] == charts.STATISTICS["granulated"]) & (table["trained_on"] == "true labels")]
    judged = JUDGED[(JUDGED["statistic"] == "granulated") & (JUDGED["labels"] == "true labels")]
    assert one.set_index("measure")["value"].to_dict() == {
        charts.called(row.measure): round(row.value, 3) for row in judged.itertuples()
    }
