"""Every chart is a figure; one of runs at two sizes draws what the charts of each draw: no line, no mean mixes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType

import altair as alt
import pandas as pd
import pytest
import vl_convert

from gendyn_lite.chapters.fisher_mask import charts as fisher_mask
from gendyn_lite.chapters.generalization_intervals import charts as interval_lengths
from gendyn_lite.chapters.path_functions import charts as paths
from gendyn_lite.chapters.path_functions.tables import KINDS_OF_RUNS
from gendyn_lite.chapters.random_labels import charts as random_labels
from gendyn_lite.chapters.random_labels.tables import table_1
from gendyn_lite.chapters.stiffness import charts as stiffness
from gendyn_lite.chapters.stiffness import charts_layers as stiffness_layers
from gendyn_lite.charts.figure import figure_html
from gendyn_lite.errors import UserError
from tests.chapters import fake_sizes
from tests.chapters.capacity import test_charts as of_capacity
from tests.chapters.fisher_mask import fake as fake_fisher
from tests.chapters.fisher_mask import test_charts as of_fisher
from tests.chapters.generalization_intervals import fake as fake_intervals
from tests.chapters.generalization_intervals import test_charts as of_intervals
from tests.chapters.path_functions import fake as fake_paths
from tests.chapters.path_functions import test_charts as of_paths
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.random_labels import test_charts as of_labels
from tests.chapters.specs import rows
from tests.chapters.stiffness import fake as fake_stiffness
from tests.chapters.stiffness import test_charts as of_stiffness

DEMOS = (of_capacity, of_fisher, of_intervals, of_labels, of_paths, of_stiffness)
CORNERS: stiffness.CORNERS = dict.fromkeys(("two_moons", "spirals"), ((-1.0, -1.0), (1.0, 1.0)))
TABLES: list[tuple[Callable[..., pd.DataFrame], ModuleType, list[str]]] = [
    (fake_runs.table, random_labels, ["learning_curves", "time_to_fit", "test_error", "loss_curves"]),
    (fake_runs.regularized, random_labels, ["explicit_regularizers", "batch_norm", "final_accuracy"]),
    (fake_paths.networks, paths, ["distributions", "kinds_of_runs", "franken", "isolation", "neighbours_kept"]),
    (fake_paths.networks, paths, ["overlap_by_distance"]),
    (fake_paths.unseen, paths, ["unseen"]),
    (fake_paths.ratio, paths, ["ratio"]),
    (fake_fisher.table, fisher_mask, ["influence", "with_masks", "best_accuracy"]),
    (fake_stiffness.training, stiffness, ["over_training", "critical_lengths", "against_distance", "class_matrix"]),
    (fake_stiffness.layers, stiffness_layers, ["trained_and_untrained", "architectures"]),
    (fake_stiffness.deep, stiffness_layers, ["deep_networks"]),
    (fake_intervals.table, interval_lengths, ["densities", "directions", "during_training", "region_norms"]),
]
CHARTS: dict[str, tuple[Callable[..., pd.DataFrame], Callable[..., alt.TopLevelMixin]]] = {
    name: (make, getattr(module, name)) for make, module, names in TABLES for name in names
}
CHARTS |= {
    "neighbourhood_maps": (fake_stiffness.maps, lambda runs: stiffness.neighbourhood_maps(runs, CORNERS)),
    "densities_by_network": (fake_intervals.table, lambda runs: interval_lengths.densities(runs, by="widths")),
    "midlines": (fake_intervals.table, lambda runs: interval_lengths.densities(runs, kind="midline")),
    "distributions_deep": (fake_paths.deep, paths.distributions),
}
FIGURES: dict[str, Callable[[], alt.TopLevelMixin]] = {
    **{name: lambda make=make, draw=draw: draw(make()) for name, (make, draw) in CHARTS.items()},
    **{f"{module.__name__.split('.')[2]} {name}": draw for module in DEMOS for name, draw in module.CHARTS.items()},
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_chart_is_a_valid_figure_that_can_be_drawn(name):
    spec = FIGURES[name]().to_dict()
    assert alt.Chart.from_dict(json.loads(json.dumps(spec))).to_dict() == spec
    assert len(spec["description"]) > 30 and figure_html(spec)
    assert "<svg" in vl_convert.vegalite_to_svg(spec)
    names = [param["name"] for param in spec.get("params", [])]
    assert "q" not in names and len(names) == len(set(names))  # Sphinx's search script empties every input named q


def drawn(spec: dict) -> set[tuple]:
    """The numbers of every row of a chart's data, names left out."""
    rows = (row for data in spec["datasets"].values() for row in data)
    return {tuple(sorted((name, value) for name, value in row.items() if isinstance(value, float))) for row in rows}


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_of_two_sizes_draws_what_the_charts_of_each_draw(name):
    """Sizes that differ in the epochs alone: what keeps those apart goes by the whole size."""
    make, draw = CHARTS[name]
    table = make(seeds=1)
    spec = draw(fake_sizes.both(table, "epochs")).to_dict(validate=False)
    alone = [drawn(draw(runs).to_dict(validate=False)) for runs in (table, fake_sizes.other(table, "epochs"))]
    assert drawn(spec) == alone[0] | alone[1]
    assert fake_sizes.WORDS["epochs"] in json.dumps(spec)


