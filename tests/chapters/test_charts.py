"""Every chart is a figure; one of runs at two sizes draws what the charts of each draw: no line, no mean mixes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from types import ModuleType

import altair as alt
import pandas as pd
import pytest

from gendyn_lite.chapters.capacity import charts as capacity
from gendyn_lite.chapters.fisher_mask import charts as fisher_mask
from gendyn_lite.chapters.generalization_intervals import charts as interval_lengths
from gendyn_lite.chapters.path_functions import charts as paths
from gendyn_lite.chapters.path_functions import charts_pairs as path_pairs
from gendyn_lite.chapters.random_labels import charts as random_labels
from gendyn_lite.chapters.random_labels.tables import table_1
from gendyn_lite.chapters.stiffness import charts as stiffness
from gendyn_lite.chapters.stiffness import charts_layers as stiffness_layers
from gendyn_lite.chapters.stiffness import charts_maps as stiffness_maps
from gendyn_lite.errors import UserError
from gendyn_lite.results import provenance_line
from tests.chapters import fake_sizes
from tests.chapters.capacity import fake as fake_capacity
from tests.chapters.fisher_mask import fake as fake_fisher
from tests.chapters.generalization_intervals import fake as fake_intervals
from tests.chapters.path_functions import fake as fake_paths
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.specs import described, rows
from tests.chapters.stiffness import fake as fake_stiffness
from tests.measures.networks import refused

CORNERS: stiffness_maps.CORNERS = dict.fromkeys(("two_moons", "spirals"), ((-1.0, -1.0), (1.0, 1.0)))
TABLES: list[tuple[Callable[..., pd.DataFrame], ModuleType, list[str]]] = [
    (fake_runs.table, random_labels, ["learning_curves", "time_to_fit", "test_error", "loss_curves"]),
    (fake_runs.regularized, random_labels, ["final_accuracy"]),
    (fake_runs.augmented, random_labels, ["augmented"]),
    (fake_paths.networks, paths, ["distributions", "kinds_of_runs", "franken", "isolation", "further_apart"]),
    (fake_paths.networks, path_pairs, ["neighbours_kept", "overlap_by_distance", "ranks"]),
    (fake_paths.deep, paths, ["beside"]),
    (fake_paths.unseen, paths, ["unseen"]),
    (fake_paths.ratio, path_pairs, ["ratio"]),
    (fake_fisher.table, fisher_mask, ["influence", "right_and_wrong", "with_masks", "wrong_fitted", "accuracy_gained"]),
    (fake_stiffness.training, stiffness, ["one_factor", "over_training", "critical_lengths"]),
    (fake_stiffness.training, stiffness, ["against_distance", "class_matrix"]),
    (fake_stiffness.layers, stiffness_layers, ["trained_and_untrained", "architectures", "depths"]),
    (fake_stiffness.maps, stiffness_maps, ["boundary_contrasts"]),
    (fake_stiffness.deep, stiffness_layers, ["deep_networks"]),
    (fake_intervals.table, interval_lengths, ["densities", "directions", "during_training", "region_norms"]),
    (fake_intervals.table, interval_lengths, ["bound_reach"]),
    (fake_capacity.descent, capacity, ["distance_to_minimum_norm"]),
    (fake_capacity.ridges, capacity, ["norms_and_errors", "widths_and_ridges"]),
]
CHARTS: dict[str, tuple[Callable[..., pd.DataFrame], Callable[..., alt.TopLevelMixin]]] = {
    name: (make, getattr(module, name)) for make, module, names in TABLES for name in names
}
CHARTS |= {
    "neighbourhood_maps": (fake_stiffness.maps, lambda runs: stiffness_maps.neighbourhood_maps(runs, CORNERS)),
    "densities_by_network": (fake_intervals.table, lambda runs: interval_lengths.densities(runs, by="widths")),
    "midlines": (fake_intervals.table, lambda runs: interval_lengths.densities(runs, kind="midline")),
    "distributions_deep": (fake_paths.deep, paths.distributions),
}
CAPTIONED = {**CHARTS, "kernel_error": (fake_capacity.kernels, capacity.kernel_error)}  # which goes by n, its axis
# Masks of each kind, of two shares of one of them: a chart is drawn again without each group of runs.
FEW = {key: fake_fisher.GAINS[key] for key in (("fisher", 0.75), ("fisher", 0.25), ("fisher", 0.7), ("random", 0.75))}
ONE_SEED = ("ranks", "neighbourhood_maps")  # where only the first is drawn
SAID = {"franken": "true labels +0.100", "learning_curves": "with q = 1: mlp_1x512: train 1.00, test 0.10"}


def test_no_two_charts_have_the_same_name():
    names = [name for _, _, names in TABLES for name in names]
    assert sorted(names) == sorted(set(names)), "the tests know a chart by its name: rename one of the two"


@cache
def chart(name: str) -> alt.TopLevelMixin:
    """A chart of made-up runs, which several tests read."""
    make, draw = CHARTS[name]
    return draw(make())


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_a_valid_figure_that_says_its_numbers(name):
    assert SAID.get(name, "") in described(chart(name))


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


def without_caption(chart: alt.TopLevelMixin) -> str:
    """A chart's data and words."""
    spec = chart.to_dict(validate=False)
    said = {name: spec.get(name) for name in ("title", "description")}
    return json.dumps([said, list(spec["datasets"].values())], sort_keys=True)


