"""Claims on runs of one network at two sizes are those on each: no test mixes them, and two seeds decide nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.fisher_mask import claims as fisher_mask
from gendyn_lite.chapters.generalization_intervals import claims as generalization_intervals
from gendyn_lite.chapters.path_functions import claims as path_functions
from gendyn_lite.chapters.random_labels import claims as random_labels
from gendyn_lite.chapters.random_labels import tables
from gendyn_lite.chapters.stiffness import claims as stiffness
from gendyn_lite.claims import AtLeast, judge
from tests.chapters import fake_sizes
from tests.chapters.fisher_mask import fake as fake_fisher
from tests.chapters.generalization_intervals import fake as fake_intervals
from tests.chapters.path_functions import fake as fake_paths
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.stiffness import fake as fake_stiffness

CLAIMS: dict[str, tuple[Callable[..., pd.DataFrame], Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "random labels": (fake_runs.table, random_labels.claims),
    "regularizers": (fake_runs.regularized, random_labels.regularizer_claims),
    "paths": (fake_paths.networks, path_functions.over_training),
    "unseen": (fake_paths.unseen, path_functions.unseen),
    "ratio": (fake_paths.ratio, path_functions.ratio),
    "height": (
        lambda **more: pd.concat([fake_paths.deep(**more), fake_paths.networks(**more)], ignore_index=True),
        lambda runs: path_functions.relative_height(
            runs[runs["experiment"] == "path_deep"], runs[runs["experiment"] != "path_deep"]
        ),
    ),
    "masks": (fake_fisher.table, fisher_mask.claims),
    "stiffness": (fake_stiffness.training, stiffness.during_training),
    "maps": (fake_stiffness.maps, stiffness.over_the_plane),
    "layers": (fake_stiffness.layers, stiffness.by_layer),
    "deep": (fake_stiffness.deep, stiffness.of_deep_networks),
    "intervals": (fake_intervals.table, generalization_intervals.claims),
}


def rows(claims: pd.DataFrame) -> list[tuple]:
    """Every claim without its subject, in an order of its own."""
    kept = claims.drop(columns="subject").round(9).fillna(math.inf)
    return sorted(kept.itertuples(index=False, name=None), key=str)


@pytest.mark.parametrize("name", CLAIMS)
def test_claims_on_two_sizes_are_those_on_each(name):
    """Sizes that differ in the epochs alone: what keeps those apart goes by the whole size."""
    make, claims = CLAIMS[name]
    table = make(seeds=1)
    found = claims(fake_sizes.both(table, "epochs"))
    assert rows(found) == sorted(rows(claims(table)) + rows(claims(fake_sizes.other(table, "epochs"))), key=str)
    assert not found.duplicated(["statement", "subject"]).any()


def test_a_claim_keeps_its_subject_when_runs_on_more_images_come_beside_it():
    table = fake_runs.table()
    alone, beside = (random_labels.claims(runs) for runs in (table, fake_sizes.both(table, *fake_sizes.SIZES)))
    pd.testing.assert_frame_equal(beside[beside["subject"].isin(alone["subject"])].reset_index(drop=True), alone)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_seeds_have_no_interval_and_decide_nothing(count):
    about = dict.fromkeys(("statement", "source", "paper_value", "quantity", "subject"), "")
    claim = judge([1.0] * count, AtLeast(0.99, weak=0.9), null_value=0.0, **about)
    assert (claim.value, claim.n_seeds, claim.verdict) == (1.0, count, "not testable at this size")
    assert math.isnan(claim.low) and math.isnan(claim.p_value)


def test_table_1_has_a_row_for_each_size():
    table = fake_runs.regularized()
    found = tables.table_1(fake_sizes.both(table, *fake_sizes.SIZES))
    ours = found[found["our n, seeds"] != "–"].groupby(["network", "regularizers", "labels"])["our n, seeds"].agg(list)
    assert {tuple(counts) for counts in ours} == {("1,000, float32, 3", "50,000, bfloat16, 3")}
    assert (found["train, ours"] == "not run").sum() == len(found) - 2 * len(ours)


@pytest.mark.parametrize("field", fake_sizes.SIZES)
def test_what_has_been_run_is_counted_by_size(field):
    table = fake_runs.regularized()
    few = fake_sizes.other(table, field)
    both = pd.concat([table, few[few["seed"] == 0]], ignore_index=True)
    assert set(tables.row_by_row(both)["seeds"]) == set(results.overview(both)["seeds"]) == {1, 3}
    assert all(words in results.provenance_line(both) for words in ("1 to 3 seeds", fake_sizes.WORDS[field]))
