"""What chapter 4 publishes: that its text says what the tables say."""

from __future__ import annotations

import math
import re

import nbformat
import pandas as pd
import pytest

from gendyn_lite import notebooks, results
from gendyn_lite.chapters.stiffness import claims
from gendyn_lite.chapters.stiffness.claims import RECORD
from gendyn_lite.chapters.stiffness.tables import at_loss, long_layers, of_fitted_runs, reestimated
from gendyn_lite.claims.inference import estimate

EVERY_TRAINING, MAPS, LAYERS, EVERY_DEEP = (
    results.published(f"stiffness_{kind}") for kind in ("training", "maps", "layers", "deep")
)
TRAINING = EVERY_TRAINING[EVERY_TRAINING["network"].str.startswith("mlp")]
DEEP = reestimated(EVERY_DEEP[EVERY_DEEP["n_train"] == 50])
THOUSAND, RANDOM_THOUSAND = (
    EVERY_DEEP[(EVERY_DEEP["n_train"] == 1000) & (EVERY_DEEP["label_corruption"] == q)] for q in (0, 1)
)
KINDS = {(network, labels) for network in ("resnet18", "vgg19") for labels in (0.0, 1.0)}
WITHIN, TEST, BETWEEN = (f"stiffness/{name}_cosine" for name in ("within", "test_within", "between"))
LENGTH = "stiffness/critical_length"
CENTRE = TRAINING[(TRAINING["n_train"] == 1000) & (TRAINING["learning_rate"] == 0.01)]
TRUE = CENTRE[CENTRE["label_corruption"] == 0]


def at(rows, column, epoch, *keys):
    """The mean over seeds of a column at an epoch."""
    return rows[rows["epoch"] == epoch].groupby(list(keys) or "dataset")[column].mean()


def apart(rows, pick):
    """Stiffness within minus between classes, by data set: before training, or at the peak of each run."""
    rows = rows[rows["epoch"] == 0] if pick == "start" else rows[rows["epoch"] > 0]
    rows = rows.loc[rows.groupby("run_id")[WITHIN].idxmax()]
    return (rows[WITHIN] - rows[BETWEEN]).groupby(rows["dataset"]).mean()


@pytest.fixture
def values(claimed):
    """Of a claim, by data set."""

    def by_data(name):
        found = claimed[(claimed["id"] == name) & (claimed["n_seeds"] > 0)].set_index("subject")
        found = found[~found.index.str.contains("n = 3,000|n = 10,000|alexnet")]
        words = {"MNIST": "mnist", "CIFAR-10": "cifar10", "moons": "two_moons", "linked": "linked_rings"}
        words |= {"spirals": "spirals", "nested": "nested_rings", "on rings": "rings"}
        return found.rename(index=lambda said: next(name for word, name in words.items() if word in said))

    return by_data


@pytest.fixture
def of_deep(claimed):
    """Of a claim on deep networks, by network: its verdict, and its value."""

    def by_network(name):
        found = claimed[(claimed["id"] == name) & claimed["subject"].str.endswith("n = 50")]
        networks = [subject.split(" ")[0] for subject in found["subject"]]
        return dict(zip(networks, found["verdict"], strict=True)), dict(zip(networks, found["value"], strict=True))

    return by_network


def test_what_was_run_are_new_seeds_looked_at_from_the_first_steps_on(by_id):
    assert set(TRAINING["eval_schedule"]) == {"early"} and set(TRAINING["n_train"]) == {1000, 3000, 10_000}
    assert set(EVERY_TRAINING.groupby("group_id")["seed"].agg(lambda seeds: tuple(sorted(set(seeds))))) == {
        (5, 6, 7, 8, 9)
    }
    assert set(MAPS["seed"]) == set(range(5, 10)) and set(DEEP["seed"]) == set(range(5, 10))
    judged = RECORD.entries["tanh_stiffer_within"].of(LAYERS)
    assert set(judged["seed"]) == set(range(5, 10)) and judged["run_id"].nunique() == 75
    assert {0, 0.0625, 0.5, *range(1, 9), 40} <= set(TRAINING["epoch"])
    assert TRAINING.groupby("n_train")["epoch"].max().to_dict() == {1000: 40, 3000: 40, 10_000: 60}
    prior = by_id["prior"]
    assert (
        prior[["falls_with_overfitting", "boundary_learnt"]].all()
        and prior[["tanh_stiffer_within", "tanh_differs"]].all()
    )


def test_classes_are_apart_before_any_training_and_with_random_labels():
    random = CENTRE[CENTRE["label_corruption"] == 1]
    found = [apart(TRUE, "start"), apart(TRUE, "peak"), apart(random, "peak")]
    assert [round(each["mnist"], 2) for each in found] == [0.43, 0.74, 0.42]
    assert [round(each["cifar10"], 2) for each in found] == [0.16, 0.35, 0.19]
    keys = ["network", "dataset", "n_train", "label_corruption", "learning_rate", "epoch"]
    signs = EVERY_TRAINING.groupby(keys)["stiffness/within_sign"].mean()
    assert round(signs.min(), 2) == 0.88  # nearly every step helps nearly every image of its class
    grown = TRUE[TRUE["epoch"] > 0].groupby(["dataset", "seed"])[WITHIN].max().groupby("dataset").mean()
    assert (grown / at(TRUE, WITHIN, 0)).between(1.7, 2.2).all()  # it about doubles


