"""A grid is the product that it says, in exact steps; what it leaves out is the chapter's; a mistake is one line."""

from __future__ import annotations

import re

import pytest

from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.chapters.registry import NOTEBOOKS, planned, unique
from gendyn_lite.errors import UserError
from gendyn_lite.sweep.grid import SWEPT, expand, read_grid
from tests.measures.networks import refused


def test_ranges_lists_and_words() -> None:
    found = read_grid(["q=0:1:0.1", "network=mlp_1x512, mlp (widths 8, 8)", "seed=0..4,9", "train_size=none,1e3"])
    assert found == {
        "label_corruption": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        "model": ["mlp_1x512", "mlp (widths 8, 8)"],
        "seed": [0, 1, 2, 3, 4, 9],
        "train_size": [None, 1000],
    }
    assert read_grid(["dataset=folder:some:place"]) == {"dataset": ["folder:some:place"]}
    assert read_grid(["q=0:1:0.3"]) == {"label_corruption": [0.0, 0.3, 0.6, 0.9]}
    assert read_grid([]) == {}


MISTAKES = {
    "name": (["nettwork=a"], "unknown name on the grid 'nettwork': did you mean 'network'"),
    "no values": (["q"], "'q' is not NAME=VALUES, for instance q=0:1:0.1"),
    "twice": (["q=0,1", "label_corruption=0.5"], "names label_corruption twice"),
    "a value twice": (["q=0,0.0"], "q=0,0.0 names a value twice"),
    "no number": (["q=half"], "q is 'half' (str), expected a number"),
    "no whole number": (["seed=0.5"], "seed is 0.5 (float), expected a whole number"),
    "no step": (["q=0:1"], "q=0:1: expected LOW:HIGH:STEP"),
    "downwards": (["q=1:0:0.1"], "expected LOW:HIGH:STEP with a step above 0 and LOW at most HIGH"),
    "step 0": (["q=0:1:0"], "expected LOW:HIGH:STEP with a step above 0"),
    "nan": (["q=0:nan:1"], "expected LOW:HIGH:STEP"),
    "too many values": (["seed=0..2000"], "the grid has 2,001 runs, at most 2,000"),
    "too many runs": (["seed=0..49", "epochs=1..41"], "the grid has 2,050 runs, at most 2,000"),
    "far too many": (["q=0:1:1e-12"], "runs, at most 2,000"),
    "a tiny step": (["q=0:1:1e-999999"], "has over 1,000,000,000,000 runs, at most 2,000"),
    "a huge end": (["seed=0.." + "9" * 5000], "has over 1,000,000,000,000 runs"),
    "no end": (["q=0:inf:1"], "q=0:inf:1: expected LOW:HIGH:STEP"),
    "beyond decimal arithmetic": (["q=0:1e999999:1e-9"], "expected LOW:HIGH:STEP"),
    "ranges that are too many together": (["seed=0..1999,2000..3999"], "the grid has 4,000 runs"),
    "a seed of a billion digits": (["seed=1e999999999"], "expected a whole number"),
}
test_a_mistake_is_one_line = refused(
    {name: (read_grid, (texts,), {}, re.escape(said)) for name, (texts, said) in MISTAKES.items()}
)


def test_a_network_brings_its_own_settings_of_the_plan() -> None:
    plan = random_labels.plan("smoke")
    found = expand(plan, read_grid(["seed=0..1", "q=0,1", "network=mlp_3x512,mlp_1x512"]))
    assert [(run.model, run.label_corruption, run.seed, run.train_size) for run in found] == [
        (model, q, seed, size)
        for model, size in (("mlp_3x512", 300), ("mlp_1x512", 1000))
        for q in (0.0, 1.0)
        for seed in (0, 1)
    ]
    assert set(found) <= set(plan)  # the very runs of the chapter, with the same keys


def test_what_is_new_to_a_chapter_takes_the_rest_of_its_first_run() -> None:
    plan = random_labels.plan("smoke")
    (new,) = expand(plan, {"model": ["alexnet_small"], "dataset": ["mnist"]})
    assert new == plan[0].replace(model="alexnet_small", dataset="mnist")


def test_a_run_that_is_evaluated_at_its_end_still_is() -> None:
    (run,) = expand(planned("05_generalization_intervals", "smoke", {}), {"epochs": [7]})
    assert (run.epochs, run.eval_every) == (7, 7)


def test_an_experiment_of_another_chapter_is_refused() -> None:
    with pytest.raises(UserError, match="unknown experiment of the chapter 'stiffness_maps'"):
        expand(random_labels.plan("smoke"), {"experiment": ["stiffness_maps"]})


@pytest.mark.parametrize("chapter", NOTEBOOKS)
@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_every_chapter_has_runs_and_each_is_one(chapter: str, profile: str) -> None:
    configs = planned(chapter, profile, {}, asked_by=SWEPT)
    assert 0 < len(unique(configs)) == len({str(config.as_dict()) for config in configs})
