"""The live explorer of chapter 4 works as an object: the controls describe a training, the button shows its map."""

from __future__ import annotations

import pytest

from gendyn_lite import charts
from gendyn_lite.chapters.stiffness.explorer import StiffnessExplorer
from gendyn_lite.measures import stiffness


@pytest.fixture
def explorer():
    made = StiffnessExplorer()
    made.epochs.value = 2
    return made


def test_the_controls_describe_the_training(explorer):
    explorer.dataset.value = "spirals"
    explorer.activation.value = "tanh"
    config = explorer.config()
    assert (config.dataset, config.epochs, config.model_options["activation"]) == ("spirals", 2, "tanh")


def test_the_button_shows_a_map_and_the_stiffness_of_two_examples(explorer, monkeypatch):
    drawn = []
    monkeypatch.setattr(charts, "show", lambda chart, *, caption: drawn.append((chart.to_dict()["title"], caption)))
    explorer.layer.value = "fc2"
    explorer.show.click()
    assert [(title["text"], caption) for title, caption in drawn] == [
        ("Stiffness of each place with its neighbours", "fc2, trained here")
    ]
    assert f"cosine stiffness {explorer.pair():.2f} in fc2" in explorer.status.value
    assert not explorer.show.disabled
    model, loaded = explorer.network()
    assert explorer.network()[0] is model
    x, y = loaded.train.x[[0, 2]].double(), loaded.train.y[[0, 2]]
    gram = stiffness.gradient_gram(model, x, y, per_layer=True)["fc2"]
    assert explorer.pair() == pytest.approx(float(stiffness.cosine(gram)[0, 1]))
