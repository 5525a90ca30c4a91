"""Runs of chapter 3: plans are valid and paired, a masked run records its mask, demonstrations show what they say."""

from __future__ import annotations

import copy
import math

import pandas as pd
import pytest
import torch

from gendyn_lite import data, results
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.fisher_mask import charts, demo, probes, tables
from gendyn_lite.chapters.fisher_mask import charts as draw
from gendyn_lite.chapters.fisher_mask import runs as experiment
from gendyn_lite.measures import fisher
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
        assert {"fisher", "random", "random_fixed", "magnitude", "shorter_steps"} <= ways


def test_seeds_of_the_plan_had_not_been_run_when_the_criteria_were_written():
    assert {config.seed for config in experiment.plan("colab")} == set(range(5, 10))
    assert {config.probe_version for config in experiment.plan("colab")} == {2}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    configs = [config.replace(epochs=4) for config in experiment.plan("smoke", seeds=1)]
    return results.load_runs(experiment.run_all(configs, profile="smoke", root=root))


def test_a_masked_run_records_its_mask_and_its_path(table):
    found = tables.described(table)
    masked = found[(found["way"] != tables.NONE) & (found["mask_by"] != "shorter_steps")]
    assert (masked.loc[masked["epoch"] == 0, "mask/kept"] == 1).all()
    later = masked[masked["epoch"] > 0]  # the share is kept exactly, though pixels that are always black tie at 0
    assert (later["mask/kept"] - later["kept"]).between(0, 1e-3).all()
    assert (later["mask/path"] > 0).all()


def test_shorter_steps_cover_the_distance_of_the_masked_run_in_each_epoch(table):
    own = table[table["mask_by"] == "shorter_steps"].set_index(["label_corruption", "epoch"])
    masked = table[(table["mask_by"] == "fisher") & (table["mask_keep"] == 0.25)]
    masked = masked.set_index(["label_corruption", "epoch"])
    assert len(own) == 10 and (own["mask/kept"] == 1).all()
    assert own["mask/path"].to_numpy() == pytest.approx(masked.loc[own.index, "mask/path"].to_numpy(), rel=1e-6)


def test_influence_is_measured_at_every_epoch_where_there_is_no_mask(table):
    watched = tables.influences(table)
    assert watched.groupby("run_id")["epoch"].agg(list).map(lambda epochs: epochs == [0, 1, 2, 3, 4]).all()
    assert set(zip(watched["way"], watched["kept"], strict=True)) == {
        (tables.NONE, 1.0),
        ("Fisher", 0.7),
        ("Fisher", 0.8),
    }
    near_start = watched[watched["epoch"] == 0]
    assert (near_start["influence/kl"] / near_start["influence/quadratic_true"]).between(0.8, 1.25).all()


def test_right_and_wrong_labels_are_told_apart():
    """Against a loop over examples: fits of either part, and where their squared gradients lie."""
    config = next(config for config in experiment.plan("smoke") if config.label_corruption == 0.5)
    loaded, _ = data.load_for_run(config)
    true = data.load_for_run(config.replace(label_corruption=0.0))[0].train.y
    x, y = runner.inputs(config, loaded)
    model = runner.build(config, loaded).eval()
    measured = probes.by_part(config, x, y, true, "smoke")
    found = {f"{name}/{key}": value for name, probe in measured.items() for key, value in probe(model, 0).items()}
    said, wrong = model(x).argmax(1), y != true
    assert found["fit/right"] == pytest.approx(float((said == y)[~wrong].double().mean()))
    assert found["fit/wrong"] == pytest.approx(float((said == y)[wrong].double().mean()))
    assert found["fit/true_of_wrong"] == pytest.approx(float((said == true)[wrong].double().mean()))
    squares = per_example_squares(model, x, y)
    kept = fisher.largest({"all": squares.mean(0)}, 0.25)["all"]
    for part, own in (("right", ~wrong), ("wrong", wrong)):
        share = float(squares[own][:, ~kept].sum() / squares[own].sum())
        assert found[f"below/{part}_25"] == pytest.approx(share, abs=1e-4)
    assert found["wrong/influence"] > 0 and found["right/gradient"] > 0


