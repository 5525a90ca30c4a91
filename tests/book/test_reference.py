"""The reference and the indices of equations and of the search name what there is, each place once, with its words."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.book.trial import NAME, ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
import reference  # type: ignore[import-not-found]
import sections  # type: ignore[import-not-found]

PAGE = r"""<nav><section id="no"><h2>Menu</h2></section></nav>
<article><section id="top"><h1>1. Top<a class="headerlink">#</a></h1>
<p>Of \(q\) and \(\frac12\): <b>sti</b>ff.</p>
<section id="sub"><h2>Sub</h2><div class="cell_input"><pre>code</pre></div>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
<h3>More</h3><div class="solution"><p>answer</p></div></section><p>After.</p>
<figure class="gendyn-chart" id="chart-x">
<figcaption class="gendyn-title"><span class="gendyn-number">Figure 1.1</span> X</figcaption>
<p>Seen.</p><script>{"spec": 1}</script></figure>
<dl class="py function"><dt class="sig" id="gendyn_lite.data.load">load(<em>name</em>)</dt><dd><p>Loads.</p>
<dl class="field-list"><dt>Returns</dt><dd>Data.</dd></dl></dd></dl>
<dl class="glossary"><dt id="term-a">a</dt><dd>First.</dd><dt id="term-b">b</dt><dd>Second.</dd></dl>
</section></article>"""


def test_every_place_has_its_own_words() -> None:
    assert sections.entries(PAGE) == [
        ("top", "1. Top", "Of q and … : stiff. After."),
        ("sub", "Sub", "a · b · 1 · 2 · More"),
        ("chart-x", "Figure 1.1 X", "Seen."),
        ("gendyn_lite.data.load", "gendyn_lite.data.load", "Loads. Returns Data."),
        ("term-a", "a", "First."),
        ("term-b", "b", "Second."),
    ]


@pytest.mark.parametrize("unread", ["import altair", "schema/vega-lite", "Done."])
def test_code_specifications_and_solutions_are_not_found(trial_site: Path, unread: str) -> None:
    script = (trial_site / "_static" / sections.INDEX).read_text(encoding="utf-8")
    assert unread not in script
    found = json.loads(script.removeprefix("window.gendynSections=").rstrip(";\n"))
    places = {page: [anchor for anchor, _, _ in entries] for page, _, entries in found}
    page = (trial_site / "chapters" / f"{NAME}.html").read_text(encoding="utf-8")
    assert "chart-a-linked-view" in places[f"chapters/{NAME}.html"]
    assert all(f'id="{anchor}"' in page for anchor in places[f"chapters/{NAME}.html"])


def test_no_page_loads_the_search_of_the_theme(trial_site: Path) -> None:
    pages = "".join(
        path.read_text(encoding="utf-8") for path in trial_site.rglob("*.html") if "_static" not in path.parts
    )
    assert not re.search(r"<script[^>]*(searchtools|searchindex|language_data|sphinx_highlight)", pages)


@pytest.mark.parametrize(
    ("paper", "place", "name"),
    [
        ("Zhang et al. (2017)", "Sec. 5, Eq. 3", "measures.capacity.minimum_norm_solution"),
        ("Image functions (n.d.)", "Eq. 2, 3 and 10", "measures.relu_paths.image_functions"),
        ("Jiang", "Eq. 10 and Sec. 4", "measures.fisher.GradientMask"),
        ("Walker", "Definition 1.2", "measures.stiffness.cosine"),
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