def fallen(run):
    """The part of the fall from the peak to the end that a run has behind it when its test loss is lowest."""
    peak, best, last = run[WITHIN].max(), run.loc[run["test_loss"].idxmin(), WITHIN], run[WITHIN].iloc[-1]
    return (peak - best) / (peak - last)


def test_most_of_the_fall_on_mnist_comes_before_the_test_loss_is_lowest():
    runs = EVERY_TRAINING[(EVERY_TRAINING["learning_rate"] == 0.01) & (EVERY_TRAINING["label_corruption"] == 0)]
    runs = runs[runs["epoch"] > 0].sort_values("epoch")
    runs = runs.assign(kind=runs["model"].where(runs["model"] != "mlp", runs["dataset"]))
    by_run = {key: run.reset_index() for key, run in runs.groupby(["kind", "n_train", "seed"])}
    before = pd.Series({key: fallen(run) for key, run in by_run.items()}).groupby(level=[0, 1]).mean().round(2)
    assert before["mnist"].loc[[1000, 3000]].tolist() == [0.80, 0.88] and before["alexnet_small", 1000] == 0.62
    assert (1 - before["cifar10"]).round(2).tolist() == [0.66, 0.5, 0.29]
    means = runs.groupby(["kind", "n_train", "epoch"])[[WITHIN, "test_loss", "test_accuracy"]].mean()
    for n, expected in ((1000, (0.70, 0.89)), (3000, (0.60, 0.94))):
        curve = means.loc["mnist", n]
        at_peak, at_best = curve["test_accuracy"][[curve[WITHIN].idxmax(), curve["test_loss"].idxmin()]]
        assert (at_peak, at_best) == pytest.approx(expected, abs=0.006)
    later = {
        key: (run["test_accuracy"].iloc[-1] - run.loc[run["test_loss"].idxmin(), "test_accuracy"],
              run["test_accuracy"].max() - run["test_accuracy"].iloc[-1])
        for key, run in by_run.items() if key[0] == "cifar10"
    }  # fmt: skip
    ends = pd.DataFrame(later, index=["over_best", "below_highest"]).T.groupby(level=1).mean()
    assert ends["over_best"].round(2).tolist() == [0, 0.04, 0] and round(ends.loc[10_000, "below_highest"], 2) == 0.02
    many = [run for key, run in by_run.items() if key[:2] == ("cifar10", 10_000)]
    at_best, last = ([run["test_accuracy"][place(run)] for run in many] for place in (
        lambda run: run["test_loss"].idxmin(), lambda run: run.index[-1]))  # fmt: skip
    assert sum(at_best) / 5 == pytest.approx(0.43, abs=0.005) == sum(last) / 5


def test_what_is_left_at_the_end_is_not_always_what_there_was_at_first():
    true = TRAINING[TRAINING["label_corruption"] == 0]
    start, end = (at(true, WITHIN, epoch, "dataset", "n_train", "learning_rate") for epoch in (0, 40))
    end = {**end, **at(true, WITHIN, 60, "dataset", "n_train", "learning_rate")}
    assert [round(ends["mnist", 3000, 0.01], 2) for ends in (start, end)] == [0.40, 0.34]
    assert [round(ends["mnist", 10_000, 0.01], 2) for ends in (start, end)] == [0.40, 0.29]
    assert [round(ends["cifar10", 3000, 0.01], 2) for ends in (start, end)] == [0.15, 0.10]
    assert [round(ends["cifar10", 10_000, 0.01], 2) for ends in (start, end)] == [0.15, 0.07]
    assert [round(ends["mnist", 1000, 0.003], 2) for ends in (start, end)] == [0.39, 0.46]
    assert [round(ends["mnist", 1000, 0.01], 2) for ends in (start, end)] == [0.39, 0.40]
    assert [round(ends["cifar10", 1000, 0.01], 2) for ends in (start, end)] == [0.15, 0.14]


