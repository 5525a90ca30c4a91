"""Runs of chapter 2: plans are those asked for, a run is recorded, resumed to the same numbers and then loaded."""

from __future__ import annotations

import copy
from functools import partial

import pandas as pd
import pytest
import torch
from torch import nn

from gendyn_lite import data, results
from gendyn_lite.chapters import baselines, runner
from gendyn_lite.chapters.path_functions import probes, probes_pairs
from gendyn_lite.chapters.path_functions import runs as runs_of
from gendyn_lite.measures import relu_paths
from gendyn_lite.results.runs import PROFILES, Run


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("kind", runs_of.KINDS)
def test_only_a_step_schedule_has_milestones_and_they_lie_within_the_epochs(kind, profile):
    for config in runs_of.plan(kind, profile):
        assert (config.schedule == "step") == bool(config.milestones)
        assert not config.milestones or max(config.milestones) < config.epochs


def test_a_plan_takes_another_data_set_seeds_and_epochs():
    configs = runs_of.plan("networks", dataset="mnist", seeds=1, epochs=5)
    assert {(c.dataset, c.seed, c.epochs, c.milestones) for c in configs} == {("mnist", 0, 5, (3, 4))}


def small(kind):
    config = runs_of.plan(kind, seeds=1, epochs=4)[0]
    return config.replace(model="mlp", model_options={"widths": [16, 12]}, train_size=40, batch_size=10)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, Run]:
    """A run of every kind."""
    root = tmp_path_factory.mktemp("runs")
    return {kind: runs_of.run(small(kind), profile="smoke", root=root) for kind in ("networks", "unseen", "ratio")}


@pytest.fixture
def table(whole) -> pd.DataFrame:
    assert not (whole["networks"].path / runs_of.SCRATCH).exists()
    return results.load_runs([whole["networks"]])


def test_a_run_records_paths_activations_neighbours_and_distances(table):
    assert list(table["epoch"]) == [0, 1, 2, 3, 4]
    later = table[table["epoch"] > 0]
    for measure in ("paths/act1:self", "paths/act2:cross", "activations/act1:self", "activations/act2:cross"):
        assert later[f"{measure}:mean"].between(0, 1).all()
        assert (later[f"{measure}:q05"] <= later[f"{measure}:q95"]).all()
    assert later["neighbours/act1:kept"].between(0, 1).all()
    assert table["distance/act1:rank"].between(-1, 1).all()
    assert later["paths/before:loss"].gt(0).all()
    assert table["isolation/mean"].notna().sum() >= 3
    assert list(table["epoch"][table["distance/act1:bins"].notna()]) == [4]


def test_ranks_are_those_of_the_anchors_over_every_epoch(table):
    groups = table["neighbours/act1:ranks"].iloc[-1].split("/")
    assert len(groups) == len(probes_pairs.ANCHORS) * probes_pairs.NEAREST
    for group in groups:
        anchor, neighbour, *ranks = map(int, group.replace(":", "").split())
        assert anchor in probes_pairs.ANCHORS and neighbour != anchor
        assert len(ranks) == 5 and ranks[-1] < probes_pairs.NEAREST


@pytest.mark.parametrize("kind", ["networks", "unseen", "ratio"])
def test_an_interrupted_run_goes_on_to_the_same_numbers(kind, tmp_path, monkeypatch, whole):
    def run():
        return [{**row, "seconds": 0} for row in runs_of.run(small(kind), profile="smoke", root=tmp_path).rows()]

    expected, made = [{**row, "seconds": 0} for row in whole[kind].rows()], runs_of.probes_for
    monkeypatch.setattr(runner.train, "fit", partial(runner.train.fit, checkpoint_seconds=0))

    def interrupt(model, epoch):
        if epoch == 2:
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr(runs_of, "probes_for", lambda *given: {"stop": interrupt, **made(*given)})
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(runs_of, "probes_for", made)
    assert run() == expected
    monkeypatch.setattr(runs_of, "probes_for", lambda *_: pytest.fail("measured again"))
    assert run() == expected


def test_the_ratio_is_that_of_the_recorded_means(whole):
    found, milestones = results.load_runs([whole["ratio"]]), whole["ratio"].config.milestones
    expected = relu_paths.early_to_mid_ratio(found.set_index("epoch")["paths/mean"].dropna().to_dict(), milestones)
    assert found["paths/ratio"].iloc[-1] == pytest.approx(expected, rel=1e-6)


def test_losses_along_paths_are_of_training_and_of_unseen_images(whole):
    found = results.load_runs([whole["unseen"]])
    for kind in ("trained", "unseen"):
        assert found[f"{kind}/own:loss"].notna().all()
        assert found[f"{kind}/before:loss"].isna().tolist() == [True, False, False, False, False]
    assert not found["trained/own:loss"].equals(found["unseen/own:loss"])


