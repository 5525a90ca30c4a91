"""The reference and the index of equations are made from the docstrings: they name what there is, each place once."""

from __future__ import annotations

import sys

import pytest

from tests.book.trial import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import reference  # type: ignore[import-not-found]


@pytest.mark.parametrize(
    ("paper", "place", "name"),
    [
        ("Zhang et al. (2017)", "Sec. 5, Eq. 3", "measures.capacity.minimum_norm_solution"),
        ("Image functions (n.d.)", "Eq. 2, 3 and 10", "measures.relu_paths.image_functions"),
        ("Image functions (n.d.)", "Eq. 9", "measures.relu_paths.forward_with_paths"),
        ("Jiang", "Eq. 10 and Sec. 4", "measures.fisher.GradientMask"),
        ("Fort et al. (2019)", "Eq. 4", "measures.stiffness.sign"),
        ("Walker", "Definition 1.2", "measures.stiffness.cosine"),
        ("Salman et al. (2019)", "Eq. 6", "measures.intervals.generalization_interval"),
    ],
)
def test_an_equation_leads_to_its_function(paper: str, place: str, name: str) -> None:
    assert reference.Cited(paper, place, f"gendyn_lite.{name}") in reference.cited()


def test_every_page_of_the_library_has_what_its_package_offers() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "book" / "reference").glob("*.md"))
    assert {line.split()[-1] for line in pages.splitlines() if ".. library::" in line} == set(reference.PUBLIC)
    assert all(list(reference.members(package)) for package in reference.PUBLIC)


def test_mathematics_is_kept_and_examples_are_left_alone() -> None:
    lines = ["Of |B| and `a*b`: [n, *in_shape].", ">>> 2 * 3", "6 * 1", "", "a*b"]
    reference.plain(None, "function", "name", None, None, lines)
    assert lines == [r"Of \|B\| and `a*b`: [n, \*in_shape].", ">>> 2 * 3", "6 * 1", "", r"a\*b"]
