"""Claims on record: a file with a mistake is refused in one line, and what the runs tell is filled in."""

from __future__ import annotations

import pytest

from gendyn_lite.claims.sections import on_record
from gendyn_lite.errors import UserError

ENTRY = """
[[claims]]
id = "fits"
statement = "Networks fit {what}"
source = "Fig. 1"
paper_value = "{value}"
statistic = "accuracy"
criterion = { near = "chance", margin = 0.1 }
null_value = 0
"""
FILE = f'paper = "A paper"\n{ENTRY}'
STATISTICS = {"fits": lambda values: values}


@pytest.fixture
def record(tmp_path):
    def written(text, *statistics):
        (tmp_path / "claims.toml").write_text(text)
        return on_record(tmp_path / "claims.py", *statistics)

    return written


def test_what_the_runs_tell_is_filled_in(record):
    (claim,) = record(FILE, STATISTICS).judge("net", STATISTICS, [0.5] * 3, what="labels", value="0.99", chance=0.5)
    assert (claim.statement, claim.paper_value, claim.verdict) == ("Networks fit labels", "0.99", "holds")
    assert claim.criterion == "accuracy is 0.5 ± 0.1"


def test_a_claim_that_says_nothing_of_the_runs_is_left_out(record):
    assert record(FILE, STATISTICS).judge("net", STATISTICS, None) == []


def test_what_the_runs_do_not_tell_is_named(record):
    with pytest.raises(UserError, match=r"^claim 'fits' names 'chance', which its runs do not tell$"):
        record(FILE, STATISTICS).judge("net", STATISTICS, [0.5] * 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (FILE, "paper = ", r"Invalid value .*"),
        ('paper = "A paper"', "", r"expected the paper's name as paper = .*"),
        (ENTRY, "", r"expected the paper's name as paper = .* and its claims as \[\[claims\]\]"),
        ("near =", "nearly =", "claim 'fits' has the unknown criterion nearly and margin, "
         "expected at_least and weak; below; near and margin"),
        (", margin = 0.1", "", "claim 'fits' has the unknown criterion near, expected .*"),
        ("0.1", "[0.1]", r"claim 'fits' has \[0.1\] in its criterion, expected a number, or the name of one"),
        ("null_value = 0", "null_value = [0]", r"claim 'fits' has the null_value \[0\], expected a number, or .*"),
        ('"Fig. 1"', "1", "claim 'fits' has the source 1, expected text"),
        ('source = "Fig. 1"', "", "claim 'fits' has no source"),
        ('id = "fits"', "", r"claim 'Networks fit \{what\}' has no id"),
        ("source", "sauce", "claim 'fits' has an unknown field 'sauce': did you mean 'source'.*"),
        (ENTRY, ENTRY + ENTRY, "claim 'fits' is there twice"),
        ('"fits"', '"fit"', "claim 'fit' has no statistic"),
        (ENTRY, ENTRY + ENTRY.replace('"fits"', '"more"'), "claim 'more' has no statistic"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named_in_one_line(record, old, new, message):
    with pytest.raises(UserError, match=rf"^test_a_mistake\S+/claims\.toml: {message}$"):
        record(FILE.replace(old, new), STATISTICS)


def test_a_statistic_without_an_entry_is_named(record):
    with pytest.raises(UserError, match=r"claims\.toml: claim 'more' has a statistic and no entry$"):
        record(FILE, STATISTICS, {"more": len})
