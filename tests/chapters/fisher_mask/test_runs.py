"""Runs of chapter 3: plans are valid and paired, a masked run records its mask, demonstrations show what they say."""

from __future__ import annotations

import copy

import pytest
import torch

from gendyn_lite import results
from gendyn_lite.chapters.fisher_mask import charts, demo, tables
from gendyn_lite.chapters.fisher_mask import runs as experiment
from tests.chapters.fisher_mask import fake as fake_fisher
from tests.chapters.specs import described, rows


@pytest.mark.parametrize(("profile", "dataset"), experiment.PLANS)
def test_every_mask_of_a_plan_has_its_run_without_one(profile, dataset):
    configs = experiment.plan(profile, dataset=dataset)
    base = {(c.model, c.label_corruption, c.seed) for c in configs if c.mask_keep == 1}
    assert {(c.model, c.label_corruption, c.seed) for c in configs} == base
    one = configs[-1].model
    assert experiment.plan(profile, dataset=dataset, network=one) == [c for c in configs if c.model == one]
    if profile != "smoke":
        assert len({config.seed for config in configs}) >= 3
        ways = {config.mask_by for config in configs if config.mask_keep < 1}
        assert {"fisher", "random", "magnitude"} <= ways


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    configs = [config.replace(epochs=4) for config in experiment.plan("smoke", seeds=1)]
    return results.load_runs(experiment.run_all(configs, profile="smoke", root=root))


def test_a_masked_run_records_its_mask_and_its_influence(table):
    found = tables.described(table)
    masked = found[found["way"] != tables.NONE]
    assert (masked.loc[masked["epoch"] == 0, "mask/kept"] == 1).all()
    later = masked[masked["epoch"] > 0]
    # Pixels that are always black tie at no information: no tie reaches a mask of a quarter.
    assert later["mask/kept"].ge(later["kept"] - 1e-3).all()
    assert later.loc[later["kept"] == 0.25, "mask/kept"].round(2).eq(0.25).all()
    watched = tables.influences(table)
    assert set(watched["epoch"]) == {0, 1, 2, 3, 4}
    assert (watched["influence/kl"] > 0).all()
    near_start = watched[watched["epoch"] == 0]
    assert (near_start["influence/kl"] / near_start["influence/quadratic_true"]).between(0.8, 1.25).all()


def test_the_first_epoch_is_the_same_with_every_mask(table):
    losses = table[table["label_corruption"] == 0].groupby("epoch")["train_loss"].nunique()
    assert (losses[1], losses[4]) == (1, table.loc[table["label_corruption"] == 0, "run_id"].nunique())


def test_a_step_moves_digits_of_its_own_class_most():
    found = demo.steps(examples=4, eps=(0.01, 0.1))
    assert f"same digit {found[found['pair'] == 'same digit']['kl'].mean():.1e}" in described(charts.moved(found))
    small = found[found["eps"] == 0.01].groupby("pair")["kl"].mean()
    assert small["same digit"] > small["other digit"]
    grown = found.groupby("eps")["kl"].mean()
    assert 50 < grown[0.1] / grown[0.01] < 200


def test_the_form_is_right_for_small_steps_and_wrong_for_large_ones():
    found = demo.approximation(examples=2, points=5)
    for _, part in found.groupby("activation"):
        assert abs(part["ratio"].iloc[0] - 1) < 0.01
        assert abs(part["ratio"].iloc[-1] - 1) > 0.04
    assert demo.theorem_slope() == pytest.approx(3, abs=0.1) and described(charts.approximation(found))


def test_the_diagonal_keeps_the_order_and_loses_the_size():
    found = demo.diagonal_against_whole(examples=30, watched=50)
    assert (found["diagonal"] < 0.1 * found["whole"]).all()
    assert found["diagonal"].corr(found["whole"], method="spearman") > 0.9
    said = f"the median ratio is {(found['diagonal'] / found['whole']).median():.1e}, the rank correlation 0.9"
    assert said in described(charts.diagonal_against_whole(found))


def test_shares_grow_to_one_and_layers_differ():
    found = demo.concentration()
    for _, part in found.groupby("of"):
        assert part["held"].is_monotonic_increasing and part["held"].iloc[-1] == pytest.approx(1)
        assert (part["held"] >= part["kept"] - 1e-9).all()
    assert described(charts.concentration(found))
    layers = demo.kept_by_layer(0.25)
    assert layers["fc2"] > layers["fc1"]


def test_the_trap_loses_nearly_everything_but_not_with_batches_of_one():
    found = demo.batch_trap((1, 100)).set_index("batch size")
    assert found.loc[1, "share"] == pytest.approx(1, rel=1e-4)
    assert found.loc[1, "agreement"] > 0.999
    assert found.loc[100, "share"] < 0.05


def test_influence_has_both_labels_and_all_forms_and_masks_stand_beside_none():
    table = fake_fisher.table()
    found, masked = rows(charts.influence(table)), rows(charts.with_masks(table))
    assert set(found["labels"]) == {"true labels", "random labels"}
    assert set(found["form"]) == {"KL, measured", "true Fisher", "empirical Fisher", "diagonal"}
    assert set(masked["mask"]) == {"no mask", "Fisher, 80 % kept", "Fisher, 70 % kept"}
    gains = rows(charts.best_accuracy(table))
    assert set(gains["subject"]) == {"mlp on made-up data, n = 1,000, true labels"}


def test_a_demonstration_leaves_its_network_alone():
    before = copy.deepcopy(demo.trained().model.state_dict())
    demo.step(example=1, eps=0.3, keep=0.5)
    torch.testing.assert_close(demo.trained().model.state_dict(), before, rtol=0, atol=0)
