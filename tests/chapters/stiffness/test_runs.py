"""Runs of chapter 4: plans are those asked for, a run is trained with its probes or loaded, demonstrations show it."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite import data, results
from gendyn_lite.chapters.stiffness import charts, demo, probes
from gendyn_lite.chapters.stiffness import runs as runs_of
from gendyn_lite.chapters.stiffness.tables import long_layers
from gendyn_lite.measures import stiffness
from gendyn_lite.results.runs import PROFILES
from tests.chapters.specs import described


@pytest.mark.parametrize("profile", [profile for profile in PROFILES if profile != "smoke"])
@pytest.mark.parametrize("kind", runs_of.KINDS)
def test_a_plan_above_smoke_has_five_seeds(kind, profile):
    assert len({config.seed for config in runs_of.plan(kind, profile)}) >= 5


def test_a_plan_takes_another_data_set_seeds_and_epochs():
    (config, _) = runs_of.plan("maps", dataset="rings", seeds=2, epochs=7)
    assert (config.dataset, config.epochs, config.learning_rate) == ("rings", 7, 0.05)


@pytest.mark.parametrize("kind", ["layers", "maps", "training"])
def test_a_run_is_trained_with_its_probes_and_then_loaded(kind, tmp_path, monkeypatch):
    (config, *_) = runs_of.plan(kind, seeds=1, epochs=4)
    run = runs_of.run(config, profile="smoke", root=tmp_path)
    table = results.load_runs([run])
    if kind == "layers":
        rows = long_layers(table)
        assert rows["layer"].unique().tolist() == ["fc1", "fc2", "fc3", "fc4", "fc5"]
        assert rows["within"].between(-1, 1).all() and set(rows["state"]) == {"untrained", "trained"}
    elif kind == "maps":
        lengths = table["map/stiffness"].str.split().str.len(), table["map/predicted"].str.len()
        assert {*lengths[0], *lengths[1]} == {probes.RESOLUTION**2}
    else:
        assert table["stiffness/within_cosine"].between(-1, 1).all() and table["detail/classes"].notna().all()
    monkeypatch.setattr(runs_of.runner.train, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert runs_of.run(config, profile="smoke", root=tmp_path).rows() == run.rows()


def test_examples_are_as_many_of_each_class():
    (config, *_) = runs_of.plan("layers", seeds=1, epochs=1)
    _, y = probes.sample(config, data.load_for_run(config)[0], "train_eval", 100)
    assert y.bincount().tolist() == [50, 50]


def test_a_small_step_does_what_is_predicted_and_a_large_one_does_not():
    changes = demo.step_changes(count=10, examples=2, steps=(0.0003, 0.1))
    steps = (rows[["predicted", "actual"]].to_numpy(dtype=float).T for _, rows in changes.groupby("step"))
    small, large = (predicted @ actual / (predicted @ predicted) for predicted, actual in steps)
    assert small == pytest.approx(1, abs=0.02)
    assert abs(large - 1) > 0.05
    assert described(charts.step_changes(changes))


def test_the_trap_hides_most_of_the_stiffness():
    trap = demo.batch_norm_trap()
    assert trap.right > 2 * max(trap.alone, trap.batch)


def test_the_right_side_of_the_trap_is_what_the_library_measures():
    model = demo._with_batch_norm(0).eval()
    x, y = probes.sample(demo.DIGITS, demo.trained()[1], "train_eval", 6)
    loop = demo._loop(model, x, y, alone=True)
    torch.testing.assert_close(stiffness.gradient_gram(model, x, y), loop, rtol=1e-3, atol=1e-5)
