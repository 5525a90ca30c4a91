"""What chapter 3 publishes: verified tables, enough seeds a row, controls beside every mask, what its prose says."""

from __future__ import annotations

import re
from collections import Counter

import nbformat
import numpy as np
import pytest

from gendyn_lite import notebooks, results
from gendyn_lite.chapters.fisher_mask import demo as fisher_demo
from gendyn_lite.chapters.fisher_mask import tables
from gendyn_lite.chapters.fisher_mask.claims import CONTROLS, FITTED, FORM, RECORD, claims
from gendyn_lite.claims.sections import on_record_before

RUNS = results.published("fisher_mask")
FOUND = claims(RUNS).set_index("id")
EVERY_NEW = RUNS[RUNS["probe_version"] == tables.EVERY_EPOCH]
NEW = EVERY_NEW[(EVERY_NEW["model"] == "mlp") & (EVERY_NEW["dataset"] == "cifar10")]
CIFAR_10, CIFAR_100, RESNET = "mlp on CIFAR-10 ", "mlp on CIFAR-100 ", "resnet18 on "
WITHOUT = tables.influences(RUNS).query("way == 'no mask'")
BARE = WITHOUT[(WITHOUT["model"] == "mlp") & (WITHOUT["dataset"] == "cifar10")]
WHOLE = WITHOUT[WITHOUT["dataset"] == "cifar100"]


def verdicts(name: str, place: str = CIFAR_10) -> set[str]:
    rows = FOUND.loc[[name]]
    rows = rows[rows["subject"].str.startswith(place) & (rows["n_seeds"] > 0)]
    assert len(rows) > 0, name
    return set(rows["verdict"])


def value(name: str, place: str = CIFAR_10) -> float:
    rows = FOUND.loc[[name]]
    (found,) = rows.loc[rows["subject"].str.startswith(place) & (rows["n_seeds"] > 0), "value"]
    return float(found)


def test_new_runs_have_five_seeds_that_had_not_been_run_and_all_bear_the_criteria():
    assert set(EVERY_NEW["seed"]) == set(range(5, 10)) and set(RUNS["model"]) == {"mlp", "resnet18"}
    assert (EVERY_NEW.groupby("group_id")["seed"].nunique() == 5).all()
    prior = {name for name, entry in RECORD.entries.items() if on_record_before(entry, RUNS)}
    added = {"wrong_slower_early_25"}
    assert prior == {name for name, entry in RECORD.entries.items() if entry.only} - added


def test_older_runs_are_those_of_the_network_without_batch_norm():
    old = RUNS[(RUNS["probe_version"] == 1)]
    assert set(old["seed"]) == set(range(5)) and set(old["mask_by"]) == {"fisher", "magnitude", "random"}
    assert ((old["mask/kept"] - old["mask_keep"])[(old["epoch"] > 0) & (old["mask_keep"] < 1)].abs() < 1e-4).all()


def test_influence_grows_before_it_falls_and_later_on_random_labels():
    logs = BARE.assign(log=np.log10(BARE[FORM])).groupby(["labels", "epoch"])["log"].mean().unstack(0)
    for name in ("true labels", "random labels"):
        assert logs[name].max() - logs[name][0] > 2 and logs[name][30] < logs[name].max() - 1
    assert logs["random labels"].idxmax() > logs["true labels"].idxmax()
    gap = logs["random labels"] - logs["true labels"]
    assert (gap.loc[1:12] < 0).all() and (gap.loc[14:] > 0).all()
    fitted = BARE[BARE["labels"] == "random labels"].groupby("epoch")["train_accuracy"].mean()
    assert fitted[12] == pytest.approx(0.6, abs=0.01)
    assert verdicts("influence_falls") == {"holds, small"}


def test_what_was_less_epoch_by_epoch_is_more_where_memorization_happens():
    assert verdicts("random_less_by_epoch") == {"undecided"}
    assert verdicts("random_less_late") == verdicts("random_smaller_peak") == {"reversed"}
    assert 10 ** value("random_less_late") > 3 and value("random_smaller_peak") > 0
    fitted = BARE[(BARE["labels"] == "true labels") & (BARE["train_accuracy"] >= FITTED)]
    assert fitted["epoch"].min() >= 18