def test_random_labels_add_little_to_what_was_there_and_leave_less():
    start = at(CENTRE, WITHIN, 0, "label_corruption", "dataset")
    assert start[1.0].round(2).to_dict() == {"cifar10": 0.13, "mnist": 0.34}
    peaks = CENTRE[CENTRE["epoch"] > 0].groupby(["label_corruption", "dataset", "seed"])[WITHIN].max()
    peaks = peaks.groupby(level=[0, 1]).mean()
    assert peaks[1.0].round(2).to_dict() == {"cifar10": 0.18, "mnist": 0.38}
    added = (peaks - start).round(2)
    assert added[1.0].to_dict() == {"cifar10": 0.04, "mnist": 0.05}
    assert added[0.0].to_dict() == {"cifar10": 0.17, "mnist": 0.29}
    ends = EVERY_TRAINING[EVERY_TRAINING["learning_rate"] == 0.01].sort_values("epoch").groupby("run_id")
    change = (ends[WITHIN].last() - ends[WITHIN].first()).rename("change")
    which = ends[["model", "dataset", "n_train", "label_corruption"]].first()
    change = which.join(change).groupby([*which])["change"].mean().round(2)
    more = [change["mlp", data, n, 0] for data in ("mnist", "cifar10") for n in (3000, 10_000)]
    assert (min(more), max(more)) == (-0.11, -0.05)
    assert change["alexnet_small", "cifar10", 1000].to_dict() == {0: -0.26, 1: -0.31}
    left = at(CENTRE, WITHIN, 40, "label_corruption", "dataset") - start
    assert left[1.0].round(2).to_dict() == {"cifar10": -0.04, "mnist": -0.21} and left[0.0].abs().max() < 0.01
    random = CENTRE[CENTRE["label_corruption"] == 1].groupby(["dataset", "epoch"])[TEST].mean().unstack(0)
    assert (random.max() - random.loc[0]).between(0.03, 0.045).all() and (random.loc[40] < random.loc[0]).all()


def test_the_diagonal_of_the_matrix_of_classes_is_the_stiffness_within_classes():
    found = TRAINING[TRAINING["detail/classes"].notna()]
    matrices = found["detail/classes"].map(lambda text: [row.split() for row in text.split("/")])
    shown = matrices.map(lambda rows: sum(int(row[number]) for number, row in enumerate(rows)) / len(rows) / 100)
    assert len(found) == 2 * found["run_id"].nunique() and (shown - found[WITHIN]).abs().max() < 0.01


def test_within_a_class_it_rises_then_falls_to_where_it_began(values):
    curve = TRUE.groupby(["dataset", "epoch"])[WITHIN].mean()
    assert curve.groupby("dataset").idxmax().tolist() == [("cifar10", 2), ("mnist", 2)]
    end = at(TRUE, WITHIN, 40)
    left = values("falls_with_overfitting")["value"]
    assert (left["mnist"], left["cifar10"]) == pytest.approx((0.59, 0.45), abs=0.005)
    assert (end - at(TRUE, WITHIN, 0)).abs().max() < 0.01  # as before training
    assert TRUE[TRUE["epoch"] == 40]["train_accuracy"].min() == 1
    assert at(TRUE, BETWEEN, 40).abs().max() < 0.05
    seen = TRUE[(TRUE["epoch"] > 0) & TRUE["epoch"].isin(range(4, 41, 4))].groupby(["dataset", "seed"])[WITHIN].max()
    left = end / seen.groupby("dataset").mean()
    assert (left["mnist"], left["cifar10"]) == pytest.approx((0.75, 0.58), abs=0.01)


def test_training_and_test_images(said, values):
    assert values("test_as_train")["value"].abs().max() < 0.01
    assert said["test_as_train"] == said["test_as_train_fitted"] == "holds"
    less = at(TRUE, TEST, 40) / at(TRUE, WITHIN, 40)
    assert less["mnist"] > 0.98 and less["cifar10"] == pytest.approx(0.75, abs=0.02)
    means = CENTRE.groupby(["dataset", "label_corruption", "epoch"])[[TEST, WITHIN]].mean().drop(index=0.5, level=1)
    assert (means[TEST] - means[WITHIN]).abs().max() < 0.04  # they go nearly the same way, at all times


def test_random_labels_at_equal_epochs_and_at_equal_training_loss(values):
    peak, fitted = (values(name)["value"] for name in ("random_less_stiff", "random_less_stiff_fitted"))
    assert (peak["mnist"], peak["cifar10"]) == pytest.approx((0.56, 0.56), abs=0.005)
    assert (fitted["mnist"], fitted["cifar10"]) == pytest.approx((0.30, 0.68), abs=0.005)
    half = values("half_less_stiff_fitted")["value"]
    assert (half["mnist"], half["cifar10"]) == pytest.approx((0.39, 0.76), abs=0.005)
    assert CENTRE[(CENTRE["label_corruption"] == 1) & (CENTRE["epoch"] == 40)]["train_accuracy"].min() > 0.99
    seen = CENTRE[(CENTRE["epoch"] > 0) & CENTRE["epoch"].isin(range(4, 41, 4))]
    seen = seen.groupby(["dataset", "label_corruption", "seed"])[WITHIN].max().groupby(level=[0, 1]).mean().unstack()
    assert (seen[1.0] / seen[0.0]).to_numpy() == pytest.approx(0.7, abs=0.01)


