"""Exercises of chapter 1: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

import pandas as pd
import torch

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import exercises
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.solutions import Chapter


def check_gap(gap) -> bool:
    return exercises.check_gap(gap, results.summarize(fake_runs.table(inputs=())))


CHECKS = {
    "ex-corrupt": ("corrupt", exercises.check_corruption),
    "ex-expected": ("accuracy", exercises.check_expected_accuracy),
    "ex-fit-epoch": ("fit_epoch", exercises.check_fit_epoch),
    "ex-gap": ("gap", check_gap),
    "ex-best": ("best_so_far", exercises.check_best_so_far),
    "ex-decay": ("step", exercises.check_weight_decay),
}
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
CHAPTER = Chapter("01_random_labels", CHECKS, SLIPS, given={"torch": torch, "pd": pd}, one_line=True)