SAID = [
    ("learning_curves", {"corruption": [0, 0.5, 1]}, "with q = 1: mlp_1x512: train 1.00, test 0.10"),
    ("random_labels grid", {"corruption": [number / 20 for number in range(21)]}, "At q = 1 23 of 24 are wrong"),
    ("franken", {"franken_subject": [f"alexnet_small, {kind}" for kind in KINDS_OF_RUNS]}, "true labels +0.100"),
    ("path_functions plane", {"plane_epoch": [0, 3], "plane_point": [1, 2]}, "2 units are on for the first point"),
    ("path_functions scatter", {"pair_layer": ["2: relu2", "4: relu4"], "pair_epoch": [0, 10]}, "epoch 0: -0."),
    ("fisher_mask moved", {"stepped": list(of_fisher.STEPS["example"].unique()), "step_power": [0.01, 0.1]}, "digit"),
    ("fisher_mask moved once", {}, "digit"),
    ("fisher_mask diagonal", {}, "median ratio is 2.0e-02, the rank correlation 1.00"),
    ("generalization_intervals planar", {"start": [1, 2], "angle": [105, 120]}, "is -1.00 to 0.40, through 3 regions"),
    ("generalization_intervals paths", {}, "at random: -0.50 to 1.25"),
]


@pytest.mark.parametrize(("name", "choices", "words"), SAID)
def test_a_chart_offers_these_choices_and_says_its_numbers(name, choices, words):
    spec = FIGURES[name]().to_dict()
    bound = {param["name"]: param["bind"] for param in spec.get("params", []) if "options" in param.get("bind", ())}
    assert {name: bind["options"] for name, bind in bound.items()} == choices and words in spec["description"]


SWITCHED = fake_runs.regularized()
REFUSED = [
    (random_labels.learning_curves, fake_runs.table(corruptions=()), "no run on true inputs"),
    (random_labels.time_to_fit, fake_runs.table(fitted=False), "no run fitted its training labels"),
    (
        random_labels.batch_norm,
        SWITCHED.query("model_options == '{}'"),
        "no network was trained with and without batch",
    ),
    (random_labels.explicit_regularizers, SWITCHED.query("label_corruption == 1"), "no run on true labels"),
    (stiffness.neighbourhood_maps, fake_stiffness.maps().query("seed > 0"), "no run of the table holds a map"),
    (paths.kinds_of_runs, fake_paths.ratio(), "no similarities of paths"),
    (stiffness_layers.deep_networks, fake_runs.table(), "no values of layers"),
    (table_1, pd.concat([SWITCHED, SWITCHED.assign(data="other")]), "Table 1 has one data set, the runs have 2"),
]


@pytest.mark.parametrize(("draw", "runs", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_a_table_that_lacks_what_is_drawn_is_refused(draw, runs, message):
    with pytest.raises(UserError, match=message):
        draw(runs, *([CORNERS] if draw is stiffness.neighbourhood_maps else []))


OF_CHAPTER_1 = [name for make, module, names in TABLES if module is random_labels for name in names]


@pytest.mark.parametrize("name", OF_CHAPTER_1)
def test_runs_of_two_data_sets_are_never_one_chart_and_those_of_two_sizes_two_networks(name):
    make, draw = CHARTS[name]
    other = make().assign(data="other data", run_id=lambda table: table["run_id"] + "b")
    with pytest.raises(UserError, match="runs on made-up data and other data: choose one"):
        draw(pd.concat([make(), other]))
    small = other.assign(data="made-up data", n_train=50)
    networks = set(rows(draw(pd.concat([make(), small])), "network")["network"])
    assert {network.rpartition(", ")[2] for network in networks} == {"n = 1,000", "n = 50"}


@pytest.mark.parametrize("name", ["best_accuracy", "directions", "kinds_of_runs"])
def test_an_interval_of_two_seeds_is_not_drawn(name):
    make, draw = CHARTS[name]
    for seeds in (2, 3):
        found = rows(draw(make(seeds=seeds)))
        assert found["low"].isna().all() == (seeds == 2) and found["seeds"].eq(seeds).all()


def test_more_networks_than_colours_differ_in_shape_and_dash():
    table = fake_runs.table(networks=[f"net{number}" for number in range(7)])
    layer = random_labels.test_error(table).to_dict(validate=False)["layer"]
    for kind in ("strokeDash", "shape"):
        encoding = next(each["encoding"] for each in layer if kind in each["encoding"])
        looks = zip(*(encoding[channel]["scale"]["range"] for channel in ("color", kind)), strict=True)
        assert len({json.dumps(look) for look in looks}) == 7


def test_long_runs_of_one_size_take_no_epochs_from_short_ones_of_another():
    short = fake_runs.table()
    long = fake_runs.table(slowdown=40.0).assign(n_train=50_000, run_id=lambda runs: runs["run_id"] + "b")
    alone, both = (rows(random_labels.learning_curves(runs)) for runs in (short, pd.concat([short, long])))
    assert both["network"].eq("mlp_1x512, n = 1,000").sum() == len(alone)


def test_the_learning_rate_decays_where_that_of_the_chosen_runs_does():
    later = fake_paths.networks(n_train=50_000).assign(milestones="20 30")
    chart = paths.distributions(pd.concat([fake_paths.networks(), later], ignore_index=True))
    found = rows(chart, "subject", "epoch")
    decays = found[found["q50"].isna()]
    assert set(decays.loc[decays["subject"] == "alexnet_small, n = 50,000, true labels", "epoch"]) == {20.5, 30.5}
    assert not (decays["subject"].str.contains("no decay") & decays["subject"].str.contains("1,000")).any()
