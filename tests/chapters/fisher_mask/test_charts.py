"""Charts of chapter 3: valid, described, their data those of the tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from gendyn_lite.chapters.fisher_mask import charts as fisher
from tests.chapters.fisher_mask import fake as fake_fisher
from tests.chapters.specs import rows

TABLE = pd.concat([fake_fisher.table(), fake_fisher.table(data="other data")])
CASES = product(("digit 0 (number 0)", "digit 3 (number 1)"), (0.01, 0.1), ((0, "same digit"), (1, "other digit")))
STEPS = pd.DataFrame(
    [(name, eps, digit, 9, pair, eps**2, eps**2) for name, eps, (digit, pair) in CASES],
    columns=["example", "eps", "digit", "number", "pair", "kl", "quadratic"],
)
EPS = np.logspace(-3, 0, 5)
FORMS = pd.DataFrame({"eps": EPS, "kl": EPS**2, "quadratic": EPS**2, "gap": EPS**3, "ratio": 1 + EPS})
APPROXIMATION = pd.concat([FORMS.assign(activation=name) for name in ("tanh", "relu")])
PAIRS = pd.DataFrame({"digit": [0, 1, 2], "number": [0, 1, 2], "whole": [1.0, 10.0, 0.0], "diagonal": [0.02, 0.2, 0.0]})
SHARES = pd.DataFrame({"of": "Fisher information", "kept": [0.25, 0.5, 1.0], "held": [0.5, 0.7, 1.0]})
CHARTS = {
    "moved": lambda: fisher.moved(STEPS),
    "moved once": lambda: fisher.moved(STEPS.drop(columns=["example", "eps"]).head(2)),
    "approximation": lambda: fisher.approximation(APPROXIMATION),
    "diagonal": lambda: fisher.diagonal_against_whole(PAIRS),
    "concentration": lambda: fisher.concentration(SHARES),
}


def test_influence_is_drawn_for_both_labels_and_all_forms():
    found = rows(fisher.influence(TABLE))
    assert set(found["labels"]) == {"true labels", "random labels"}
    assert set(found["form"]) == {"KL, measured", "true Fisher", "empirical Fisher", "diagonal"}
    start = found[(found["epoch"] == 0) & (found["form"] == "true Fisher") & (found["labels"] == "true labels")]
    assert start["mean"].round(1).tolist() == [102.0, 102.0]  # the geometric mean of 100 to 104
    assert (start["low"] > 0).all()
    assert set(start["seeds"]) == {5}


def test_masks_are_drawn_beside_no_mask():
    found = rows(fisher.with_masks(TABLE))
    assert set(found["mask"]) == {"no mask", "Fisher, 80 % kept", "Fisher, 70 % kept"}
    end = found[(found["of"] == "test loss") & (found["epoch"] == 8) & (found["mask"] == "no mask")]
    assert end["mean"].round(3).tolist() == [2.002, 2.002]


def test_gains_are_paired_by_seed():
    found = rows(fisher.best_accuracy(fake_fisher.table()))
    gains = found.set_index(["way", "kept"])["mean"].round(6)
    assert gains["Fisher", 0.75] == 2.0 and gains["random", 0.25] == -3.0
    assert set(found["subject"]) == {"mlp on made-up data, n = 1,000, true labels"}
