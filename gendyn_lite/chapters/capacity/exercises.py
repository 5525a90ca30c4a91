"""Checkers of chapter 6."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gendyn_lite.chapters.live import close, exercise, expect, expect_close, expect_shape, random

NEAR = 1e-4  # answers in float32 are right too


@exercise("weights of a network through any labels")
def check_weights(answer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Check ``weights(z, b, y)``: with them Σ_j w_j max(z_i − b_j, 0) is y_i, where b_1 < z_1 < b_2 < z_2 < …"""
    for n in (1, 2, 7):
        z = random(n, seed=n).abs().cumsum(0) + torch.arange(n)
        b = torch.cat([z[:1] - 1, z[:-1] + 0.5 * z.diff()])
        y = random(n, seed=n + 1)
        w = torch.as_tensor(answer(z.clone(), b.clone(), y.clone()), dtype=torch.float64)
        expect_shape(w, (n,), what="w")
        given = (z[:, None] - b).clamp(min=0) @ w
        wrong = next((i for i in range(n) if not close(given[i], y[i], tolerance=NEAR)), None)
        if wrong is not None:
            told = f"of {n} points, the network gives {given[wrong]:.6g} at point {wrong}, its label is {y[wrong]:.6g}"
            hint = "; the slope between two kinks is the sum of all weights so far" if wrong else ""
            expect(False, told + hint)


@exercise("Gaussian kernel")
def check_kernel(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Check ``kernel(a, b, width)``: exp(−‖a_i − b_j‖²/(2 width²)), [n, m]."""
    for n, m, d, width in ((1, 1, 1, 1.0), (3, 5, 4, 2.0), (4, 2, 7, 0.5)):
        a, b = random(n, d), random(m, d, seed=1)
        value = answer(a.clone(), b.clone(), width)
        expect_shape(value, (n, m), "a row for each point of a, a column for each of b")
        distances = (a[:, None] - b).square().sum(2)
        slips = {
            "the distance is to be squared": torch.exp(-distances.sqrt() / (2 * width**2)),
            "divide by twice the squared width": torch.exp(-distances / width**2),
            "the width is to be squared": torch.exp(-distances / (2 * width)),
            "the sign in the exponent is wrong": torch.exp(distances / (2 * width**2)),
        }
        right = torch.exp(-distances / (2 * width**2))
        expect_close(value, right, f"with width {width:g} an entry is wrong", slips, tolerance=NEAR)


@exercise("solution of smallest norm")
def check_minimum_norm(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``solve(X, y)``: of all w with X w = y the one of smallest norm, for fewer rows than columns."""
    for n, d in ((1, 2), (3, 5), (5, 30)):
        X, y = random(n, d), random(n, seed=1)
        w = torch.as_tensor(answer(X.clone(), y.clone()), dtype=torch.float64)
        expect_shape(w, (d,), "a weight for each column of X", what="w")
        expect(close(X @ w, y, tolerance=NEAR), f"for {n} rows and {d} columns, X w is not y")
        best = X.T @ torch.linalg.solve(X @ X.T, y)
        told = f"w fits, but its norm is {float(w.norm()):.6g}; there is a solution of norm {float(best.norm()):.6g}"
        expect_close(w, best, f"{told}: w must be a combination of the rows of X", tolerance=NEAR)


@exercise("a norm without a unit")
def check_norm(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Check ``size(alpha, K)``: αᵀKα · tr(K)/n², which is the same however the features are scaled."""
    for n in (1, 3, 8):
        features, alpha = random(n, n + 2), random(n, seed=1)
        K = features @ features.T
        right = float(alpha @ K @ alpha * K.trace() / n**2)
        value = float(answer(alpha.clone(), K.clone()))
        scaled = float(answer(alpha / 9, 9 * K))  # the same function of features three times as large
        told = f"for {n} points you say {value:.6g}, and {scaled:.6g} with features three times as large"
        if not close(value, scaled, tolerance=NEAR):
            expect(False, f"{told}; the function is the same, so must the number be")
        slips = {
            "that is its square root": right**0.5,
            "divide by n once more": right * n,
            "divide by n twice, not three times": right / n,
        }
        expect_close(value, right, f"for {n} points you say {value:.6g}, expected {right:.6g}", slips, tolerance=NEAR)


@exercise("an honest ridge")
def check_ridge(answer: Callable[[Sequence[float], Sequence[float]], float]) -> None:
    """Check ``honest(held_out, test)``: the test error of the ridge with the smallest held-out error."""
    cases = [([0.3, 0.15, 0.2], [0.2, 0.3, 0.1], 0.3), ([0.1, 0.4], [0.5, 0.2], 0.5), ([0.7], [0.6], 0.6)]
    for held_out, test, right in cases:
        value = answer(list(held_out), list(test))
        slips = {
            "that is the smallest test error: nobody may look at it to choose": min(test),
            "that is the held-out error, which the choice has made too small": min(held_out),
        }
        told = f"for held-out errors {held_out} and test errors {test} you say {value}, expected {right}"
        expect_close(value, right, told, slips, tolerance=NEAR)
