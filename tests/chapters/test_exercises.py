"""Exercises of every chapter: the folded solution passes, and each classical slip is told apart."""

from __future__ import annotations

import pytest

from tests.chapters.fisher_mask import exercises as fisher_mask
from tests.chapters.generalization_intervals import exercises as generalization_intervals
from tests.chapters.path_functions import exercises as path_functions
from tests.chapters.random_labels import exercises as random_labels
from tests.chapters.solutions import CHAPTERS, Chapter, solutions
from tests.chapters.stiffness import exercises as stiffness

MODULES = (random_labels, path_functions, fisher_mask, stiffness, generalization_intervals)
TESTED = {module.CHAPTER.notebook: module.CHAPTER for module in MODULES}
FOLDED = {notebook: solutions(notebook) for notebook in TESTED}


def of_every_chapter(field: str) -> list:
    """A case for each name in that field of each chapter."""
    return [
        pytest.param(chapter, name, id=f"{notebook}-{name}")
        for notebook, chapter in TESTED.items()
        for name in getattr(chapter, field)
    ]


def test_every_chapter_with_solutions_is_tested():
    assert {path.stem for path in CHAPTERS.glob("*.ipynb") if solutions(path.stem)} == set(TESTED)


@pytest.mark.parametrize("notebook", TESTED)
def test_every_coded_exercise_has_a_solution(notebook):
    assert set(FOLDED[notebook]) == set(TESTED[notebook].checks)


@pytest.mark.parametrize(("chapter", "label"), of_every_chapter("checks"))
def test_the_folded_solution_is_right(chapter: Chapter, label, capsys):
    assert chapter.check(label, FOLDED[chapter.notebook][label]), capsys.readouterr().out


@pytest.mark.parametrize(("chapter", "slip"), of_every_chapter("slips"))
def test_a_slip_is_told(chapter: Chapter, slip, capsys):
    label, code, told = chapter.slips[slip]
    assert not chapter.check(label, code)
    out = capsys.readouterr().out
    assert told in out
    if chapter.one_line:
        assert out.count("\n") == 1
