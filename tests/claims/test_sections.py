"""Claims on record, in a file and over networks: mistakes are named, later criteria are marked, Holm holds its rate."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendyn_lite.charts import tables
from gendyn_lite.claims import table
from gendyn_lite.claims.inference import LEVEL, estimate, first, p_values, places
from gendyn_lite.claims.record import on_record, read
from gendyn_lite.claims.sections import corrected, holm, on_record_before, statements
from gendyn_lite.errors import UserError

ENTRY = """
[[claims]]
id = "gains"
statement = "Networks gain on {what}"
source = "Fig. 1"
paper_value = "{value}"
statistic = "accuracy"
experiments = ["demo"]
type = "difference"
scale = "share"
criterion = { more_than = "chance", delta = 0.1 }
resolution = 0.001
compared = "one run"
seeds = 5
pooled = "every"
primary = true
"""
FILE = f'paper = "A paper"\n{ENTRY}'
KNOWN = {"what": "labels", "value": "0.99", "chance": 0.5}
STATISTICS = {"gains": lambda values: values}
WELL, LITTLE, BADLY = ([level + 0.001 * seed for seed in range(5)] for level in (0.8, 0.55, 0.3))
EXISTENCE = ("difference", "existence"), ('{ more_than = "chance", delta = 0.1 }', "{ at_least = 0.7 }")


@pytest.fixture
def record(tmp_path):
    def written(text, *changes):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "claims.toml").write_text(text)
        return read(tmp_path / "claims.toml")

    return written


def test_what_the_runs_tell_is_filled_in(record):
    (claim,) = record(FILE).judge("net", STATISTICS, iter(WELL), **KNOWN)
    assert (claim.statement, claim.paper_value, claim.verdict) == ("Networks gain on labels", "0.99", "holds")
    assert claim.criterion == "accuracy is above 0.6 (no effect: 0.5)"
    assert claim.effect == pytest.approx(claim.value - 0.5)
    assert record(FILE).judge("net", STATISTICS, None) == []  # it says nothing of the runs
    with pytest.raises(UserError, match=r"^claim 'gains' names 'chance', which its runs do not tell$"):
        record(FILE).judge("net", STATISTICS, WELL)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (FILE, "paper = ", r"Invalid value .*"),
        ('paper = "A paper"', "", r"expected the paper's name as paper = .*"),
        (ENTRY, "", r"expected the paper's name as paper = .* and its claims as \[\[claims\]\]"),
        ("more_than", "above", "claim 'gains' has the criterion above and delta, expected of type difference: "
         "more_than and delta; less_than and delta"),
        (", delta = 0.1", "", "claim 'gains' has the criterion more_than, expected of type difference: .*"),
        ("0.1 }", "[0.1] }", r"claim 'gains' has \[0.1\] in its criterion, expected a number, or the name of one"),
        ("delta = 0.1", "delta = 0", "claim 'gains' has the delta 0, expected the smallest effect that matters, .*"),
        ('"chance"', "0", r"claim 'gains' has 0 as no effect, expected it between 0 and 1 \(share\)"),
        ("seeds = 5", "seeds = 3", "claim 'gains' needs 3 seeds, expected at least 5 of type difference"),
        ('"difference"', '"differance"', "claim 'gains' has an unknown type 'differance': .* 'difference'.*"),
        ('"share"', '"shares"', "claim 'gains' has an unknown scale 'shares': did you mean 'share'.*"),
        ('"every"', '"all"', "claim 'gains' has an unknown pooled 'all'.*"),
        ('"one run"', '"equal epoch"', "claim 'gains' has an unknown compared 'equal epoch': .* 'equal epochs'.*"),
        ('compared = "one run"', "", r"claim 'gains' compares runs and does not say what is equal \(compared\)"),
        ('"Fig. 1"', "1", "claim 'gains' has the source 1, expected text"),
        ('source = "Fig. 1"', "", "claim 'gains' has no source"),
        ('"Fig. 1"', '""', "claim 'gains' has an empty source"),
        ('id = "gains"', "", r"claim 'Networks gain on \{what\}' has no id"),
        ("source", "sauce", "claim 'gains' has an unknown field 'sauce': did you mean 'source'.*"),
        (ENTRY, ENTRY + ENTRY, "claim 'gains' is there twice"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_in_one_line(record, old, new, message):
    with pytest.raises(UserError, match=rf"^test_a_mistake\S+/claims\.toml: {message}$"):
        record(FILE, (old, new))


def test_a_statistic_without_an_entry_is_named_and_an_entry_without_a_statistic(record, tmp_path):
    record(FILE)
    with pytest.raises(UserError, match=r"claims\.toml: claim 'gains' has no statistic$"):
        on_record(tmp_path / "claims.py")
    with pytest.raises(UserError, match=r"claims\.toml: claim 'more' has a statistic and no entry$"):
        on_record(tmp_path / "claims.py", STATISTICS, {"more": len})


def over(record, networks, *, prior=True):
    """The claims of a record on several networks, seeds of each by name, over all of them."""
    found = [claim for name, seeds in networks.items() for claim in record.judge(name, STATISTICS, seeds, **KNOWN)]
    return statements(table(found).assign(paper=record.paper, chapter="1", section="s", prior=prior), [record])


WORDS = [("Networks gain", "They gain"), ('"Fig. 1"', '"Fig. 2"')]
DECIDING = [("delta = 0.1", "delta = 0.2"), ("more_than", "less_than"), ("seeds = 5", "seeds = 6")]
DECIDING += [('"every"', '"mean"'), ('"accuracy"', '"loss"'), ("primary = true", "primary = false")]


@pytest.mark.parametrize("change", [*WORDS, *DECIDING], ids=str)
def test_only_a_criterion_that_runs_bear_is_prior(record, change):
    prior = change in WORDS
    both = FILE + ENTRY.replace('"gains"', '"other"')
    before = record(both).entries.values()
    marks = " ".join(f"{entry.id}:{entry.fingerprint()}" for entry in before)
    runs = pd.DataFrame({"experiment": ["demo", "demo", "another"], "criteria": [marks, marks, ""]})
    after = record(FILE, change)
    assert on_record_before(after.entries["gains"], runs) == prior
    assert all(on_record_before(entry, runs) for entry in before)  # editing one ages no other
    assert not on_record_before(after.entries["gains"], pd.concat([runs, runs.assign(criteria="")]))
    only = replace(after.entries["gains"], only={"model": ["mlp"]})  # of some networks: the runs of others do not count
    of_others = runs.assign(criteria="", model="alexnet_small")
    assert on_record_before(only, pd.concat([runs.assign(model="mlp"), of_others])) == prior
    shown = str(tables.in_short(over(after, {"one": WELL}, prior=prior), {"gains": "They gain"}).data)
    assert ("after the fact" in shown) != prior


@pytest.mark.parametrize(
    ("changes", "networks", "verdict", "decide"),
    [
        ((), {"one": WELL, "other": WELL}, "holds", (2, 0)),
        ((), {"one": WELL, "other": LITTLE}, "holds, small", (2, 0)),
        ((), {"one": WELL, "other": BADLY}, "reversed", (2, 0)),
        ((), {"one": WELL, "other": [0.9] * 4}, "holds", (1, 1)),  # too few seeds decide nothing
        ((), {"one": [0.9] * 4}, "undecided", (0, 1)),
        ((), {"one": [math.nan] * 5}, "not run", (0, 0)),
        ((), {}, "not run", (0, 0)),
        ((("resolution = 0.001\n", ""),), {"one": [0.9] * 5}, "undecided", (1, 0)),  # a tie is not certain
        ((('"every"', '"mean"'),), {"one": WELL, "other": LITTLE}, "holds", (2, 0)),
        ((*EXISTENCE, ("seeds = 5", "seeds = 1")), {"one": WELL, "other": [0.2, 0.7]}, "holds", (2, 0)),
        ((*EXISTENCE, ("seeds = 5", "seeds = 1")), {"one": WELL, "other": BADLY}, "undecided", (2, 0)),
    ],
)  # fmt: skip
def test_a_claim_over_its_networks(record, changes, networks, verdict, decide):
    row = over(record(FILE, *changes), networks).iloc[0]
    assert (row["verdict"], row["networks"], row["others"]) == (verdict, *decide)
    assert tables.papers_tables(over(record(FILE, *changes), networks), table([]).assign(paper="")).data


def test_what_is_told_of_a_claim_is_of_the_networks_that_decide(record):
    row = over(record(FILE), {"one": WELL, "few": [0.1], "other": LITTLE}).iloc[0]
    assert (row["n_seeds"], row["subject"]) == (5, "other")
    assert [row["lowest"], row["highest"]] == pytest.approx([0.552, 0.802], abs=1e-4)
    assert over(record(FILE), {"few": [0.1], "more": [0.1] * 3})["n_seeds"].item() == 3


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12))
def test_holm_is_no_smaller_keeps_the_order_and_never_exceeds_one(values):
    given = pd.Series(values, dtype=float)
    corrected = holm(given)
    assert corrected.isna().equals(given.isna())
    tested, after = given.dropna(), corrected.dropna()
    assert (after >= tested).all() and (after <= 1).all()
    assert after[tested.sort_values().index].is_monotonic_increasing


def test_holm_by_its_definition():
    p_values = np.random.default_rng(0).uniform(0, 0.2, 9)
    for level in (0.01, 0.05, 0.2, 0.5):
        rejected = set()
        for i, k in enumerate(np.argsort(p_values)):  # step down until one is not rejected
            if p_values[k] > level / (len(p_values) - i):
                break
            rejected.add(int(k))
        corrected = holm(pd.Series(p_values))
        assert set(corrected.index[corrected <= level]) == rejected


def test_a_paper_of_claims_all_exactly_at_delta_has_a_false_one_in_few_papers():
    """Three equivalences and three differences: what 'holds' is one family."""
    rng, papers, alike = np.random.default_rng(1), 1000, [True, False] * 3
    wrong = 0
    for seeds in rng.normal(0.2, 0.3, (papers, 6, 5)):
        p = [p_values(estimate(each), delta=0.2) for each in seeds]
        tests = [places(each, equivalence=one) for each, one in zip(p, alike, strict=True)]
        if any(first(each, n=5) == "holds" for each in tests):  # else none does when corrected
            wrong += any(first(each, n=5) == "holds" for each in corrected(tests))
    assert 0.2 * LEVEL < wrong / papers <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / papers)