def test_at_equal_training_loss_labels_that_were_redrawn_have_no_less_influence():
    assert verdicts("random_less_at_loss") == {"undecided"} and value("random_less_at_loss") > 0
    assert verdicts("half_less_at_loss") == {"reversed"}


def test_wrong_labels_move_others_about_as_much_and_a_mask_cannot_tell_them_apart():
    assert verdicts("wrong_less") == verdicts("wrong_less_direction") == {"undecided"}
    assert value("wrong_less_direction") < 0 and abs(value("wrong_less")) < 0.05
    assert verdicts("wrong_below_75") == verdicts("wrong_below_25") == {"negligible"}
    dense = FOUND[FOUND["subject"].str.startswith(CIFAR_10)]
    spread = dense.loc[["wrong_below_75", "wrong_below_25"], ["low", "high"]].abs().max(axis=1)
    assert spread.tolist() == pytest.approx([0.005, 0.022], abs=0.001)
    half = NEW[(NEW["label_corruption"] == 0.5) & (NEW["mask_keep"] == 1) & (NEW["epoch"] > 0)]
    assert spread.iloc[0] < 0.0051 and spread.iloc[1] < 0.025
    assert 0.4 < half["below/wrong_25"].mean() < 0.5 and 0.4 < half["below/right_25"].mean() < 0.5
    assert (
        half["wrong/gradient"].groupby(half["seed"]).mean() > half["right/gradient"].groupby(half["seed"]).mean()
    ).all()


def test_the_test_loss_rises_less_by_epochs_and_more_at_equal_training_loss():
    for keep in (70, 80):
        assert verdicts(f"slower_loss_{keep}", CIFAR_100) == {"holds"}
        assert verdicts(f"slower_loss_{keep}", CIFAR_10) == {"negligible"}
        assert 0 < value(f"slower_loss_{keep}", CIFAR_10) < 0.025
        assert (
            FOUND.loc[f"loss_at_loss_{keep}"].set_index("subject").filter(like=CIFAR_100, axis=0)["n_seeds"] == 0
        ).all()
    assert (verdicts("loss_at_loss_70"), verdicts("loss_at_loss_80")) == ({"reversed"}, {"negligible"})
    assert (round(value("loss_at_loss_70"), 2), round(value("loss_at_loss_80"), 2)) == (0.07, 0.04)
    old = tables.described(RUNS[(RUNS["model"] == "mlp") & (RUNS["label_corruption"] == 0)])
    for dataset, loss in (("cifar10", 0.1), ("cifar100", 1.0)):
        own = old[old["dataset"] == dataset]
        bare = tables.levels(own[own["way"] == tables.NONE], "train_loss", loss, "test_loss")
        for keep in (0.7, 0.8):
            masked = tables.levels(
                own[(own["way"] == "Fisher") & (own["kept"] == keep)], "train_loss", loss, "test_loss"
            )
            assert len(masked) == 10 and (masked > bare).all()
    assert old.loc[old["dataset"] == "cifar100", "train_loss"].min() > 0.1
    left = {(70, CIFAR_10): 1.8, (70, CIFAR_100): 2.2, (80, CIFAR_10): 1.5, (80, CIFAR_100): 1.7}
    for (keep, place), times in left.items():
        assert 10 ** value(f"slower_influence_{keep}", place) == pytest.approx(times, abs=0.05)
        told = {"holds"} if (keep, place) == (70, CIFAR_10) else {"holds, small"}
        assert verdicts(f"slower_influence_{keep}", place) == told
    ends = tables.described(RUNS[(RUNS["epoch"] == 30) & (RUNS["label_corruption"] == 0)])
    ends = ends[ends["kept"].isin([0.7, 0.8, 1.0])].groupby(["dataset", "kept"])["train_loss"].mean().unstack()
    assert (ends[0.7] > ends[0.8]).all() and (ends[0.8] > ends[1.0]).all()