def test_learning_rates_at_equal_epochs_and_at_equal_training_loss(said, values):
    true = TRAINING[(TRAINING["label_corruption"] == 0) & (TRAINING["n_train"] == 1000)]
    less, fitted = (values(f"larger_rate_less_stiff{name}")["value"] for name in ("", "_fitted"))
    assert (less["mnist"], less["cifar10"]) == pytest.approx((-0.25, -0.11), abs=0.005)
    assert (fitted["mnist"], fitted["cifar10"]) == pytest.approx((-0.03, -0.01), abs=0.005)
    assert (said["larger_rate_less_stiff"], said["larger_rate_less_stiff_fitted"]) == (
        "holds, small",
        "holds, small",
    )
    peaks = true[true["epoch"] > 0].groupby(["dataset", "learning_rate", "seed"])[WITHIN].max()
    peaks = peaks.groupby(["dataset", "learning_rate"]).mean()["mnist"]
    assert peaks.between(0.665, 0.695).all() and set(peaks.index) == {0.0003, 0.003, 0.01, 0.03}
    ends = true[true["epoch"] == 40].set_index(["dataset", "learning_rate"])
    assert ends.loc[("cifar10", 0.03), "train_accuracy"].min() < 0.99
    assert claims._fitted_rates(true[true["dataset"] == "mnist"]) == [0.003, 0.01, 0.03]
    assert claims._fitted_rates(true[true["dataset"] == "cifar10"]) == [0.003, 0.01]
    assert ends["train_loss"].groupby(level=[0, 1]).mean()[["mnist"]].xs(0.0003, level=1).item() > 0.9


def test_all_learning_rates_at_the_training_loss_that_both_reach():
    true = TRAINING[(TRAINING["label_corruption"] == 0) & (TRAINING["n_train"] == 1000)]

    def runs(data, rate):
        return true[(true["dataset"] == data) & (true["learning_rate"] == rate)]

    def less(data, high, low):
        return claims._less(runs(data, high), runs(data, low), WITHIN)

    smallest = {data: less(data, 0.03, 0.0003) for data in ("mnist", "cifar10")}
    assert round(smallest["mnist"].mean(), 2) == -0.03 and estimate(smallest["mnist"]).interval()[1] > 0
    assert round(smallest["cifar10"].mean(), 2) == 0.05 and smallest["cifar10"].min() > 0  # the larger rate is stiffer
    assert round(less("mnist", 0.03, 0.01).mean(), 2) == 0.03 == -round(less("mnist", 0.03, 0.003).mean(), 2)
    longer = claims._ratio(*claims._at_equal_loss(runs("cifar10", 0.03), runs("cifar10", 0.0003), LENGTH))
    assert longer.min() > 1 and longer.mean() == pytest.approx(1.05, abs=0.005)


def test_of_more_images_less_is_left(claimed):
    runs = TRAINING[(TRAINING["learning_rate"] == 0.01) & (TRAINING["label_corruption"] == 0)]
    sizes = (1000, 3000, 10_000)
    assert (runs.groupby(["dataset", "n_train"])["seed"].nunique() == 5).all()
    peaks = runs[runs["epoch"] > 0].groupby(["dataset", "n_train", "epoch", "step"])[WITHIN].mean()
    steps = peaks.groupby(["dataset", "n_train"]).idxmax().map(lambda key: key[3])
    assert (steps.min(), steps.max()) == (47, 94)
    found = claimed.query("id == 'falls_with_overfitting'").set_index("subject")["value"].round(2)
    left = {data: [found[f"mlp (widths 500, 300, 100) on {data}, n = {n:,}"] for n in sizes] for data in (
        "MNIST", "CIFAR-10 (JPEG q75)")}  # fmt: skip
    assert [*left.values()] == [[0.59, 0.53, 0.45], [0.45, 0.33, 0.21]]
    for data, loss, expected in (("mnist", 0.1, [0.47, 0.42, 0.37]), ("cifar10", 0.3, [0.16, 0.11, 0.07])):
        by_run = runs[runs["dataset"] == data].sort_values("epoch").groupby(["n_train", "seed"])
        read = pd.Series({key: at_loss(run, WITHIN, loss) for key, run in by_run})
        assert len(read) == 15 and read.groupby(level=0).mean().round(2).tolist() == expected
    ends = runs[(runs["n_train"] == 10_000) & (runs["epoch"] == 60)].groupby("dataset")["train_accuracy"].mean()
    assert ends.round(2).to_dict() == {"cifar10": 0.97, "mnist": 1}


def test_in_alexnet_the_rise_is_all_but_missing(claimed):
    runs = EVERY_TRAINING[EVERY_TRAINING["network"].str.startswith("alexnet")]
    assert set(runs["dataset"]) == {"cifar10"} and set(runs["n_train"]) == {1000}
    assert set(runs["label_corruption"]) == {0, 1} and runs.loc[runs["epoch"] == 40, "train_accuracy"].min() == 1
    start, end = (at(runs, WITHIN, epoch, "label_corruption").round(2).to_dict() for epoch in (0, 40))
    peak = runs[runs["epoch"] > 0].groupby(["label_corruption", "seed"])[WITHIN].max().groupby(level=0).mean()
    assert (start, peak.round(2).to_dict(), end) == ({0: 0.40, 1: 0.38}, {0: 0.44, 1: 0.40}, {0: 0.13, 1: 0.07})
    assert runs[runs["label_corruption"] == 0].groupby("epoch")[WITHIN].mean().idxmax() < 1
    found = claimed.set_index(["id", "subject"])["value"].round(2)
    subject = "alexnet_small on CIFAR-10 (JPEG q75), n = 1,000"
    assert [found[f"random_less_stiff{name}", subject] for name in ("", "_fitted")] == [0.90, 0.54]
    left = found["falls_with_overfitting"]
    assert (left.min(), left.max()) == (0.21, 0.59)  # chapter 7 says so, too
    assert round(at(runs, "stiffness/between_sign", 0, "label_corruption")[0], 2) == -0.45


