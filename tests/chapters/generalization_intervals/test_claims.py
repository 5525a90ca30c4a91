"""Claims of chapter 5 on tables with known contents."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite.chapters.generalization_intervals.claims import claims
from tests.chapters.generalization_intervals import fake as fake_intervals


def verdict(found: pd.DataFrame, words: str, network: str = "mlp (widths 128, 128, 128)") -> str:
    rows = found[found["statement"].str.contains(words, regex=False)]
    if (rows["subject"].str.startswith("mlp")).any():
        rows = rows[rows["subject"].str.startswith(network)]
    assert len(rows) == 1, rows[["subject", "statement"]]
    return rows["verdict"].item()


def test_what_holds():
    found = claims(fake_intervals.table())
    assert verdict(found, "do not vary significantly") == "holds"
    assert verdict(found, "almost identical") == "holds"
    assert verdict(found, "midlines of triangles") == "holds"
    assert verdict(found, "than towards another class's mean") == "holds"
    assert verdict(found, "norm no larger") == "holds"
    assert verdict(found, "random labels get shorter") == "holds"
    assert verdict(found, "true labels do not change") == "holds"
    assert verdict(found, "one to four hidden layers") == "holds"
    assert verdict(found, "0 where one is not fitted") == "holds"
    assert verdict(found, "of the points that are fitted") == "holds"


@pytest.mark.parametrize(("shift", "expected"), [(0.05, "holds"), (0.3, "not seen"), (-0.3, "not seen")], ids=str)
def test_no_significant_difference_is_an_equivalence(shift, expected):
    found = claims(fake_intervals.table(shift=shift))
    assert verdict(found, "do not vary significantly") == expected


def test_a_distance_between_distributions_of_equal_means_is_seen():
    runs = fake_intervals.table()
    chosen = (runs["label_corruption"] == 1) & runs["intervals/pair_bins"].notna()
    spread = " ".join("25" if place in (23, 29) else "0" for place in range(30))
    runs.loc[chosen, "intervals/pair_bins"] = spread
    assert verdict(claims(runs), "almost identical") == "not seen"


def test_intervals_that_shrink_while_training_do_not_correlate():
    found = claims(fake_intervals.table(correlated=False))
    assert verdict(found, "of the points that are fitted") == "not seen"


def test_one_seed_has_no_verdict():
    found = claims(fake_intervals.table(seeds=1))
    assert set(found["verdict"]) == {"not testable at this size"}


def test_two_moons_are_asked_for_a_difference():
    runs = fake_intervals.table(dataset="two_moons", networks=fake_intervals.NETWORKS[:1], shift=1.0)
    assert verdict(claims(runs), "In two dimensions") == "holds"


def test_a_network_without_random_labels_is_there_without_a_verdict():
    runs = fake_intervals.table()
    found = claims(runs[runs["label_corruption"] == 0])
    row = found[found["statement"].str.contains("do not vary")].iloc[0]
    assert (row["n_seeds"], row["verdict"]) == (0, "not testable at this size")
