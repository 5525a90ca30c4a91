"""Exercises of every chapter: the folded solution passes, and each classical slip is told apart."""

from __future__ import annotations

import pytest

from tests.chapters.fisher_mask import exercises as fisher_mask
from tests.chapters.generalization_intervals import exercises as generalization_intervals
from tests.chapters.path_functions import exercises as path_functions
from tests.chapters.random_labels import exercises as random_labels
from tests.chapters.solutions import CHAPTERS, Exercise, solutions
from tests.chapters.stiffness import exercises as stiffness

MODULES = (random_labels, path_functions, fisher_mask, stiffness, generalization_intervals)
TESTED = {module.NOTEBOOK: module.EXERCISES for module in MODULES}
FOLDED = {notebook: solutions(notebook) for notebook in TESTED}
EXERCISES = [
    pytest.param(exercise, FOLDED[notebook].get(label, ""), id=f"{notebook}-{label}")
    for notebook, exercises in TESTED.items()
    for label, exercise in exercises.items()
]
SLIPS = [
    pytest.param(exercise, *slip, id=f"{label}-{number}")
    for exercises in TESTED.values()
    for label, exercise in exercises.items()
    for number, slip in enumerate(exercise.slips.items())
]


def test_every_exercise_with_a_solution_is_tested():
    found = {path.stem: set(solutions(path.stem)) for path in CHAPTERS.glob("*.ipynb")}
    assert {name: labels for name, labels in found.items() if labels} == {name: set(TESTED[name]) for name in TESTED}


@pytest.mark.parametrize(("exercise", "solution"), EXERCISES)
def test_the_folded_solution_is_right(exercise: Exercise, solution, capsys):
    assert exercise.check(solution), capsys.readouterr().out


@pytest.mark.parametrize(("exercise", "body", "told"), SLIPS)
def test_a_slip_is_told_in_one_line(exercise: Exercise, body, told, capsys):
    assert not exercise.wrong(body)
    out = capsys.readouterr().out
    assert told in out
    assert out.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [("raise NotImplementedError", "your turn"), ("p.means()", "your code stopped with AttributeError")],
)
def test_code_that_stops_is_told(body, told, capsys):
    assert not fisher_mask.EXERCISES["ex-kl"].wrong(body)
    assert told in capsys.readouterr().out
