"""Checkers of chapter 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

from gendyn_lite.chapters.live import exercise, expect, expect_close, expect_shape, random

Corruption = Callable[[Tensor, float, int, int], Tensor]
Step = Callable[[Tensor, Tensor, float, float], Tensor]


@exercise("label corruption")
def check_corruption(corrupt: Corruption) -> None:
    """Check a learner's ``corrupt(y, q, num_classes, seed) -> labels`` over sizes, fractions and seeds.

    Each label must be redrawn with probability q, uniformly from all classes, and otherwise kept; `y` itself must not
    change. The same seed must give the same labels, and another seed others. With one seed, labels that are redrawn at
    a smaller q must be redrawn at a larger one too.
    """

    def labels(y: Tensor, q: float, num_classes: int, seed: int) -> Tensor:
        found = torch.as_tensor(corrupt(y, q, num_classes, seed))
        expect(found.shape == y.shape, f"the labels have shape {tuple(found.shape)}, expected {tuple(y.shape)}")
        return found.to(torch.float64)

    for n, num_classes, seed in ((1, 2, 0), (500, 10, 1), (20_000, 7, 2)):
        _check_ends(labels, torch.arange(n) % num_classes, num_classes, seed)
    y = torch.arange(500) % 10
    again, other = labels(y, 0.5, 10, 1), labels(y, 0.5, 10, 2)
    expect(torch.equal(labels(y, 0.5, 10, 1), again), "two calls with one seed gave two results")
    unseeded = torch.equal(other, again) or torch.equal(labels(y, 1.0, 10, 1), labels(y, 1.0, 10, 2))
    expect(not unseeded, "two seeds gave the same labels: every draw must follow from the seed")
    _check_share(labels)
    _check_spread(labels)
    _check_nested(labels)


def _check_ends(labels: Corruption, y: Tensor, num_classes: int, seed: int) -> None:
    clean, random = labels(y, 0.0, num_classes, seed), labels(y, 1.0, num_classes, seed)
    changed = int((clean != y).sum())
    expect(changed == 0, f"with q = 0, {changed} of {len(y)} labels changed, expected none")
    low, high = float(random.min()), float(random.max())
    expect(low >= 0 and high < num_classes, f"labels run from {low:g} to {high:g}, expected 0 to {num_classes - 1}")
    expect(bool((random == random.round()).all()), "some labels are no whole numbers")


def _check_share(labels: Corruption) -> None:
    """Check that a redrawn label keeps its class with probability 1 / classes; a common slip excludes the true one."""
    n, num_classes = 40_000, 4
    y = torch.zeros(n, dtype=torch.long)
    for q in (0.2, 0.5, 1.0):
        share = float((labels(y, q, num_classes, 3) != y).double().mean())
        expected = q * (1 - 1 / num_classes)
        problem = f"with q = {q}, {share:.3f} of the labels differ"
        hint = f"a redrawn label comes from all {num_classes} classes, its own among them, so expected about"
        expect(abs(share - q) >= 0.01, f"{problem}; {hint} {expected:.3f}")
        expect(abs(share - expected) < 0.015, f"{problem}, expected about {expected:.3f}")
    counts = torch.bincount(labels(y, 1.0, num_classes, 4).long(), minlength=num_classes) / n
    expect(float((counts - 1 / num_classes).abs().max()) < 0.015, "with q = 1 the classes are not equally frequent")


def _check_spread(labels: Corruption) -> None:
    """Check that the number of redrawn labels is random: of 2,000 with probability 1/2 its deviation is 22."""
    y = torch.zeros(2000, dtype=torch.long)
    changed = torch.stack([(labels(y, 0.5, 10_000, seed) != y).sum() for seed in range(30)]).double()
    told = "the same number of labels is redrawn with every seed; each label has a draw of its own, which decides"
    expect(float(changed.std()) > 10, told)
    expect(float(changed.std()) < 45, "labels are redrawn in groups; each has a draw of its own, which decides")


def _check_nested(labels: Corruption) -> None:
    """Check that labels corrupted at q = 0.2 are corrupted to the same labels at q = 0.6, for paired comparisons."""
    y = torch.zeros(20_000, dtype=torch.long)
    small, large = labels(y, 0.2, 10, 5), labels(y, 0.6, 10, 5)
    lost = int(((small != y) & (large != small)).sum())
    told = f"{lost} labels corrupted at q = 0.2 change again at q = 0.6; draw u for every example from the seed alone"
    expect(lost == 0, told + ", and every new label too, then redraw where u < q")


@exercise("accuracy of a network that ignores the noise")
def check_expected_accuracy(answer: Callable[[float, int], float]) -> None:
    """Check ``accuracy(q, num_classes)``: accuracy on corrupted labels of a network that predicts the true ones.

    A label is still true with probability 1 − q + q / classes.
    """
    for q, num_classes in ((0.0, 10), (1.0, 10), (0.5, 10), (0.3, 2), (0.8, 100)):
        expected = 1 - q + q / num_classes
        value = float(answer(q, num_classes))
        problem = f"with q = {q} and {num_classes} classes you say {value:.5f}, expected {expected:.5f}"
        expect_close(value, expected, problem, {"some redrawn labels are right by luck": 1 - q}, tolerance=1e-5)


@exercise("time to fit")
def check_fit_epoch(answer: Callable[[Sequence[float]], int | None]) -> None:
    """Check ``fit_epoch(accuracies)``: the first epoch with a train accuracy of at least 0.999, or None."""
    cases = [([0.1, 0.7, 1.0, 1.0], 2), ([0.1, 1.0, 0.98, 1.0], 1), ([1.0], 0), ([0.1, 0.999], 1)]
    for accuracies, expected in [*cases, ([0.1, 0.995], None), ([0.9985, 1.0], 1), ([], None)]:
        value = answer(list(accuracies))
        right = value is None if expected is None else value is not None and bool(value == expected)
        expect(right, f"for accuracies {accuracies} you say {value}, expected {expected}")


@exercise("generalization gap")
def check_gap(answer: Callable[[pd.DataFrame], pd.Series], runs: pd.DataFrame) -> None:
    """Check ``gap(runs)``: mean generalization gap (train − test accuracy) by label corruption, averaged over seeds.

    The table is tried as it is, and with other accuracies and a row less, since the gap of fitted runs is their test
    error.
    """
    draws = [random(len(runs), seed=seed).sigmoid().numpy() for seed in range(2)]
    other = runs.assign(train_accuracy=draws[0], test_accuracy=draws[1]).iloc[1:]
    for given, where in ((runs, ""), (other, ", on a table with other numbers,")):
        expected = (given["train_accuracy"] - given["test_accuracy"]).groupby(given["label_corruption"]).mean()
        value = answer(given.copy())
        told = f"your function returned {type(value).__name__}, expected a pandas Series or a dict by q"
        expect(isinstance(value, pd.Series | dict), told)
        value = pd.Series(value, dtype=float).sort_index()
        expect(list(value.index) == list(expected.index), f"the index is {list(value.index)}, expected the values of q")
        problem = f"the largest difference from the expected gap{where} is {(value - expected).abs().max():.2g}"
        slips = {
            "the sign is wrong: the gap is train minus test": (-expected).tolist(),
            "that is the test error": (1 - given["test_accuracy"]).groupby(given["label_corruption"]).mean().tolist(),
        }
        expect_close(value.tolist(), expected.tolist(), problem, slips)


@exercise("early stopping")
def check_stopping(answer: Callable[[Sequence[float], Sequence[float]], float]) -> None:
    """Check ``gain(validation, test)``: test accuracy at the first best validation epoch, minus that at the end."""
    cases = [([0.1, 0.6, 0.5], [0.1, 0.4, 0.55]), ([0.3], [0.2]), ([0.1, 0.7, 0.7, 0.2], [0.1, 0.6, 0.5, 0.3])]
    cases += [tuple(random(2, n, seed=n).sigmoid().tolist()) for n in (2, 7, 40)]
    for validation, test in cases:
        at = max(range(len(test)), key=validation.__getitem__)
        last = len(test) - 1 - max(range(len(test)), key=validation[::-1].__getitem__)
        value = float(answer(list(validation), list(test)))
        expected = test[at] - test[-1]
        shown = f"for {[round(each, 3) for each in validation[:4]]} and {[round(each, 3) for each in test[:4]]}"
        shown += " …" if len(test) > 4 else ""
        slips = {
            "the sign is wrong": -expected,
            "test images must have no part in the choice of the epoch": max(test) - test[-1],
            "of epochs that are equally good on validation images, take the first": test[last] - test[-1],
            "that is the gain on the validation images, which chose the epoch": max(validation) - validation[-1],
        }
        expect_close(value, expected, f"{shown} you say {value:.5f}, expected {expected:.5f}", slips, tolerance=1e-5)


@exercise("weight decay")
def check_weight_decay(answer: Step) -> None:
    """Check ``step(w, gradient, learning_rate, weight_decay)``: weights after one step of SGD with an L2 penalty."""
    for rate, decay in ((0.1, 0.0), (0.1, 0.5), (0.5, 0.01), (0.01, 1.0)):
        w, gradient = random(2, 6)
        value = answer(w, gradient, rate, decay)
        expected = w - rate * (gradient + decay * w)
        apart, grown = w - rate * gradient - decay * w, w - rate * (gradient - decay * w)
        slips = {
            "the penalty is part of the gradient: the learning rate multiplies it too": apart,
            "the sign of the penalty is wrong: your weights grow": grown,
        }
        expect_shape(value, (6,))
        worst = float((torch.as_tensor(value) - expected).abs().max())
        text = f"with learning rate {rate:g} and weight decay {decay:g}, a weight is wrong by {worst:.3g}"
        expect_close(value, expected, text, slips)
