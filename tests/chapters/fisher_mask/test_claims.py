"""Claims of chapter 3 on tables with known contents."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite.chapters.fisher_mask.claims import claims
from tests.chapters.fisher_mask import fake as fake_fisher


def verdict(found: pd.DataFrame, words: str) -> str:
    rows = found[found["statement"].str.contains(words, regex=False)]
    assert len(rows) == 1, found["statement"].tolist()
    return rows["verdict"].item()


def test_what_holds():
    found = claims(fake_fisher.table(diagonal=1.0))
    assert verdict(found, "Influence falls as training") == "holds"
    assert verdict(found, "less influence, epoch by epoch") == "holds"
    assert verdict(found, "the largest influence during training is smaller") == "holds"
    assert verdict(found, "The diagonal alone gives") == "holds"
    assert verdict(found, "as the quadratic form says") == "holds"
    for keep in ("70 %", "80 %"):
        assert verdict(found, f"With {keep} of the weights kept, influence falls more slowly") == "holds"
        assert verdict(found, f"With {keep} of the weights kept, the test loss rises less") == "holds"
    assert verdict(found, "0.75 read as the share kept) gives a better best accuracy than training") == "holds"
    assert verdict(found, "0.75 read as the share kept) gives a better best accuracy than a magnitude") == "holds"


def test_a_gain_that_any_mask_has_is_no_gain_over_the_control():
    found = claims(fake_fisher.table(gains={**fake_fisher.GAINS, ("random", 0.75): 2.5}))
    assert verdict(found, "0.75 read as the share kept) gives a better best accuracy than training") == "holds"
    assert verdict(found, "0.75 read as the share kept) gives a better best accuracy than a random") == "not seen"


def test_the_other_reading_is_its_own_row():
    found = claims(fake_fisher.table())
    assert verdict(found, "(read as the share masked) gives a better best accuracy than training") == "not seen"
    assert verdict(found, "(read as the share masked) gives a better best accuracy than a random") == "holds"
    wanted = found["statement"].str.contains("as the share masked) gives a better best accuracy than tr", regex=False)
    row = found[wanted].iloc[0]
    assert row["value"] == pytest.approx(-1.0) and row["n_seeds"] == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"falls": False}, "Influence falls as training"),
        ({"less": False}, "less influence, epoch by epoch"),
        ({"less": False}, "the largest influence during training is smaller"),
        ({"diagonal": 0.01}, "The diagonal alone gives"),
        ({"slower": False}, "With 70 % of the weights kept, the test loss rises less"),
    ],
    ids=["rises", "more by epoch", "larger peak", "diagonal", "no slower"],
)
def test_what_is_not_so_is_not_seen(options, words):
    assert verdict(claims(fake_fisher.table(**options)), words) == "not seen"


def test_one_seed_has_no_verdict():
    assert set(claims(fake_fisher.table(seeds=1))["verdict"]) == {"not testable at this size"}


def test_claims_whose_runs_are_missing_are_left_out():
    runs = fake_fisher.table()
    found = claims(runs[(runs["label_corruption"] == 0) & (runs["mask_keep"] == 1)])
    assert found["source"].tolist() == ["Fig. 1", "Eq. 9", "Theorem 1"]


def test_a_subject_is_a_network_on_its_data():
    both = pd.concat([fake_fisher.table(), fake_fisher.table(data="other data")])
    subjects = set(claims(both)["subject"])
    assert subjects == {f"mlp on {data}, n = 1,000, true labels" for data in ("made-up data", "other data")}
