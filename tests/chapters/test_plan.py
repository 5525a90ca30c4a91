"""Plans of the chapters that have several kinds of runs: each is valid, and a wrong one is refused."""

from __future__ import annotations

import pytest

from gendyn_lite import data, models
from gendyn_lite.chapters.path_functions import runs as path_functions
from gendyn_lite.chapters.registry import NOTEBOOKS, PROFILES, planned
from gendyn_lite.chapters.stiffness import runs as stiffness
from gendyn_lite.errors import UserError

KINDS = {"path": path_functions, "stiffness": stiffness}


@pytest.mark.parametrize(
    ("chapter", "kind", "profile"),
    [
        pytest.param(chapter, kind, profile, id=f"{chapter}-{kind}-{profile}")
        for chapter, runs_of in KINDS.items()
        for kind in runs_of.KINDS
        for profile in PROFILES
    ],
)
def test_every_plan_is_valid_and_every_network_exists(chapter, kind, profile):
    configs = KINDS[chapter].plan(kind, profile)
    assert len({config.run_id("00") for config in configs}) == len(configs)
    assert {config.model for config in configs} <= set(models.names())
    assert {config.dataset for config in configs} <= set(data.names())
    assert {config.experiment for config in configs} == {f"{chapter}_{kind}"}


@pytest.mark.parametrize(
    ("runs_of", "options", "message"),
    [
        (path_functions, {"kind": "network"}, "unknown kind of runs 'network': did you mean 'networks'"),
        (path_functions, {"kind": "deep", "profile": "ful"}, "unknown profile 'ful'"),
        (stiffness, {"kind": "layer"}, "unknown kind of runs 'layer': did you mean 'layers'"),
        (stiffness, {"kind": "maps", "profile": "smok"}, "unknown profile 'smok'"),
    ],
    ids=["path-kind", "path-profile", "stiffness-kind", "stiffness-profile"],
)
def test_a_wrong_plan_is_refused(runs_of, options, message):
    with pytest.raises(UserError, match=message):
        runs_of.plan(**options)


@pytest.mark.parametrize("seeds", [-1, 10**9])
@pytest.mark.parametrize("chapter", NOTEBOOKS)
def test_too_many_seeds_are_refused_before_any_run_is_made(chapter, seeds):
    with pytest.raises(UserError, match=rf"^seeds is {seeds}, expected a whole number in \[0, 200\]$"):
        planned(chapter, "smoke", {"seeds": seeds})
