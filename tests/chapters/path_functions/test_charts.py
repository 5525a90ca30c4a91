"""Charts and tables of chapter 2: what runs recorded is read back, and drawn."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from gendyn_lite.chapters.path_functions import charts, charts_pairs
from gendyn_lite.chapters.path_functions import tables as paths
from tests.chapters.path_functions import fake
from tests.chapters.specs import rows

RUNS, DEEP = fake.networks(), fake.deep()


def test_distributions_have_every_layer_and_measure():
    found = rows(charts.distributions(RUNS))
    assert set(found["place"]) == {"1: relu1", "2: relu2", "3: relu3"}
    assert set(found["what"]) == set(charts.MEASURES.values())
    assert found["q50"].isna().eq(found["q05"].isna()).all() and found.dropna()["q05"].lt(found.dropna()["q95"]).all()


def test_the_ratio_says_its_correlation_with_an_interval():
    found = rows(charts_pairs.ratio(fake.ratio()))
    assert len(found) == 14 * 9
    assert found["words"].iloc[0].startswith("rank correlation -1.00 (")
    assert "mlp (widths 8), learning rate 0.01, batch size 25, weight decay 0.005, random crop" in set(found["name"])


def test_networks_that_do_not_fit_their_images_are_drawn_and_not_counted():
    mixed = fake.ratio()
    mixed.loc[mixed["network"] == "mlp (widths 8)", ["train_accuracy", "test_accuracy"]] = 0.5, 0.0
    found = rows(charts_pairs.ratio(mixed))
    assert found["words"].iloc[0].startswith("rank correlation -1.00 (") and len(found) == 14 * 9
    assert set(found["kind"]) == {"fully connected", "fully connected, not fitted"}


def test_what_stands_beside_the_runs_is_read_back():
    found = rows(charts.beside(DEEP)).dropna(subset=["mean"])
    means = found[found["layer"] == "mean of layers"].groupby("of")["mean"].mean()
    assert set(means.index) == {"the run", *paths.BESIDE.values()}
    assert means[paths.BESIDE["lag"]] == pytest.approx(0.8, abs=0.002)
    assert rows(charts.beside(RUNS))["of"].nunique() == 2


def test_ranks_are_counted_from_one_and_end_with_the_nearest():
    found = paths.ranks(RUNS)
    ends = found[found["epoch"] == fake.EPOCHS]
    assert set(ends["rank"]) == {1} == set(ends["final"]) and set(found["rank"]) == {1, 4}
    assert set(found["who"]) == {"image 5", "image 10"}


def test_a_partial_correlation_is_that_of_what_is_left_of_ranks():
    generator = np.random.default_rng(1)
    z = generator.normal(size=40)
    x, y = z + generator.normal(size=40), generator.normal(size=40) - z
    ranks = np.array([paths.stats.rankdata(each) for each in (x, y, z)])
    design = np.stack([np.ones(40), ranks[2]], 1)
    left = [each - design @ np.linalg.lstsq(design, each, rcond=None)[0] for each in ranks[:2]]
    assert paths.partial_rank(list(x), list(y), list(z)) == pytest.approx(np.corrcoef(left)[0, 1])
    assert np.isnan(paths.partial_rank([1, 2, 3], [1, 2, 3], [1, 3, 2]))
    assert np.isnan(paths.partial_rank(list(x), list(y), list(x)))


def test_every_choice_of_the_menus_has_data_where_networks_name_their_layers_differently():
    vgg = DEEP["network"] == "vgg19"
    other_names = {name: str(name).replace("paths/", "paths/features_") for name in DEEP}
    both = pd.concat([DEEP[~vgg], DEEP[vgg].rename(columns=other_names)], ignore_index=True)
    spec = charts.distributions(both).to_dict()
    menus = {param["name"].removeprefix("dist_"): param["bind"]["options"] for param in spec["params"] if
             param.get("bind", {}).get("input") == "select"}  # fmt: skip
    found = {tuple(row[name] for name in menus) for rows in spec["datasets"].values() for row in rows if "what" in row}
    assert found == set(product(*menus.values()))
    assert menus["place"][0].count(" / ") == 1


def test_layers_stand_in_their_order_and_tables_read_back():
    table = fake.networks(seeds=2)
    rows = paths.long_paths(table)
    assert rows.drop_duplicates("layer").set_index("layer")["number"].to_dict() == {"relu1": 1, "relu2": 2, "relu3": 3}
    assert list(rows["runs"].unique()) == [paths.TRUE, paths.RANDOM, paths.CONSTANT]
    assert paths.milestones(table) == list(fake.DECAYS)
    bins = paths.distances(table)
    assert bins[["distance", "low", "middle", "high"]].iloc[0].tolist() == [1.0, 0.1, 0.2, 0.3]


def test_the_correlation_is_scipys_and_its_interval_covers_it():
    generator = np.random.default_rng(0)
    x = generator.normal(size=20)
    y = x + generator.normal(size=20)
    rho, low, high = paths.correlation(x.tolist(), y.tolist())
    assert rho == pytest.approx(paths.stats.spearmanr(x, y).statistic)
    assert low < rho < high
    assert np.isnan(paths.correlation([1, 1, 1], [1, 2, 3])).all()