def test_what_was_not_run_is_what_the_page_lists():
    ways = set(zip(NEW["label_corruption"], NEW["mask_by"], NEW["mask_keep"], strict=True))
    masks = [("fisher", 0.7), ("fisher", 0.8)]
    quarters = [(by, keep) for by in ("fisher", *CONTROLS.values()) for keep in (0.25, 0.75)]
    bare = {(q, "fisher", 1.0) for q in (0.0, 0.5, 1.0)}
    assert ways == bare | {(0.0, *mask) for mask in (*masks, *quarters)} | {(0.5, *mask) for mask in quarters}
    other = EVERY_NEW[EVERY_NEW["dataset"] == "cifar100"]
    assert set(zip(other["label_corruption"], other["mask_by"], other["mask_keep"], strict=True)) == (
        {each for each in ways if each[0] == 0} | {(1.0, "fisher", 1.0)}
    )
    resnet = RUNS[RUNS["model"] == "resnet18"]
    assert set(resnet["mask_keep"]) == {1.0} and set(resnet["probe_version"]) == {2}
    assert set(resnet["n_train"]) == {500} and set(resnet["epochs"]) == {8}
    assert not ((RUNS["probe_version"] == 1) & (RUNS["label_corruption"] == 1)).any()


def test_on_cifar_100_influence_grows_and_in_resnet_it_falls_from_the_start():
    logs = WHOLE.assign(log=np.log10(WHOLE[FORM])).groupby(["labels", "epoch"])["log"].mean().unstack(0)
    gap = logs["random labels"] - logs["true labels"]
    assert (gap.loc[1:20] < 0).all() and (gap.loc[24:] > 0).all() and 20 <= logs["true labels"].idxmax() <= 25
    assert verdicts("influence_falls", CIFAR_100) == {"reversed"}
    assert verdicts("random_less_by_epoch", CIFAR_100) == {"holds"}
    assert 10 ** value("random_less_by_epoch", CIFAR_100) == pytest.approx(0.54, abs=0.02)
    whole = WHOLE.assign(log=np.log10(WHOLE[FORM]))
    for loss, times in ((2.0, 1.1), (1.0, 1.2)):  # the lead of true labels is one of time alone
        random, bare = (
            tables.levels(whole[whole["labels"] == name], "train_loss", loss, "log")
            for name in ("random labels", "true labels")
        )
        assert len(random) == 5 and 10 ** (random - bare).mean() == pytest.approx(times, abs=0.05)
    resnet = WITHOUT[WITHOUT["model"] == "resnet18"]
    true = resnet[resnet["labels"] == "true labels"]
    assert set(true.loc[true.groupby("seed")[FORM].idxmax(), "epoch"]) == {0}
    assert true.groupby("seed")["train_accuracy"].max().ge(FITTED).sum() == 1
    assert verdicts("influence_falls", RESNET) == {"holds, small"}
    assert verdicts("random_less_by_epoch", RESNET) == {"undecided"}
    dense = FOUND.loc["wrong_below_25"].set_index("subject").filter(like=RESNET, axis=0)
    assert dense[["low", "high"]].abs().max(axis=None) < 0.001


def fitted_wrong(way: str, keep: float, right: float) -> np.ndarray:
    found = tables.fits(NEW)
    own = found[(found["way"] == way) & (found["kept"] == keep) & (found["right"] == right)]
    return own.set_index("seed")["wrong"]


def test_a_mask_fits_as_many_wrong_labels_for_the_same_share_of_right_ones():
    for keep in (25, 75):
        (rows,) = (FOUND.loc[[f"wrong_slower_than_none_{keep}"]],)
        assert set(rows["verdict"]) == {"undecided"} and rows["low"].min() > -0.03
    assert verdicts("wrong_slower_than_shorter_25") == {"undecided"}
    assert verdicts("wrong_slower_than_shorter_75") == {"negligible"}
    assert FOUND.loc["wrong_slower_than_none_25", "low"] > -0.02
    for right in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        masked = fitted_wrong("Fisher", 0.25, right)
        for other in (fitted_wrong(tables.NONE, 1.0, right), fitted_wrong("no mask, steps as short", 0.25, right)):
            assert (masked - other).mean() > -0.011


