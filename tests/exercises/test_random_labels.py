"""Exercises of chapter 1: the folded solution passes, and each classical slip is told apart."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from gendyn_lite import results
from gendyn_lite.exercises import random_labels as exercises
from tests import fake_runs
from tests.exercises.solutions import run, solutions

FOLDED = solutions("01_random_labels")


def ends() -> pd.DataFrame:
    return results.summarize(fake_runs.table(inputs=()))


def check(label: str, code: str) -> bool:
    names = run(code, torch=torch, pd=pd)
    if label == "ex-corrupt":
        return exercises.check_corruption(names["corrupt"])
    if label == "ex-expected":
        return exercises.check_expected_accuracy(names["accuracy"])
    if label == "ex-fit-epoch":
        return exercises.check_fit_epoch(names["fit_epoch"])
    if label == "ex-best":
        return exercises.check_best_so_far(names["best_so_far"])
    if label == "ex-decay":
        return exercises.check_weight_decay(names["step"])
    return exercises.check_gap(names["gap"], ends())


def test_every_coded_exercise_has_a_solution():
    assert set(FOLDED) == {"ex-corrupt", "ex-expected", "ex-fit-epoch", "ex-gap", "ex-best", "ex-decay"}


@pytest.mark.parametrize("label", FOLDED)
def test_the_folded_solution_is_right(label, capsys):
    assert check(label, FOLDED[label]), capsys.readouterr().out


CORRUPT = """
def corrupt(y, q, num_classes, seed):
    g = torch.Generator().manual_seed(seed)
    {body}
"""
SLIPS = {
    "unpaired": (
        "ex-corrupt",
        CORRUPT.format(
            body="mask = torch.rand(len(y), generator=g) < q; labels = y.clone(); "
            "labels[mask] = torch.randint(num_classes, (int(mask.sum()),), generator=g); return labels"
        ),
        "draw u for every example from the seed alone",
    ),
    "never_the_true_class": (
        "ex-corrupt",
        CORRUPT.format(
            body="u = torch.rand(len(y), generator=g); s = torch.randint(1, num_classes, (len(y),), generator=g); "
            "return torch.where(u < q, (y + s) % num_classes, y)"
        ),
        "its own among them",
    ),
    "in_place": (
        "ex-corrupt",
        CORRUPT.format(
            body="u = torch.rand(len(y), generator=g); d = torch.randint(num_classes, (len(y),), generator=g); "
            "y[u < q] = d[u < q]; return y"
        ),
        "changed y itself",
    ),
    "no_seed": (
        "ex-corrupt",
        "def corrupt(y, q, num_classes, seed):\n"
        "    return torch.where(torch.rand(len(y)) < q, torch.randint(num_classes, (len(y),)), y)",
        "two calls with one seed gave two results",
    ),
    "one_class_missing": (
        "ex-corrupt",
        CORRUPT.format(
            body="u = torch.rand(len(y), generator=g); d = torch.randint(num_classes + 1, (len(y),), generator=g); "
            "return torch.where(u < q, d, y)"
        ),
        "expected 0 to",
    ),
    "luck_forgotten": ("ex-expected", "def accuracy(q, num_classes): return 1 - q", "right by luck"),
    "nearly_fitted": (
        "ex-fit-epoch",
        "def fit_epoch(a): return next((e for e, x in enumerate(a) if x > 0.99), None)",
        "for accuracies [0.1, 0.995] you say 1, expected None",
    ),
    "last_epoch": (
        "ex-fit-epoch",
        "def fit_epoch(a): return max((e for e, x in enumerate(a) if x < 0.999), default=-1) + 1",
        "expected 1",
    ),
    "sign": (
        "ex-gap",
        "def gap(ends): return (ends.test_accuracy - ends.train_accuracy).groupby(ends.label_corruption).mean()",
        "the sign is wrong",
    ),
    "best_of_all": ("ex-best", "def best_so_far(a): return [max(a)] * len(a)", "a later epoch is not known yet"),
    "best_before": (
        "ex-best",
        "def best_so_far(a): return [max(a[:i], default=a[0]) for i in range(len(a))]",
        "you say 0.1 at 1, expected 0.5",
    ),
    "one_number": ("ex-best", "def best_so_far(a): return [max(a, default=0)]", "you give 1 numbers, expected 5"),
    "rate_forgotten": ("ex-decay", "def step(w, g, lr, wd): return w - lr * g - wd * w", "multiplies it too"),
    "weights_grow": ("ex-decay", "def step(w, g, lr, wd): return w - lr * (g - wd * w)", "your weights grow"),
    "penalty_forgotten": ("ex-decay", "def step(w, g, lr, wd): return w - lr * g", "a weight is wrong by"),
    "weights_in_place": (
        "ex-decay",
        "def step(w, g, lr, wd):\n    w -= lr * (g + wd * w)\n    return w",
        "changed w itself",
    ),
    "not_started": ("ex-gap", "def gap(ends):\n    raise NotImplementedError", "your turn"),
    "crashes": ("ex-gap", "def gap(ends): return ends['accuracy']", "your code stopped with KeyError"),
}


@pytest.mark.parametrize(("label", "code", "told"), SLIPS.values(), ids=SLIPS)
def test_a_slip_is_told(label, code, told, capsys):
    assert not check(label, code)
    out = capsys.readouterr().out
    assert told in out
    assert out.count("\n") == 1