def test_true_and_random_labels_follow_the_same_images():
    true, random = runs_of.plan("networks", seeds=1)
    found = [probes.followed(config, data.load_for_run(config)[0]) for config in (true, random)]
    assert torch.equal(found[0][0], found[1][0]) and not torch.equal(found[0][1], found[1][1])
    assert found[0][0].shape == (128, 1, 8, 8)


def test_of_a_whole_set_a_balanced_part_is_followed():
    config = runs_of.plan("networks", seeds=1)[0].replace(train_size=None)
    _, y = probes.followed(config, data.load_for_run(config)[0], count=50)
    assert y.bincount().tolist() == [5] * 10


def test_the_distance_bins_hold_the_quartiles():
    x = torch.arange(30.0)[:, None]
    paths = torch.arange(30)[:, None] >= torch.arange(30)
    text = probes_pairs.bin_text(relu_paths.overlap_and_distance(paths, x), 30)
    bins = [list(map(int, part.split())) for part in text.split("/")]
    assert len(bins) == probes_pairs.DISTANCE_BINS and bins == sorted(bins)
    assert all(low <= middle <= high for _, low, middle, high in bins)


def test_a_walk_takes_steps_as_long_as_those_of_the_run_in_directions_of_its_own(tmp_path):
    start = nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 5))
    model, folder = copy.deepcopy(start), tmp_path / "walk"
    walk = baselines.Walk(start, seed=1, folder=folder)
    assert torch.equal(walk(model, 0)[0].weight, start[0].weight)
    before = copy.deepcopy(walk(model, 0))
    for epoch in (1, 2):
        step = {name: 0.1 * epoch * torch.randn(value.shape) for name, value in model.named_parameters()}
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.add_(step[name])
        after = copy.deepcopy(walk(model, epoch))
        for name, value in after.named_parameters():
            moved = (value - dict(before.named_parameters())[name]).detach()
            torch.testing.assert_close(moved.norm(), step[name].norm(), rtol=1e-4, atol=1e-6)
            assert (
                moved.numel() < 200 or abs(float((moved * step[name]).sum() / moved.norm() / step[name].norm())) < 0.2
            )
        again = baselines.Walk(start, seed=1, folder=folder)(model, epoch)  # after an interruption
        assert all(torch.equal(p, q) for p, q in zip(again.parameters(), after.parameters(), strict=True))
        before = after


def test_a_frozen_network_keeps_its_weights_and_has_the_running_statistics_of_training():
    config = runs_of.plan("deep", seeds=1)[0].replace(train_size=20, batch_size=10)
    loaded, _ = data.load_for_run(config)
    start, batches = runner.build(config, loaded), data.batcher(loaded, config)
    frozen = baselines.Frozen(start, batches)
    frozen(1)
    found = frozen(2)
    twin = copy.deepcopy(start).train()
    with torch.no_grad():
        for epoch in (1, 2):
            for x, _ in batches.epoch(epoch):
                twin(x)
    assert all(torch.equal(p, q) for p, q in zip(found.parameters(), start.parameters(), strict=True))
    torch.testing.assert_close(dict(found.named_buffers()), dict(twin.named_buffers()))
    again = baselines.Frozen(start, batches)(2)  # after an interruption
    torch.testing.assert_close(dict(again.named_buffers()), dict(twin.named_buffers()))
    assert not found.training


@pytest.mark.filterwarnings("error::gendyn_lite.measures.per_example.lag.LagWarning")  # the lag is what is wanted
def test_beside_a_deep_network_stand_its_running_statistics_their_lag_and_random_steps(tmp_path):
    config = runs_of.plan("deep", seeds=1)[0].replace(train_size=20, test_size=20, batch_size=10)
    config = config.replace(learning_rate=1e-30, momentum=0.0)  # nothing is learnt: what is left needs no learning
    table = results.load_runs([runs_of.run(config, profile="smoke", root=tmp_path)])
    later = table[table["epoch"] > 0]
    names = [name for name in table if str(name).endswith("cross:mean")]
    by = {
        of: later[[name for name in names if name.startswith(f"{of}/")]]
        for of in ("paths", "movement", "running", "lag")
    }
    assert all(each.shape[1] == probes.FEW for each in by.values())
    assert (by["paths"] == 1).all(axis=None) and (by["movement"] > 1 - 1e-6).all(axis=None)
    assert (by["lag"] < 0.99).any(axis=None)  # though the weights stand still
    assert by["lag"].to_numpy() == pytest.approx(by["running"].to_numpy(), abs=1e-3)
