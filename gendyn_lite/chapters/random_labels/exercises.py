"""Checkers of chapter 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor

from gendyn_lite.chapters.live import exercise, expect, expect_close, random

Corruption = Callable[[Tensor, float, int, int], Tensor]
Step = Callable[[Tensor, Tensor, float, float], Tensor]


@exercise("label corruption")
def check_corruption(corrupt: Corruption) -> None:
    """Check a learner's ``corrupt(y, q, num_classes, seed) -> labels`` over sizes, fractions and seeds.

    Each label is redrawn with probability q, uniformly from all classes; the rest stay; `y` itself is left alone; the
    same seed gives the same labels; with one seed, the labels redrawn at a smaller q are redrawn at a larger one too.
    """
    for n, num_classes, seed in ((1, 2, 0), (500, 10, 1), (20_000, 7, 2)):
        y = torch.arange(n) % num_classes
        _check_ends(corrupt, y, num_classes, seed)
        again = corrupt(y, 0.5, num_classes, seed)
        expect(torch.equal(corrupt(y, 0.5, num_classes, seed), again), "two calls with one seed gave two results")
    _check_share(corrupt)
    _check_nested(corrupt)


def _check_ends(corrupt: Corruption, y: Tensor, num_classes: int, seed: int) -> None:
    clean, random = corrupt(y, 0.0, num_classes, seed), corrupt(y, 1.0, num_classes, seed)
    expect(isinstance(clean, Tensor), f"your function returned {type(clean).__name__}, expected a tensor of labels")
    expect(clean.shape == y.shape, f"the labels have shape {tuple(clean.shape)}, expected {tuple(y.shape)}")
    changed = int((clean != y).sum())
    expect(changed == 0, f"with q = 0, {changed} of {len(y)} labels changed, expected none")
    low, high = int(random.min()), int(random.max())
    expect(low >= 0 and high < num_classes, f"labels run from {low} to {high}, expected 0 to {num_classes - 1}")


def _check_share(corrupt: Corruption) -> None:
    """A redrawn label keeps its class with probability 1 / classes: the classical slip is to exclude the true one."""
    n, num_classes = 40_000, 4
    y = torch.zeros(n, dtype=torch.long)
    for q in (0.2, 0.5, 1.0):
        share = float((corrupt(y, q, num_classes, 3) != y).float().mean())
        expected = q * (1 - 1 / num_classes)
        problem = f"with q = {q}, {share:.2f} of the labels differ"
        hint = f"a redrawn label comes from all {num_classes} classes, its own among them, so expected about"
        expect(abs(share - q) >= 0.01, f"{problem}; {hint} {expected:.2f}")
        expect(abs(share - expected) < 0.015, f"{problem}, expected {expected:.2f}")
    counts = torch.bincount(corrupt(y, 1.0, num_classes, 4), minlength=num_classes) / n
    expect(float((counts - 1 / num_classes).abs().max()) < 0.015, "with q = 1 the classes are not equally frequent")


def _check_nested(corrupt: Corruption) -> None:
    """Paired sweeps: what is corrupted at q = 0.2 stays corrupted, to the same label, at q = 0.6."""
    y = torch.zeros(20_000, dtype=torch.long)
    small, large = corrupt(y, 0.2, 10, 5), corrupt(y, 0.6, 10, 5)
    lost = int(((small != y) & (large != small)).sum())
    told = f"{lost} labels corrupted at q = 0.2 are others at q = 0.6; draw u for every example from the seed alone"
    expect(lost == 0, told + ", and every new label too, then redraw where u < q")


@exercise("accuracy of a network that ignores the noise")
def check_expected_accuracy(answer: Callable[[float, int], float]) -> None:
    """Check ``accuracy(q, num_classes)``: train accuracy, on corrupted labels, of a network that learnt the true ones.

    A label stays true with probability 1 − q + q / classes.
    """
    for q, num_classes in ((0.0, 10), (1.0, 10), (0.5, 10), (0.3, 2), (0.8, 100)):
        expected = 1 - q + q / num_classes
        value = float(answer(q, num_classes))
        problem = f"with q = {q} and {num_classes} classes you say {value:.3f}, expected {expected:.3f}"
        expect_close(value, expected, problem, {"some redrawn labels are right by luck": 1 - q}, tolerance=1e-6)


@exercise("time to fit")
def check_fit_epoch(answer: Callable[[Sequence[float]], int | None]) -> None:
    """Check ``fit_epoch(accuracies)``: the first epoch with train accuracy of at least 0.999, None if there is none."""
    cases = [([0.1, 0.7, 1.0, 1.0], 2), ([0.1, 1.0, 0.98, 1.0], 1), ([1.0], 0), ([0.1, 0.999], 1)]
    for accuracies, expected in [*cases, ([0.1, 0.995], None), ([], None)]:
        value = answer(accuracies)
        expect(value == expected, f"for accuracies {accuracies} you say {value}, expected {expected}")


@exercise("generalization gap")
def check_gap(answer: Callable[[pd.DataFrame], pd.Series], runs: pd.DataFrame) -> None:
    """Check ``gap(runs)``: mean generalization gap (train − test accuracy) by label corruption, seeds averaged."""
    expected = (runs["train_accuracy"] - runs["test_accuracy"]).groupby(runs["label_corruption"]).mean()
    value = answer(runs)
    expect(isinstance(value, pd.Series), f"your function returned {type(value).__name__}, expected a pandas Series")
    expect(list(value.index) == list(expected.index), f"the index is {list(value.index)}, expected the values of q")
    problem = f"the largest difference from the expected gap is {(value - expected).abs().max():.3f}"
    slips = {"the sign is wrong: the gap is train minus test": (-expected).tolist()}
    expect_close(value.tolist(), expected.tolist(), problem, slips)


@exercise("best accuracy so far")
def check_best_so_far(answer: Callable[[Sequence[float]], Sequence[float]]) -> None:
    """Check ``best_so_far(accuracies)``: for each epoch the highest accuracy up to it, itself among them."""
    generator = torch.Generator().manual_seed(0)
    cases = [[0.1, 0.5, 0.4, 0.6, 0.2], [0.3], [], [0.9, 0.8, 0.7]]
    cases += [torch.rand(n, generator=generator).round(decimals=3).tolist() for n in (2, 7, 40)]
    for accuracies in cases:
        expected = [max(accuracies[: place + 1]) for place in range(len(accuracies))]
        value = list(answer(list(accuracies)))
        shown = f"for accuracies {accuracies[:5]}{' …' if len(accuracies) > 5 else ''}"
        expect(len(value) == len(expected), f"{shown} you give {len(value)} numbers, expected {len(expected)}")
        hint = "; the best of a later epoch is not known yet" if value[:1] != expected[:1] else ""
        for place, (ours, best) in enumerate(zip(value, expected, strict=True)):
            expect(abs(ours - best) < 1e-6, f"{shown} you say {ours:g} at {place}, expected {best:g}{hint}")


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
        worst = float((value - expected).abs().max())
        text = f"with learning rate {rate:g} and weight decay {decay:g}, a weight is wrong by {worst:.3g}"
        expect_close(value, expected, text, slips)
