"""Exercises of every chapter: the folded solution passes, and each classical slip is told apart."""

from __future__ import annotations

import pytest

from tests.chapters.fisher_mask import exercises as fisher_mask
from tests.chapters.generalization_intervals import exercises as generalization_intervals
from tests.chapters.path_functions import exercises as path_functions
from tests.chapters.random_labels import exercises as random_labels
from tests.chapters.solutions import CHAPTERS, function, solutions
from tests.chapters.stiffness import exercises as stiffness

MODULES = (random_labels, path_functions, fisher_mask, stiffness, generalization_intervals)
TESTED = {module.NOTEBOOK: module for module in MODULES}
FOLDED = {notebook: solutions(notebook) for notebook in TESTED}
CHECKS = [
    pytest.param(*check, FOLDED[notebook].get(label, ""), id=f"{notebook}-{label}")
    for notebook, module in TESTED.items()
    for label, check in module.CHECKS.items()
]
SLIPS = [
    pytest.param(*module.CHECKS[label], *slip, id=f"{label}-{number}")
    for module in MODULES
    for label, slips in module.SLIPS.items()
    for number, slip in enumerate(slips.items())
]
STOPPED = [("raise NotImplementedError", "your turn"), ("p.means()", "your code stopped with AttributeError")]


def test_every_exercise_with_a_solution_is_tested():
    found = {path.stem: set(solutions(path.stem)) for path in CHAPTERS.glob("*.ipynb")}
    assert {name: labels for name, labels in found.items() if labels} == {
        name: set(module.CHECKS) for name, module in TESTED.items()
    }


@pytest.mark.parametrize(("signature", "checker", "code"), CHECKS)
def test_the_folded_solution_is_right(signature, checker, code, capsys):
    assert checker(function(signature, code)), capsys.readouterr().out


@pytest.mark.parametrize(("signature", "checker", "code", "told"), SLIPS)
def test_a_slip_is_told_in_one_line(signature, checker, code, told, capsys):
    assert not checker(function(signature, code))
    out = capsys.readouterr().out
    assert told in out
    assert out.count("\n") == 1


@pytest.mark.parametrize(("code", "told"), STOPPED)
def test_code_that_stops_is_told(code, told, capsys):
    signature, checker = fisher_mask.CHECKS["ex-kl"]
    assert not checker(function(signature, code))
    assert told in capsys.readouterr().out