@pytest.mark.parametrize("name", CAPTIONED)
def test_the_caption_names_the_runs_that_are_drawn_and_no_others(name):
    make, draw = CAPTIONED[name]
    table = make(seeds=2, **({"gains": FEW} if make is fake_fisher.table else {}))
    whole, groups = draw(table), table["group_id"]
    expected = without_caption(whole)

    def changes(group: str) -> bool:
        try:
            return without_caption(draw(table[groups != group])) != expected
        except (UserError, LookupError, ValueError, TypeError, AttributeError):
            return True  # there is nothing to draw without it

    found = [group for group in groups.unique() if changes(group)]
    named = table[groups.isin(found)]
    named = named[named["seed"] == 0] if name in ONE_SEED else named
    assert whole.to_dict(validate=False)["usermeta"]["caption"] == provenance_line(named)
    assert len(named) == len(table) or without_caption(draw(named)) == expected


TRUE = "labels == 'true labels'"
SAME_RATE = f"{TRUE} and rate == 0.01 and kind == 'cosine' and curve == 'within, train-train' and epoch == 1"
PROFILE = "state == 'trained' and pairs == 'within a class' and activation == 'ReLU'"
AT_END = "condition == 'made-up digits, true labels, rate 0.01' and when == 'after training'"
ENDS = "`taken at` == 'end of training' and network == 'inception_small'"
LOST = ENDS.replace("end of training", "early stopping")
DRAWN = [  # a chart, some of its rows, a column, and what the made-up runs have there
    ("test_error", "q == q", "mean", [0.1, 0.5, 0.9]),
    ("final_accuracy", f"{ENDS} and setting == 'crop + decay'", "mean", [0.851]),
    ("final_accuracy", f"{LOST} and setting == 'no regularizer'", "mean", [0.811]),
    ("augmented", "variants == '18' and epoch == 40", "accuracy", [0.332]),
    # the decimal logarithm of a geometric mean
    ("influence", f"{TRUE} and equal == 'epochs' and at == 0 and of == 'true Fisher'", "mean", [2.00856]),
    ("with_masks", "of == 'test loss (nats)' and equal == 'epochs' and at == 8 and mask == 'no mask'", "mean", [2.002]),
    ("right_and_wrong", "of == 'influence (log₁₀ nats)' and labels == 'wrong labels' and at == 0", "mean", [1.446]),
    ("wrong_fitted", "way == 'Fisher' and mask == '25 % kept' and at == 0.5", "mean", [0.352]),
    ("accuracy_gained", "way == 'Fisher' and kept == 0.75 and equal == 'epochs'", "mean", [2.0, 2.0]),  # seed by seed
    ("accuracy_gained", "way == 'random, fixed' and kept == 0.25 and equal == 'epochs'", "mean", [-3.0, -3.0]),
    ("distributions", "subject == 'alexnet_small, true labels' and epoch == 1", "q50", [0.8005] * 12),
    ("franken", "subject == 'alexnet_small, true labels' and epoch == 3", "mean", [1.7, 1.6]),
    ("class_matrix", AT_END, "stiffness", [0.3, -0.05, -0.05, 0.25]),
    ("over_training", SAME_RATE, "mean", [0.501]),
    ("against_distance", AT_END, "mean", [0.3, 0.1]),
    ("trained_and_untrained", PROFILE, "mean", [0.101, 0.201, 0.301, 0.401, 0.501]),
    ("distance_to_minimum_norm", "start == 'from zero' and passes == 500", "distance", [1e-4]),
    ("norms_and_errors", "points == 'Gabor features' and width == 1", "error", [0.0502]),
    ("widths_and_ridges", "share == 1 and kind == 'none'", "error", [0.8002]),
    ("widths_and_ridges", "share == 1 and kind == 'chosen on held-out images'", "error", [0.1502]),
    ("during_training", "of == 'length / 3' and epoch == 0", "value", [2 / 3]),
    ("during_training", "of == 'length / 3, unfitted: 0' and epoch == 0", "value", [0.2 / 3]),
]


@pytest.mark.parametrize(("name", "query", "column", "expected"), DRAWN)
def test_what_is_drawn_is_what_the_runs_have(name, query, column, expected):
    found = rows(chart(name), column).query(query)
    assert found[column].tolist() == pytest.approx(expected, abs=1e-3)
    if {"low", "seeds"} <= set(found):
        assert (found["low"] <= found[column]).all() and found["seeds"].ge(3).all()


SWITCHED = fake_runs.regularized()
NO_MAP = fake_stiffness.maps().query("seed > 0")
REFUSED = [
    (random_labels.learning_curves, (fake_runs.table(corruptions=()),), "no run on true inputs"),
    (random_labels.time_to_fit, (fake_runs.table(fitted=False),), "no run fitted its training labels"),
    (random_labels.final_accuracy, (SWITCHED.query("label_corruption == 1"),), "no run on true labels"),
    (random_labels.final_accuracy, (fake_runs.regularized(stop=True),), "no run on true labels"),
    (stiffness_maps.neighbourhood_maps, (NO_MAP, CORNERS), "no run of the table holds a map"),
    (paths.kinds_of_runs, (fake_paths.ratio(),), "no similarities of paths"),
    (stiffness_layers.deep_networks, (fake_runs.table(),), "no values of layers"),
    (table_1, (pd.concat([SWITCHED, SWITCHED.assign(data="other")]),), "Table 1 has one data set, the runs have 2"),
]
test_a_table_that_lacks_what_is_drawn_is_refused = refused(
    {f"{number} {said}": (draw, given, {}, said) for number, (draw, given, said) in enumerate(REFUSED)}
)


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


@pytest.mark.parametrize("name", ["accuracy_gained", "directions", "kinds_of_runs"])
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