def test_with_ten_thousand_images_random_labels_leave_still_less(claimed):
    found = claimed.set_index(["id", "subject"])["value"].round(2)["random_less_stiff_fitted"]
    found = found[found.index.str.contains("n = 10,000")]
    assert sorted(found) == [0.08, 0.50] and found.idxmin().endswith("MNIST, n = 10,000")


def test_critical_lengths(values, claimed):
    falls, shorter, fitted = (
        values(name)["value"] for name in ("length_falls", "larger_rate_shorter", "larger_rate_shorter_fitted")
    )
    assert (falls["mnist"], falls["cifar10"]) == pytest.approx((0.88, 0.98), abs=0.005)
    assert shorter["mnist"] == pytest.approx(0.7, abs=0.02) and shorter["cifar10"] > 1
    assert (fitted["mnist"], fitted["cifar10"]) == pytest.approx((0.82, 1.03), abs=0.01)
    curve = TRUE.groupby(["dataset", "epoch"])[LENGTH].mean().unstack(0)
    assert (curve.loc[1:3].max() > curve.loc[1]).all() and (curve.loc[40] < curve.loc[1]).all()
    assert (curve.loc[40] / curve.loc[0]).round(2).to_dict() == {"cifar10": 0.90, "mnist": 0.91}
    more = claimed.query("id == 'length_falls'").set_index("subject")["value"]
    named = {
        name.partition(" on ")[2]: round(value, 2) for name, value in more.items() if "0,000" in name or "3,0" in name
    }
    assert named == {
        "MNIST, n = 3,000": 0.82, "MNIST, n = 10,000": 0.86,
        "CIFAR-10 (JPEG q75), n = 3,000": 0.90, "CIFAR-10 (JPEG q75), n = 10,000": 1.01,
    }  # fmt: skip
    conv = EVERY_TRAINING[
        EVERY_TRAINING["network"].str.startswith("alexnet") & (EVERY_TRAINING["label_corruption"] == 0)
    ]
    lengths = conv.pivot_table(index="seed", columns="epoch", values=LENGTH)
    ratios = [(lengths[40] / lengths[epoch]).mean() for epoch in (0, 1)]
    assert [round(ratio, 2) for ratio in ratios] == [0.69, 0.86]
    slow = TRAINING[(TRAINING["learning_rate"] == 0.0003) & (TRAINING["dataset"] == "mnist")]
    longer = at(slow, LENGTH, 40)["mnist"] / at(slow, LENGTH, 0)["mnist"]
    assert math.log(longer) / -math.log(shorter["mnist"]) == pytest.approx(0.5, abs=0.05)  # half is the small rate
    bins = TRAINING[TRAINING["detail/bins"].notna()]
    pairs = bins["detail/bins"].map(lambda text: [tuple(map(int, pair.split())) for pair in text.split("/")])
    assert set(bins["epoch"]) == {0, 40, 60} and min(value for run in pairs for _, value in run) > 0
    mnist = (bins["dataset"] == "mnist") & (bins["label_corruption"] == 0)
    last = pairs[mnist].map(lambda run: run[-1][0] / 1000)
    assert round(last.mean(), 1) == 0.9 and at(bins[mnist], LENGTH, 40, "group_id").min() > 1.15


def test_a_map_is_what_it_must_be_without_learning(said, values):
    learnt, labelled, seen, points = (
        values(f"boundary_{name}")["value"] for name in ("learnt", "labelled", "seen", "at_points")
    )
    assert len(seen) == 4 and seen.between(0.57, 0.64).all()
    assert learnt.abs().max() < 0.05 and labelled.abs().max() < 0.02
    assert points["nested_rings"] < points["rings"] < 0 < points["two_moons"] < 0.05
    assert (said["boundary_seen"], said["boundary_learnt"]) == ("holds", "negligible")
    more = values("boundary_learnt")
    assert round(more.loc["rings", "value"], 2) == 0.03 and more.loc["rings", "low"] > 0
    assert set(more.drop("rings")["verdict"]) == {"negligible"} and (more.drop("rings")["low"] < 0).all()
    assert round(points["two_moons"], 2) == 0.04 and abs(points["spirals"]) < 0.01
    ends = MAPS[MAPS["epoch"] == 200].groupby("dataset")[["map/inside", "map/boundary"]].mean()
    assert ends["map/inside"].between(0.935, 0.985).all() and ends["map/boundary"].between(0.335, 0.385).all()
    before = MAPS[MAPS["epoch"] == 0]
    around = before["map/points_inside"] - before["map/points_boundary"]
    assert (around > 0.1).all()
    taken = (-points / around.groupby(before["dataset"]).mean())[["rings", "nested_rings"]]
    assert taken.to_dict() == pytest.approx({"rings": 1 / 5, "nested_rings": 1 / 3}, abs=0.02)


