"""A chart of runs of one network at two sizes draws what the charts of each draw: no line, no mean mixes them."""

from __future__ import annotations

import json
from collections.abc import Callable

import altair as alt
import pandas as pd
import pytest

from gendyn_lite.chapters.fisher_mask import charts as fisher_mask
from gendyn_lite.chapters.generalization_intervals import charts as interval_lengths
from gendyn_lite.chapters.path_functions import charts as paths
from gendyn_lite.chapters.random_labels import charts as random_labels
from gendyn_lite.chapters.stiffness import charts as stiffness
from gendyn_lite.chapters.stiffness import charts_layers as stiffness_layers
from tests.chapters import fake_sizes
from tests.chapters.fisher_mask import fake as fake_fisher
from tests.chapters.generalization_intervals import fake as fake_intervals
from tests.chapters.path_functions import fake as fake_paths
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.stiffness import fake as fake_stiffness

CORNERS: stiffness.CORNERS = dict.fromkeys(("two_moons", "spirals"), ((-1.0, -1.0), (1.0, 1.0)))
CHARTS: dict[str, tuple[Callable[..., pd.DataFrame], Callable[..., alt.TopLevelMixin]]] = {
    **{
        draw.__name__: (make, draw)
        for make, draws in {
            fake_runs.table: (
                random_labels.learning_curves,
                random_labels.time_to_fit,
                random_labels.test_error,
                random_labels.loss_curves,
            ),
            fake_runs.regularized: (
                random_labels.explicit_regularizers,
                random_labels.batch_norm,
                random_labels.final_accuracy,
            ),
            fake_paths.networks: (
                paths.distributions,
                paths.kinds_of_runs,
                paths.franken,
                paths.isolation,
                paths.neighbours_kept,
                paths.overlap_by_distance,
            ),
            fake_paths.unseen: (paths.unseen,),
            fake_paths.ratio: (paths.ratio,),
            fake_fisher.table: (fisher_mask.influence, fisher_mask.with_masks, fisher_mask.best_accuracy),
            fake_stiffness.training: (
                stiffness.over_training,
                stiffness.critical_lengths,
                stiffness.against_distance,
                stiffness.class_matrix,
            ),
            fake_stiffness.layers: (stiffness_layers.trained_and_untrained, stiffness_layers.architectures),
            fake_stiffness.deep: (stiffness_layers.deep_networks,),
            fake_intervals.table: (
                interval_lengths.densities,
                interval_lengths.directions,
                interval_lengths.during_training,
                interval_lengths.region_norms,
            ),
        }.items()
        for draw in draws
    },
    "neighbourhood_maps": (fake_stiffness.maps, lambda runs: stiffness.neighbourhood_maps(runs, CORNERS)),
    "densities_by_network": (fake_intervals.table, lambda runs: interval_lengths.densities(runs, by="widths")),
}


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


def test_more_networks_than_colours_differ_in_shape_and_dash():
    table = fake_runs.table(networks=[f"net{number}" for number in range(7)])
    layer = random_labels.test_error(table).to_dict(validate=False)["layer"]
    line, mark = (
        next(each["encoding"] for each in layer if kind in each["encoding"]) for kind in ("strokeDash", "shape")
    )
    looks = zip(
        line["color"]["scale"]["range"],
        map(tuple, line["strokeDash"]["scale"]["range"]),
        mark["shape"]["scale"]["range"],
        strict=True,
    )
    assert len({(colour, dash) for colour, dash, _ in looks}) == 7


def test_long_runs_of_one_size_take_no_epochs_from_short_ones_of_another():
    short = fake_runs.table()
    long = fake_runs.table(slowdown=40.0).assign(n_train=50_000, run_id=lambda runs: runs["run_id"] + "b")
    shown = [
        pd.DataFrame(
            [
                row
                for data in random_labels.learning_curves(runs).to_dict(validate=False)["datasets"].values()
                for row in data
            ]
        )
        for runs in (short, pd.concat([short, long], ignore_index=True))
    ]
    alone, beside = shown[0], shown[1][shown[1]["network"] == "mlp_1x512, n = 1,000"]
    assert len(beside) == len(alone.dropna(subset=["network"]))


def test_the_learning_rate_decays_where_that_of_the_chosen_runs_does():
    later = fake_paths.networks(n_train=50_000).assign(milestones="20 30")
    spec = paths.distributions(pd.concat([fake_paths.networks(), later], ignore_index=True)).to_dict(validate=False)
    rows = [row for data in spec["datasets"].values() for row in data if set(row) == {"subject", "epoch"}]
    found = {row["epoch"] for row in rows if row["subject"] == "alexnet_small, n = 50,000, true labels"}
    assert found == {20.5, 30.5}
    assert not any("no decay" in row["subject"] for row in rows if "1,000" in row["subject"])
