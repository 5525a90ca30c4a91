"""What chapter 3 publishes: verified tables, enough seeds a row, controls beside every mask, what its prose says."""

from __future__ import annotations

import numpy as np
import pytest

from gendyn_lite import results
from gendyn_lite.chapters.fisher_mask import tables
from gendyn_lite.chapters.fisher_mask.claims import FITTED, FORM, RECORD, claims
from gendyn_lite.claims.sections import on_record_before

RUNS = results.published("fisher_mask")
FOUND = claims(RUNS).set_index("id")
NEW = RUNS[RUNS["probe_version"] == tables.EVERY_EPOCH]
CIFAR_10, CIFAR_100 = "mlp on CIFAR-10 ", "mlp on CIFAR-100 "
BARE = tables.influences(RUNS).query("way == 'no mask'")


def verdicts(name: str, place: str = "mlp on") -> set[str]:
    rows = FOUND.loc[[name]]
    rows = rows[rows["subject"].str.startswith(place) & (rows["n_seeds"] > 0)]
    assert len(rows) > 0, name
    return set(rows["verdict"])


def value(name: str, place: str = "mlp on") -> float:
    rows = FOUND.loc[[name]]
    (found,) = rows.loc[rows["subject"].str.startswith(place) & (rows["n_seeds"] > 0), "value"]
    return float(found)


def test_new_runs_have_five_seeds_that_had_not_been_run_and_all_bear_the_criteria():
    assert set(NEW["seed"]) == set(range(5, 10)) and set(RUNS["model"]) == {"mlp"}
    assert (NEW.groupby("group_id")["seed"].nunique() == 5).all()
    prior = {name for name, entry in RECORD.entries.items() if on_record_before(entry, RUNS)}
    added = {"wrong_slower_early_25"}
    assert prior == {name for name, entry in RECORD.entries.items() if entry.only} - added


def test_older_runs_are_those_of_the_network_without_batch_norm():
    old = RUNS[RUNS["probe_version"].isna()]
    assert set(old["seed"]) == set(range(5)) and set(old["mask_by"]) == {
        "fisher",
        "fisher_per_layer",
        "magnitude",
        "random",
    }
    assert ((old["mask/kept"] - old["mask_keep"])[(old["epoch"] > 0) & (old["mask_keep"] < 1)].abs() < 1e-4).all()


def test_influence_grows_before_it_falls_and_later_on_random_labels():
    logs = BARE.assign(log=np.log10(BARE[FORM])).groupby(["labels", "epoch"])["log"].mean().unstack(0)
    for name in ("true labels", "random labels"):
        assert logs[name].max() - logs[name][0] > 2 and logs[name][30] < logs[name].max() - 1
    assert logs["random labels"].idxmax() > logs["true labels"].idxmax()
    gap = logs["random labels"] - logs["true labels"]
    assert (gap.loc[1:12] < 0).all() and (gap.loc[15:] > 0).all()
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
    spread = FOUND.loc[["wrong_below_75", "wrong_below_25"], ["low", "high"]].abs().max(axis=1)
    assert spread.tolist() == pytest.approx([0.005, 0.022], abs=0.001)
    half = NEW[(NEW["label_corruption"] == 0.5) & (NEW["mask_keep"] == 1) & (NEW["epoch"] > 0)]
    assert 0.4 < half["below/wrong_25"].mean() < 0.5 and 0.4 < half["below/right_25"].mean() < 0.5
    assert (
        half["wrong/gradient"].groupby(half["seed"]).mean() > half["right/gradient"].groupby(half["seed"]).mean()
    ).all()


def test_the_test_loss_rises_less_by_epochs_and_more_at_equal_training_loss():
    for keep in (70, 80):
        assert verdicts(f"slower_loss_{keep}", CIFAR_100) == {"holds"}
        assert verdicts(f"slower_loss_{keep}", CIFAR_10) == {"negligible"}
        assert verdicts(f"loss_at_loss_{keep}", CIFAR_10) == {"reversed"}
    old = tables.described(RUNS[RUNS["probe_version"].isna() & (RUNS["label_corruption"] == 0)])
    for dataset, loss in (("cifar10", 0.1), ("cifar100", 1.0)):
        own = old[old["dataset"] == dataset]
        bare = tables.levels(own[own["way"] == tables.NONE], "train_loss", loss, "test_loss")
        for keep in (0.7, 0.8):
            masked = tables.levels(
                own[(own["way"] == "Fisher") & (own["kept"] == keep)], "train_loss", loss, "test_loss"
            )
            assert len(masked) == 5 and (masked > bare).all()
    assert old.loc[old["dataset"] == "cifar100", "train_loss"].min() > 0.1
    masked = old[(old["way"] == "Fisher") & old["kept"].isin([0.7, 0.8])]
    assert masked.loc[masked["influence/kl"].notna(), "epoch"].nunique() <= 8
    assert not NEW["mask_keep"].isin([0.7, 0.8]).any()