def test_the_classes_of_a_map_are_text_with_their_zeros():
    maps = MAPS["map/predicted"].dropna()
    assert set(maps.str.len()) == {36 * 36} and maps.str.startswith("0").any()


def test_layers_by_their_original_criteria_and_by_the_later_ones(said, values):
    within, tanh = (values(name)["value"]
                    for name in ("training_changes_within", "tanh_stiffer_within"))  # fmt: skip
    assert within.drop("nested_rings").max() < 0.1 < within["nested_rings"]
    assert (tanh.min(), tanh.max()) == pytest.approx((-0.28, -0.06), abs=0.005)
    assert (said["training_changes_within"], said["tanh_stiffer_within"]) == ("undecided", "reversed")
    assert set(said[["changes_through_within", "training_changes_layers", "changes_through_layers"]]) == {"holds"}
    assert (said["leaky_relu_as_relu"], said["tanh_differs"]) == ("holds", "holds, small")
    leaky = values("leaky_relu_as_relu_within")
    assert leaky.loc["nested_rings", "value"] == pytest.approx(-0.08, abs=0.005)
    assert set(leaky.drop("nested_rings")["verdict"]) == {"holds"}
    assert leaky.loc["nested_rings", "verdict"] == "undecided"


FOLDED = {  # the title under which verdicts are folded, and these verdicts
    "at equal training loss: all three hold, but are small": ["holds, small"] * 3,
    "on two more controls: negligible, and reversed": ["negligible", "reversed"],
    "by the later criterion, for all pairs: all four hold, one of them small": [*["holds"] * 3, "holds, small"],
    "two hold, two are reversed, one is undecided": [*["holds"] * 2, *["reversed"] * 2, "undecided"],
}


def test_folded_verdicts_are_those_of_their_titles(said):
    cells = nbformat.read(notebooks.chapter_path("04_stiffness"), as_version=4).cells
    folded = {cell.metadata["mystnb"]["code_prompt_show"]: cell.source for cell in cells if "mystnb" in cell.metadata}
    for title, verdicts in FOLDED.items():
        (source,) = (source for shown, source in folded.items() if shown.endswith(title))
        assert sorted(said[name] for name in re.findall('"([a-z_]+)"', source)) == verdicts


def test_every_claim_has_its_verdict_on_the_page():
    cells = nbformat.read(notebooks.chapter_path("04_stiffness"), as_version=4).cells
    answers = "".join(cell.source for cell in cells if "tables.answer" in cell.source)
    assert sorted(re.findall('"([a-z_]+)"', answers)) == sorted(RECORD.entries)


def test_readings_and_controls_of_ours_say_so():
    ours = [name for name, entry in RECORD.entries.items() if entry.primary and entry.source.startswith("Walker")]
    assert len(ours) == 5 and all("our " in RECORD.entries[name].statement for name in ours)
    assert RECORD.entries["random_less_stiff"].compared == "unequal epochs"
    peaks = CENTRE[CENTRE["epoch"] > 0].groupby(["label_corruption", "dataset", "epoch"])[WITHIN].mean()
    peaks = peaks.groupby(level=[0, 1]).idxmax().map(lambda key: key[-1])
    assert (peaks[0.0] == 2).all() and (peaks[1.0] >= 5).all()


def test_layers_of_untrained_networks():
    rows = of_fitted_runs(long_layers(LAYERS))
    rows = rows[(rows["activation"] == "relu") & (rows["width"] == 32) & (rows["depth"] == 4)]
    found = rows.groupby(["state", "number", "dataset"])[["within", "between", "all"]].mean()
    last, first = found.loc["untrained", 5], found.loc["untrained", 1]
    assert last["within"].min() > 0.98 and last["between"].max() < -0.98
    assert first.mean()[["within", "between"]].to_numpy() == pytest.approx((0.4, -0.3), abs=0.03)
    assert found.loc["untrained", "all"].abs().max() < 0.12
    taken = (found.loc["trained", "between"] - found.loc["untrained", "between"]).groupby("number").min()
    assert taken[[3, 4, 5]].min() > 0.4 > taken[[1, 2]].min() and found.loc["trained", 5]["between"].min() > -0.15
    mean = found["within"].groupby(["state", "dataset"]).mean()
    assert mean["untrained", "nested_rings"] - mean["trained", "nested_rings"] == pytest.approx(0.19, abs=0.01)
    tanh = of_fitted_runs(long_layers(LAYERS)).query("activation == 'tanh' and width == 32 and depth == 4")
    tanh = tanh.groupby(["state", "dataset"])["within"].mean().drop("nested_rings", level="dataset")
    lower = (tanh["untrained"] - tanh["trained"]).round(2)
    assert len(lower) == 4 and (lower.min(), lower.max()) == (0.13, 0.42)


