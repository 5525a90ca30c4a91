"""What 'Which lens?' publishes: that its text says what the tables say."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.chapters import what_holds
from gendyn_lite.chapters.which_lens import ranking, tables
from gendyn_lite.chapters.which_lens import runs as runs_of

NETWORKS = tables.networks(results.published("which_lens"))
TRUE = NETWORKS[NETWORKS["reached"] & (NETWORKS["label_corruption"] == 0)]
JUDGE = tables.Judge(TRUE)
CLAIMS, OVERALL = what_holds.judged("08_which_lens")
VERDICTS = OVERALL.set_index("id")["verdict"]


@pytest.fixture(scope="module")
def shares():
    """Share of right choices between two networks of unseen settings, in per cent."""
    return {name: round(100 * (share + 0.5)) for name, (share, _) in JUDGE.choice().shares(JUDGE.weights).items()}


def test_what_was_run_is_said():
    planned = runs_of.plan("full")
    assert len(planned) == 2376 and len(NETWORKS) == 1008 and NETWORKS["reached"].mean() > 0.99
    assert set(NETWORKS["data"]) == {"MNIST"} and set(NETWORKS["family"]) == {"fully connected"}
    assert TRUE["setting"].nunique() == 288 and set(CLAIMS["n_seeds"]) == {288}
    assert (round(100 * TRUE["error"].min()), round(100 * TRUE["error"].max())) == (3, 13)
    assert 1.1e6 < NETWORKS["parameters"].max() < 1.2e6 and OVERALL["prior"].all()


def test_the_settings_choose_better_than_any_lens_and_a_lens_better_than_a_coin(shares):
    assert (shares["settings"], shares[tables.LENS], shares["within"], shares[tables.RIVAL]) == (99, 88, 88, 79)
    assert shares["distance"] == 79 and abs(shares[tables.CHANCE] - 50) < 10
    measured = [name for name, measure in tables.MEASURES.items() if measure.kind in (tables.LENS, tables.RIVAL)]
    assert max(measured, key=lambda name: shares.get(name, 0)) == "within"
    assert VERDICTS["lens_beats_coin"] == VERDICTS["lens_beats_rivals"] == VERDICTS["validation_ranks"] == "holds"
    assert VERDICTS["lens_beats_settings"] == "reversed"
    assert NETWORKS["stiffness_seconds"].median() == pytest.approx(0.01, abs=0.005)


def test_between_networks_of_as_many_images_augmented_alike_the_lens_of_elsewhere_is_not_seen_to_beat_a_coin():
    choice = JUDGE.choice(alike=tables.CHOICES["better of two alike"])
    pairs = TRUE[["train_size", "augmented"]].to_numpy()
    assert (pairs[choice.first] == pairs[choice.second]).all()
    shares = choice.shares(JUDGE.weights)
    found = {name: ranking.interval(*share, len(choice.first)) for name, share in shares.items()}
    at = {name: round(100 * (one.value + 0.5)) for name, one in found.items()}
    assert (at[tables.LENS], at[tables.RIVAL], at["settings"], at["validation_accuracy"]) == (58, 47, 82, 96)
    assert (round(100 * (found[tables.LENS].low + 0.5)), round(100 * (found[tables.LENS].high + 0.5))) == (48, 67)
    seen = {
        name for name in at if tables.MEASURES.get(name) and tables.MEASURES[name].kind in (tables.LENS, tables.RIVAL)
    }
    assert sorted(seen, key=lambda name: -at[name])[:2] == ["pair", "sharpness"]  # with the answer in sight
    assert (at["pair"], at["sharpness"]) == (74, 69) and at["settings"] > at["pair"]
    assert (round(100 * (found["pair"].low + 0.5)), round(100 * (found["pair"].high + 0.5))) == (66, 81)


def test_which_lenses_do_as_their_sources_say():
    ranks = [name for name in VERDICTS.index if name.endswith("_ranks") and name != "validation_ranks"]
    small = ["epoch_ranks", "adversarial_ranks"]
    assert set(VERDICTS[small]) == {"holds, small"} and set(VERDICTS[ranks].drop(small)) == {"undecided"}
    alone = OVERALL.set_index("id").loc[ranks, "alone"]
    wrong = {"within_ranks", "critical_length_ranks", "kept_ranks", "influence_ranks"}
    assert set(alone.index[alone == "reversed"]) == wrong


def test_what_the_answer_to_the_book_s_title_says_of_other_chapters():
    """Of claims whose verdict turns, the list at the end of the page turns too."""
    every = what_holds.judged()[1].set_index(["paper", "id"])["verdict"]
    by = every.groupby("id").agg(set)
    assert by["not_necessary"] == by["more_than_movement"] == {"holds"}
    assert by["falls_with_overfitting"] == by["norm_chooses_badly"] == {"holds, small"}
    assert by["principal_over_random"] == by["principal_over_span"] == {"undecided"}
    slower = [name for name in by.index if name.startswith("wrong_slower_than_")]
    assert slower and not {verdict for name in slower for verdict in by[name]} & {"holds", "holds, small"}


def test_where_they_fail():
    epochs, within = (JUDGE.along_axes(name).values for name in ("epoch", "within"))
    assert epochs["augmented"] < -0.95 and within["augmented"] < -0.95
    assert min(epochs[axis] for axis in ("width", "depth", "train_size")) > 0.4
    lenses = [name for name, measure in tables.MEASURES.items() if measure.kind == tables.LENS]
    assert [name for name in lenses if min(JUDGE.along_axes(name).values.values()) > 0] == ["mean"]
    sharp = JUDGE.along_axes("sharpness").ranked()
    assert min(JUDGE.along_axes("sharpness").values.values()) > 0 and round(sharp["granulated"].value, 2) == 0.5
    usual = [name for name, measure in tables.MEASURES.items() if measure.kind in (tables.LENS, tables.RIVAL)]
    means = {name: JUDGE.along_axes(name).ranked()["granulated"].value for name in usual}
    assert max(means, key=lambda name: means[name]) == "sharpness"
    counts = JUDGE.along_axes("mean").n
    assert len(counts) == 6 and sorted(counts.values())[3] <= 40 < sorted(counts.values())[4]
    slower = TRUE.groupby("augmented")[["epoch", "within", "error"]].mean()
    assert slower.loc[True, "epoch"] > slower.loc[False, "epoch"]
    assert (slower.loc[True, ["within", "error"]] < slower.loc[False, ["within", "error"]]).all()


def test_random_labels_turn_what_stiffness_seems_to_say():
    every = tables.Judge(NETWORKS[NETWORKS["reached"]])
    assert (round(JUDGE.overall("within").value, 2), round(every.overall("within").value, 2)) == (-0.60, 0.28)
    assert VERDICTS["labels_flatter"] == "holds"
    assert ranking.ceiling(TRUE["held_accuracy"].to_numpy(), TRUE["n_held"].to_numpy()) == pytest.approx(0.85, abs=0.01)
