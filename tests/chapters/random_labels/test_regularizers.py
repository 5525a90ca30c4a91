"""The plan of the regularizers has the paper's rows, for equal numbers of epochs; the traps spring."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pandas as pd
import pytest
import torch
from PIL import Image

from gendyn_lite import data, results
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels import demo
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.chapters.random_labels.tables import TABLE_1, with_regularizers, with_variants
from gendyn_lite.errors import UserError
from tests.chapters import photographs

by_size = pytest.mark.parametrize("profile", ["colab", "full"])


@by_size
def test_every_row_of_table_1_is_planned_with_five_seeds(profile):
    configs = random_labels.regularizer_plan(profile, dataset="cifar10")
    names = [results.tables.network_name(config.model, config.model_options) for config in configs]
    settings = [(each.random_crop > 0, each.weight_decay > 0, each.label_corruption) for each in configs]
    planned = Counter((name, *on) for name, on in zip(names, settings, strict=True))
    twin = ("inception_small", False, False, 0.0)  # batch-norm on, all else as without
    assert {row[:4]: planned[row[:4]] for row in TABLE_1 if planned[row[:4]] != 5} == {twin: 10}


@by_size
def test_rows_of_a_network_differ_in_what_is_switched_alone_and_go_on_to_the_last_epoch(profile):
    switched = {"seed": 0, "weight_decay": 0.0, "random_crop": 0, "label_corruption": 0.0, "model_options": {}}
    kinds: dict[str, set] = {}
    for config in random_labels.regularizer_plan(profile, dataset="cifar10"):
        assert not config.stop_when_fitted
        norm = config.model_options.get("batch_norm", True) and config.learning_rate != 0.003
        kinds.setdefault(f"{config.model} {config.epochs} {norm}", set()).add(str(config.replace(**switched).as_dict()))
    assert {len(rest) for rest in kinds.values()} == {1}


def test_the_twin_of_a_network_without_batch_norm_differs_in_that_alone():
    configs = [each for each in random_labels.regularizer_plan("colab", dataset="cifar10") if each.epochs == 120]
    plain = [each for each in configs if not (each.weight_decay or each.label_corruption)]
    off, on = (plain[:5], plain[5:])
    assert [twin.replace(model_options={"batch_norm": False}) for twin in on] == off and len(on) == 5


@by_size
def test_no_random_label_is_augmented_but_where_that_is_the_question(profile):
    configs = [*random_labels.regularizer_plan(profile, dataset="cifar10"), *random_labels.plan(profile)]
    augmented = [config for config in configs if config.random_crop or config.flip]
    assert {config.label_corruption for config in augmented} == {0}
    assert {c.center_crop + 2 * c.random_crop for c in augmented} == {32}  # any window of the image
    variants = with_variants(pd.DataFrame([config.as_dict() for config in random_labels.augmented_plan(profile)]))
    assert variants.groupby("variants")["seed"].nunique().to_dict() == {1: 5, 2: 5, 18: 5, 50: 5}
    assert set(variants["label_corruption"]) == {1.0}


@pytest.mark.parametrize("seed", range(3))
def test_both_halves_hold_each_class_equally_often(seed):
    """A network that knows one class is right as often on one half as on the other, whatever the order of images."""
    config = next(c for c in random_labels.regularizer_plan("smoke", seeds=3) if c.seed == seed)
    loaded = data.load_for_run(config.replace(test_size=None))[0]
    probe = random_labels._watched(config, loaded)["probes"]["watched"]
    for label in range(10):
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
        with torch.no_grad():
            network[1].weight.zero_()
            network[1].bias.copy_(torch.eye(10)[label])
        found = probe(network, 0)
        assert found["validation_accuracy"] == pytest.approx(
            found["test_accuracy"], abs=1.5 / (len(loaded.test.y) // 2)
        )


def test_each_half_of_the_test_images_is_watched_and_the_norm_of_the_weights(tmp_path):
    config = random_labels.regularizer_plan("smoke", networks="mlp_1x512", seeds=1, epochs=6, train_size=40)[2]
    rows = pd.DataFrame(random_labels.run(config, profile="smoke", root=tmp_path).rows())
    halves = rows[["watched/validation_accuracy", "watched/test_accuracy"]].mean(axis="columns")
    assert halves.tolist() == pytest.approx(rows["test_accuracy"].tolist())
    assert (rows["watched/validation_accuracy"] != rows["watched/test_accuracy"]).any()
    network = runner.trained(config, data.load_for_run(config)[0])
    norm = sum(float(weight.detach().pow(2).sum()) for weight in network.parameters()) ** 0.5
    assert rows["watched/weight_norm"].iloc[-1] == pytest.approx(norm)


def test_runs_say_which_regularizers_they_had(tmp_path):
    configs = random_labels.regularizer_plan("smoke", networks="mlp_1x512", seeds=1, epochs=1, train_size=40)
    table = results.load_runs(random_labels.run_all(configs, profile="smoke", root=tmp_path))
    found = with_regularizers(table).drop_duplicates("run_id")
    named = set(zip(found["regularizers"], found["label_corruption"], strict=True))
    more = {("random crop + weight decay", 0.0), ("random crop", 0.0), ("no regularizer", 0.5)}
    assert named == more | set(product(("weight decay", "no regularizer"), (0.0, 1.0)))


def test_each_trap_makes_memorization_look_impossible():
    right, redrawn, augmented = demo.memorization_traps()["train_accuracy"]
    assert right > 0.99 and redrawn < 0.4 and augmented < 0.6


def test_a_folder_of_few_images_is_planned_with_what_it_has(tmp_path):
    name = f"folder:{photographs.write(tmp_path / 'photographs', side=80)}"  # 12 to train on, 4 to test with
    with pytest.warns(UserWarning, match="takes at most 12 of 12 training images, and of each the middle 24x24 pixels"):
        random_labels.plan(dataset=name)
    small = [*random_labels.plan(dataset=name), *random_labels.regularizer_plan(dataset=name)]
    sides = {random_labels.SMOKE_SIDE, random_labels.TINY_SIDE}
    assert {(run.train_size, run.test_size) for run in small} == {(12, 4)} and {r.center_crop for r in small} == sides
    assert {run.random_crop for run in small} == {0, 2}
    whole = random_labels.plan("colab", dataset=name)
    assert {(run.train_size, run.test_size, run.center_crop) for run in whole} == {(12, 4, None)}
    assert {run.train_size for run in random_labels.plan(dataset=name, train_size=8)} == {8}


def test_images_of_several_sizes_are_taken_at_one_and_the_page_says_what_was_taken(tmp_path):
    folder = photographs.write(tmp_path / "photographs", side=80)
    first = min((folder / "train").rglob("*.*"))
    Image.open(first).resize((90, 40)).save(first)
    name = f"folder:{folder}"
    told = (
        "12 of 12 training images, .* resized to a shorter side of 32 pixels, the middle 24x24 .*; 4 of 4 test images"
    )
    with pytest.warns(UserWarning, match=rf"{told}; \d classes"):
        planned = random_labels.plan(dataset=name, networks="mlp_1x512", corruptions="1", seeds=1)
    assert {run.dataset for run in planned} == {f"{name}@32"} and {run.center_crop for run in planned} == {24}
    assert data.load(f"{name}@32").in_shape == (3, 32, 32)
    with pytest.raises(UserError, match="all must have the same size"):
        data.load(name)