def test_between_classes_by_layer():
    rows = of_fitted_runs(long_layers(LAYERS))
    four = rows[(rows["depth"] == 4) & (rows["state"] == "trained")]
    last = four[four["number"] == 5].groupby(["activation", "width", "dataset"])["between"].mean()
    assert last["relu"].between(-0.21, 0).all() and last["leaky_relu"].between(-0.23, 0).all()
    assert last["tanh"].min() > 0.15 and last["tanh"].drop("nested_rings", level="dataset").loc[32:].min() > 0.4
    assert (last["tanh", 8, "spirals"], last["tanh", 128, "spirals"]) == pytest.approx((0.24, 0.73), abs=0.01)
    assert (last["relu", 32] - last["relu", 128]).abs().max() < 0.1
    more = (last["tanh", 128] - last["tanh", 8]).dropna()  # no narrow one fits the nested disks
    assert len(more) == 4 and more.min() > 0 and 0.8 < last["tanh"].max() < 0.9
    relu = four[four["activation"] == "relu"].groupby(["width", "dataset", "number"])["within"].mean()
    assert (relu[32].xs(3, level=1) - relu[128].xs(3, level=1) > 0.15).all()  # the third layer does change
    first = four[(four["number"] == 1) & (four["width"] == 32)].groupby(["activation", "dataset"])["within"].mean()
    stiffer = (first["tanh"] > first["relu"]).drop("nested_rings")
    assert stiffer.sum() == 3 and not stiffer["spirals"]
    left = four[four["dataset"] == "nested_rings"].groupby(["activation", "width"])["run_id"].nunique()
    assert left["tanh"].sum() == 2 and 8 not in left["relu"]


def test_depth():
    """ReLU, 32 units a layer: mean over layers between classes."""
    rows = of_fitted_runs(long_layers(LAYERS))
    rows = rows[(rows["activation"] == "relu") & (rows["width"] == 32)]
    found = rows.groupby(["state", "depth", "dataset"])["between"].mean()
    assert found["untrained", 2].between(-0.65, -0.55).all() and found["untrained", 8].between(-0.85, -0.75).all()
    assert found["trained", 2].between(-0.46, -0.34).all() and found["trained", 8].between(-0.08, 0).all()
    assert set(found["trained", 2].index) - set(found["trained", 8].index) == {"nested_rings"}
    deeper = found.unstack("depth").drop(index="nested_rings", level="dataset")[[2, 4, 8]].diff(axis=1)[[4, 8]]
    assert (deeper.loc["untrained"] < 0).all(axis=None) and (deeper.loc["trained"] > 0).all(axis=None)


def test_both_networks_fit_true_and_random_labels_with_five_seeds():
    ends = DEEP.sort_values("epoch").groupby("run_id").tail(1)
    assert ends["train_accuracy"].min() == 1
    seeds = ends.groupby(["network", "label_corruption"])["seed"].nunique()
    assert set(seeds.index) == KINDS and set(seeds) == {5}


def test_deep_networks_on_fifty_images_recognize_little_that_is_new():
    ends = DEEP.sort_values("epoch").groupby("run_id").tail(1)
    means = ends.groupby(["label_corruption", "network"])["test_accuracy"].mean()
    assert means[0.0].round(1).eq(0.2).all() and means[1.0].round(1).eq(0.1).all()


def test_resnet_on_a_thousand_images_shows_the_same(claimed):
    ends = THOUSAND.sort_values("epoch").groupby("run_id").last()
    assert set(ends["model"]) == {"resnet18"} and set(ends["label_corruption"]) == {0}
    assert set(ends["seed"]) == set(range(5, 10)) and ends["train_accuracy"].min() == 1
    assert round(ends["test_accuracy"].mean(), 2) == 0.40
    found = claimed[claimed["subject"].str.endswith("n = 1,000") & claimed["subject"].str.startswith("resnet18")]
    found = found.set_index("id")
    names = ["late_layers_apart", "late_layers_learnt", "late_layers_beyond_movement"]
    assert found.loc[names, "verdict"].tolist() == ["holds", "reversed", "reversed"]
    late, learnt, beyond = found.loc[names, "value"]
    assert [round(value, 2) for value in (late, late - learnt, beyond - learnt)] == [0.36, 0.59, 0.08]
    rows = long_layers(THOUSAND)
    early = rows[rows["position"] < 1 / 3]
    gap = (early["within"] - early["between"]).groupby(early["state"]).mean().round(2)
    assert gap.to_dict() == {"untrained": 0.02, "trained": 0.23}


