"""The live explorer of chapter 3 works as an object: its controls describe a step, and the status says what moved."""

from __future__ import annotations

import pytest

from gendyn_lite.chapters.fisher_mask import demo as fisher_demo
from gendyn_lite.chapters.fisher_mask.explorer import InfluenceExplorer
from gendyn_lite.errors import UserError


def test_the_status_says_what_a_step_does():
    explorer = InfluenceExplorer()
    whole = explorer.status.value
    rows = fisher_demo.step(example=0, eps=0.03)
    assert f"mean KL {rows['kl'].mean():.2e}" in whole
    explorer.keep.value = 0.25
    masked = fisher_demo.step(example=0, eps=0.03, keep=0.25)
    assert f"mean KL {masked['kl'].mean():.2e}" in explorer.status.value
    assert masked["kl"].mean() < rows["kl"].mean()
    explorer.units.value = "relu"
    explorer.example.value = 7
    assert explorer.status.value != whole


def test_an_example_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="example is 300, expected a number from 0 to 299"):
        fisher_demo.step(example=300, eps=0.1)