def test_a_fixed_random_mask_of_a_quarter_hardly_gets_there():
    assert len(fitted_wrong("random, fixed", 0.25, 0.6)) == 1
    assert FOUND.loc["wrong_slower_than_fixed_25", "n_seeds"] == 1
    assert FOUND.loc["wrong_slower_than_fixed_25", "verdict"] == "undecided"
    assert len(fitted_wrong("random, fixed", 0.25, 0.5)) == 5 and verdicts("wrong_slower_early_25") == {"undecided"}


def test_after_equal_epochs_the_masks_that_know_least_fit_fewest_wrong_labels_and_have_the_best_accuracy():
    last = tables.described(NEW[(NEW["label_corruption"] == 0.5) & (NEW["epoch"] == 30)])
    means = last.groupby(["way", "kept"])[["fit/wrong", "test_accuracy"]].mean()
    quarter = means.xs(0.25, level="kept").loc[["random, redrawn", "random, fixed", "magnitude", "Fisher"]]
    assert quarter["fit/wrong"].round(2).tolist() == [0.22, 0.33, 0.41, 0.92]
    assert means.loc[(tables.NONE, 1.0), "fit/wrong"] > 0.99
    assert quarter["test_accuracy"].round(2).tolist()[:3] == [0.26, 0.26, 0.25] and quarter.iloc[3, 1] < 0.21


def test_no_fisher_mask_gains_over_no_mask():
    for keep in (75, 25):
        assert "holds" not in verdicts(f"better_than_none_{keep}") | verdicts(f"better_at_loss_none_{keep}")
        assert (FOUND.loc[f"better_than_none_{keep}", "value"] < 0).all()
    highest = [FOUND.loc[f"better_than_none_{keep}", "high"].max() for keep in (75, 25)]
    assert highest == pytest.approx([0.5, 1], abs=0.05)  # not excluded
    close = FOUND[FOUND.index.str.startswith("better_than") & FOUND.index.str.endswith("75") & (FOUND["n_seeds"] >= 5)]
    assert (close["value"].abs() < 0.5).all()
    quarter = f"{CIFAR_10.strip()} (JPEG q75), n = 1,000, true"
    assert verdicts("better_than_none_25", quarter) == {"reversed"}
    assert value("better_than_none_25", quarter) == pytest.approx(-1.1, abs=0.1)


def test_steps_as_short_do_better_than_a_mask_of_a_quarter():
    quarter = f"{CIFAR_10.strip()} (JPEG q75), n = 1,000, true"
    assert verdicts("better_than_shorter_25", quarter) == {"reversed"}
    assert value("better_than_shorter_25", quarter) == pytest.approx(-1.3, abs=0.05)
    assert verdicts("better_than_shorter_25", quarter.replace("true", "50 %")) == {"undecided"}
    assert "holds" not in verdicts("better_at_loss_shorter_25")


def test_at_equal_training_loss_a_quarter_has_one_to_two_points_less():
    found = FOUND.loc["better_at_loss_none_25"]
    found = found[found["n_seeds"] >= 5]
    assert set(found["verdict"]) == {"reversed"} and len(found) == 3 and found["value"].between(-2, -1).all()


def test_leads_over_other_masks_on_cifar_100_where_no_mask_is_better_still():
    leads = {"random": (1.2, "holds"), "fixed": (0.7, "holds, small"), "magnitude": (0.4, "holds, small")}
    for control, (lead, verdict) in leads.items():
        assert verdicts(f"better_than_{control}_25", CIFAR_100) == {verdict}
        assert value(f"better_than_{control}_25", CIFAR_100) == pytest.approx(lead, abs=0.05)
    assert value("better_than_none_25", CIFAR_100) == pytest.approx(-0.4, abs=0.05)
    true = f"{CIFAR_10.strip()} (JPEG q75), n = 1,000, true labels"
    assert value("better_than_none_25", true) == pytest.approx(-1.1, abs=0.05)
    for control, lead, verdict in (("random", 0.8, "holds, small"), ("fixed", -0.8, "undecided")):
        assert verdicts(f"better_than_{control}_25", true) == {verdict}
        assert value(f"better_than_{control}_25", true) == pytest.approx(lead, abs=0.05)
    assert verdicts("better_than_random_75", true) == {"reversed"}
    assert value("better_than_random_75", true) == pytest.approx(-0.3, abs=0.05)
    largest = FOUND.loc["better_than_magnitude_25"].set_index("subject").filter(like=CIFAR_10, axis=0)
    assert set(largest["verdict"]) == {"undecided"}


