"""The tables of 'Which lens?', from planted networks whose answer is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from gendyn_lite.chapters.which_lens import runs, tables


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    """24 settings, two seeds: validation accuracy is what is to be predicted, the margin says the opposite."""
    random = np.random.default_rng(0)
    rows = []
    for number, (width, rate, corruption, seed) in enumerate(
        product((128, 256, 512), (0.003, 0.01, 0.03, 0.1), (0.0, 0.25), range(2))
    ):
        accuracy = 0.2 + 0.05 * np.log2(width / 64) + 2 * min(rate, 0.04) - 0.4 * corruption + random.normal(0, 0.004)
        run = {"run_id": f"{number:016x}", "data": "planted", "model": "mlp", "model_options": {"widths": [width] * 2}}
        run |= {"batch_size": 32, "learning_rate": rate, "weight_decay": 0.0, "train_size": 1000, "flip": False}
        run |= {
            "random_crop": 0,
            "label_corruption": corruption,
            "seed": seed,
            "lens/test:n_held": 2000,
            "stop_at_loss": 0.05,
        }
        end = {"train_loss": 0.04, "train_accuracy": 1.0, "epoch": 10 + int(1000 * corruption) + seed}
        end |= {measure.column: random.normal() for measure in tables.MEASURES.values() if "/" in measure.column}
        end |= {f"lens/{lens}:seconds": 0.1 for lens in ("paths", "fisher", "stiffness", "intervals", "norms")}
        end |= {f"lens/{lens}:seconds": 0.1 for lens in ("margins", "flatness", "test")}
        end |= {
            "lens/test:held_accuracy": accuracy,
            "lens/test:validation_accuracy": accuracy + random.normal(0, 0.002),
        }
        end["lens/margins:margin"] = -accuracy
        rows += [{**run, "epoch": 0, "train_loss": 2.3, "train_accuracy": 0.1}, {**run, **end}]
    rows[1]["train_loss"] = 0.2  # one network that never gets there
    return pd.DataFrame(rows)


def test_a_row_a_network_with_what_is_to_be_predicted(planted):
    found = tables.networks(planted)
    assert len(found) == 48 and found["reached"].sum() == 47 and set(found["n_held"]) == {2000}
    assert found.groupby("setting").size().eq(2).all() and set(found["depth"]) == {2}
    assert (found["error"] - (1 - found["held_accuracy"])).abs().max() == 0
    assert (found["gap"] - (found["train_accuracy"] - found["held_accuracy"])).abs().max() == 0
    share = tables.completion(found).set_index(["axis", "value"])["reached"]
    assert share["width", 128] == 15 / 16 and share["width", 512] == 1
    assert found[tables.CHANCE].between(0, 1).all() and found[tables.CHANCE].nunique() == 48


def test_the_planted_measure_ranks_first_the_misleading_one_last_and_chance_is_undecided(planted):
    found = tables.judged(tables.networks(planted), resamples=100)
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
    found = tables.judged(tables.networks(missing), resamples=20).query("labels == 'all'")
    assert "spectral" not in set(found["measure"]) and "frobenius" in set(found["measure"])
    rows = found[found["measure"] == "validation_accuracy"].set_index("statistic")
    assert rows.loc["overall", "n"] == 48 - 3 and rows.loc["worst axis", "value"] > 0.5


def test_the_axes_of_the_table_are_those_of_the_plan():
    table = pd.DataFrame([config.as_dict() for config in runs.plan("full", dataset="cifar10")])
    varied = {name for name in table if table[name].astype(str).nunique() > 1}
    named = {"width": "model_options", "depth": "model_options", "augmented": "flip"}
    assert varied - {"seed", "model", "random_crop"} == {named.get(axis, axis) for axis in tables.AXES}
