"""What chapter 5 publishes: that its text says what the tables say."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters.generalization_intervals import tables
from gendyn_lite.chapters.generalization_intervals.tables import counts, ends

RUNS = results.published("generalization_intervals")
ENDS = ends(RUNS)
MLP = ENDS[(ENDS["model"] == "mlp") & (ENDS["dataset"] != "two_moons")]
WHOLE = MLP[MLP["downsample"] == 1]
CONV = ENDS[ENDS["model"] != "mlp"]


def means(rows, *keys):
    kinds = [f"intervals/{kind}_mean" for kind in tables.SPANS]
    found = rows.groupby([*keys, "label_corruption"])[kinds].mean()
    return found.rename(columns=lambda name: name.removeprefix("intervals/").removesuffix("_mean"))


@pytest.fixture(scope="module")
def claims(of_page):
    """Each claim on each network."""
    return of_page("05_generalization_intervals")[0].set_index(["id", "subject"])


@pytest.fixture
def verdicts(claims):
    """Of a claim, by data set and hidden layers."""
    networks = WHOLE.drop_duplicates("subject").set_index("subject")[["dataset", "widths"]]
    return lambda name: {tuple(networks.loc[of]): verdict for of, verdict in claims.loc[name]["verdict"].items()}


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
    assert verdicts("distributions_alike")["mnist", "4x128"] == "reversed"


def test_midlines_tell_labels_apart_on_digits_and_not_on_photographs(verdicts):
    found = means(WHOLE, "dataset", "widths")["midline"]
    left = found.xs(1.0, level="label_corruption") / found.xs(0.0, level="label_corruption")
    mnist = [left["mnist", widths] for widths in ("1x512", "2x256", "3x128", "4x128")]
    assert mnist == sorted(mnist, reverse=True) and mnist[0] < 1  # the more layers, the more
    assert left["digits", "3x128"] < 0.66
    assert {verdict for (data, _), verdict in verdicts("midlines_shorter").items() if data == "cifar10"} == {
        "negligible"
    }
    accuracy = WHOLE[(WHOLE["dataset"] == "cifar10") & (WHOLE["label_corruption"] == 0)]["test_accuracy"]
    assert accuracy.mean() == pytest.approx(1 / 3, abs=0.02)


def test_random_directions_last_about_as_long_as_the_class(verdicts, of_page):
    true = means(WHOLE, "dataset", "widths").xs(0.0, level="label_corruption")
    longer = true["random"] - true["principal"]
    assert longer["mnist"].between(0.06, 0.12).all() and longer["cifar10"].between(-0.02, 0.125).all()
    assert longer["digits", "3x128"] == pytest.approx(-0.11, abs=0.005)
    said = verdicts("principal_over_random")
    for data in ("mnist", "cifar10"):
        assert [verdict for (name, _), verdict in said.items() if name == data].count("reversed") == 1
    towards = true["random"] - true["pair"]
    assert towards["mnist"].between(0.125, 0.185).all() and towards["cifar10"].between(-0.075, 0).all()
    overall = of_page("05_generalization_intervals")[1].set_index("id")["verdict"]
    assert (overall["principal_over_random"], overall["pairs_over_random"]) == ("undecided", "reversed")
    assert (true[["means", "adversarial"]].max(axis=1) < 1.5).all()
    assert (true[["pair", "principal", "random"]].min(axis=1) > 2.6).all()
    random = means(WHOLE, "dataset", "widths").xs(1.0, level="label_corruption")
    loss = (true["random"] - random["random"]).groupby("dataset").agg(["min", "max"])
    assert loss.loc["mnist", "min"] > 0.7 and loss.loc["digits", "min"] > 1 and loss.loc["cifar10", "min"] > 0
    assert loss.loc["mnist", "max"] < 0.85 and loss.loc["cifar10", "max"] < 0.15
    assert (random["principal"] - random["random"]).loc["mnist"].between(0.3, 0.7).all()


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


def test_before_training_the_order_is_the_paper_s(verdicts):
    true = WHOLE[WHOLE["label_corruption"] == 0]
    names = [
        f"intervals/{prefix}{kind}_mean" for prefix in ("untrained_", "") for kind in ("pair", "principal", "random")
    ]
    found = true.groupby(["dataset", "widths"])[names].mean()
    pair, principal, random, *trained = (found[name] for name in names)
    assert ((pair > principal) & (principal > random)).all() and (pair > 1.95).all()
    assert (trained[2] - random > trained[0] - pair).all()
    assert len(set(verdicts("pairs_trained").values())) > 1


def test_resolution_and_depth(claims):
    assert set(claims.loc["depths_alike"]["verdict"]) == {"holds"}
    assert set(claims.loc["small_random_shorter"]["verdict"]) == {"holds"}
    sides = means(MLP[MLP["widths"] == tables.MAIN], "dataset", "downsample")["pair"].xs(0.0, level="label_corruption")
    assert sides["cifar10", 1] - sides["cifar10", 4] > 0.3 and sides["mnist", 1] - sides["mnist", 4] > 0.1
    moons = ENDS[(ENDS["dataset"] == "two_moons") & (ENDS["label_corruption"] == 1)]
    assert moons["train_accuracy"].mean() > 0.95


def test_intervals_do_not_tell_how_well_a_network_generalizes(claims):
    assert set(claims.loc["correlates_all"]["verdict"]) | set(claims.loc["correlates_fitted"]["verdict"]) == {
        "undecided"
    }
    watched = tables.described(RUNS).query("training")
    last = watched.sort_values("epoch").groupby("run_id").tail(1)
    assert set(last["learning_rate"]) == {0.01} and (last["train_accuracy"] == 1).all()
    early, late = (each.set_index("run_id").sort_index() for each in (watched[watched["epoch"] == 10], last))
    assert (early["test_accuracy"] > 0.85 * late["test_accuracy"]).all()
    assert (early["intervals/pair_mean"] < late["intervals/pair_mean"]).all()


def test_the_bound_is_true_and_explains_nothing():
    found = WHOLE[WHOLE["label_corruption"] == 0]
    assert (found["intervals/norm_within"] == 1).all() and (found["intervals/bound_within"] == 1).all()
    assert (found["intervals/bound_covered"] == 0).all()
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


def test_convolutional_networks_are_older_and_said_to_be():
    assert CONV.groupby("model")["intervals/method"].unique().map(list).to_dict() == {
        "alexnet_small": ["grid"],
        "resnet18": ["exact"],
    }
    assert set(CONV["seed"]) == set(range(5))
    deep = CONV[CONV["model"] == "resnet18"]
    assert {counts(run, kind).sum() for _, run in deep.iterrows() for kind in ("pair", "midline")} == {4}
    assert deep["intervals/fitted"].min() >= 0.95
