"""What chapter 2 publishes: verified tables from a clean commit, and that what its text says is what the tables say."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.path_functions import claims
from gendyn_lite.chapters.path_functions import tables as paths
from gendyn_lite.results.published import opened

NAMES = ("path_networks", "path_unseen", "path_deep")
TABLES = {name: results.published(name) for name in NAMES}
NETWORKS = TABLES["path_networks"]
EVERY, OLDER = paths.present(NETWORKS), NETWORKS[NETWORKS["n_train"] == 1000]
EVERY, SIX = (EVERY[(EVERY["network"] == "alexnet_small") == four] for four in (True, False))
NEW = EVERY.query("label_corruption == 0 and schedule == 'step'")
DEEP, RANDOM, FEW = (
    TABLES["path_deep"].query(f"model == '{model}' and label_corruption == {q}")
    for model, q in (("resnet18", 0), ("resnet18", 1), ("alexnet_small", 0))
)
FIRST = {"four": (NEW, 12), "six": (SIX, 12), "few": (FEW, 8), "deep": (DEEP, 8)}  # epochs before the first decay
ON, OF_SIX = "CIFAR-10 (JPEG q75), n =", "alexnet_small (more_convolutions 2) on CIFAR-10 (JPEG q75), n = 200"
LAYERS = ("relu1", "relu2", "relu3", "relu4")


@pytest.fixture(scope="module")
def of_network(claimed):
    """Claims by network and id."""
    return claimed.set_index(["subject", "id"]).sort_index()


@pytest.fixture(scope="module")
def of_deep(claimed):
    """Claims on the deep network by id."""
    return claimed[claimed["subject"].str.startswith("resnet18")].set_index("id")


def ends(runs):
    return runs.sort_values("epoch").groupby("run_id").tail(1)


def over_epochs(runs, of, measure="cross"):
    """Mean over layers and seeds by epoch."""
    return paths.mean_of_layers(paths.long_paths(runs), measure, of=of).groupby("epoch")["value"].mean()


def change_left(runs, of, *, each_seed=False, long=False):
    """Change in the last three epochs over that in the first three, by seed or the mean over seeds."""
    change = paths.mean_of_layers(runs if long else paths.long_paths(runs), "cross", of=of)
    by_seed = 1 - change.groupby(["seed", "epoch"])["value"].mean().unstack()
    left = by_seed.iloc[:, -3:].mean(axis=1) / by_seed.iloc[:, :3].mean(axis=1)
    return left if each_seed else left.mean()


def test_what_was_run_is_what_the_text_says():
    assert set(NEW["seed"]) == set(range(10, 15)) and set(NEW["n_train"]) == {200}
    assert set(ends(NEW)["label_corruption"]) == {0.0} and ends(NEW)["train_accuracy"].min() > 0.97
    for runs, seeds in ((EVERY, 5), (OLDER, 3)):
        ran = ends(runs).groupby(["label_corruption", "schedule"])["seed"].nunique()
        assert ran.to_dict() == {(0.0, "constant"): seeds, (0.0, "step"): seeds, (1.0, "step"): seeds}
    assert set(EVERY["seed"]) == set(range(10, 15)) and set(EVERY["n_train"]) == {200}
    whole = ends(NETWORKS[NETWORKS["n_train"] == 50_000])
    assert sorted(whole["label_corruption"]) == [0.0, 1.0] and set(whole["seed"]) == {0}
    last = ends(TABLES["path_deep"])
    assert len(last) == 15 and set(last["batch_norm_statistics"]) == {"re-estimated"}
    assert set(last["n_train"]) == {100} and set(last.loc[last["model"] == "resnet18", "model_options"]) == {
        '{"downsample": 3}'
    }
    assert (last["train_accuracy"] == 1).all() and set(last["seed"]) == set(range(10, 15))
    six = ends(SIX)
    assert set(six["seed"]) == set(range(10, 15)) and set(six["label_corruption"]) == {0} and len(six) == 5
    assert (six["train_accuracy"].min(), six["train_accuracy"].max()) == (0.84, 0.985)


def test_the_box_has_each_of_the_papers_claims_and_no_other():
    assert {name for name, entry in claims.RECORD.entries.items() if entry.primary} == set(claims.IN_SHORT)


def test_of_every_run_but_those_on_all_images_it_is_recorded_that_it_was_not_resumed():
    def resumed(name, runs):
        records = opened(name).records
        return {str(records[run].get("resumed_at")) for run in runs["run_id"].unique()}

    whole = NETWORKS["n_train"] == 50_000
    assert resumed("path_networks", NETWORKS[~whole]) == resumed("path_deep", TABLES["path_deep"]) == {"[]"}
    assert resumed("path_networks", NETWORKS[whole]) == {"None"}


def test_paths_change_in_every_layer_until_the_rate_decays_and_then_settle(by_id):
    for layer in LAYERS:
        means = NEW.groupby("epoch")[f"paths/{layer}:cross:mean"].mean()
        assert means.loc[1:12].max() < 0.85 and means.loc[14:].min() > 0.9
    for name in ("imperfect_first", "imperfect_last", "higher_late", "changes_at_first"):
        assert by_id.loc[name, "verdict"].startswith("holds")


def test_until_the_rate_decays_between_a_fifth_and_nine_tenths_have_another_nearest_image(by_id):
    six = SIX.groupby("epoch")[[f"neighbours/relu{layer}:changed" for layer in range(1, 7)]].mean().loc[1:12]
    assert six.min().min() > 0.2 and six.min().idxmin() == "neighbours/relu1:changed"
    assert six.max().max() > 0.95 and six.max().idxmax() == "neighbours/relu6:changed"
    changed = NEW.groupby("epoch")[[f"neighbours/{layer}:changed" for layer in LAYERS]].mean().loc[1:12]
    assert changed.min().min() > 0.25 and changed.max().max() > 0.9
    assert changed.min().idxmin() == "neighbours/relu1:changed" and changed.max().idxmax() == "neighbours/relu4:changed"
    assert changed["neighbours/relu4:changed"].loc[1:2].min() > 0.9 > changed.loc[3:].max().max()
    assert by_id.loc["others_in_part", "verdict"] == "holds"


def test_how_much_of_training_paths_change_is_when_the_rate_decays(of_network, of_deep):
    assert set(NEW["milestones"]) == {"12 14"} and set(NEW["epochs"]) == {16}
    assert set(TABLES["path_deep"]["milestones"]) == {"8 10"} and set(TABLES["path_deep"]["epochs"]) == {12}
    assert set(SIX["milestones"]) == {"12 14"} and set(SIX["epochs"]) == {16}
    small = of_network.loc["alexnet_small on CIFAR-10 (JPEG q75), n = 200"]
    shares = [small.loc[name] for name in ("imperfect_first", "imperfect_last")]
    assert all(12 / 16 <= share["value"] <= 14 / 16 for share in shares)
    values = of_deep.loc[["imperfect_first", "imperfect_last"], "value"]
    assert values.tolist() == pytest.approx([8 / 12, 10 / 12], abs=0.005)
    pairs = over_epochs(NEW, "paths").loc[1:12]
    assert (pairs[1], pairs[2:].min(), pairs.max()) == pytest.approx((0.446, 0.522, 0.58), abs=0.005)
    assert min(over_epochs(runs, "paths").loc[decay + 2] for runs, decay in FIRST.values()) > 0.93
    six, few = (over_epochs(runs, "paths").loc[1:decay] for runs, decay in (FIRST["six"], FIRST["few"]))
    assert [round(value, 2) for value in (six.min(), six.max(), few.min(), few.max())] == [0.54, 0.62, 0.74, 0.80]
    assert six.idxmin() == 12  # the first epoch does not stand out
    deep = paths.long_paths(DEEP).query("of == 'paths' and measure == 'cross' and epoch <= 8")
    by_layer = deep.pivot_table(index="epoch", columns="number", values="q50")
    assert by_layer[1].agg(["min", "max"]).round(2).tolist() == [0.92, 0.98] and by_layer.loc[2:, 2:].max().max() < 0.92


def test_random_steps_settle_too_and_but_for_six_relus_no_less_is_left_of_the_change_than_with_them():
    for runs, first in (FIRST["four"], FIRST["few"], FIRST["deep"]):
        curves = {of: 1 - over_epochs(runs, of) for of in ("paths", "movement")}
        left = {of: change.loc[first + 1 :] / change.loc[first] for of, change in curves.items()}
        assert (left["paths"] >= left["movement"]).all() and left["movement"].iloc[-1] < 0.01
        assert left["paths"].iloc[2] < 0.01  # within two epochs
    at = {of: over_epochs(NEW, of).loc[12] for of in ("paths", "movement")}
    assert (at["paths"], at["movement"]) == pytest.approx((0.56, 0.92), abs=0.005)


def test_of_older_paths_less_is_left_but_more_than_of_other_images_paths(by_id):
    early = NEW[NEW["epoch"].between(9, 12)]
    one, eight, others = (
        early[[name.format(layer) for layer in LAYERS]].mean()
        for name in ("paths/{}:self:mean", "apart/{}:self8", "apart/{}:others")
    )
    assert (one.to_numpy() > eight.to_numpy()).all() and (eight.to_numpy() > others.to_numpy() + 0.05).all()
    assert by_id.loc["older_paths_left", "verdict"] == by_id.loc["others_in_part", "verdict"] == "holds"


def test_on_random_labels_paths_are_not_seen_to_change_less(by_id, of_network):
    subject = "alexnet_small on CIFAR-10 (JPEG q75), n = {}"
    row = of_network.loc[subject.format("200"), "random_less_diverse"]
    assert [round(row[name], 2) for name in ("value", "low", "high", "delta")] == [-0.01, -0.04, 0.02, 0.02]
    assert by_id.loc["random_less_diverse", ["verdict", "why"]].tolist() == ["undecided", "networks differ"]
    deep = of_network.loc[f"resnet18 (downsample 3) on {ON} 100", "random_less_diverse"]
    assert [round(deep[name], 3) for name in ("value", "low", "high")] == [-0.001, -0.012, 0.010]
    assert deep["verdict"] == "negligible"
    fourth = [runs.query("epoch == 4")["train_accuracy"].mean() for runs in (DEEP, RANDOM)]
    assert fourth == pytest.approx([0.91, 0.90], abs=0.005)
    unseen = [ends(runs)["test_accuracy"].agg(["min", "max"]).tolist() for runs in (DEEP, RANDOM)]
    assert unseen == [[0.17, 0.25], [0.02, 0.17]]
    older = [of_network.loc[subject.format(n), "random_less_diverse"] for n in ("1,000", "50,000")]
    assert [(round(each["value"], 2), each["n_seeds"]) for each in older] == [(-0.02, 3), (-0.06, 1)]
    random = ends(pd.concat([OLDER, EVERY])).query("label_corruption == 1")
    assert random["train_accuracy"].min() >= 0.98 and random["test_accuracy"].max() < 0.15


def test_without_a_decay_no_rise_is_seen_from_the_third_epoch_on_and_images_are_fitted_less(by_id, of_network):
    rise = by_id.loc["higher_without_decay"]
    assert (rise["verdict"], round(rise["value"], 2)) == ("holds, small", 0.14)
    older = of_network.loc["alexnet_small on CIFAR-10 (JPEG q75), n = 1,000", "higher_without_decay"]
    assert round(older["value"], 2) == 0.64
    constant = paths.long_paths(EVERY.query("schedule == 'constant'"))
    curves = paths.mean_of_layers(constant, "cross").pivot_table(index="epoch", columns="run_id", values="value")
    late = curves.loc[14:16].mean() - curves.loc[3:12].mean()
    assert round(late.mean(), 2) == 0.02 and ((late > 0).sum(), (late < 0).sum()) == (3, 2)
    sixth = EVERY.query("epoch == 6 and schedule == 'step'").groupby("label_corruption")["train_accuracy"].mean()
    assert sixth.round(2).to_dict() == {0: 0.63, 1: 0.41}
    unseen = ends(NEW)["test_accuracy"]
    assert (round(unseen.min(), 2), unseen.max()) == (0.24, 0.32)
    last = paths.named(ends(EVERY)).pivot(index="seed", columns="runs", values="test_accuracy")
    assert len(last) == 5 and (last[paths.CONSTANT] <= last[paths.TRUE]).all()
    assert (last[paths.CONSTANT] < last[paths.TRUE]).sum() == 4
    fitted = ends(EVERY).query("schedule == 'constant'")["train_accuracy"]
    assert (fitted.min(), fitted.max()) == (0.9, 0.995)


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
    assert settled[constant.index].idxmax() == constant["train_loss"].idxmin()
    ends_at = (
        paths.mean_of_layers(paths.long_paths(runs), "cross").groupby("run_id").tail(1).set_index("run_id")["value"]
    )
    assert sorted(ends_at[constant.index].round(2))[:2] == [0.73, 0.78]


def test_a_new_path_fits_training_images_worse_and_not_unseen_ones(by_id, of_network):
    subject = "alexnet_small on CIFAR-10 (JPEG q75), n = 200"
    assert of_network.loc[subject, "new_path_worse_true"]["low"] > 0
    assert by_id.loc["new_path_worse_random", "verdict"] == "undecided"
    assert round(of_network.loc[subject, "new_path_worse_random"]["value"], 2) == 0.11
    assert by_id.loc["new_path_worse_true", "networks"] >= 1
    unseen = claims.unseen(TABLES["path_unseen"]).set_index("id")
    assert set(unseen["n_seeds"]) == {5} and set(unseen["verdict"]) == {"holds"}
    equally = unseen.loc["unseen_recognized_equally"]
    assert [round(equally[name], 3) for name in ("value", "low", "high")] == [-0.003, -0.014, 0.008]
    whole = of_network.loc["alexnet_small on CIFAR-10 (JPEG q75), n = 50,000", "new_path_worse_true"]
    assert whole["value"] < 0 and whole["n_seeds"] == 1
    more = unseen.loc["unseen_do_not_share"]
    assert [round(more[name], 1) for name in ("value", "low", "high")] == [-1.7, -2.5, -1.0]
    true = {name: of_network.loc[name, "new_path_worse_true"] for name in (OF_SIX, f"alexnet_small on {ON} 100")}
    assert [round(row["value"], 2) for row in true.values()] == [0.15, 0.14] and min(
        row["low"] for row in true.values()
    ) > 0
    for runs, first, after, seeds in ((DEEP, -0.85, 0.11, 4), (RANDOM, -0.35, 0.15, 5)):
        early = runs[runs["epoch"].between(1, 8)]
        worse = (early["paths/own:loss"] - early["paths/before:loss"]).groupby([early["epoch"], early["seed"]]).mean()
        assert worse[1].mean() == pytest.approx(first, abs=0.005) and (worse[1] < 0).sum() == seeds
        later = worse.loc[2:].groupby(level=1).mean()
        assert later.min() > 0 and round(later.mean(), 2) == after
    random = of_network.loc[f"resnet18 (downsample 3) on {ON} 100", "new_path_worse_random"]
    assert [round(random[name], 3) for name in ("value", "low", "high")] == [0.085, -0.003, 0.173]


def test_overlap_is_not_linear_in_pixels_and_goes_with_standardized_distance_before_any_training(by_id):
    for name in ("no_distance_second", "no_distance_last", "no_rank_second", "no_rank_last", "no_standardized_last"):
        assert by_id.loc[name, "verdict"] == "holds"
    assert by_id.loc["no_standardized_second", "verdict"] != "holds"
    last = ends(NEW)
    assert last["pixels/relu2:linear"].abs().max() < 0.6
    seen = NEW.groupby("epoch")[[f"distance/{layer}:linear" for layer in LAYERS]].mean()
    assert seen.loc[16].tolist() == pytest.approx([-0.67, -0.77, -0.58, -0.41], abs=0.006)
    assert seen.loc[0].iloc[:2].tolist() == pytest.approx([-0.92, -0.83], abs=0.006)  # before training
    six = ends(SIX)[[f"{kind}/{layer}:linear" for kind in ("pixels", "distance") for layer in ("relu2", "relu6")]]
    assert six.mean().tolist() == pytest.approx([-0.35, -0.16, -0.76, -0.41], abs=0.006)


def test_one_update_alone_is_no_more_like_the_network_than_random_weights(by_id):
    assert by_id.loc["isolated_update", "verdict"] == "holds"
    over = by_id.loc["isolated_over_random"]
    assert over["verdict"] in ("negligible", "undecided", "reversed") and abs(over["value"]) < 0.05
    assert (NEW["isolation/zeros"].dropna() == 0).all()


def test_in_alexnet_paths_change_far_more_than_by_random_steps(by_id, of_network, of_deep):
    both = {of: over_epochs(NEW, of).loc[1:12] for of in ("paths", "movement")}
    assert both["paths"].max() < 0.65 and both["movement"].min() > 0.85
    assert by_id.loc["more_than_movement", "verdict"] == by_id.loc["rise_beyond_movement", "verdict"] == "holds"
    subjects = f"alexnet_small on {ON} 200", OF_SIX, f"alexnet_small on {ON} 100"
    more = [of_network.loc[subject, "more_than_movement"]["value"] for subject in subjects]
    more.append(of_deep.loc["more_than_movement", "value"])
    assert more == pytest.approx([-0.38, -0.37, -0.19, -0.09], abs=0.005)


def test_a_fifth_more_is_left_of_the_change_than_with_random_steps_which_could_hardly_rise_as_much(
    by_id, of_network, of_deep
):
    names = f"alexnet_small on {ON} 200", f"resnet18 (downsample 3) on {ON} 100", f"alexnet_small on {ON} 100", OF_SIX
    found = [of_network.loc[name, "settles_beyond_movement"] for name in names]
    assert [row["value"] for row in found] == pytest.approx([1.22, 1.22, 1.29, 0.77], abs=0.005)
    assert [row["verdict"] for row in found] == ["reversed"] * 3 + ["holds, small"]
    left = [[100 * change_left(runs, of) for of in ("paths", "movement")] for runs, _ in FIRST.values()]
    assert [round(share, 1) for each in left for share in each] == [2.9, 2.4, 6.1, 8.1, 5.4, 4.2, 1.6, 1.3]
    both = by_id.loc[["rise_beyond_movement", "settles_beyond_movement"]]
    assert both["verdict"].tolist() == ["holds", "reversed"] and both["prior"].tolist() == [True, False]
    first = [over_epochs(runs, "movement").loc[1] for runs in (NEW, DEEP)]
    assert first == pytest.approx([0.915, 0.823], abs=0.001)


def test_layers_differ_in_what_is_left_beside_random_steps():
    def by_seed(runs, number):
        own = paths.long_paths(runs)
        own = own[own["number"] == number]
        left = [change_left(own[own["of"] == of], of, each_seed=True, long=True) for of in ("paths", "movement")]
        return left[0] / left[1]

    first = [by_seed(runs, 1) for runs in (NEW, SIX, FEW)]
    assert sum(len(each) for each in first) == 15 and max(each.max() for each in first) < 1
    means = [each.mean() for each in first]
    assert (min(means), max(means)) == pytest.approx((0.63, 0.7), abs=0.04)
    last = [by_seed(runs, 4) for runs in (NEW, FEW)]
    assert [each.mean() for each in last] == pytest.approx([1.6, 1.6], abs=0.08) and min(map(min, last)) > 1


def test_unseen_images_part_from_the_others_late():
    runs = TABLES["path_unseen"]
    off = (runs["unseen/own:loss"] - runs["unseen/before:loss"]).groupby(runs["epoch"]).mean().loc[1:]
    assert off.loc[:5].abs().max() < 0.025 and off.loc[6:].max() < -0.09


def test_in_resnet_lag_alone_looks_like_change_and_is_not_what_is_seen(by_id, of_deep):
    curves = {of: over_epochs(DEEP, of) for of in ("paths", "running", "lag", "movement")}
    assert 1 - curves["lag"].loc[1:3].mean() == pytest.approx(0.18, abs=0.005)
    early = {of: curve.loc[1:8] for of, curve in curves.items()}
    by_epoch = early["paths"] - early["running"]
    assert [round(value, 2) for value in (by_epoch.mean(), *by_epoch[[1, 3, 4]])] == [0.01, -0.08, 0.05, 0.04]
    assert (early["paths"] < early["movement"]).all() and early["running"].mean() < early["lag"].mean() - 0.05
    assert curves["paths"].loc[11:].min() > 0.99
    for name in ("lag_alone", "more_than_lag"):
        assert by_id.loc[name, "verdict"] == "holds"
    assert of_deep.loc["new_path_worse_true", "low"] < 0 < of_deep.loc["new_path_worse_true", "high"]
    assert by_id.loc["new_path_worse_true", ["verdict", "why"]].tolist() == ["undecided", "networks differ"]
    assert DEEP.groupby("epoch")["train_accuracy"].mean().loc[5] > 0.9
    above = by_id.loc["resnet_above_alexnet"]
    assert [round(above[name], 2) for name in ("value", "low", "high")] == [0.04, 0.03, 0.06]
    assert above["verdict"] == "holds, small"
    steps = TABLES["path_deep"].groupby("model")[["batch_size", "step"]].max()
    assert steps.loc["resnet18"].tolist() == steps.loc["alexnet_small"].tolist()


def test_among_fitted_networks_the_ratio_hardly_goes_with_the_gap_and_a_few_of_them_decide_its_sign(by_id):
    runs = results.published("path_ratio")
    networks = paths.networks_of_ratio(runs)
    dense = networks["name"].str.startswith("mlp")
    assert (len(networks), networks["fitted"].sum(), dense.sum()) == (26, 23, 22)
    assert set(networks["seeds"]) == {5}
    fitted = networks[networks["fitted"]]
    ends = fitted.groupby(dense)[["gap", "ratio"]].agg(["min", "max"]).round(2)
    assert ends.loc[True].tolist() == [0.70, 0.75, 0.43, 0.87] and ends.loc[False].tolist() == [0.64, 0.67, 0.52, 0.61]
    each = pd.DataFrame([claims.ratio(one).set_index("id")["value"] for _, one in runs.groupby("seed")])
    assert each["ratio_gap_rank"].agg(["min", "max"]).round(2).tolist() == [-0.26, -0.09]
    found = claims.ratio(runs).set_index("id")["value"]
    assert found[["ratio_gap_rank", "ratio_gap_partial"]].tolist() == pytest.approx([-0.18, -0.17], abs=0.005)
    names = ["ratio_gap_rank", "ratio_gap_partial", "ratio_gap_linear"]
    assert by_id.loc[names, "verdict"].tolist() == ["holds, small", "holds, small", "negligible"]
    one_layer, convolutional = r"widths \d+\)", "^alexnet"
    without = {left_out: [] for left_out in (one_layer, convolutional, f"{one_layer}|{convolutional}")}
    for _, one in runs.groupby("seed"):
        own = paths.networks_of_ratio(one).query("fitted")
        assert len(own) in (24, 25)
        for left_out, found in without.items():
            some = own[~own["name"].str.contains(left_out)]
            found.append(some["ratio"].corr(some["gap"], method="spearman"))
    assert [round(sum(found) / 5, 2) for found in without.values()] == [0.17, -0.38, -0.13]
    assert min(without[one_layer]) > 0 > max(without[convolutional])
    alike = {"sizes": [], "tuned": []}  # networks that differ in width and depth alone, and in training alone
    for _, one in runs[runs["model"] == "mlp"].groupby("seed"):
        rate = one.groupby("run_id")["learning_rate"].transform("max")
        plain = one[(rate == 0.01) & (one["batch_size"] == 10) & (one["momentum"] == 0.9)]
        plain = plain[
            (plain["weight_decay"] == 0) & (plain["random_crop"] == 0) & (plain["standardize"] == "per_image")
        ]
        for name, some in (("sizes", plain), ("tuned", one[one["network"] == "mlp (widths 256, 256, 256)"])):
            own = paths.networks_of_ratio(some).query("fitted")
            alike[name].append(round(own["ratio"].corr(own["gap"], method="spearman"), 2))
    assert (min(alike["sizes"]), max(alike["sizes"])) == (-0.80, -0.34)
    assert (min(alike["tuned"]), max(alike["tuned"])) == (-0.37, 0.10)
    before = runs[(runs["model"] == "mlp") | (runs["seed"] < 12)]
    assert claims.ratio(before).set_index("id")["value"]["ratio_gap_rank"] == pytest.approx(-0.31, abs=0.005)