def test_on_a_thousand_random_labels_the_early_layers_of_resnet_set_classes_apart_less(claimed):
    ends = RANDOM_THOUSAND.sort_values("epoch").groupby("run_id").last()
    assert set(ends["model"]) == {"resnet18"} and set(ends["seed"]) == set(range(5, 10)) and len(ends) == 5
    assert round(ends["train_loss"].max(), 3) == 0.013
    assert ends["train_accuracy"].min() == 0.996 and round(ends["test_accuracy"].mean(), 1) == 0.1
    found = claimed[claimed["subject"].str.endswith("n = 1,000") & (claimed["id"] == "random_less_apart")]
    (less,) = [row for _, row in found.iterrows() if row["n_seeds"]]
    assert [round(less[name], 2) for name in ("value", "low", "high")] == [-0.05, -0.08, -0.02]
    rows = long_layers(RANDOM_THOUSAND)
    gap, keys = rows["within"] - rows["between"], [rows["state"]]
    early, late = (
        gap[part].groupby(keys).mean().round(2) for part in (rows["position"] < 1 / 3, rows["position"] > 2 / 3)
    )
    assert early.to_dict() == {"untrained": 0.02, "trained": 0.12}
    assert round(late["trained"] - early["trained"], 2) == 0.49


def test_late_layers_set_classes_apart_and_random_labels_take_little_of_it(of_deep):
    rows = long_layers(DEEP).query("state == 'trained'")
    gap, position = rows["within"] - rows["between"], rows["position"]
    keys = [rows["network"], rows["label_corruption"]]
    lead = gap[position > 2 / 3].groupby(keys).mean() - gap[position < 1 / 3].groupby(keys).mean()
    assert [round(value, 2) for value in lead] == [0.29, 0.39, 0.43, 0.47]  # ResNet-18 and VGG-19: true, random labels
    late, by = of_deep("late_layers_apart")
    assert set(late.values()) == {"holds"} and (round(by["resnet18"], 2), round(by["vgg19"], 2)) == (0.29, 0.43)
    taken, less = of_deep("random_less_apart")
    assert (round(less["resnet18"], 2), round(less["vgg19"], 2)) == (-0.04, -0.02)
    assert taken == {"resnet18": "undecided", "vgg19": "holds, small"}


def test_training_adds_it_in_early_layers_of_the_one_and_in_late_ones_of_the_other(of_deep):
    learnt, _ = of_deep("late_layers_learnt")
    assert learnt == {"resnet18": "reversed", "vgg19": "holds"} == of_deep("late_layers_beyond_movement")[0]
    rows = long_layers(DEEP)
    rows = rows[rows["label_corruption"] == 0].assign(gap=rows["within"] - rows["between"])
    late, early = rows[rows["position"] > 2 / 3], rows[rows["position"] < 1 / 3]
    late, early = (part.groupby(["network", "state"])["gap"].mean().round(2) for part in (late, early))
    assert early["resnet18"].to_dict() == {"untrained": 0.03, "trained": 0.31}
    assert late["vgg19"].to_dict() == {"untrained": 0.24, "trained": 0.49}
    assert late["resnet18"]["untrained"] - early["resnet18"]["untrained"] > 0.5


def test_what_learns_nothing_changes_nothing(of_deep):
    lag, by = of_deep("lag_alone")
    assert set(lag.values()) == {"holds"} and max(by.values()) < 0.01
    keys = ["network", "seed", "number"]
    before = long_layers(DEEP).query("state == 'untrained' and label_corruption == 0").set_index(keys)["within"]
    moved = long_layers(DEEP, probe="movement").query("label_corruption == 0").set_index(keys)["within"]
    assert (moved - before).groupby("network").mean().abs().max() < 0.01
    assert set(DEEP["batch_norm_statistics"]) == {"re-estimated"} and set(DEEP["seed"]) == set(range(5, 10))


def test_with_running_statistics_the_untrained_networks_differ_and_the_trained_ones_do_not():
    running = EVERY_DEEP[EVERY_DEEP["batch_norm_statistics"] == "running"]
    assert set(running["seed"]) == set(range(5, 10)) and running["run_id"].nunique() == 10

    def late(runs, state):
        rows = long_layers(runs[runs["label_corruption"] == 0]).query("state == @state")
        gap = rows["within"] - rows["between"]
        parts = (rows["position"] > 2 / 3, rows["position"] < 1 / 3)
        one, other = (gap[part].groupby([rows["network"], rows["seed"]]).mean() for part in parts)
        return (one - other).groupby("network").mean()

    trained = late(running, "trained") - late(DEEP, "trained")
    assert trained.abs().max() < 0.01
    taken = late(running, "untrained") - late(running, "trained")
    truly = late(DEEP, "untrained") - late(DEEP, "trained")
    assert taken.round(2)["resnet18"] == 0.14 and truly.round(2)["resnet18"] == 0.29
    assert taken["vgg19"] > 0.1 > 0 > truly["vgg19"]
    assert round(late(running, "untrained")["vgg19"], 2) == 0.62 and round(late(DEEP, "untrained")["vgg19"], 2) == 0.24
