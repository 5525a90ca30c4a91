"""The networks of 'Which lens?', and what is measured of them, against the measures called one by one."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from gendyn_lite import data
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.which_lens import probes, runs
from gendyn_lite.measures import complexity, fisher, stiffness
from gendyn_lite.measures.relu_paths import PathRecording


def test_the_full_plan_has_the_networks_that_are_asked_for():
    configs = runs.plan("full")
    table = pd.DataFrame([config.as_dict() for config in configs])
    counts = table["model"].value_counts()
    assert counts["mlp"] >= 2000 and counts["alexnet_small"] >= 300
    assert len({str(config.as_dict()) for config in configs}) == len(configs)
    assert set(table["stop_at_loss"]) == {runs.LOSS} and set(table["seed"]) == {0, 1}
    augmented = (table["random_crop"] > 0) | table["flip"]
    assert not (augmented & (table["label_corruption"] > 0)).any()  # only with true labels
    assert not table.loc[table["dataset"] == "mnist", "flip"].any()
    for axis in ("batch_size", "learning_rate", "weight_decay", "train_size", "label_corruption", "random_crop"):
        assert (table.groupby("model")[axis].nunique() > 1).loc["mlp"], axis


def test_a_run_measures_everything_at_its_last_epoch_alone(tmp_path):
    config = runs.plan("smoke")[2].replace(epochs=40)
    done = runs.run(config, profile="smoke", root=tmp_path)
    rows = done.rows()
    assert rows[-1]["train_loss"] <= runs.LOSS < rows[-2]["train_loss"] and rows[-1]["epoch"] < 40
    assert not any(key.startswith("lens/") for row in rows[:-1] for key in row)
    assert not (done.path / runs.SCRATCH).exists()
    last = rows[-1]
    for name in probes.LENSES:
        assert f"lens/{name}:refused" not in last and last[f"lens/{name}:seconds"] >= 0
    assert last["lens/norms:parameters"] == 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10


def test_a_network_that_never_gets_there_is_measured_at_the_end(tmp_path):
    config = runs.plan("smoke")[0].replace(epochs=2, learning_rate=1e-4)
    last = runs.run(config, profile="smoke", root=tmp_path).rows()[-1]
    assert last["epoch"] == 2 and last["train_loss"] > runs.LOSS and "lens/paths:last" in last


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """A trained network, what it was looked at with, and what was found."""
    config = runs.plan("smoke")[1].replace(epochs=6, stop_at_loss=None)
    loaded, _ = data.load_for_run(config)
    kept = []

    def keep(model, epoch):
        found = probes.lens_probe(config, loaded, folder)(model, epoch)
        kept.append(found)
        return {}

    folder = tmp_path_factory.mktemp("paths")
    model = runner.trained(config, loaded, probes={"keep": keep})
    return model, config, loaded, folder, kept[-1]


def test_values_are_those_of_the_measures(looked):
    model, config, loaded, folder, found = looked
    x, y = runner.inputs(config, loaded)
    start = {name: value.detach() for name, value in runner.build(config, loaded).named_parameters()}
    assert found["norms:distance"] == pytest.approx(complexity.distance(model, start))
    assert found["margins:margin"] == pytest.approx(complexity.margin(model, x, y))
    diagonal = fisher.diagonal(model, x[: probes.FEW], y[: probes.FEW])
    assert found["fisher:trace"] == pytest.approx(sum(float(value.sum()) for value in diagonal.values()), rel=1e-5)
    flat = sorted((v for value in diagonal.values() for v in value.flatten().tolist()), reverse=True)
    total, count = 0.0, 0
    while total < probes.MOST_SHARE * sum(flat):
        total, count = total + flat[count], count + 1
    assert found["fisher:share"] == pytest.approx(count / len(flat), abs=2 / len(flat))
    gram = stiffness.gradient_gram(model, x[: probes.FEW], y[: probes.FEW])
    assert isinstance(gram, torch.Tensor)
    cosine = stiffness.cosine(gram)
    within = stiffness.by_pair(cosine, y[: probes.FEW], resamples=0)["within"].mean
    assert found["stiffness:within"] == pytest.approx(within, rel=1e-4)
    recording = PathRecording(folder)
    assert recording.epochs == tuple(range(7))
    by_layer = [recording.cross_path_means(layer) for layer in recording.layers]
    means = [sum(layer[epoch] for layer in by_layer) / len(by_layer) for epoch in range(1, 7)]
    assert found["paths:last"] == pytest.approx(means[-1]) and found["paths:mean"] == pytest.approx(sum(means) / 6)
    assert found["paths:early_to_mid"] == pytest.approx(sum(means[:2]) / sum(means[2:4]))
    held = found["test:held_accuracy"], found["test:validation_accuracy"]
    test_x, test_y = runner.inputs(config, loaded, "test")
    right = int((model(test_x).argmax(1) == test_y).sum())
    sizes = [len(part[1]) for part in probes._thirds(test_x, test_y)]
    assert held[1] * sizes[0] + held[0] * sizes[1] == pytest.approx(right) and sum(sizes) == len(test_y)


def test_what_is_refused_says_why_and_the_rest_goes_on(looked):
    _, config, loaded, folder, _ = looked
    x, y = runner.inputs(config, loaded)
    normed = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.BatchNorm1d(10)).eval()
    parts = probes._thirds(*runner.inputs(config, loaded, "test"))
    found = probes.measured(normed, probes.Seen(x, y, parts, {}, PathRecording(folder), 0))
    assert "BatchNorm1d" in found["norms:refused"] or "missing" in found["norms:refused"]
    assert "stiffness:within" in found and math.isfinite(found["flatness:sharpness"])


def test_thirds_hold_each_class_about_as_often():
    y = torch.arange(10).repeat_interleave(30)
    (_, one), (_, two) = probes._thirds(torch.arange(300.0), y)
    assert torch.bincount(one).tolist() == [10] * 10 and torch.bincount(two).tolist() == [20] * 10
