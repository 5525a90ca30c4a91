"""Every chapter is a folder with the same names in it, in the one list; its plans are valid, and wrong ones refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendyn_lite import chapters, data, models, notebooks
from gendyn_lite.chapters import registry
from gendyn_lite.chapters.fisher_mask import runs as fisher_mask
from gendyn_lite.chapters.path_functions import runs as paths
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.chapters.registry import NOTEBOOKS, groups, planned
from gendyn_lite.chapters.stiffness import runs as stiffness
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import PROFILES
from tests.measures.networks import refused

GROUPS = [(name, number) for name in NOTEBOOKS for number in range(len(groups(name)))]
# Data sets with a plan of their own, beside those that the profiles take.
DATA = [("01_random_labels", *of) for of in (("colab", "cifar10"), ("full", "mnist"))]
DATA += [("03_fisher_mask", *of) for of in (("colab", "cifar100"), ("colab", "digits"), ("full", "cifar10"))]
DATA += [("05_generalization_intervals", "full", dataset) for dataset in ("cifar10", "digits")]
WRONG = [
    (random_labels.plan, (), {"corruptions": "0,1.5"}, r"label_corruption is 1.5, expected a number in \[0, 1\]"),
    (random_labels.plan, (), {"corruptions": "0,half"}, "corruptions has 'half', expected numbers"),
    (random_labels.plan, (), {"seeds": 150, "corruptions": "0,0.1,0.2,0.3,0.4,0.5"}, "has 2,250 runs, at most 2,000"),
    (random_labels.plan, (), {"corruptions": "0.5," * 10_000}, "the plan has .* runs, at most 2,000"),
    (random_labels.plan, (), {"epochs": -5}, "epochs is -5, expected a whole number of at least 1"),
    (random_labels.regularizer_plan, (), {"networks": "vgg19"}, "unknown network of Table 1 'vgg19'"),
    (random_labels.regularizer_plan, (), {"epochs": -1}, "epochs is -1, expected a whole number of at least 1"),
    (paths.plan, (), {"kind": "network"}, "unknown kind of runs 'network': did you mean 'networks'"),
    (fisher_mask.plan, (), {"profile": "colab", "network": "resnet81"}, "unknown network of this plan 'resnet81'"),
    (stiffness.plan, (), {"kind": "layer"}, "unknown kind of runs 'layer': did you mean 'layers'"),
]


def check(configs):
    assert len({config.run_id("00") for config in configs}) == len(configs) > 0
    assert {config.model for config in configs} <= set(models.names())
    assert {config.dataset for config in configs} <= set(data.names())


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("notebook", "number"), GROUPS)
def test_every_plan_is_valid_and_has_no_run_twice(notebook, number, profile):
    check(groups(notebook)[number].plan(profile, {}))


@pytest.mark.parametrize(("notebook", "profile", "dataset"), DATA)
def test_every_plan_for_a_data_set_is_valid(notebook, profile, dataset):
    for group in groups(notebook):
        if group.asked_by == "the chapter's cells":
            configs = group.plan(profile, {"dataset": dataset})
            check(configs)
            assert dataset in {config.dataset for config in configs}


test_a_wrong_plan_is_refused_in_one_line = refused({message[:40]: (*call, message) for *call, message in WRONG})


@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_an_unknown_profile_is_refused(chapter):
    for group in groups(chapter):
        if group.asked_by != "a command of its own":
            with pytest.raises(UserError, match="unknown profile 'smok': did you mean 'smoke'"):
                group.plan("smok", {})


@pytest.mark.parametrize("seeds", [-1, 201, 10**9])
@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_too_many_seeds_are_refused_before_any_run_is_made(chapter, seeds):
    with pytest.raises(UserError, match=rf"^seeds is {seeds}, expected a whole number in \[0, 200\]$"):
        planned(chapter, "smoke", {"seeds": seeds})


NAMES = {"__init__", "runs", "probes", "tables", "claims", "charts", "demo", "explorer", "exercises"}
OWN = {"random_labels": {"imagenet"}, "which_lens": {"ranking", "judging"}}

FOLDERS = sorted(path.parent for path in Path(chapters.__path__[0]).glob("*/__init__.py"))


def test_the_list_names_every_folder_and_every_notebook():
    assert sorted(chapter.name for chapter in registry.CHAPTERS) == [folder.name for folder in FOLDERS]
    assert {chapter.notebook for chapter in registry.CHAPTERS} <= set(notebooks.chapters())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_same_file_names_in_each(folder):
    """A large file may be several, ``charts.py`` and ``charts_layers.py``."""
    stems = {path.stem if path.stem == "__init__" else path.stem.split("_")[0] for path in folder.glob("*.py")}
    assert stems <= NAMES | OWN.get(folder.name, set())
    assert {"runs", "claims", "charts"} <= stems


def test_claims_are_judged_without_torch(judged):
    assert not judged.with_torch
