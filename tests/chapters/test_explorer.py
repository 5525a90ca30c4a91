"""What all explorers share: a mistake is shown in their line of status, never raised, and never read as HTML."""

from __future__ import annotations

import html

import ipywidgets as widgets
import pytest

from gendyn_lite.chapters import live
from gendyn_lite.chapters.fisher_mask import demo as fisher_demo
from gendyn_lite.chapters.fisher_mask.explorer import InfluenceExplorer
from gendyn_lite.chapters.generalization_intervals import demo as interval_demo
from gendyn_lite.chapters.generalization_intervals.explorer import IntervalExplorer
from gendyn_lite.chapters.path_functions import explorer as path_explorer
from gendyn_lite.chapters.random_labels import explorer as label_explorer
from gendyn_lite.chapters.stiffness.explorer import StiffnessExplorer
from gendyn_lite.errors import UserError

MISTAKE = "class '<img src=x onerror=alert(1)>' has no images"
CASES = {
    "random_labels": (label_explorer.RandomLabelsExplorer, label_explorer.runner, "load_or_run", "train"),
    "path_functions": (path_explorer.PathExplorer, path_explorer, "nearest", "image"),
    "fisher_mask": (InfluenceExplorer, fisher_demo, "step", "example"),
    "stiffness": (StiffnessExplorer, StiffnessExplorer, "map", "show"),
    "generalization_intervals": (IntervalExplorer, interval_demo, "one_line", "image"),
}


def refuse(*_, **__):
    raise UserError(MISTAKE)


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_shown_not_raised(name, monkeypatch):
    make, owner, broken, control = CASES[name]
    made = make()
    monkeypatch.setattr(owner, broken, refuse)
    moved = getattr(made, control)
    if isinstance(moved, widgets.Button):
        moved.click()
        assert not moved.disabled
    else:
        moved.value += 1
    assert "<" not in made.status.value
    assert html.unescape(made.status.value) == MISTAKE


def test_a_button_is_dead_while_it_trains():
    seen = []

    def show():
        seen.append((button.disabled, status.value))
        raise UserError(MISTAKE)

    button = widgets.Button(description="Train")
    _, status = live.panel([], show, button)
    assert (status.value, seen) == ("Choose, then press Train.", [])
    button.click()
    assert seen == [(True, "Training …")]
    assert not button.disabled