def test_those_leads_are_of_speed_and_gone_at_equal_training_loss():
    true = tables.described(EVERY_NEW[(EVERY_NEW["label_corruption"] == 0) & (EVERY_NEW["model"] == "mlp")])
    true = true[true["kept"] == 0.25]
    ends = true[(true["epoch"] == 30) & (true["dataset"] == "cifar100")].groupby("way")["train_accuracy"].mean()
    others = ["random, redrawn", "random, fixed", "magnitude"]
    assert ends["Fisher"] == pytest.approx(0.44, abs=0.005)
    assert (ends[others].min().round(2), ends[others].max().round(2)) == (0.17, 0.25)
    for data, loss, low, high in (("cifar100", 3.9, -0.5, 0.0), ("cifar10", 2.0, -0.9, -0.4)):
        own = true[true["dataset"] == data]
        at = {way: tables.levels(runs, "train_loss", loss, "test_accuracy") for way, runs in own.groupby("way")}
        leads = [100 * (at["Fisher"] - at[way]).mean() for way in others]
        assert all(len(at[way]) == 5 for way in (*others, "Fisher"))
        assert low - 0.05 < min(leads) and max(leads) < high + 0.05


COUNTS = ("no", "one", "two", "three", "four", "five", "six")


def test_the_title_of_folded_verdicts_counts_them():
    cells = nbformat.read(notebooks.chapter_path("03_fisher_mask"), as_version=4).cells
    folded = [cell for cell in cells if "tables.answer" in cell.source and "mystnb" in cell.metadata]
    for cell in folded:
        html = cell.outputs[0]["data"]["text/html"]
        found = Counter(re.findall(r"<p><strong>.&nbsp;([a-z, ]+)</strong>", html))
        title = cell.metadata["mystnb"]["code_prompt_show"].partition(": ")[2].replace("holds, small", "holds small")
        said = (part.split(" ", 1) for part in re.split("[,;] ", title))
        assert {
            verdict.replace("holds small", "holds, small"): COUNTS.index(number) for number, verdict in said
        } == found
    assert len(folded) == 5


def test_how_much_too_small_the_diagonal_is():
    pairs = fisher_demo.diagonal_against_whole()
    assert float((pairs["whole"] / pairs["diagonal"]).median()) == pytest.approx(60, rel=0.1)
    for place, factor in ((CIFAR_10, 300), (CIFAR_100, 100), (RESNET, 3000)):
        assert 10 ** -value("diagonal_alone", place) == pytest.approx(factor, rel=0.15)


def at_losses(column, level, kept, data="cifar10"):
    """A column of runs with true labels at a training loss, by way and seed, minus that without a mask."""
    rows = tables.described(RUNS)
    rows = rows[(rows["model"] == "mlp") & (rows["dataset"] == data) & (rows["label_corruption"] == 0)]
    bare = tables.levels(rows[rows["way"] == tables.NONE], "train_loss", level, column)
    ways = rows[rows["kept"].eq(kept) & (rows["way"] != tables.NONE)].groupby("way")
    return {way: (tables.levels(runs, "train_loss", level, column) - bare).dropna() for way, runs in ways}


def test_late_in_training_the_choice_by_fisher_information_costs_test_loss_and_other_masks_save_some():
    late, early = at_losses("test_loss", 0.2, 0.75), at_losses("test_loss", 1.0, 0.75)
    means = {way: round(float(each.mean()), 2) for way, each in late.items()}
    assert means == {
        "Fisher": 0.05, "no mask, steps as short": 0.01,
        "magnitude": -0.05, "random, redrawn": -0.04, "random, fixed": -0.03,
    }  # fmt: skip
    assert (late["Fisher"] > 0).all() and len(late["Fisher"]) == 10
    assert all((late[way] < 0).all() for way in ("magnitude", "random, redrawn", "random, fixed"))
    assert abs(early["Fisher"].mean()) < 0.02 and abs(at_losses("test_loss", 1.0, 0.7)["Fisher"].mean()) < 0.02


