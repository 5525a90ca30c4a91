"""The page of all claims: nothing lost, nothing corrected the wrong way, every link leads to a section."""

from __future__ import annotations

import re

import altair as alt
import nbformat
import pytest

from gendyn_lite import notebooks, results
from gendyn_lite.chapters import registry, what_holds
from gendyn_lite.charts import tables as draw
from gendyn_lite.claims import sections as chapters

SECTIONS = registry.sections()
FOUND = what_holds.all_claims()
STATEMENTS = chapters.statements(FOUND)


def test_every_published_experiment_is_spoken_of():
    spoken = {name for _, section in registry.sections() for name in section.tables}
    assert set(results.published_experiments()) <= spoken


@pytest.mark.parametrize(
    ("chapter", "section"), SECTIONS, ids=[f"{chapter}-{'-'.join(section.tables)}" for chapter, section in SECTIONS]
)
def test_every_link_leads_to_a_section(chapter, section):
    cells = nbformat.read(notebooks.chapter_path(chapter), as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") for heading in headings}
    assert section.anchor in anchors


def test_statements_count_every_claim_once():
    verdicts = ["holds", "weaker", "not seen", "not testable at this size"]
    assert STATEMENTS["subjects"].sum() == len(FOUND)
    assert (STATEMENTS[verdicts].sum(axis="columns") == STATEMENTS["subjects"]).all()
    assert (STATEMENTS["certain"] <= STATEMENTS["holds"]).all()


def test_without_tables_there_are_no_claims(tmp_path):
    with pytest.raises(chapters.UserError, match="no published table"):
        what_holds.all_claims(folder=tmp_path)


def test_the_chart_counts_every_claim_and_is_valid():
    spec = draw.verdicts(FOUND).to_dict()
    assert alt.Chart.from_dict(spec).to_dict() == spec
    rows = next(iter(spec["datasets"].values()))
    assert sum(row["tests"] for row in rows) == len(FOUND)


def test_the_tables_have_each_statement_under_its_paper():
    text = str(draw.papers_tables(FOUND, STATEMENTS, caption="made up").data)
    assert text.count("<h3>") == STATEMENTS["paper"].nunique()
    assert text.count('scope="row"') == len(STATEMENTS) + len(FOUND)


@pytest.mark.parametrize(
    ("words", "verdict"),
    [
        ("Networks fit completely random labels", "holds"),
        ("Random labels take longer to fit than true labels only by a small constant factor", "holds"),
        ("Examples of one class are stiffer with each other than with another class", "holds"),
        ("Stiffness with the neighbours shows the learned boundary", "holds"),
        ("Stiffness within a class falls towards zero as the network overfits", "not seen"),
        ("With random labels there is less stiffness within a class", "not seen"),
        ("While memorizing random labels, steps have less influence, epoch by epoch", "holds"),
        ("Influence falls as training goes on", "not seen"),
        ("Nearly all linear regions have a norm no larger than that of the weights without ReLUs", "holds"),
    ],
    ids=lambda text: text.replace(" ", "-")[:40],
)
def test_what_the_page_says_in_words_is_what_the_tables_say(words, verdict):
    rows = FOUND[(FOUND["statement"] == words) & (FOUND["n_seeds"] >= 3)]  # the others have no verdict
    assert len(rows) > 0
    assert set(rows["verdict"]) == {verdict}


def test_what_the_page_says_of_random_labels_on_all_images():
    rows = FOUND[FOUND["subject"].str.endswith("CIFAR-10 (JPEG q75), n = 50,000")]
    assert len(rows) > 0
    assert rows["n_seeds"].max() < 3 and set(rows["verdict"]) == {"not testable at this size"}
    fitted = rows[(rows["statement"] == "Networks fit completely random labels") & (rows["n_seeds"] > 0)]
    assert sorted((50_000 * (1 - fitted["value"])).round()) == [0, 0, 0, 2]


def test_what_the_page_says_of_the_gradient_mask():
    better = FOUND[
        FOUND["statement"].str.startswith("The mask") & FOUND["statement"].str.contains("better best accuracy")
    ]
    plain = better[better["statement"].str.contains("without a mask")]
    assert len(plain) > 2 and "holds" not in set(plain["verdict"])
    assert (better["verdict"] == "holds").sum() <= 1


def test_what_the_page_says_of_regularizers_and_of_distributions():
    def verdicts(words: str) -> set[str]:
        return set(FOUND.loc[FOUND["statement"] == words, "verdict"])

    for name in ("Weight decay improves test accuracy", "Batch-norm improves generalization"):
        assert "holds" not in verdicts(name)
    same = FOUND[FOUND["statement"] == "The two distributions of pairwise intervals are almost identical"]
    assert (same["verdict"] == "holds").sum() == 1 and len(same) > 5
    mean = FOUND[FOUND["statement"] == "Pairwise intervals do not vary significantly between true and random labels"]
    assert 1 < (mean["verdict"] == "holds").sum() < len(mean) / 2
    assert len(verdicts("Larger learning rates lead to lower stiffness")) == 2
