"""The tables of 'Which lens?', from planted networks whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.which_lens import judging, runs, tables
from tests.chapters.which_lens import fake


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    return fake.runs()


def test_a_row_a_network_with_what_is_to_be_predicted(planted):
    found = tables.networks(planted)
    assert len(found) == 48 and found["reached"].sum() == 47 and set(found["n_held"]) == {2000}
    assert found.groupby("setting").size().eq(2).all() and set(found["depth"]) == {2}
    assert (found["error"] - (1 - found["held_accuracy"])).abs().max() == 0
    assert (found["gap"] - (found["train_accuracy"] - found["held_accuracy"])).abs().max() == 0
    share = tables.completion(found).set_index(["axis", "value"])["reached"]
    assert share["width", 128] == 15 / 16 and share["width", 512] == 1
    assert found[tables.CHANCE].between(0, 1).all() and found[tables.CHANCE].nunique() == 48


def test_every_quantity_that_a_run_records_is_one_measure_of_its_own():
    recorded = {name for name in results.published("which_lens") if name.startswith("lens/")}
    beside = (":seconds", ":refused", "test:held_accuracy", "test:n_held")
    recorded = {name for name in recorded if not name.endswith(beside)}
    columns = [measure.column for measure in tables.MEASURES.values()]
    assert sorted(name for name in columns if "/" in name) == sorted(recorded)


def test_the_planted_measure_ranks_first_the_misleading_one_last_and_chance_is_undecided(planted):
    found = judging.judged(tables.networks(planted), resamples=100)
    found = found[found["labels"] == "all"]
    assert (found["settings"] == 24).all()
    by = {name: rows.set_index("measure") for name, rows in found.groupby("statistic")}
    for statistic in ("overall", "granulated", "worst axis"):
        rows = by[statistic]
        assert rows["value"].idxmax() == "validation_accuracy" and rows["value"].idxmin() == "margin"
        assert rows["low"]["validation_accuracy"] > 0 > rows["high"]["margin"]
    assert by["overall"]["low"][tables.CHANCE] < 0 < by["overall"]["high"][tables.CHANCE]
    choices = by["better of two"]["value"]
    assert (choices[["margin", tables.SETTINGS, "validation_accuracy"]] > 0.4).all()  # it learns which way is better


def test_a_measure_that_many_networks_lack_is_not_ranked_and_one_that_few_lack_is_on_the_others(planted):
    missing = planted.copy()
    ends = missing.index[missing["epoch"] > 0]
    missing.loc[ends[:10], "lens/norms:spectral"] = np.nan
    missing.loc[ends[:3], "lens/test:validation_accuracy"] = np.nan
    found = judging.judged(tables.networks(missing), resamples=20).query("labels == 'all'")
    assert "spectral" not in set(found["measure"]) and "frobenius" in set(found["measure"])
    rows = found[found["measure"] == "validation_accuracy"].set_index("statistic")
    assert rows.loc["overall", "n"] == 48 - 3 and rows.loc["worst axis", "value"] > 0.5


def test_in_each_case_a_measure_is_right_of_networks_that_share_all_that_the_case_names():
    networks = tables.networks(fake.runs(settings=4))
    found = judging.in_each_case(networks, resamples=100)
    value = found.set_index(["measure", "label_corruption"])["value"]
    for share, rows in networks[networks["reached"]].groupby("label_corruption"):
        right = []
        for i, one in rows.iterrows():
            for j, other in rows.iterrows():
                noise = sum(each["held_accuracy"] * (1 - each["held_accuracy"]) / 2000 for each in (one, other))
                apart = one["held_accuracy"] - other["held_accuracy"]
                if i < j and one["seed"] == other["seed"] and abs(apart) > 2 * noise**0.5:
                    right.append((one["frobenius"] - other["frobenius"]) * apart < 0)
        assert value["frobenius", share] == pytest.approx(np.mean(right))
        measured = found[(found["label_corruption"] == share) & (found["measure"] != tables.SETTINGS)]
        assert (measured["n"] == len(right)).all()
    assert (value["validation_accuracy"] > 0.95).all() and (value["margin"] == 0).all()
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    few = networks[networks["setting"].isin(networks["setting"].unique()[:4])]
    assert judging.in_each_case(few).empty


def test_the_axes_of_the_table_are_those_of_the_plan():
    table = pd.DataFrame([config.as_dict() for config in runs.plan("full", dataset="cifar10")])
    varied = {name for name in table if table[name].astype(str).nunique() > 1}
    named = {"width": "model_options", "depth": "model_options", "augmented": "flip"}
    assert varied - {"seed", "model", "random_crop"} == {named.get(axis, axis) for axis in tables.AXES}
