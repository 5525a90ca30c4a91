"""The live explorers as objects: controls describe what is shown, the status says it, a mistake is shown as text."""

from __future__ import annotations

import html

import ipywidgets as widgets
import pytest

from gendyn_lite import charts, results
from gendyn_lite.chapters import live
from gendyn_lite.chapters.fisher_mask import demo as fisher_demo
from gendyn_lite.chapters.generalization_intervals import demo as interval_demo
from gendyn_lite.chapters.path_functions import explorer as path_explorer
from gendyn_lite.chapters.random_labels import explorer as label_explorer
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.chapters.stiffness.explorer import StiffnessExplorer
from gendyn_lite.errors import UserError
from gendyn_lite.measures import relu_paths, stiffness
from tests.measures.networks import refused

MISTAKE = "class '<img src=x onerror=alert(1)>' has no images"
CASES = {
    "random_labels": (label_explorer.RandomLabelsExplorer, random_labels, "run", "train"),
    "path_functions": (path_explorer.PathExplorer, path_explorer, "nearest", "image"),
    "fisher_mask": (fisher_demo.InfluenceExplorer, fisher_demo, "step", "example"),
    "stiffness": (StiffnessExplorer, StiffnessExplorer, "map", "show"),
    "generalization_intervals": (interval_demo.IntervalExplorer, interval_demo, "one_line", "image"),
}


def refuse(*_, **__):
    raise UserError(MISTAKE)


def choose(explorer, **values) -> None:
    for name, value in values.items():
        getattr(explorer, name).value = value


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


@pytest.fixture
def of_labels(tmp_path, monkeypatch):
    for name in ("plan", "regularizer_plan"):
        quick = getattr(random_labels, name)("smoke", seeds=1, epochs=2, train_size=100)
        monkeypatch.setattr(random_labels, name, lambda *_, quick=quick, **__: quick)
    return label_explorer.RandomLabelsExplorer(root=tmp_path)


def test_the_controls_of_chapter_1_describe_a_run(of_labels):
    assert of_labels.dropout.disabled and of_labels.batch_norm.disabled
    assert of_labels.config() in random_labels.plan()  # a run of the plan is that run
    choose(of_labels, network="mlp_3x512", corruption=0.35, seed=4, weight_decay=2e-3, random_crop=True, flip=True)
    asked = {"model": "mlp_3x512", "label_corruption": 0.35, "seed": 4, "weight_decay": 2e-3, "inputs": "true"}
    asked |= {"random_crop": 1, "flip": True, "model_options": {}, "experiment": "explorer"}
    assert {name: getattr(of_labels.config(), name) for name in asked} == asked
    choose(of_labels, network="inception_small", dropout=0.5, batch_norm=False)
    assert of_labels.config().model_options == {"batch_norm": False, "dropout": 0.5}
    choose(of_labels, corruption=0, weight_decay=0, random_crop=False, flip=False, batch_norm=True, seed=0)
    assert of_labels.config() in random_labels.regularizer_plan()
    choose(of_labels, network="mlp_1x512")
    assert of_labels.config().model_options == {}


def test_the_button_trains_and_says_what_came_out(of_labels, tmp_path):
    of_labels.train.click()
    table = results.load("random_labels", root=tmp_path)
    assert f"train accuracy {table['train_accuracy'].iloc[-1]:.3f}" in of_labels.status.value


def test_the_nearest_are_those_of_the_recorded_paths_of_the_chosen_labels():
    explorer = path_explorer.PathExplorer()
    choose(explorer, image=3, layer="relu3", epoch=2)
    rows = explorer.nearest()
    gram = relu_paths.path_gram(path_explorer.demo.trained().recording.paths(2, "relu3"))
    gram[3, 3] = -1
    assert rows["image"].iloc[0] == 3 and gram[3, rows["image"].iloc[1]] == gram[3].max()
    same = int((rows["digit"].iloc[1:] == rows["digit"].iloc[0]).sum())
    assert f"of its 6 nearest by path, {same} show the same digit" in explorer.status.value
    choose(explorer, labels=1.0)
    assert explorer.nearest()["share"].tolist() != rows["share"].tolist()


def test_the_status_says_what_a_step_does():
    explorer = fisher_demo.InfluenceExplorer()
    moved = [fisher_demo.step(example=0, eps=0.03, keep=keep)["kl"].mean() for keep in (1.0, 0.25)]
    assert f"mean KL {moved[0]:.2e}" in explorer.status.value
    choose(explorer, keep=0.25)
    assert f"mean KL {moved[1]:.2e}" in explorer.status.value and moved[1] < moved[0]
    choose(explorer, units="relu", example=7)
    assert f"mean KL {moved[1]:.2e}" not in explorer.status.value


def test_the_button_shows_a_map_and_the_stiffness_of_two_examples(monkeypatch):
    explorer, drawn = StiffnessExplorer(), []
    monkeypatch.setattr(charts, "show", lambda chart, *, caption: drawn.append((chart.to_dict()["title"], caption)))
    choose(explorer, dataset="spirals", activation="tanh", epochs=2, layer="fc2")
    config = explorer.config()
    assert (config.dataset, config.epochs, config.model_options["activation"]) == ("spirals", 2, "tanh")
    explorer.show.click()
    ((title, caption),) = drawn
    assert (title["text"], caption) == ("Stiffness of each place with its neighbours", "fc2, trained here")
    assert f"cosine stiffness {explorer.pair():.2f} in fc2" in explorer.status.value
    row = explorer.map().iloc[0]  # the chart tells means of the map, not its ends
    whole = row["map/boundary_share"] * row["map/boundary"] + (1 - row["map/boundary_share"]) * row["map/inside"]
    hundredths = [int(value) for value in row["map/stiffness"].split()]
    assert whole == pytest.approx(sum(hundredths) / len(hundredths) / 100, abs=0.005)
    model, loaded = explorer.network()
    assert explorer.network()[0] is model
    x, y = loaded.train.x[[0, 2]].double(), loaded.train.y[[0, 2]]
    gram = stiffness.gradient_gram(model, x, y, per_layer=True)["fc2"]
    assert explorer.pair() == pytest.approx(float(stiffness.cosine(gram)[0, 1]))


def test_a_line_is_drawn_as_chosen(monkeypatch):
    explorer, drawn = interval_demo.IntervalExplorer(), []
    monkeypatch.setattr(charts, "show", lambda chart, **_: drawn.append(chart.to_dict()["datasets"]))
    choose(explorer, towards="adversarial", network="1x512")
    assert explorer.status.value == "" and len(drawn) == 2 and drawn[0] != drawn[1]


test_an_example_that_does_not_exist_is_refused = refused(
    {
        "step": (lambda: fisher_demo.step(example=300, eps=0.1), r"^example is 300, expected a number from 0 to \d+$"),
        "line": (interval_demo.one_line, ("pair",), {"image": 300}, r"^image is 300, expected a number from 0 to \d+$"),
        "nearest": (path_explorer.nearest, (128, "relu1", 0), {}, r"^image is 128, expected a number from 0 to \d+$"),
    }
)
