"""Tables of chapter 2 read back what the runs recorded."""

from __future__ import annotations

import numpy as np
import pytest

from gendyn_lite.chapters.path_functions import tables as paths
from tests.chapters.path_functions import fake


def test_layers_stand_in_their_order_and_tables_read_back():
    table = fake.networks(seeds=2)
    rows = paths.long_paths(table)
    assert rows.drop_duplicates("layer").set_index("layer")["number"].to_dict() == {"relu1": 1, "relu2": 2, "relu3": 3}
    assert list(rows["runs"].unique()) == [paths.TRUE, paths.RANDOM, paths.CONSTANT]
    assert paths.milestones(table) == list(fake.DECAYS)
    bins = paths.distances(table)
    assert bins[["distance", "low", "middle", "high"]].iloc[0].tolist() == [1.0, 0.1, 0.2, 0.3]


def test_a_network_is_named_by_what_was_changed_and_by_its_first_learning_rate():
    found = paths.networks_of_ratio(fake.ratio())
    assert len(found) == 14
    assert "mlp (widths 8), learning rate 0.01, weight decay 0.005, random crop" in set(found["name"])
    assert set(found["seeds"]) == {2}


def test_the_correlation_is_scipys_and_its_interval_covers_it():
    generator = np.random.default_rng(0)
    x = generator.normal(size=20)
    y = x + generator.normal(size=20)
    rho, low, high = paths.correlation(x.tolist(), y.tolist())
    assert rho == pytest.approx(paths.stats.spearmanr(x, y).statistic)
    assert low < rho < high
    assert np.isnan(paths.correlation([1, 1, 1], [1, 2, 3])).all()
