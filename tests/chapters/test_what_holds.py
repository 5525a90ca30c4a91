"""The page of all claims and what it stands on: nothing lost, nothing corrected the wrong way, every link leads on."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path

import altair as alt
import nbformat
import pytest
import yaml

from gendyn_lite import notebooks, results
from gendyn_lite.chapters import registry, what_holds
from gendyn_lite.charts import tables as draw
from gendyn_lite.charts.html import interval
from gendyn_lite.claims import sections as chapters
from gendyn_lite.claims.inference import SCALES, VERDICTS
from gendyn_lite.results.published import opened

SECTIONS = registry.sections()


def test_every_published_experiment_is_spoken_of():
    drawn = {"interval_lines"}  # of one image, and not judged
    assert set(results.published_experiments()) - drawn <= {name for _, section in SECTIONS for name in section.tables}


@pytest.mark.parametrize("chapter", sorted({chapter for chapter, _ in SECTIONS}))
def test_every_link_leads_to_a_section(chapter):
    cells = nbformat.read(notebooks.chapter_path(chapter), as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") for heading in headings}
    assert {section.anchor for page, section in SECTIONS if page == chapter} <= anchors


def test_a_chapter_is_named_by_the_number_of_its_heading():
    parts = yaml.safe_load((notebooks.chapter_path("introduction").parents[1] / "_toc.yml").read_text())["parts"]
    numbered = [Path(page["file"]).name for part in parts if part.get("numbered") for page in part["chapters"]]
    assert [chapter.notebook for chapter in registry.CHAPTERS] == numbered
    claims, overall = what_holds.judged(numbered[-1])
    shown = str(draw.papers_tables(overall, claims).data)
    assert set(re.findall(r">chapter&nbsp;(\d)</a>", shown)) == {str(len(numbered))}


def test_every_claim_on_record_has_one_verdict_of_a_known_kind(claimed, overall):
    records = [chapter.record for chapter in registry.CHAPTERS]
    entries = [(record.paper, name) for record in records for name in record.entries]
    assert list(dict.fromkeys(zip(overall["paper"], overall["id"], strict=True))) == list(dict.fromkeys(entries))
    assert not overall.duplicated(["paper", "id", "statement"]).any()
    assert set(overall["verdict"]) | set(claimed["verdict"]) <= set(VERDICTS)


def test_the_correction_never_makes_a_claim_hold(claimed, overall):
    assert (overall.loc[overall["verdict"] == "holds", "alone"] == "holds").all()
    assert (overall["networks"] + overall["others"]).sum() == (claimed["n_seeds"] > 0).sum()


def test_runs_from_before_the_criteria_are_after_the_fact(by_id):
    older = results.published("stiffness_maps")["criteria"].eq("").all()
    assert bool(by_id.loc["boundary_seen", "prior"]) != older


def test_without_tables_there_are_no_claims(tmp_path):
    with pytest.raises(chapters.UserError, match="no published table"):
        what_holds.all_claims(folder=tmp_path)


def test_the_chart_counts_every_claim_and_is_valid(overall):
    spec = draw.verdicts(overall).to_dict()
    assert alt.Chart.from_dict(spec).to_dict() == spec
    rows = next(iter(spec["datasets"].values()))
    assert sum(row["claims"] for row in rows) == len(overall)


def test_the_tables_have_each_claim_under_its_paper(claimed, overall):
    text = str(draw.papers_tables(overall, claimed).data)
    assert text.count("<h3 ") == overall["paper"].nunique()
    assert text.count('scope="row"') == len(overall) + len(claimed)
    assert "nan" not in text and "{" not in re.sub(r"<style>.*?</style>", "", text)


def test_a_papers_own_claims_are_seen_without_a_click_and_nothing_is_lost_in_the_folds(claimed, overall):
    text = str(draw.papers_tables(overall, claimed).data)
    seen, folds = re.sub(r"<details.*?</details>", "", text), "".join(re.findall(r"<details.*?</details>", text))
    assert seen.count('scope="row"') == overall["primary"].sum()
    assert re.findall(r'href="#(.+?)"', seen) == re.findall(r'<h3 id="(.+?)"', seen)
    for row in overall.to_dict("records"):
        said = html.escape(row["statement"])
        at = (seen if row["primary"] else folds).split(f'role="rowheader">{said} <small>', 1)[1].split("</tr>")[0]
        assert row["verdict"] in at and html.escape(row["paper_value"]) in at
        if row["networks"]:
            found = interval(row["value"], row["low"], row["high"])
            assert found in at.replace("&nbsp;", " ") and f"{found}, {html.escape(row['subject'])}" in folds


def test_an_answer_says_what_decides_and_names_a_claim_that_it_lacks(claimed, overall):
    text = str(draw.answer(overall, claimed, "boundary_seen", "fits_random", "gap_jumps").data)
    assert text.count("<p>") == 3 and "nan" not in text
    with pytest.raises(chapters.UserError, match="unknown claim 'boundary': did you mean"):
        draw.answer(overall, claimed, "boundary")
    with pytest.raises(chapters.UserError, match="unknown claim 'boundary': did you mean"):
        draw.answer(overall, claimed, "boundary_seen", folded=["boundary"])


def test_further_verdicts_of_an_answer_are_folded_and_counted(claimed, overall):
    names = ["boundary_seen", "fits_random", "gap_jumps"]
    plain, folded = (str(draw.answer(overall, claimed, *some).data) for some in (names, names[:1]))
    shorter = str(draw.answer(overall, claimed, names[0], folded=names[1:]).data)
    seen, inside = shorter.split("<details")
    assert (seen.count("<p>"), inside.count("<p>")) == (1, 2)
    assert "<summary>2 more verdicts, and how each was reached, network by network (" in inside
    said, kept = (sorted(re.findall("<p>.*?</p>|<li>.*?</li>", text)) for text in (plain, shorter))
    assert said == kept
    assert seen == folded.split("<details")[0] and "<summary>How it was judged" in folded
    assert "<summary>1 more verdict, and" in str(draw.answer(overall, claimed, *names[:2], folded=names[2:]).data)


SAID = {
    "holds": "fits_random classes_apart test_as_train norms_within not_sufficient crops_help higher_late "
    "more_than_movement",
    "reversed": "better_than_none_25 loss_at_loss_70 random_less_late pairs_over_random pairs_alike bound_explains",
    "holds, small": "resnet_above_alexnet falls_with_overfitting random_less_stiff_fitted larger_rate_less_stiff",
    "negligible": "better_than_none_75 loss_at_loss_80 wrong_below_25 boundary_learnt",
    "not run": "batch_norm_helps",
    "undecided": "principal_over_random random_less_diverse influence_falls weight_decay_helps",
}


@pytest.mark.parametrize("verdict", SAID)
def test_what_the_page_says_in_words_is_what_the_tables_say(verdict, said):
    assert said[SAID[verdict].split()].eq(verdict).all()


def test_what_the_page_says_of_random_labels_on_all_images(claimed):
    rows = claimed[claimed["subject"].str.endswith("CIFAR-10 (JPEG q75), n = 50,000")]
    assert 0 < rows["n_seeds"].max() < 3
    fitted = rows[(rows["id"] == "fits_random") & (rows["n_seeds"] > 0)]
    assert sorted((50_000 * (1 - fitted["value"])).round()) == [0, 0, 0, 2]
    assert set(rows.loc[rows["id"] != "fits_random", "verdict"]) <= {"undecided", "not run", "computed"}


def last_of(runs):
    """The last epoch of each run."""
    return runs.sort_values("epoch").groupby("run_id").tail(1)


def test_how_many_random_labels_are_missed_and_how_long_they_take(claimed):
    runs = last_of(results.published("random_labels"))
    random = runs[(runs["label_corruption"] == 1) & (runs["inputs"] == "true")]
    assert round(1e4 * (1 - random["train_accuracy"].min())) == 7  # of every seed, and not of the best
    slower = claimed.loc[(claimed["id"] == "random_slower") & (claimed["n_seeds"] > 0), "value"]
    assert round(slower.min()) == 1 and round(slower.max()) == 7
    augmented = last_of(results.published("augmented_labels"))
    assert augmented["train_accuracy"].min() == 1 and set(augmented["n_train"]) == {200}
    epochs = augmented.groupby(["random_crop", "flip"])["epoch"].mean()  # two pixels each way, mirrored: 50 variants
    assert epochs[2, True] / epochs[0, False] == pytest.approx(100, abs=10)
    decayed = last_of(results.published("regularizers")).query("label_corruption == 1 and weight_decay > 0")
    assert decayed["train_accuracy"].min() == 1 and set(decayed["n_train"]) == {500, 2000}


def test_what_is_not_a_papers_own_is_not_corrected_and_chapter_8_is_ours(overall):
    beside = overall[~overall["primary"]]
    assert (beside["verdict"] == beside["alone"]).all()
    own = overall[overall["primary"]]
    assert (own["verdict"] != own["alone"]).any() and (own["paper"] == "Which lens?").any()


def test_no_interval_leaves_the_range_of_its_quantity(claimed, overall):
    records = [chapter.record for chapter in registry.CHAPTERS]
    entries = {(record.paper, name): entry for record in records for name, entry in record.entries.items()}
    for row in (*claimed.itertuples(), *overall.itertuples()):
        entry = entries[row.paper, row.id]
        scale = SCALES[entry.scale]
        low, high = max(scale.low, -entry.largest), min(scale.high, entry.largest)
        assert math.isnan(row.low) or low <= row.low <= row.value <= row.high <= high, row.id
    agreements = [one for one in entries.values() if one.statistic.startswith("agreement of the order by it with")]
    assert len(agreements) > 10 and {one.largest for one in agreements} == {1}


def test_the_first_picture_of_the_book():
    runs = results.published("random_labels")
    digits = runs[(runs["data"] == "MNIST") & (runs["n_train"] == 10_000) & (runs["inputs"] == "true")]
    assert (1e4 * (1 - last_of(digits)["train_accuracy"])).round().max() == 4
    fitted = digits[digits["train_accuracy"] == 1].groupby(["label_corruption", "seed"])["epoch"].min()
    assert fitted.groupby("label_corruption").median().is_monotonic_increasing
    test = last_of(digits).groupby("label_corruption")["test_accuracy"].mean()
    assert test.is_monotonic_decreasing and test[1.0] == pytest.approx(0.1, abs=0.01)


def test_the_mask_with_a_quarter_kept_loses(overall):
    assert round(overall.set_index("id").loc["better_than_none_25", "value"], 1) == -0.7


def test_intervals_of_pairs_by_networks(claimed):
    pairs = claimed[claimed["id"].isin(["pairs_alike", "conv_pairs_alike"]) & (claimed["n_seeds"] > 0)]
    longer = pairs.set_index("subject")["value"]
    large, photographs = longer.index.str.contains("n = 1,000"), longer.index.str.startswith("resnet18 on CIFAR-10")
    assert longer[large].max() < 0.06 and large.sum() == 8
    assert longer[~large & ~photographs].min() > 0.19 and longer[photographs].round(2).tolist() == [0.05]


def test_no_mask_improves_accuracy(overall):
    assert "holds" not in set(overall.loc[overall["id"].str.startswith("better_than_"), "verdict"])


def test_published_runs_are_counted_where_their_settings_are_planned():
    table = what_holds.full_size().set_index(["experiment", "data", "network"])
    assert (table["published"] <= table["planned"]).all()
    assert table.loc[("generalization_intervals", "mnist", "mlp"), "published"] > 0
    assert table.loc[("imagenet_regularizers", "imagenet", "inception_v3"), "published"] == 0
    done = table["published"]
    assert done["random_labels"].sum() == 13 and done["random_labels", "cifar10", "mlp_1x512"] == 2
    assert done["regularizers"].sum() == 0 and done["path_networks"].sum() == 0
    older = table[table["other settings"] > 0]["other settings"].to_dict()  # than the plan of chapter 5
    runs = "generalization_intervals"
    switched = {("regularizers", "cifar10", name): 1 for name in ("mlp_1x512", "mlp_3x512")}  # they stop when fitted
    switched["regularizers", "cifar10", "alexnet_small"] = 2
    earlier = {("path_networks", "cifar10", "alexnet_small"): 2}  # by probes that measured less
    one_way = {(runs, "mnist", "mlp"): 5, (runs, "two_moons", "mlp"): 10}  # along a component, which none of them needs
    assert older == {**switched, **earlier, **one_way, (runs, "mnist", "alexnet_small"): 10}
    assert "stiffness_layers" not in table.index.get_level_values(0)  # as planned for colab: of no larger size


# What is no original says so.
CIFAR = "CIFAR-10 (JPEG q75)"
DATA = {
    "random_labels": {CIFAR, "MNIST"},
    "regularizers": {CIFAR},
    **{f"path_{kind}": {CIFAR} for kind in ("networks", "unseen", "deep", "ratio")},
    "fisher_mask": {CIFAR, "CIFAR-100 (JPEG q75, about 20 % train label noise)"},
}


@pytest.mark.parametrize("name", results.published_experiments())
def test_a_table_is_the_one_that_was_published_from_a_clean_commit(name):
    assert not any(run["commit"].endswith("+") for run in opened(name).records.values())
    data = set(results.published(name)["data"])
    assert data == DATA.get(name, data)
