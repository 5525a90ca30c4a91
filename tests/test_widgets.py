"""The live explorers work as objects: the controls describe a run, the button trains it, a mistake is shown."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.errors import UserError
from gendyn_lite.experiments import random_labels, runner
from gendyn_lite.widgets import RandomLabelsExplorer


@pytest.fixture
def explorer(tmp_path, monkeypatch):
    quick = random_labels.plan("smoke", seeds=1, epochs=2, train_size=100)
    monkeypatch.setattr(random_labels, "plan", lambda *_, **__: quick)
    return RandomLabelsExplorer(root=tmp_path)


def test_the_controls_describe_the_run(explorer):
    explorer.network.value = "mlp_3x512"
    explorer.corruption.value = 0.35
    explorer.seed.value = 4
    explorer.weight_decay.value = 1e-3
    config = explorer.config()
    assert (config.model, config.label_corruption, config.seed) == ("mlp_3x512", 0.35, 4)
    assert (config.weight_decay, config.inputs) == (1e-3, "true")


def test_the_button_trains_and_says_what_came_out(explorer, tmp_path):
    explorer.train.click()
    table = results.load("random_labels", root=tmp_path)
    assert f"train accuracy {table['train_accuracy'].iloc[-1]:.3f}" in explorer.status.value
    assert not explorer.train.disabled


def test_a_mistake_is_shown_not_raised(explorer, monkeypatch):
    def refuse(*_, **__):
        raise UserError("mnist is not prepared")

    monkeypatch.setattr(runner, "load_or_run", refuse)
    explorer.train.click()
    assert explorer.status.value == "mnist is not prepared"
    assert not explorer.train.disabled