def per_example_squares(model, x, y):
    rows = []
    for i in range(len(x)):
        loss = torch.nn.functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
        grads = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(torch.cat([part.flatten() for part in grads]).square())
    return torch.stack(rows)


def test_runs_are_read_off_where_they_are_equal():
    run = pd.DataFrame({"epoch": [0, 1, 2], "train_loss": [2.0, 1.0, 0.5], "test_loss": [2.0, 1.5, 2.5]})
    assert tables.at_level(run, "train_loss", 0.75, "test_loss") == pytest.approx(2.0)
    assert math.isnan(tables.at_level(run, "train_loss", 0.4, "test_loss"))
    assert math.isnan(tables.at_level(run, "train_loss", 2.5, "test_loss"))  # it was there from the start


def test_a_step_moves_digits_of_its_own_class_most():
    found = demo.steps(examples=4, eps=(0.01, 0.1))
    first = found["example"].iloc[0]  # what the menu and the slider show at first is what the words say
    shown = found[(found["example"] == first) & (found["eps"] == 0.1) & (found["pair"] == "same digit")]
    words = described(charts.moved(found))
    assert f"a step on {first}, step size 0.1" in words and f"same digit {shown['kl'].mean():.1e}" in words
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
    whole = demo.approximation()
    assert (whole.loc[whole["eps"] < 0.035, "ratio"] - 1).abs().max() < 0.03
    beyond = whole[whole["eps"] > 0.1].groupby("activation")["ratio"]
    assert (beyond.max() > 1.5).all() and beyond.last()["tanh"] < 0.5 < 1 < beyond.last()["relu"]


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
    quarter = found[(found["of"] == "Fisher information") & (found["kept"].sub(0.25).abs() < 0.01)]
    assert quarter["held"].item() == pytest.approx(0.5, abs=0.02)
    assert described(charts.concentration(found))
    layers = demo.kept_by_layer(0.25)
    assert layers["fc2"] > layers["fc1"]


def test_the_trap_loses_nearly_everything_but_not_with_batches_of_one():
    found = demo.batch_trap((1, 100, 300)).set_index("batch size")
    assert found.loc[1, "share"] == pytest.approx(1, rel=1e-4)
    assert found.loc[1, "agreement"] > 0.999
    assert found.loc[100, "share"] < 0.05
    assert found.loc[300, "agreement"] == pytest.approx(0.5, abs=0.1)


def test_statistics_that_lag_raise_the_influence_of_a_network_that_does_not_change():
    found = demo.lag_trap((0, 30)).set_index("passes")
    assert found.loc[30, "running"] > 100 * found.loc[0, "running"] and found["anew"].nunique() == 1
    assert found.loc[0, "anew"] > 1e4 * found.loc[0, "running"]


def test_figures_have_every_kind_of_label_and_of_mask():
    table = fake_fisher.table()
    found, masked = rows(draw.influence(table)), rows(draw.with_masks(table))
    assert set(found["labels"]) == {"true labels", "50 % redrawn", "random labels"}
    assert set(found["of"]) == set(tables.FORMS.values()) and set(found["equal"]) == set(tables.EQUAL)
    assert set(masked["mask"]) == {"no mask", "Fisher, 80 % kept", "Fisher, 70 % kept"}
    ways = {"Fisher", "magnitude", "random, redrawn", "random, fixed", "no mask, steps as short"}
    gained, fitted = rows(draw.accuracy_gained(table)), rows(draw.wrong_fitted(table))
    assert set(gained["way"].dropna()) == ways and set(fitted["way"]) == ways | {tables.NONE}
    assert set(rows(draw.right_and_wrong(table))["labels"]) == {"right labels", "wrong labels"}


def test_a_demonstration_leaves_its_network_alone():
    before = copy.deepcopy(demo.trained().model.state_dict())
    demo.step(example=1, eps=0.3, keep=0.5)
    torch.testing.assert_close(demo.trained().model.state_dict(), before, rtol=0, atol=0)
