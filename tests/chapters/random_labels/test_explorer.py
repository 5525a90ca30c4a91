"""The live explorers work as objects: the controls describe a run, the button trains it, a mistake is shown."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.chapters.random_labels.explorer import RandomLabelsExplorer


@pytest.fixture
def explorer(tmp_path, monkeypatch):
    for name in ("plan", "regularizer_plan"):
        quick = getattr(random_labels, name)("smoke", seeds=1, epochs=2, train_size=100)
        monkeypatch.setattr(random_labels, name, lambda *_, quick=quick, **__: quick)
    return RandomLabelsExplorer(root=tmp_path)


def test_the_controls_describe_the_run(explorer):
    explorer.network.value = "mlp_3x512"
    explorer.corruption.value = 0.35
    explorer.seed.value = 4
    explorer.weight_decay.value = 2e-3
    explorer.random_crop.value = True
    explorer.flip.value = True
    config = explorer.config()
    assert (config.model, config.label_corruption, config.seed) == ("mlp_3x512", 0.35, 4)
    assert (config.weight_decay, config.inputs) == (2e-3, "true")
    assert (config.random_crop, config.flip, config.model_options) == (1, True, {})


def test_dropout_and_batch_norm_are_alive_where_the_network_has_them(explorer):
    assert explorer.dropout.disabled
    assert explorer.batch_norm.disabled
    explorer.network.value = "inception_small"
    assert not explorer.dropout.disabled
    explorer.dropout.value = 0.5
    explorer.batch_norm.value = False
    assert explorer.config().model_options == {"batch_norm": False, "dropout": 0.5}
    explorer.network.value = "mlp_1x512"
    assert explorer.config().model_options == {}


def test_a_run_of_the_plan_is_that_run_and_any_other_is_kept_apart(explorer):
    assert explorer.config() in random_labels.plan()
    explorer.network.value = "inception_small"
    explorer.corruption.value = 0
    explorer.dropout.value = 0.5
    assert explorer.config() in random_labels.regularizer_plan()
    explorer.corruption.value = 0.35
    assert explorer.config().experiment == "explorer"


def test_the_button_trains_and_says_what_came_out(explorer, tmp_path):
    explorer.train.click()
    table = results.load("random_labels", root=tmp_path)
    assert f"train accuracy {table['train_accuracy'].iloc[-1]:.3f}" in explorer.status.value
    assert not explorer.train.disabled
