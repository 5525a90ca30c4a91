"""The live explorer of chapter 2 works as an object: the controls choose, the panel says what it shows."""

from __future__ import annotations

import pytest

from gendyn_lite.chapters.path_functions import demo as path_digits
from gendyn_lite.chapters.path_functions.explorer import PathExplorer
from gendyn_lite.measures import relu_paths


@pytest.fixture(scope="module")
def explorer():
    return PathExplorer()


def test_the_nearest_are_those_of_the_recorded_paths(explorer):
    explorer.image.value, explorer.layer.value, explorer.epoch.value = 3, "relu3", 2
    rows = explorer.nearest()
    found = path_digits.trained()
    gram = relu_paths.path_gram(found.recording.paths(2, "relu3"))
    gram[3, 3] = -1
    assert rows["image"].iloc[0] == 3
    assert gram[3, rows["image"].iloc[1]] == gram[3].max()
    same = int((rows["digit"].iloc[1:] == rows["digit"].iloc[0]).sum())
    assert f"of its 6 nearest by path, {same} show the same digit" in explorer.status.value


def test_labels_choose_another_network(explorer):
    explorer.labels.value = 0.0
    true = explorer.nearest()["share"].tolist()
    explorer.labels.value = 1.0
    assert explorer.nearest()["share"].tolist() != true
