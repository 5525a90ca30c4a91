"""Charts of capacity: valid, honest about their numbers, and drawn from what the measures give."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gendyn_lite.chapters.capacity import charts as draw
from gendyn_lite.chapters.capacity import runs
from gendyn_lite.charts import tables
from tests.chapters.capacity.fake import conv, table
from tests.chapters.specs import described


def test_the_curve_passes_through_every_point():
    curves = runs.memorizing_curves(range(2, 8))
    assert described(draw.memorizing_curve(curves))
    for n, rows in curves.groupby("n"):
        points, kinks = rows[rows["kind"] == "point"], rows[rows["kind"] == "kink"].sort_values("x")
        drawn = np.interp(points["x"], kinks["x"], kinks["value"])  # the network is a line between its kinks
        np.testing.assert_allclose(drawn, points["value"], atol=1e-9)
        assert len(points) == n and set(rows["weights"]) == {2 * n + 1}
    places = curves[curves["kind"] == "point"].groupby("n")["x"].apply(set)
    assert places[3] <= places[4] <= places[7]


def test_the_papers_errors_stand_beside_that_data_only():
    def rules(data):
        spec = draw.kernel_error(table(data=data)).to_dict()
        return [row["error"] for rows in spec["datasets"].values() for row in rows if "words" in row]

    found = list(map(rules, ("MNIST", "CIFAR-10 (JPEG q75)", "handwritten digits (8x8)")))
    assert found == [[0.012, 0.006], [0.46], []]
    assert described(draw.kernel_error(pd.concat([table(), conv()], ignore_index=True)))


def test_descent_from_zero_finds_the_minimum_norm_and_from_elsewhere_does_not():
    descent = runs.descent_to_minimum_norm()
    last = descent.groupby("start")["relative_distance"].last()
    assert described(draw.distance_to_minimum_norm(descent))
    assert last["zero"] < 1e-3 and last["random"] > 0.1


def test_kernel_regressions_are_recorded_and_loaded(tmp_path, monkeypatch):
    (config,) = runs.kernel_plan(sizes=[60], seeds=1)
    first = runs.kernel_run(config, profile="smoke", root=tmp_path)
    monkeypatch.setattr(runs, "_solve", lambda *_: pytest.fail("solved again"))
    assert runs.kernel_run(config, profile="smoke", root=tmp_path).rows() == first.rows()
    assert first.rows()[0]["train_accuracy"] == 1.0


def test_no_classical_measure_tells_true_from_random_labels():
    account = runs.complexity(n=40, draws=2, swaps=1)
    assert not account["separates"].any()
    page = tables.complexity_table(account, caption="x").data
    assert page.count("<strong>no</strong>") == len(account) == 3
