"""Every claim of every chapter: it holds on runs that behave as claimed, and one that fails is shown as failing."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from gendyn_lite.chapters import registry
from gendyn_lite.chapters.capacity import claims as capacity
from gendyn_lite.chapters.fisher_mask import claims as fisher_mask
from gendyn_lite.chapters.generalization_intervals import claims as intervals
from gendyn_lite.chapters.path_functions import claims as paths
from gendyn_lite.chapters.random_labels import claims as labels
from gendyn_lite.chapters.stiffness import claims as stiffness
from gendyn_lite.claims import Record
from tests.chapters import fake_sizes
from tests.chapters.capacity import fake as fake_capacity
from tests.chapters.fisher_mask import fake as fake_fisher
from tests.chapters.generalization_intervals import fake as fake_intervals
from tests.chapters.path_functions import fake as fake_paths
from tests.chapters.random_labels import fake as fake_labels
from tests.chapters.stiffness import fake as fake_stiffness

KNOWN = {"side": 4, "features": "pixels"}  # words that statements take from made-up runs
KEPT: dict[tuple, pd.DataFrame] = {}  # claims that were judged


class Judged(NamedTuple):
    """Made-up runs, and the function that judges claims on them."""

    record: Record
    make: Callable[..., pd.DataFrame]
    claims: Callable[[pd.DataFrame], pd.DataFrame]
    spread: float = 0.004

    def judged(self, **options) -> pd.DataFrame:
        """The claims on five seeds of runs made up with some options, whose measurements are less by up to `spread`.

        Many cases ask for several claims on the same runs: those are judged once.
        """
        key = self.make, self.claims, self.spread, repr(sorted(options.items()))
        if key not in KEPT:
            KEPT[key] = self._judged(**{"seeds": 5, **options})
        return KEPT[key]

    def _judged(self, **options) -> pd.DataFrame:
        runs = self.make(**options)
        draw = np.random.default_rng(0)
        measured = [name for name in runs.select_dtypes("float") if name not in fake_sizes.KEPT]
        less = {name: runs[name] * draw.uniform(1 - self.spread, 1, len(runs)) for name in measured}
        return self.claims(runs.assign(**less))

    def found(self, claim: str, **options) -> pd.DataFrame:
        """The rows of a claim."""
        rows = self.judged(**options)
        return rows[rows["statement"] == self.record.entries[claim].statement.format_map(KNOWN)]


def height(*, level=0.9, early=0.8, n_train=1000, **more):
    return pd.concat([fake_paths.deep(level=level, n_train=n_train, **more), fake_paths.networks(early=early, **more)])


def with_batch_norm(runs):
    found = labels.regularizer_claims(runs)
    return found[~found["subject"].str.contains("without")]


def moons(**more):
    return fake_intervals.table(dataset="two_moons", networks=fake_intervals.NETWORKS[:1], **more)


def photographs(**more):
    return fake_capacity.ridges(data="CIFAR-10 (JPEG q75)", **{"pixels": 0.5, "gain": 0.01, **more})


JUDGED = {
    "labels": Judged(labels.RECORD, fake_labels.table, labels.claims),
    "switched": Judged(labels.RECORD, fake_labels.regularized, with_batch_norm),
    "augmented": Judged(labels.RECORD, fake_labels.augmented, labels.augmentation_claims),
    "memorizing": Judged(capacity.RECORD, fake_capacity.memorizing, capacity.memorizing),
    "kernels": Judged(capacity.RECORD, fake_capacity.kernels, capacity.kernels),
    "descent": Judged(capacity.RECORD, fake_capacity.descent, capacity.descent),
    "norms": Judged(capacity.RECORD, fake_capacity.ridges, capacity.norms),
    "widths": Judged(capacity.RECORD, fake_capacity.ridges, capacity.widths),
    "filters": Judged(capacity.RECORD, photographs, capacity.widths),
    "paths": Judged(paths.RECORD, fake_paths.networks, paths.over_training),
    "deep paths": Judged(paths.RECORD, fake_paths.deep, paths.over_training),
    "unseen": Judged(paths.RECORD, fake_paths.unseen, paths.unseen),
    "ratio": Judged(paths.RECORD, fake_paths.ratio, paths.ratio, spread=0.04),
    "height": Judged(paths.RECORD, height, paths.relative_height),
    "masks": Judged(fisher_mask.RECORD, fake_fisher.table, fisher_mask.claims),
    "stiffness": Judged(stiffness.RECORD, fake_stiffness.training, stiffness.during_training),
    "maps": Judged(stiffness.RECORD, fake_stiffness.maps, stiffness.over_the_plane),
    "layers": Judged(stiffness.RECORD, fake_stiffness.layers, stiffness.by_layer),
    "depth": Judged(stiffness.RECORD, fake_stiffness.deep, stiffness.of_deep_networks),
    "intervals": Judged(intervals.RECORD, fake_intervals.table, intervals.claims),
    "moons": Judged(intervals.RECORD, moons, intervals.claims),
}


# Which claims hold on made-up runs as they come.
HOLD = {
    "labels": "fits_random random_at_chance gap_jumps random_slower error_rises fits_shuffled_pixels "
    "fits_random_pixels random_pixels_sooner fits_gaussian gaussian_sooner",
    "switched": "not_necessary not_sufficient decay_acts crops_help crops_help_more dropout_helps stopping_no_help "
    "stopping_helps_noisy batch_norm_helps",
    "augmented": "variants_slow",  # 50 variants are not fitted within 400 epochs
    "memorizing": "memorizes_two_layers memorizes_deep memorizer_at_chance",
    "kernels": "kernel_fits_random",
    "descent": "sgd_reaches_minimum_norm",
    "norms": "gabor_lowers gabor_norm_larger norm_chooses_badly",
    "widths": "ridge_no_help error_peaks second_descent ridge_removes_peak",
    "filters": "filters_lower filters_lower_with_ridge error_peaks second_descent ridge_removes_peak",
    "paths": "imperfect_first imperfect_last higher_late changes_at_first higher_without_decay random_less_diverse "
    "new_path_worse_true new_path_worse_random no_distance_second no_distance_last no_rank_second no_rank_last "
    "no_standardized_second no_standardized_last neighbours_by_path neighbours_by_activations isolated_update "
    "isolated_over_random older_paths_left others_in_part more_than_movement rise_beyond_movement "
    "settles_beyond_movement",
    "deep paths": "imperfect_first imperfect_last higher_late changes_at_first new_path_worse_true "
    "more_than_movement rise_beyond_movement settles_beyond_movement lag_alone more_than_lag statistics_matter",
    "unseen": "unseen_do_not_share unseen_recognized_equally",
    "ratio": "ratio_gap_rank ratio_gap_linear ratio_gap_partial ratio_test_error ratio_train_loss",
    "height": "resnet_above_alexnet",
    "masks": "influence_falls random_less_by_epoch random_less_late random_less_at_loss half_less_at_loss "
    "random_smaller_peak wrong_less wrong_less_direction wrong_below_75 wrong_below_25 step_as_form "
    "slower_influence_70 slower_influence_80 slower_loss_70 slower_loss_80 loss_at_loss_70 loss_at_loss_80 "
    "wrong_slower_than_none_75 wrong_slower_than_fixed_75 wrong_slower_than_random_75 "
    "wrong_slower_than_magnitude_75 wrong_slower_than_shorter_75 wrong_slower_than_none_25 "
    "wrong_slower_than_fixed_25 wrong_slower_than_random_25 wrong_slower_than_magnitude_25 "
    "wrong_slower_than_shorter_25 wrong_slower_early_25 better_than_none_75 better_than_magnitude_75 "
    "better_than_shorter_75 better_than_fixed_25 better_than_random_25 better_than_shorter_25 "
    "better_at_loss_none_75 better_at_loss_shorter_75",
    "stiffness": "classes_apart falls_with_overfitting test_as_train test_as_train_fitted length_falls "
    "larger_rate_less_stiff larger_rate_shorter random_less_stiff larger_rate_less_stiff_fitted "
    "larger_rate_shorter_fitted random_less_stiff_fitted half_less_stiff_fitted",
    "maps": "boundary_seen boundary_learnt boundary_labelled boundary_at_points",
    "layers": "training_changes_within changes_through_within tanh_stiffer_within leaky_relu_as_relu_within "
    "training_changes_layers changes_through_layers tanh_differs leaky_relu_as_relu",
    "depth": "late_layers_apart late_layers_learnt random_less_apart late_layers_beyond_movement lag_alone",
    "intervals": "pairs_alike midlines_shorter principal_over_means principal_over_minor principal_over_random "
    "principal_over_varying principal_over_span pairs_over_random pairs_over_span pairs_trained midlines_trained "
    "principal_as_random random_directions_shorter norms_within bound_true bound_explains "
    "small_random_shorter small_true_alike depths_alike correlates_all correlates_fitted",
}
SMALL, NEGLIGIBLE, REVERSED, UNDECIDED = "holds, small", "negligible", "reversed", "undecided"
NONE = "not run"
LIKE_RANDOM = {**fake_fisher.GAINS, ("random", 0.75): 2.5}
CASES = [
    ("labels", {"fitted": False}, "fits_random fits_gaussian", UNDECIDED),  # that there is none is not shown by some
    ("labels", {"seeds": 1}, "fits_random", "holds"),
    ("labels", {"chance_accuracy": 0.3}, "random_at_chance", REVERSED),
    ("labels", {"slowdown": 20.0}, "random_slower", REVERSED),
    ("labels", {"slowdown": 0.5}, "gaussian_sooner random_pixels_sooner", REVERSED),
    ("labels", {"chance_accuracy": 0.9}, "gap_jumps", NEGLIGIBLE),
    ("labels", {"corruptions": (0.0, 1.0)}, "error_rises", NONE),
    ("labels", {"fitted": False}, "random_slower", NONE),
    ("switched", {"none": 0.3}, "not_necessary", NEGLIGIBLE),
    ("switched", {"random_train": 0.95}, "not_sufficient", UNDECIDED),
    ("switched", {}, "weight_decay_helps", SMALL),  # its interval reaches below 0.01
    ("switched", {"decay": 0.83}, "weight_decay_helps", "holds"),
    ("switched", {"norm": 1.0}, "decay_acts", NEGLIGIBLE),
    ("switched", {"fall": -0.05}, "stopping_no_help", REVERSED),  # a loss, which the best epoch of all cannot be
    ("switched", {"half_fall": -0.05}, "stopping_helps_noisy", REVERSED),
    ("switched", {"stop": True}, "crops_help", None),  # a run that stops when fitted is no comparison
    ("augmented", {"longest": 4000}, "augmented_fitted", "holds"),
    ("augmented", {"slower": False}, "variants_slow", REVERSED),
    ("switched", {"decay": 0.7}, "weight_decay_helps", REVERSED),
    ("switched", {"crop": 0.7}, "crops_help", REVERSED),
    ("switched", {"decay": 0.9}, "crops_help_more", REVERSED),
    ("switched", {"dropout": 0.7}, "dropout_helps", REVERSED),
    ("switched", {"without_none": 0.9}, "batch_norm_helps", REVERSED),
    ("memorizing", {"random_train": 0.999}, "memorizes_two_layers memorizes_deep", UNDECIDED),
    ("memorizing", {"true_test": 0.2}, "memorizer_at_chance", REVERSED),
    ("kernels", {"random_train": 0.5}, "kernel_fits_random", UNDECIDED),
    ("kernels", {"n": 60_000, "seeds": 1, "pixels": 0.013}, "interpolating_generalizes gabor_norm_whole", "computed"),
    ("descent", {"reached": 0.3}, "sgd_reaches_minimum_norm", SMALL),
    ("descent", {"kept": 0.5}, "sgd_keeps_other_start", "computed"),  # by construction: no verdict
    ("norms", {"gabor": 0.12}, "gabor_lowers", REVERSED),
    ("norms", {"gabor": 0.05 + 0.04}, "gabor_lowers", SMALL),
    ("norms", {"gabor_norms": (15.0, 25.0)}, "gabor_norm_larger", REVERSED),
    ("widths", {"gain": 0.03}, "ridge_no_help", REVERSED),
    ("filters", {"conv": (0.3, 0.2, 0.8, 0.2, 0.6)}, "filters_lower second_descent", REVERSED),
    ("filters", {"with_ridge": 0.6, "conv": (0.3, 0.2, 0.8, 0.2, 0.6)}, "filters_lower_with_ridge", REVERSED),
    ("filters", {"conv": (0.3, 0.2, 0.8, 0.2, 0.3)}, "ridge_helps_filters", "holds"),
    ("filters", {"conv": (0.3, 0.2, 0.1, 0.2, 0.04)}, "error_peaks", REVERSED),
    ("filters", {"with_ridge": 0.9}, "ridge_removes_peak", REVERSED),  # with it, the peak is what it was
    ("paths", {"early": 0.995, "late": 0.999}, "imperfect_first", REVERSED),
    ("paths", {"early": 0.95, "late": 0.96}, "higher_late changes_at_first", SMALL),
    ("paths", {"early": 0.95, "late": 0.85}, "higher_late", REVERSED),
    ("paths", {"constant": 0.8}, "higher_without_decay", NEGLIGIBLE),
    ("paths", {"random": -0.05}, "random_less_diverse", REVERSED),
    ("paths", {"gap": -0.1}, "new_path_worse_true", REVERSED),
    ("paths", {"gap": 0.01}, "new_path_worse_random", SMALL),
    ("paths", {"rank": -0.9}, "no_standardized_last", REVERSED),
    ("paths", {"pixels": -0.9}, "no_distance_last no_rank_last", REVERSED),
    ("paths", {"random_alone": 0.4}, "isolated_over_random", REVERSED),
    ("paths", {"older": 0.0}, "older_paths_left", NEGLIGIBLE),
    ("paths", {"others": 0.95}, "others_in_part", REVERSED),
    ("paths", {"walk": 0.5}, "more_than_movement", REVERSED),
    ("paths", {"walk": 0.5, "walk_late": 0.99}, "rise_beyond_movement settles_beyond_movement", REVERSED),
    ("paths", {"walk": 0.9, "walk_late": 0.991}, "rise_beyond_movement", "holds"),
    ("paths", {"walk": 0.9, "walk_late": 0.991}, "settles_beyond_movement", NEGLIGIBLE),  # as much is left: a tenth
    ("deep paths", {"lag": 0.99}, "lag_alone", NEGLIGIBLE),
    ("deep paths", {"running": 0.9}, "more_than_lag", REVERSED),
    ("deep paths", {"running": 0.95, "level": 0.7}, "statistics_matter", REVERSED),
    ("paths", {"changed": 0.0}, "neighbours_by_path", NEGLIGIBLE),
    ("paths", {"kept": 0.995}, "neighbours_by_activations", NEGLIGIBLE),
    ("paths", {"alone": 0.8}, "isolated_update", REVERSED),
    ("unseen", {"share": 0.8}, "unseen_do_not_share", SMALL),
    ("unseen", {"right": 0.1}, "unseen_recognized_equally", REVERSED),
    ("ratio", {"slope": 1.0}, "ratio_gap_rank", REVERSED),
    ("ratio", {"noise": 0.3}, "ratio_gap_linear", SMALL),
    ("ratio", {"networks": 2}, "ratio_gap_rank", NONE),
    ("ratio", {"fitted": False}, "ratio_gap_rank", NONE),  # networks that do not fit their images do not count
    ("height", {"level": 0.7}, "resnet_above_alexnet", REVERSED),
    ("height", {"n_train": 200}, "resnet_above_alexnet", NONE),  # on other numbers of images
    ("masks", {"falls": False}, "influence_falls", REVERSED),
    ("masks", {"less": False}, "random_less_by_epoch random_smaller_peak", REVERSED),
    ("masks", {"less": False}, "random_less_at_loss half_less_at_loss", REVERSED),
    ("masks", {"late": 10.0}, "random_less_late", REVERSED),  # though it is less before
    ("masks", {"late": 10.0}, "random_less_at_loss", "holds"),
    ("masks", {"wrong": 2.0}, "wrong_less wrong_less_direction", REVERSED),
    ("masks", {"held": 0.1}, "wrong_below_75 wrong_below_25", REVERSED),
    ("masks", {"spared": -0.1}, "wrong_slower_than_none_75 wrong_slower_than_fixed_25", REVERSED),
    ("masks", {"spared": 0.0}, "wrong_slower_than_none_75 wrong_slower_than_shorter_75", NEGLIGIBLE),
    ("masks", {"resnet": True}, "lag_inflates", "holds"),
    ("masks", {"resnet": True, "lag": 0.1}, "lag_inflates", REVERSED),
    ("masks", {"slower": False}, "loss_at_loss_70", NEGLIGIBLE),
    ("masks", {}, "better_than_fixed_75 better_at_loss_fixed_75 better_at_loss_none_25", NEGLIGIBLE),
    ("masks", {}, "better_at_loss_fixed_25 better_at_loss_shorter_25", SMALL),
    ("masks", {"diagonal": 1.0}, "diagonal_alone", "holds"),
    ("masks", {"diagonal": 0.01}, "diagonal_alone", REVERSED),
    ("masks", {"slower": False}, "slower_loss_70", NEGLIGIBLE),
    ("masks", {}, "better_than_none_25", REVERSED),  # the other reading is a claim of its own
    ("masks", {}, "better_than_magnitude_25", NEGLIGIBLE),
    # A gain that any mask has is no gain over the control.
    ("masks", {"gains": LIKE_RANDOM}, "better_than_none_75", "holds"),
    ("masks", {"gains": LIKE_RANDOM}, "better_than_random_75", REVERSED),
    ("stiffness", {"between": 0.45}, "classes_apart", SMALL),
    ("stiffness", {"end": 0.4}, "falls_with_overfitting", SMALL),
    ("stiffness", {"test": 0.3}, "test_as_train", REVERSED),
    ("stiffness", {"slower": 1.5}, "larger_rate_shorter", REVERSED),
    ("stiffness", {"random": 0.5}, "random_less_stiff", NEGLIGIBLE),
    ("stiffness", {"later": -0.1}, "test_as_train_fitted", REVERSED),
    ("stiffness", {"fast": 1.8}, "larger_rate_less_stiff_fitted", REVERSED),
    ("stiffness", {"slower": 1.5}, "larger_rate_shorter_fitted", REVERSED),
    ("stiffness", {"fitted": 0.9}, "larger_rate_less_stiff_fitted larger_rate_shorter_fitted", None),
    ("stiffness", {"random": 0.7}, "random_less_stiff_fitted", SMALL),
    ("stiffness", {"half": 1.6}, "half_less_stiff_fitted", REVERSED),
    ("maps", {"contrast": 0.0}, "boundary_seen", NEGLIGIBLE),
    ("maps", {"shifted": 0.45}, "boundary_learnt", SMALL),
    ("maps", {"labelled": 0.7}, "boundary_labelled", REVERSED),
    ("maps", {"before": 0.8}, "boundary_at_points", REVERSED),
    ("layers", {"change": 0.0}, "training_changes_layers", NEGLIGIBLE),
    ("layers", {"change": 0.0}, "training_changes_within", SMALL),  # a distance is never below its 0
    ("layers", {"tanh": 0.0}, "tanh_differs tanh_stiffer_within", NEGLIGIBLE),
    ("layers", {"leaky": 0.3}, "leaky_relu_as_relu leaky_relu_as_relu_within", REVERSED),
    ("depth", {"late": -0.3}, "late_layers_apart late_layers_learnt late_layers_beyond_movement", REVERSED),
    ("depth", {"untrained": 0.3}, "late_layers_learnt", NEGLIGIBLE),
    ("depth", {"random": 0.1}, "random_less_apart", REVERSED),
    ("depth", {"moved": 0.3}, "late_layers_beyond_movement", NEGLIGIBLE),
    ("depth", {"lag": 0.2}, "lag_alone", REVERSED),
    ("intervals", {"shift": 0.05}, "pairs_alike", "holds"),  # no significant difference is an equivalence
    ("intervals", {"shift": 0.3}, "pairs_alike", REVERSED),
    ("intervals", {"shift": -0.3}, "pairs_alike", REVERSED),
    ("intervals", {}, "distributions_alike", UNDECIDED),  # distances of 0 on all seeds, to no known resolution
    ("intervals", {"correlated": False}, "correlates_fitted", REVERSED),
    ("intervals", {"random_mean": 2.9}, "principal_over_random pairs_over_random", REVERSED),
    ("intervals", {"varying_mean": 2.9}, "principal_over_varying", REVERSED),
    ("intervals", {"span_mean": 2.9}, "principal_over_span pairs_over_span", REVERSED),
    ("intervals", {"untrained_pair_mean": 2.7}, "pairs_trained", NEGLIGIBLE),
    ("intervals", {"untrained_midline_mean": 4.9}, "midlines_trained", REVERSED),
    ("intervals", {"random_mean": 1.7}, "random_directions_shorter", REVERSED),
    ("intervals", {"bound_covered": 0.0}, "bound_explains", REVERSED),
    ("intervals", {"bound_within": 0.5}, "bound_true", REVERSED),
    ("intervals", {"conv": True}, "conv_pairs_alike conv_midlines_shorter", "holds"),
    ("intervals", {"conv": True, "shift": 0.3}, "conv_pairs_alike", REVERSED),
    ("moons", {"shift": 1.0}, "moons_shorter", "holds"),
    ("moons", {}, "moons_shorter", NEGLIGIBLE),
]
VALUES = [
    ("labels", {"slowdown": 3.0}, {"random_slower": 3.0, "random_at_chance": 0.1, "gap_jumps": 0.8}, 1e-6),
    ("switched", {}, {"weight_decay_helps": 0.01, "batch_norm_helps": 0.04, "not_necessary": 0.7 / 0.75}, 1e-3),
    ("paths", {}, {"higher_late": 0.18, "changes_at_first": -0.18, "higher_without_decay": 0.1 / 0.18,
                   "random_less_diverse": 0.05, "new_path_worse_true": 0.1, "no_distance_last": 0.301}, 1e-6),
    ("ratio", {"noise": 0.3}, {"ratio_gap_rank": -0.6, "ratio_gap_linear": -0.3034}, 1e-4),
    ("masks", {}, {"better_than_none_25": -1.0}, 1e-6),
    # Stiffness is largest before training; the peak is that of the trained network.
    ("stiffness", {"between": 0.2}, {"classes_apart": 0.3, "falls_with_overfitting": 0.2, "length_falls": 0.6,
                                     "random_less_stiff": 0.4}, 0.01),
    ("layers", {}, {"training_changes_layers": 0.3, "changes_through_layers": 0.4, "tanh_differs": 0.3}, 1e-6),
    ("depth", {}, {"late_layers_apart": 0.3}, 0.01),
]  # fmt: skip


@pytest.mark.parametrize("name", HOLD)
def test_runs_that_behave_as_claimed_hold_these_claims(name):
    found = JUDGED[name].judged()
    by_id = found.groupby("id")["verdict"].agg(set)
    held = set(by_id.index[by_id.map(lambda said: said == {"holds"})])
    wrong = sorted(set(HOLD[name].split()) ^ held)
    assert not wrong, f"verdicts that HOLD does not expect: {by_id.reindex(wrong).to_dict()}"


@pytest.mark.parametrize(("name", "options", "claim", "verdict"), CASES, ids=lambda value: str(value)[:30])
def test_each_verdict_follows_from_the_table(name, options, claim, verdict):
    found = {said for each in claim.split() for said in JUDGED[name].found(each, **options)["verdict"]}
    assert found == ({verdict} if verdict else set())


@pytest.mark.parametrize(("name", "options", "expected", "near"), VALUES, ids=[name for name, *_ in VALUES])
def test_values_are_those_of_the_table(name, options, expected, near):
    for claim, value in expected.items():
        found = JUDGED[name]._replace(spread=0.0).found(claim, seeds=3, **options)["value"]
        assert found.tolist() == pytest.approx([value] * len(found), abs=near) and len(found)


def test_every_claim_on_record_has_its_case():
    on_record = {claim for judged in JUDGED.values() for claim in judged.record.entries}
    assert on_record == set(" ".join([*(claim for _, _, claim, _ in CASES), *HOLD.values()]).split())


SIZED = [name for name in JUDGED if name not in ("kernels", "deep paths", "moons")]


def rows(claims: pd.DataFrame) -> list[tuple]:
    """Every claim without its subject, in an order of its own."""
    kept = claims.drop(columns="subject").round(9).fillna(math.inf)
    return sorted(kept.itertuples(index=False, name=None), key=str)


@pytest.mark.parametrize("name", SIZED)
def test_claims_on_two_sizes_are_those_on_each(name):
    """Sizes that differ in the epochs alone: what keeps those apart goes by the whole size."""
    judged = JUDGED[name]
    table = judged.make(seeds=1).reset_index(drop=True)
    found = judged.claims(fake_sizes.both(table, "epochs"))
    each = rows(judged.claims(table)) + rows(judged.claims(fake_sizes.other(table, "epochs")))
    assert rows(found) == sorted(each, key=str)
    assert not found.duplicated(["statement", "subject"]).any()


def test_a_claim_keeps_its_subject_when_runs_on_more_images_come_beside_it():
    table = fake_labels.table()
    alone, beside = (labels.claims(runs) for runs in (table, fake_sizes.both(table, *fake_sizes.SIZES)))
    pd.testing.assert_frame_equal(beside[beside["subject"].isin(alone["subject"])].reset_index(drop=True), alone)


@pytest.mark.parametrize(
    ("name", "options", "papers"),
    [
        # (99.34 − 10.61) − (100 − 50.51) is the jump of the gap in Table 1.
        ("labels", {}, {"fits_random": "0.993", "random_at_chance": "0.106", "gap_jumps": "0.392"}),
        # 86.03 − 85.75, 89.31 − 85.75, 89.31 − 86.03, 85.75 − 82.00 and 75.75 / 79.05
        ("switched", {}, {"weight_decay_helps": "+0.003", "crops_help": "+0.036", "crops_help_more": "+0.033",
                          "batch_norm_helps": "+0.037", "not_necessary": "0.958"}),
        ("kernels", {}, {"interpolating_generalizes": "0.012"}),
        ("kernels", {"data": "CIFAR-10 (JPEG q75)"}, {"interpolating_generalizes": "0.46"}),
        ("kernels", {"data": "handwritten digits (8x8)"}, {"interpolating_generalizes": "–"}),
    ],
    ids=["labels", "switched", "kernels", "photographs", "digits"],
)  # fmt: skip
def test_the_papers_values_are_those_of_its_table(name, options, papers):
    found = {claim: JUDGED[name].found(claim, **options)["paper_value"].item().split(" (")[0] for claim in papers}
    assert found == papers


def test_each_network_and_each_size_is_its_own_subject():
    assert labels.claims(fake_labels.table(networks=("mlp_1x512", "alexnet_small")))["subject"].nunique() == 2
    both = pd.concat([fake_fisher.table(), fake_fisher.table(data="other data")])
    named = product(("made-up data", "other data"), ("true labels", "50 % redrawn"))
    assert set(fisher_mask.claims(both)["subject"]) == {f"mlp on {data}, n = 1,000, {labels}" for data, labels in named}
    assert JUDGED["filters"].found("filters_lower")["subject"].item().startswith("2,000 random filters, CIFAR-10")


def test_regularizers_are_compared_seed_by_seed_and_early_stopping_may_lose():
    found = labels.regularizer_claims(fake_labels.regularized(seeds=5, fall=-0.03)).set_index("id")
    assert found.loc["stopping_no_help", "value"].tolist() == pytest.approx([-0.03, -0.03])
    helped = found.loc["weight_decay_helps"].iloc[0]
    assert helped[["low", "high"]].tolist() == pytest.approx([0.009, 0.011], abs=1e-6)  # the seeds' own noise cancels


def test_claims_whose_runs_are_missing_are_left_out_or_have_no_verdict():
    runs = fake_labels.regularized()
    plain = runs[(runs["random_crop"] == 0) & (runs["weight_decay"] == 0) & ~runs["model_options"].str.contains("drop")]
    assert set(labels.regularizer_claims(plain)["source"]) == {"Sec. 3.1, Table 1, Fig. 2b"}
    runs = fake_fisher.table()
    bare = fisher_mask.claims(runs[(runs["label_corruption"] == 0) & (runs["mask_keep"] == 1)])
    assert bare["source"].tolist() == ["Fig. 1", "Eq. 9", "Theorem 1"]
    assert stiffness.by_layer(fake_stiffness.layers(accuracy=0.8)).empty  # they did not fit
    runs = fake_intervals.table()
    found = intervals.claims(runs[runs["label_corruption"] == 0])
    row = found[found["statement"].str.contains("do not vary")].iloc[0]
    assert (row["n_seeds"], row["verdict"]) == (0, NONE)


@pytest.mark.parametrize(("lines", "verdict"), [(1, "holds"), (18, REVERSED)])
def test_a_distance_between_distributions_of_equal_means_is_seen(lines, verdict):
    runs = fake_intervals.table()
    for seed in range(5):  # of 50 lines that were alike, some are shorter and as many longer
        moved = {25: lines + seed, 27: 50 - 2 * (lines + seed), 29: lines + seed}
        chosen = (runs["label_corruption"] == 1) & runs["intervals/pair_bins"].notna() & (runs["seed"] == seed)
        runs.loc[chosen, "intervals/pair_bins"] = " ".join(str(moved.get(place, 0)) for place in range(30))
    found = intervals.claims(runs)
    assert set(found.loc[(found["id"] == "distributions_alike") & (found["n_seeds"] > 0), "verdict"]) == {verdict}


@pytest.mark.parametrize("chapter", registry.CHAPTERS, ids=lambda chapter: chapter.name)
def test_each_experiment_that_a_claim_names_is_a_table_of_its_chapter(chapter):
    tables = {table for section in chapter.module("claims").SECTIONS for table in section.tables}
    assert {table for entry in chapter.record.entries.values() for table in entry.experiments} == tables
