"""The plan of the regularizers has the paper's rows and shares its plain ones with Fig. 1; the traps spring."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from gendyn_lite import results
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels import demo
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.chapters.random_labels.tables import TABLE_1, with_regularizers
from tests.chapters import photographs

by_size = pytest.mark.parametrize("profile", ["colab", "full"])


@by_size
def test_every_row_of_table_1_is_planned_with_three_seeds(profile):
    configs = [config for config in random_labels.regularizer_plan(profile, dataset="cifar10") if not is_twin(config)]
    names = [results.tables.network_name(config.model, config.model_options) for config in configs]
    settings = [(each.random_crop > 0, each.weight_decay > 0, each.label_corruption == 1) for each in configs]
    planned = Counter((name, *on) for name, on in zip(names, settings, strict=True))
    assert {planned[row[:4]] for row in TABLE_1} == {3}


def is_twin(config):
    """Whether it is the network with batch-norm, trained as the one without."""
    on = config.random_crop or config.weight_decay or config.model_options
    return config.experiment == random_labels.REGULARIZERS and not on


def test_the_twin_of_a_network_without_batch_norm_differs_in_that_alone():
    configs = random_labels.regularizer_plan("colab", dataset="cifar10")
    twins = [config for config in configs if is_twin(config)]
    off = [each for each in configs if each.model_options == {"batch_norm": False} and not each.weight_decay]
    plain = [config for config in off if config.label_corruption == 0]
    assert len(twins) == 3
    assert [twin.replace(experiment="random_labels", model_options={"batch_norm": False}) for twin in twins] == plain


@by_size
def test_rows_without_a_regularizer_are_the_runs_of_fig_1_and_no_random_label_is_augmented(profile):
    ours, of_fig_1 = (make(profile, dataset="cifar10") for make in (random_labels.regularizer_plan, random_labels.plan))
    plain = {config.run_id("00") for config in ours if config.experiment == random_labels.EXPERIMENT}
    assert plain <= {config.run_id("00") for config in of_fig_1}
    assert len(plain) == 2 * 3 * len({row.network for row in TABLE_1})
    augmented = [config for config in [*ours, *of_fig_1] if config.random_crop or config.flip]
    assert {config.label_corruption for config in augmented} == {0}
    assert {c.center_crop + 2 * c.random_crop for c in augmented} <= {8, 32}  # any window of the image
    assert not set(augmented) & set(of_fig_1)


def test_runs_say_which_regularizers_they_had(tmp_path):
    configs = random_labels.regularizer_plan("smoke", networks="mlp_1x512", seeds=1, epochs=1, train_size=40)
    table = results.load_runs(runner.run_all(configs, profile="smoke", root=tmp_path))
    found = with_regularizers(table).drop_duplicates("run_id")
    named = set(zip(found["regularizers"], found["random"], strict=True))
    augmented = {("random crop + weight decay", False), ("random crop", False)}
    assert named == augmented | set(product(("weight decay", "no regularizer"), (False, True)))


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