def test_from_a_loss_on_the_smaller_mask_has_a_deficit_and_steps_as_short_have_none():
    def gain(level, data="cifar10"):
        return 100 * at_losses("test_accuracy", level, 0.25, data)["Fisher"]

    late = [gain(level) for level in (1.2, 1.0, 0.7, 0.5, 0.3, 0.2)]
    assert all(-2 < each.mean() < -1 and each.mean() + 3 * each.sem() < 0 for each in late)
    assert all(abs(gain(level).mean()) < 0.4 for level in (1.5, 1.8, 2.0))
    assert all(abs(gain(level, "cifar100").mean()) < 0.4 for level in (3.0, 3.5, 3.9))
    assert round(float(gain(2.5, "cifar100").mean()), 1) == -0.4


def test_the_fewer_weights_a_fisher_mask_keeps_the_higher_is_the_test_loss_at_equal_training_loss():
    costs = {("cifar10", 1.0): 0.07, ("cifar10", 0.5): 0.21, ("cifar10", 0.2): 0.40, ("cifar100", 2.5): 0.20}
    for (data, level), cost in costs.items():
        found = at_losses("test_loss", level, 0.25, data)
        assert round(float(found["Fisher"].mean()), 2) == cost and (found["Fisher"] > 0).all()
        assert abs(found["no mask, steps as short"].mean()) < 0.04
    for level in (0.5, 0.2):  # no other mask of a quarter gets there
        others = at_losses("test_loss", level, 0.25)
        assert all(len(others[way]) == 0 for way in ("magnitude", "random, redrawn", "random, fixed"))
    half = tables.described(RUNS[(RUNS["model"] == "mlp") & (RUNS["label_corruption"] == 0.5)])
    at = {
        kept: tables.levels(half[(half["way"] == way) & (half["kept"] == kept)], "train_loss", 0.5, "test_loss")
        for way, kept in ((tables.NONE, 1), ("Fisher", 0.25))
    }
    assert (at[0.25] - at[1]).mean() == pytest.approx(0.32, abs=0.005)
    for level, lower in ((0.3, -0.05), (0.2, -0.04)):
        assert round(float(at_losses("test_loss", level, 0.75)["random, redrawn"].mean()), 2) == lower
    for level in (3, 2.5, 2):
        found = at_losses("test_loss", level, 0.75, "cifar100")
        assert found["random, redrawn"].mean() < 0 and found["magnitude"].mean() < 0


def test_at_losses_before_the_end_influence_is_higher_on_random_labels_on_every_seed():
    logs = BARE.assign(log=np.log10(BARE[FORM]))
    ratios = []
    for level in (1.5, 1.0, 0.8, 0.7):
        true, random = (
            tables.levels(logs[logs["labels"] == labels], "train_loss", level, "log")
            for labels in ("true labels", "random labels")
        )
        assert len((random - true).dropna()) == 5 and (random > true).all()
        ratios.append(10 ** (random - true).mean())
    assert min(ratios) == pytest.approx(1.65, abs=0.05) and max(ratios) == pytest.approx(2.0, abs=0.06)


def test_the_step_of_the_papers_size_is_too_long_for_the_form_on_more_classes():
    places = (CIFAR_10, CIFAR_100, RESNET)
    assert [round(10 ** value("step_as_form", place), 1) for place in places] == [1.1, 2.6, 3.3]
    rows = WITHOUT[(WITHOUT["model"] == "resnet18") & (WITHOUT["labels"] == "true labels")]
    off = np.log10(rows["influence/kl"] / rows[FORM]).groupby(rows["epoch"]).mean()
    assert off[0] > 3 and abs(off[1:].mean()) < 0.2
