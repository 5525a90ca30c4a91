"""The wiring: plans are checked before anything runs; a run is loaded, resumed or trained."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite import data, results
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels import demo
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import open_run
from gendyn_lite.train.ensemble import Together

QUICK = {"train_size": 100, "epochs": 2}


def quick_plan(**options):
    return random_labels.plan("smoke", networks="mlp_1x512", seeds=1, **{**QUICK, **options})


@pytest.mark.parametrize(("name", "value"), [("model", "mlp_1x512"), ("dataset", "digits")])
def test_an_unknown_name_is_refused_before_anything_runs(tmp_path, name, value):
    first, *_ = quick_plan(corruptions="0")
    with pytest.raises(UserError, match=rf"unknown .* '{value[:-1]}': did you mean '{value}'"):
        runner.run_all([first, first.replace(**{name: value[:-1]})], profile="smoke", root=tmp_path)
    assert not list(tmp_path.iterdir())


def load_or_run(root, *, changes=None, **options):
    """One quick run of chapter 1 with some fields changed."""
    (config, *_) = quick_plan(corruptions="0.5")
    return runner.load_or_run(config.replace(**(changes or {})), profile="smoke", root=root, **options)


def test_a_complete_run_is_loaded_and_probes_are_made_from_its_data_only_to_train_it(tmp_path, monkeypatch):
    given = []

    def prepare(loaded):
        given.append(len(loaded.train.y))
        return {"probes": {"size": lambda model, epoch: {"n": given[-1]}}}

    first = load_or_run(tmp_path, prepare=prepare)
    monkeypatch.setattr(runner.train, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert load_or_run(tmp_path, prepare=prepare).rows() == first.rows()
    assert given == [QUICK["train_size"]] == [first.rows()[-1]["size/n"]]
    table = results.load_runs([first])
    about = {"n_train": {100}, "profile": {"smoke"}, "data": {data.load("digits").description}, "epoch": {0, 1, 2}}
    assert {name: set(table[name]) for name in about} == about


@pytest.mark.parametrize("prepare", [None, lambda loaded: {"probes": {}}], ids=["given", "made from the data"])
def test_a_mask_without_its_hook_is_refused(tmp_path, prepare):
    with pytest.raises(UserError, match=r"mask_keep is 0\.5 and there is no gradient hook"):
        load_or_run(tmp_path, changes={"mask_keep": 0.5}, prepare=prepare)


def test_a_changed_probe_is_not_answered_with_an_old_run(tmp_path):
    def probed(of, **options):
        return load_or_run(tmp_path, prepare=lambda _: {"probes": {"p": lambda *_: {"value": of}}}, **options)

    old, changed = probed(1), {"changes": {"probe_version": 2}}
    with pytest.raises(UserError, match=r"probe_version is 2, but the probes of .* are version 1"):
        probed(2, **changed)
    new = probed(2, probe_version=2, **changed)
    assert [run.rows()[-1]["p/value"] for run in (old, new)] == [1, 2]
    assert old.path != new.path


def test_the_test_labels_of_a_run_are_those_of_the_data_set():
    config = quick_plan(corruptions="0.5")[0].replace(train_size=None)
    (loaded, redrawn), whole = data.load_for_run(config), data.load("digits")
    assert torch.equal(loaded.test.y, whole.test.y)
    assert torch.equal(loaded.train.y[~redrawn], whole.train.y[~redrawn])


def test_the_trap_shows_what_the_formula_predicts(tmp_path, monkeypatch):
    small = random_labels.plan("smoke", networks="mlp_1x512", corruptions=[0.5], seeds=1, epochs=5)
    monkeypatch.setattr(random_labels, "plan", lambda *_, **__: small)
    trap = demo.corrupted_test_trap(fraction=0.5, root=tmp_path)
    assert trap.predicted == pytest.approx(0.5 * trap.true + 0.05)
    assert trap.corrupted == pytest.approx(trap.predicted, abs=0.1)
    assert trap.corrupted < trap.true


def test_examples_show_the_labels_that_a_run_is_trained_with():
    examples = demo.corruption_examples(10, seed=3)
    digits = data.load("digits").train
    for q in (0.1, 0.5, 0.9, 1.0):
        labels, _ = data.corrupt_labels(digits.y, q, num_classes=10, seed=3)
        shown = examples["redrawn"].where(examples["threshold"] < q, examples["true"])
        places = [int((digits.y == label).nonzero()[0]) for label in range(10)]
        assert shown.tolist() == labels[places].tolist()


def test_runs_trained_together_are_the_runs_trained_one_by_one(tmp_path):
    configs = quick_plan(corruptions="0,1", epochs=3, train_size=60)
    together, again = (results.load_runs(runner.run_all(configs, profile="smoke", root=tmp_path / "a")) for _ in "12")
    assert set(together["trained_together"]) == set(again["trained_together"]) == {len(configs)}
    single = results.load_runs([runner.load_or_run(each, profile="smoke", root=tmp_path / "b") for each in configs])
    for column in ("train_loss", "test_loss"):
        assert together[column].tolist() == pytest.approx(single[column].tolist(), rel=1e-3)
    assert set(single["trained_together"]) == {1}
    assert together["run_id"].tolist() == single["run_id"].tolist()


def test_of_runs_trained_together_those_that_are_done_are_kept_when_the_others_are_stopped(tmp_path, monkeypatch):
    configs = [one for epochs in (2, 3) for one in quick_plan(corruptions="0,1", epochs=epochs)]
    whole, groups = Together.train, []

    def train(together):
        groups.append(together)
        if len(groups) == 2:
            raise KeyboardInterrupt
        whole(together)

    monkeypatch.setattr(Together, "train", train)
    with pytest.raises(KeyboardInterrupt):
        runner.run_all(configs, profile="smoke", root=tmp_path)
    fingerprint = data.load_for_run(configs[0])[0].fingerprint
    complete = [open_run(one, fingerprint, root=tmp_path).complete for one in configs]
    assert complete == [one.epochs == 2 for one in configs]
    runner.run_all(configs, profile="smoke", root=tmp_path)
    assert len(groups) == 3  # the second once more
