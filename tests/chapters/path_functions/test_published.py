"""What chapter 2 publishes: verified tables from a clean commit, and that what its text says is what the tables say."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.path_functions import claims
from gendyn_lite.chapters.path_functions import tables as paths
from gendyn_lite.results.published import opened

NAMES = ("path_networks", "path_unseen", "path_deep")
TABLES = {name: results.published(name) for name in NAMES}
NETWORKS = TABLES["path_networks"]
NEW, OLDER = paths.present(NETWORKS), NETWORKS[NETWORKS["n_train"] == 1000]
DEEP = TABLES["path_deep"]
LAYERS = ("relu1", "relu2", "relu3", "relu4")


@pytest.fixture(scope="module")
def overall(of_page):
    """Of each claim, what its networks say together."""
    return of_page("02_path_functions")[1].set_index("id")


@pytest.fixture(scope="module")
def found(of_page):
    """Of each network and claim, what it says."""
    return of_page("02_path_functions")[0].set_index(["subject", "id"])


def ends(runs):
    return runs.sort_values("epoch").groupby("run_id").tail(1)


def over_epochs(runs, of, measure="cross"):
    """Mean over layers and seeds by epoch."""
    return paths.mean_of_layers(paths.long_paths(runs), measure, of=of).groupby("epoch")["value"].mean()


def test_what_was_run_is_what_the_text_says():
    assert set(NEW["seed"]) == set(range(10, 15)) and set(NEW["n_train"]) == {200}
    assert set(ends(NEW)["label_corruption"]) == {0.0} and ends(NEW)["train_accuracy"].min() > 0.97
    older = ends(OLDER).groupby(["label_corruption", "schedule"])["seed"].nunique()
    assert older.to_dict() == {(0.0, "constant"): 3, (0.0, "step"): 3, (1.0, "step"): 3}
    whole = ends(NETWORKS[NETWORKS["n_train"] == 50_000])
    assert sorted(whole["label_corruption"]) == [0.0, 1.0] and set(whole["seed"]) == {0}
    last = ends(DEEP)
    assert set(last["model"]) == {"resnet18"} and set(last["batch_norm_statistics"]) == {"re-estimated"}
    assert set(last["n_train"]) == {100} and last["network"].str.contains("downsample 3").all()
    assert (last["train_accuracy"] == 1).all() and set(last["seed"]) == set(range(10, 15))


def test_of_every_run_but_those_on_all_images_it_is_recorded_that_it_was_not_resumed():
    def resumed(name, runs):
        records = opened(name).records
        return {str(records[run].get("resumed_at")) for run in runs["run_id"].unique()}

    whole = NETWORKS["n_train"] == 50_000
    assert resumed("path_networks", NETWORKS[~whole]) == resumed("path_deep", DEEP) == {"[]"}
    assert resumed("path_networks", NETWORKS[whole]) == {"None"}


def test_paths_change_in_every_layer_until_the_rate_decays_and_then_settle(overall):
    for layer in LAYERS:
        means = NEW.groupby("epoch")[f"paths/{layer}:cross:mean"].mean()
        assert means.loc[1:12].max() < 0.85 and means.loc[14:].min() > 0.9
    changed = NEW.groupby("epoch")[[f"neighbours/{layer}:changed" for layer in LAYERS]].mean()
    assert changed.loc[1:12].min().min() > 0.1
    for name in ("imperfect_first", "imperfect_last", "higher_late", "changes_at_first"):
        assert overall.loc[name, "verdict"] == "holds"


def test_of_older_paths_less_is_left_but_more_than_of_other_images_paths(overall):
    early = NEW[NEW["epoch"].between(9, 12)]
    one, eight, others = (
        early[[name.format(layer) for layer in LAYERS]].mean()
        for name in ("paths/{}:self:mean", "apart/{}:self8", "apart/{}:others")
    )
    assert (one.to_numpy() > eight.to_numpy()).all() and (eight.to_numpy() > others.to_numpy() + 0.05).all()
    assert overall.loc["older_paths_left", "verdict"] == overall.loc["others_in_part", "verdict"] == "holds"


def test_on_random_labels_the_older_runs_change_more(overall, found):
    subject = "alexnet_small on CIFAR-10 (JPEG q75), n = 1,000"
    row = found.loc[subject, "random_less_diverse"]
    assert row["high"] < 0 and row["n_seeds"] == 3
    assert overall.loc["random_less_diverse", ["verdict", "why"]].tolist() == ["undecided", "too few seeds"]
    assert found.loc["alexnet_small on CIFAR-10 (JPEG q75), n = 50,000", "random_less_diverse"]["value"] < 0
    random = ends(OLDER).query("label_corruption == 1")
    assert random["train_accuracy"].min() > 0.99 and random["test_accuracy"].max() < 0.15


def test_with_a_learning_rate_that_stays_each_seed_ends_lower_and_paths_settle_only_without_loss():
    runs = paths.named(OLDER)
    last = ends(runs)
    accuracy = last.pivot(index="seed", columns="runs", values="test_accuracy")
    assert len(accuracy) == 3 and (accuracy[paths.TRUE] > accuracy[paths.CONSTANT]).all()
    assert sorted(last.loc[last["runs"] == paths.CONSTANT, "train_accuracy"]) == [0.991, 0.998, 1]
    settled = (
        paths.mean_of_layers(paths.long_paths(runs), "cross").groupby("run_id").tail(1).set_index("run_id")["value"]
        > 0.95
    )
    constant = last[last["runs"] == paths.CONSTANT].set_index("run_id")
    assert settled[constant.index].sum() == 1
    assert (constant.loc[settled[constant.index], "train_loss"] < 1e-3).all()


def test_a_new_path_fits_training_images_worse_and_not_unseen_ones(overall, found):
    subject = "alexnet_small on CIFAR-10 (JPEG q75), n = 200"
    assert found.loc[subject, "new_path_worse_true"]["low"] > 0
    assert overall.loc["new_path_worse_true", "networks"] >= 1
    unseen = claims.unseen(TABLES["path_unseen"]).set_index("id")
    assert unseen.loc["unseen_do_not_share", "high"] < 0 and set(unseen["n_seeds"]) == {3}
    equally = unseen.loc["unseen_recognized_equally"]
    assert abs(equally["value"]) < 0.01 and max(abs(equally["low"]), abs(equally["high"])) < 0.04
    whole = found.loc["alexnet_small on CIFAR-10 (JPEG q75), n = 50,000", "new_path_worse_true"]
    assert whole["value"] < 0 and whole["n_seeds"] == 1


def test_overlap_is_not_linear_in_pixels_and_follows_what_the_network_sees_in_the_second_layer(overall):
    for name in ("no_distance_second", "no_distance_last", "no_rank_second", "no_rank_last", "no_standardized_last"):
        assert overall.loc[name, "verdict"] == "holds"
    assert overall.loc["no_standardized_second", "verdict"] != "holds"
    last = ends(NEW)
    seen, pixels = last["distance/relu2:rank"].abs(), last["pixels/relu2:linear"].abs()
    assert seen.mean() > 0.7 and pixels.max() < 0.6 and last["distance/relu4:rank"].abs().mean() < 0.6


def test_one_update_alone_is_no_more_like_the_network_than_random_weights(overall):
    assert overall.loc["isolated_update", "verdict"] == "holds"
    over = overall.loc["isolated_over_random"]
    assert over["verdict"] in ("negligible", "undecided", "reversed") and abs(over["value"]) < 0.1
    assert (NEW["isolation/zeros"].dropna() == 0).all()


def test_in_alexnet_paths_change_far_more_than_by_random_steps(overall):
    both = {of: over_epochs(NEW, of).loc[1:12] for of in ("paths", "movement")}
    assert both["paths"].max() < 0.65 and both["movement"].min() > 0.85
    assert overall.loc["more_than_movement", "verdict"] == overall.loc["rise_beyond_movement", "verdict"] == "holds"


def test_in_resnet_lag_alone_looks_like_change_and_is_not_what_is_seen(overall, found):
    curves = {of: over_epochs(DEEP, of) for of in ("paths", "running", "lag", "movement")}
    assert 1 - curves["lag"].loc[1:3].mean() == pytest.approx(0.18, abs=0.005)
    early = {of: curve.loc[1:8] for of, curve in curves.items()}
    assert early["paths"].mean() - early["running"].mean() == pytest.approx(0.01, abs=0.005)
    assert (early["paths"] < early["movement"]).all() and early["running"].mean() < early["lag"].mean() - 0.05
    assert curves["paths"].loc[11:].min() > 0.99
    for name in ("lag_alone", "more_than_lag"):
        assert overall.loc[name, "verdict"] == "holds"
    (again,) = [row for of, row in found.iterrows() if of[0].startswith("resnet18") and of[1] == "new_path_worse_true"]
    assert again["low"] < 0 < again["high"]
    assert overall.loc["new_path_worse_true", ["verdict", "why"]].tolist() == ["undecided", "networks differ"]
    assert DEEP.groupby("epoch")["train_accuracy"].mean().loc[5] > 0.9
    assert overall.loc["resnet_above_alexnet", "verdict"] == "not run"


def test_among_fitted_networks_the_ratio_goes_weakly_with_the_gap_and_two_seeds_decide_nothing(overall):
    runs = results.published("path_ratio")
    networks = paths.networks_of_ratio(runs)
    assert len(networks) == 22 and networks["fitted"].sum() == 20 and set(networks["seeds"]) == {2}
    assert set(runs["model"]) == {"mlp"} and set(runs["seed"]) == {10, 11}
    fitted = networks[networks["fitted"]]
    assert fitted["gap"].agg(["min", "max"]).round(2).tolist() == [0.68, 0.74]
    assert fitted["ratio"].agg(["min", "max"]).round(2).tolist() == [0.41, 0.87]
    found = claims.ratio(runs).set_index("id")["value"]
    assert set(overall.loc[list(found.index), "why"]) == {"too few seeds"}
    each = [claims.ratio(one).set_index("id")["value"] for _, one in runs.groupby("seed")]
    assert [one["ratio_gap_rank"] for one in each] == pytest.approx([-0.4, -0.4], abs=0.03)
    assert found["ratio_gap_partial"] == pytest.approx(-0.4, abs=0.05)
