"""What chapter 5 publishes: that its text says what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.generalization_intervals import tables
from gendyn_lite.chapters.generalization_intervals.tables import counts, ends

RUNS = results.published("generalization_intervals")
ENDS = ends(RUNS)
MLP = ENDS[(ENDS["model"] == "mlp") & (ENDS["dataset"] != "two_moons")]
WHOLE = MLP[MLP["downsample"] == 1]
CONV = ENDS[ENDS["model"] != "mlp"]
PHOTOGRAPHS, DIGITS = CONV[CONV["dataset"] == "cifar10"], CONV[CONV["dataset"] != "cifar10"]
PROVED = "alexnet_small (response_norm False)"  # the convolutional network with certified intervals


def means(rows, *keys):
    kinds = [f"intervals/{kind}_mean" for kind in tables.SPANS]
    found = rows.groupby([*keys, "label_corruption"])[kinds].mean()
    return found.rename(columns=lambda name: name.removeprefix("intervals/").removesuffix("_mean"))


@pytest.fixture(scope="module")
def by_network(claimed):
    """Claims by id and network."""
    return claimed.set_index(["id", "subject"])


@pytest.fixture(scope="module")
def verdicts(by_network):
    """Of a claim, by data set and hidden layers."""
    networks = WHOLE.drop_duplicates("subject").set_index("subject")[["dataset", "widths"]]
    return lambda name: {tuple(networks.loc[of]): said for of, said in by_network.loc[name]["verdict"].items()}


def test_every_group_has_five_seeds_and_those_of_the_paper_s_networks_are_new():
    assert set(ENDS.groupby("group_id")["seed"].nunique()) == {5}
    assert set(MLP["seed"]) == set(range(15, 20))  # both ways along a component; what has none is older
    assert set(MLP["intervals/method"]) == {"exact"} and (MLP["train_accuracy"] >= 0.98).all()
    assert set(WHOLE.groupby("dataset")["widths"].nunique().to_dict().items()) == {
        ("mnist", 4),
        ("cifar10", 4),
        ("digits", 1),
    }


def test_between_two_images_the_class_lasts_almost_the_whole_way(verdicts):
    lengths = means(WHOLE[WHOLE["dataset"] != "digits"], "dataset", "widths")["pair"]
    assert lengths.min() > 2.6
    small = means(WHOLE[WHOLE["dataset"] == "digits"], "dataset")["pair"].droplevel(0)
    assert small[1.0] / small[0.0] == pytest.approx(5 / 6, abs=0.02)
    assert len(set(verdicts("pairs_alike").values())) > 1  # the means agree on some networks and not on others
    assert verdicts("pairs_alike")["mnist", "4x128"] == "holds"
    alike, spread = verdicts("pairs_alike"), verdicts("distributions_alike")
    both = sorted(each for each in alike if alike[each] == spread[each] == "holds")
    assert both == [("cifar10", "1x512"), ("cifar10", "3x128")] and spread["mnist", "4x128"] == "reversed"


def shares(data, widths, corruption):
    """Shares of the lengths of pairs, by bin."""
    rows = WHOLE[WHOLE["dataset"].eq(data) & WHOLE["widths"].eq(widths) & WHOLE["label_corruption"].eq(corruption)]
    found = sum(counts(run, "pair") for _, run in rows.iterrows())
    return found / found.sum()


def test_more_intervals_reach_the_full_range_on_random_labels_and_more_end_early():
    bins = tables.middles("pair")
    for data in ("mnist", "cifar10"):
        for widths in ("1x512", "2x256", "3x128", "4x128"):
            true, random = (shares(data, widths, corruption) for corruption in (0, 1))
            assert min(each[bins > 2].sum() for each in (true, random)) > 0.86
            assert random[-1] > true[-1]
    true, random = (shares("mnist", "4x128", corruption) for corruption in (0, 1))
    assert (true[-1], random[-1]) == pytest.approx((0.42, 0.53), abs=0.005)
    assert (true[bins < 1.9].sum(), random[bins < 1.9].sum()) == pytest.approx((0.02, 0.12), abs=0.005)
    early = (bins > 1) & (bins < 1.9)
    assert bins[early][random[early].argmax()] == pytest.approx(1.3, abs=0.1)


def test_on_whole_images_random_labels_lengthen_pairs_on_seven_of_eight_networks(by_network):
    lengths = means(WHOLE[WHOLE["dataset"] != "digits"], "dataset", "widths")["pair"].unstack()
    longer = lengths[1.0] - lengths[0.0]
    assert len(longer) == 8 and (longer > 0).sum() == 7 and longer["mnist", "4x128"] == pytest.approx(-0.06, abs=0.006)
    assert (longer[longer > 0].min().round(2), longer.max().round(2)) == (0.06, 0.16)
    assert longer.idxmax() == ("mnist", "1x512") and (longer["mnist"].abs() > 0.1).sum() == 2
    alike = by_network.loc["pairs_alike"]
    by_chance = alike[(alike["low"] < 0) & (alike["high"] > 0)].index
    assert [name for name in by_chance if "128, 128, 128) on MNIST" in name] == list(by_chance)


def test_lines_that_reach_the_end_of_the_range_are_more_along_the_component_on_photographs_alone():
    whole = WHOLE[WHOLE["label_corruption"].eq(0) & WHOLE["dataset"].ne("digits")]
    share = whole.groupby(["dataset", "widths"])[["intervals/principal_full", "intervals/random_full"]].mean()
    assert share.min().min() > 0.56 and share.max().max() < 0.84  # six to eight of ten
    photos = share.loc["cifar10"].round(2).agg(["min", "max"]).to_numpy().T.tolist()
    assert photos == [[0.65, 0.83], [0.57, 0.68]]
    more = share["intervals/principal_full"] - share["intervals/random_full"]
    assert (more["cifar10"] > 0.05).all() and (more["mnist"] < 0).all()


def test_on_smaller_digits_and_in_convolutional_networks_random_labels_shorten_pairs_too():
    by = means(MLP[MLP["widths"] == tables.MAIN], "dataset", "downsample")["pair"].unstack()
    left = by.loc["mnist"][1.0] / by.loc["mnist"][0.0]
    assert left[2] < 0.9 and left[4] == pytest.approx(0.56, abs=0.01)
    conv = means(CONV, "dataset", "network")["pair"].unstack()
    off = (conv[0.0] - conv[1.0]).drop("cifar10")
    assert (off.min(), off.max()) == pytest.approx((0.2, 1.9), abs=0.05)
    assert off.loc["mnist", "alexnet_small"] == pytest.approx(0.3, abs=0.05)
    assert off.idxmax() == ("digits", "resnet18")


def test_midlines_tell_labels_apart_on_digits_and_not_on_photographs(verdicts):
    found = means(WHOLE, "dataset", "widths")["midline"]
    left = found.xs(1.0, level="label_corruption") / found.xs(0.0, level="label_corruption")
    mnist = [left["mnist", widths] for widths in ("1x512", "2x256", "3x128", "4x128")]
    assert mnist == sorted(mnist, reverse=True) and mnist[0] < 1  # the more layers, the more
    assert left["digits", "3x128"] < 0.66
    assert {verdict for (data, _), verdict in verdicts("midlines_shorter").items() if data == "cifar10"} == {
        "negligible"
    }
    true, random = (found["cifar10"].xs(corruption, level="label_corruption") for corruption in (0.0, 1.0))
    assert (random > true).all()
    by = means(MLP[MLP["widths"] == tables.MAIN], "dataset", "downsample")["midline"].unstack()
    assert by.loc["cifar10", 4][0.0] - by.loc["cifar10", 4][1.0] == pytest.approx(0.5, abs=0.05)  # fewer pixels
    for each, ends_of in ((true, (4.3, 4.7)), (random, (4.4, 4.8))):
        assert (each.min(), each.max()) == pytest.approx(ends_of, abs=0.05)


def test_random_directions_last_about_as_long_as_the_class(said, verdicts):
    true = means(WHOLE, "dataset", "widths").xs(0.0, level="label_corruption")
    longer = true["random"] - true["principal"]
    assert longer["mnist"].between(0.06, 0.12).all() and longer["cifar10"].between(-0.02, 0.125).all()
    assert longer["digits", "3x128"] == pytest.approx(-0.11, abs=0.005)
    principal = verdicts("principal_over_random")
    for data in ("mnist", "cifar10"):
        assert [verdict for (name, _), verdict in principal.items() if name == data].count("reversed") == 1
    towards = true["random"] - true["pair"]
    assert towards["mnist"].between(0.125, 0.185).all() and towards["cifar10"].between(-0.075, 0).all()
    assert (said["principal_over_random"], said["pairs_over_random"]) == ("undecided", "reversed")
    pairs = verdicts("pairs_over_random")
    assert {verdict for (data, _), verdict in pairs.items() if data == "mnist"} == {"reversed"}
    assert "reversed" not in {verdict for (data, _), verdict in pairs.items() if data != "mnist"}
    assert set(verdicts("principal_over_means").values()) == {"holds"}
    across = verdicts("principal_over_minor")
    assert {verdict for (data, _), verdict in across.items() if data == "cifar10"} == {"holds"}
    assert not {"holds", "holds, small"} & {verdict for (data, _), verdict in across.items() if data == "mnist"}
    assert (true[["means", "adversarial"]].max(axis=1) < 1.5).all()
    assert (true[["pair", "principal", "random"]].min(axis=1) > 2.6).all()
    random = means(WHOLE, "dataset", "widths").xs(1.0, level="label_corruption")
    loss = (true["random"] - random["random"]).groupby("dataset").agg(["min", "max"])
    assert loss.loc["mnist", "min"] > 0.7 and loss.loc["mnist", "max"] < 0.85
    assert loss.loc["digits", "min"] == pytest.approx(1.2, abs=0.05)
    assert loss.loc["cifar10", "min"] > 0.09 and loss.loc["cifar10", "max"] < 0.13
    assert (true["minor"] - random["minor"] > true["random"] - random["random"]).all()
    along = true["principal"] - true["means"]
    assert (along.min().round(1), along.max().round(1)) == (1.4, 1.7)
    longer = random["principal"] - random["random"]
    assert longer.loc[["mnist", "digits"]].between(0.3, 0.7).all()
    assert (longer["cifar10"].min().round(2), longer["cifar10"].max().round(2)) == (0.06, 0.20)
    towards = (true["pair"] - true["principal"])["cifar10"]
    assert (towards.min().round(2), towards.max().round(2)) == (0.06, 0.13)


def test_pixels_that_hardly_vary_are_not_the_reason_and_mixtures_of_images_end_sooner(verdicts):
    true = means(WHOLE, "dataset", "widths").xs(0.0, level="label_corruption")
    less = true["random"] - true["varying"]
    assert less["cifar10"].abs().max() < 0.01 and less["mnist"].between(0.095, 0.17).all()
    assert (true["varying"] - true["principal"])["mnist"].between(-0.105, 0.005).all()
    assert not {"holds", "holds, small"} & {
        verdict for (data, _), verdict in verdicts("principal_over_varying").items() if data != "digits"
    }
    sooner = true["principal"] - true["span"]
    minor = true["principal"] - true["minor"]
    assert minor["cifar10"].between(0.45, 0.6).all() and minor["mnist"].abs().max() < 0.11
    assert sooner["mnist"].between(0.225, 0.315).all() and sooner["cifar10"].between(0.5, 0.6).all()


def test_before_training_the_order_is_what_the_thesis_would_lead_one_to_expect(verdicts):
    true = WHOLE[WHOLE["label_corruption"] == 0]
    names = [
        f"intervals/{prefix}{kind}_mean" for prefix in ("untrained_", "") for kind in ("pair", "principal", "random")
    ]
    found = true.groupby(["dataset", "widths"])[names].mean()
    pair, principal, random, *trained = (found[name] for name in names)
    assert ((pair > principal) & (principal > random)).all() and (pair > 1.95).all()
    assert (trained[2] - random > trained[0] - pair).all()
    for name in ("pairs_trained", "midlines_trained"):  # on some networks, and not on others
        assert {"holds"} < set(verdicts(name).values())


def test_resolution_and_depth(by_network):
    assert set(by_network.loc["depths_alike"]["verdict"]) == {"holds"}
    assert set(by_network.loc["small_random_shorter"]["verdict"]) == {"holds"}
    sides = means(MLP[MLP["widths"] == tables.MAIN], "dataset", "downsample")["pair"].xs(0.0, level="label_corruption")
    less = [sides[data, 1] - sides[data, 4] for data in ("mnist", "cifar10")]
    assert less == pytest.approx([0.12, 0.38], abs=0.005)
    assert set(by_network.loc["small_true_alike"]["verdict"]) == {"reversed"}
    assert abs(sides["mnist", 1] - sides["mnist", 2]) < 0.06
    epochs = MLP[MLP["dataset"] != "digits"].groupby("downsample")["epochs"].unique().map(list).to_dict()
    assert epochs == {1: [150], 2: [400], 4: [400]}


def test_what_is_fitted_and_which_seeds_are_others():
    moons = ENDS[ENDS["dataset"] == "two_moons"]
    assert moons["train_accuracy"].min() > 0.92 and set(moons["seed"]) == set(range(10, 15))
    assert CONV.groupby("model")["train_accuracy"].min()["resnet18"] == pytest.approx(0.95)
    watched = tables.described(RUNS).query("training").groupby("dataset")["seed"].unique()
    assert {data: set(seeds) for data, seeds in watched.items()} == {
        "mnist": set(range(10, 18)),
        "cifar10": set(range(10, 15)),
    }


def test_after_twenty_of_150_epochs_accuracy_is_at_a_plateau():
    runs = tables.watched(RUNS)
    assert set(runs.groupby("run_id")["epoch"].max()) == {150}
    accuracy = runs.groupby(["data", "epoch"])["test_accuracy"].mean().unstack("data").loc[20:]
    assert (accuracy.max() - accuracy.min() < 0.006).all()


def rank_correlations(runs):
    """Of accuracy on new images with the mean length, by run: over all points, and over the fitted ones."""
    for _, run in runs.groupby("run_id"):
        lengths = run["intervals/pair_mean"]
        each = (lengths * run["intervals/fitted"], lengths)
        yield [run["test_accuracy"].corr(length, method="spearman") for length in each]


def test_lengths_go_with_accuracy_until_the_labels_are_fitted_on_mnist_and_less_on_photographs(by_network):
    found = by_network.loc[["correlates_all", "correlates_fitted"]]
    assert set(found["verdict"]) == {"undecided"} and found["value"].between(0.3, 0.45).all()
    watched = tables.described(RUNS).query("training")
    fitted = watched[watched["train_accuracy"] == 1].groupby(["dataset", "run_id"])["epoch"].min()
    assert fitted["mnist"].between(16, 20).all() and set(watched["learning_rate"]) == {0.01}
    early = watched[watched["epoch"] <= 20].groupby("dataset")
    means_of = {data: np.mean(list(rank_correlations(runs)), axis=0) for data, runs in early}
    assert means_of["mnist"] == pytest.approx([0.9, 0.9], abs=0.05) and (means_of["cifar10"] < 0.65).all()
    late = watched[watched["epoch"] > 20].groupby(["dataset", "run_id"])["test_accuracy"]
    assert late.std().max() < 0.005
    after = [fitted for _, fitted in rank_correlations(watched[watched["epoch"] > 20])]
    assert min(np.abs(after)) > 0.25 and min(after) < -0.6 and max(after) > 0.6  # a drift, by seed


def test_the_bound_is_true_and_explains_nothing():
    found = WHOLE[WHOLE["label_corruption"] == 0]
    assert (found["intervals/norm_within"] == 1).all() and (found["intervals/bound_within"] == 1).all()
    assert (found["intervals/bound_covered"] == 0).all()
    moons = ENDS[(ENDS["dataset"] == "two_moons") & (ENDS["label_corruption"] == 0)]
    assert moons["intervals/bound_covered"].mean() == pytest.approx(0.92, abs=0.005)
    by = found.groupby(["dataset", "widths"])[
        ["intervals/bound_reach", "intervals/bound_nearest", "intervals/bound_ratio"]
    ]
    reach, nearest, ratio = (by.mean()[name] for name in by.mean())
    assert (nearest / reach).min() > 15 and ratio.max() < 1 / 16


def test_random_labels_shorten_intervals_of_resnet_far_more_than_those_of_the_papers_network():
    digits = ENDS[ENDS["dataset"] == "digits"]
    found = means(digits, "model")[["pair", "midline"]]
    left = found.xs(1.0, level="label_corruption") / found.xs(0.0, level="label_corruption")
    assert left.loc["resnet18", "pair"] < 0.4 and left.loc["resnet18", "midline"] < 1 / 3
    assert left.loc["mlp", "pair"] > 0.75


def test_certified_intervals_prove_that_random_labels_shorten_midlines_of_alexnet():
    runs = CONV[CONV["network"] == PROVED]
    assert (runs["intervals/fitted"] == 1).all() and (runs["dataset"] == "mnist").all()
    assert runs.groupby("label_corruption")["train_loss"].mean().round(4).tolist() == [0.0003, 0.0005]
    least, most = (runs[runs["label_corruption"] == q] for q in (0, 1))  # of every seed too
    assert least["intervals/midline_certain"].min() > most["intervals/midline_mean"].max()
    found = {
        kind: runs.groupby("label_corruption")[[f"intervals/{kind}_certain", f"intervals/{kind}_mean"]].mean()
        for kind in ("pair", "midline")
    }
    (least, _), (_, most) = found["midline"].to_numpy()  # with true labels at least, with random ones at most
    assert (least, most) == pytest.approx((4.2, 3.8), abs=0.05)
    (least, _), (_, most) = found["pair"].to_numpy()
    assert least < most  # of pairs no order is proved
    parts = [float(part) for each in found.values() for part in each.iloc[:, 0] / each.iloc[:, 1]]
    assert parts == pytest.approx([0.75, 0.55, 0.87, 0.45], abs=0.01)


def test_on_photographs_random_labels_are_not_seen_to_shorten_intervals_of_resnet_at_equal_loss(by_network):
    seeds = PHOTOGRAPHS.groupby(["network", "label_corruption"])["seed"].unique().map(sorted)
    assert seeds.to_dict() == {("resnet18", q): [15, 16, 17, 18, 19] for q in (0.0, 1.0)}
    assert set(PHOTOGRAPHS["intervals/method"]) == {"certified"} and set(PHOTOGRAPHS["train_accuracy"]) == {1}
    assert {counts(run, kind).sum() for _, run in PHOTOGRAPHS.iterrows() for kind in ("pair", "midline")} == {50}
    assert PHOTOGRAPHS.groupby("label_corruption")["train_loss"].mean().round(4).tolist() == [0.0001, 0.0001]
    lengths = PHOTOGRAPHS.groupby("label_corruption")[["intervals/pair_mean", "intervals/midline_mean"]].mean()
    assert (lengths.loc[0] - lengths.loc[1]).tolist() == pytest.approx([0.05, 0.27], abs=0.005)
    both = PHOTOGRAPHS.pivot(index="seed", columns="label_corruption", values=[*lengths])
    taken = pd.DataFrame({name: both[name, 0] - both[name, 1] for name in lengths})
    assert (taken["intervals/pair_mean"] < 0).sum() == 2
    shares = 1 - (lengths.loc[0] - taken.loc[:17].mean()) / lengths.loc[0]  # what the first three seeds seemed to say
    assert shares.tolist() == pytest.approx([0.1, 0.18], abs=0.015) and taken.loc[18:, "intervals/pair_mean"].max() < 0
    proved = PHOTOGRAPHS[["intervals/pair_certain", "intervals/midline_certain"]]
    assert (proved.to_numpy() < 1e-6 * PHOTOGRAPHS[["intervals/pair_mean", "intervals/midline_mean"]].to_numpy()).all()
    subject = PHOTOGRAPHS["subject"].iloc[0]
    found = by_network.loc[["conv_pairs_alike", "conv_midlines_shorter"]].xs(subject, level=1)
    assert set(found["verdict"]) == {"undecided"} and set(found["n_seeds"]) == {5}
    assert found[["low", "high"]].round(2).to_numpy().tolist() == [[-0.27, 0.37], [-0.23, 0.76]]


def test_convolutional_networks_are_older_and_said_to_be():
    assert DIGITS.groupby("network")["intervals/method"].unique().map(list).to_dict() == {
        "alexnet_small": ["grid"],
        PROVED: ["certified"],
        "resnet18": ["exact"],
    }
    assert set(DIGITS.loc[DIGITS["network"] != PROVED, "seed"]) == set(range(5))
    assert set(DIGITS.loc[DIGITS["network"] == PROVED, "seed"]) == set(range(15, 20))
    deep = DIGITS[DIGITS["model"] == "resnet18"]
    assert {counts(run, kind).sum() for _, run in deep.iterrows() for kind in ("pair", "midline")} == {4}
    assert deep["intervals/fitted"].min() >= 0.95
    assert DIGITS.loc[DIGITS["model"] == "alexnet_small", "intervals/fitted"].min() > 0.986
    assert DIGITS.groupby("network")["epoch"].unique().map(list).to_dict() == {
        "alexnet_small": [40],
        PROVED: [60],
        "resnet18": [60],
    }
    loss = DIGITS.groupby(["network", "label_corruption"])["train_loss"].mean()
    assert loss["alexnet_small"].to_numpy() == pytest.approx([0.0004, 0.0195], rel=0.12)
    assert loss["resnet18"].to_numpy() == pytest.approx([0.0024, 0.081], rel=0.1)
