"""Charts of capacity that are drawn from what the page computes, and the paper's errors beside ours."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gendyn_lite.chapters.capacity import charts as draw
from gendyn_lite.chapters.capacity import demo
from gendyn_lite.charts import tables
from tests.chapters.capacity.fake import kernels
from tests.chapters.specs import described


def test_the_curve_passes_through_every_point():
    curves = demo.memorizing_curves(range(2, 8))
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
        spec = draw.kernel_error(kernels(data=data)).to_dict()
        return [row["error"] for rows in spec["datasets"].values() for row in rows if "words" in row]

    found = list(map(rules, ("MNIST", "CIFAR-10 (JPEG q75)", "handwritten digits (8x8)")))
    assert found == [[0.012, 0.006], [0.46], []]
    several = pd.concat([kernels(), kernels(n=10_000), kernels(data="CIFAR-10")], ignore_index=True)
    assert described(draw.kernel_error(several))


def test_no_classical_measure_tells_true_from_random_labels():
    account = demo.complexity(n=40, draws=2, swaps=1)
    assert not account["separates"].any()
    page = tables.complexity_table(account, caption="x").data
    assert page.count("<strong>no</strong>") == len(account) == 3
