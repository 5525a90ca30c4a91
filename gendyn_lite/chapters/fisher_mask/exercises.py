"""Checkers of chapter 3."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gendyn_lite.chapters.live import exercise, expect, expect_close, expect_shape, random

ROUNDING = 1e-6  # tolerance for right answers in single precision


@exercise("KL")
def check_kl(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``kl(p, q)``: KL(p ‖ q) in nats of two distributions [classes], zeros of p allowed."""
    cases = [([0.5, 0.5], [0.25, 0.75]), ([0.2, 0.3, 0.5], [0.5, 0.3, 0.2]), ([0.0, 1.0], [0.4, 0.6])]
    for first, second in cases:
        p, q = torch.tensor([first, second], dtype=torch.float64)
        expected = torch.where(p > 0, p * (p / q).log(), 0.0).sum()
        value = torch.as_tensor(answer(p, q), dtype=torch.float64)  # a Python number would be taken in float32
        slips = {
            "that is KL(q ‖ p)": (q * (q / p).log()).sum(),
            "its sign is wrong": -expected,
            "that is in bits": expected / math.log(2),
        }
        problem = f"for {first} and {second} you say {value:.4f}, not {expected:.4f}"
        problem += "; 0·log 0 counts as 0" if torch.isnan(value) else ""
        expect_close(value, expected, problem, slips, tolerance=ROUNDING)


@exercise("Fisher information of logits")
def check_logit_fisher(answer: Callable[[Tensor], Tensor]) -> None:
    """Check ``logit_fisher(p)``: the true Fisher information of the logits of a softmax with output p, a matrix."""
    for count in (2, 3, 10):
        p = random(count, seed=count).softmax(0)
        expected = torch.diag(p) - torch.outer(p, p)
        value = answer(p)
        slips = {
            "that is the diagonal of P alone: what does the normalization do?": torch.diag(p),
            "that is ppᵀ: the expectation of (onehot − p)(onehot − p)ᵀ has one more term": torch.outer(p, p),
            "that is the diagonal alone; the classes are not independent": torch.diag(p * (1 - p)),
            "its sign is wrong": -expected,
        }
        expect_shape(value, (count, count))
        expect_close(value, expected, f"for {count} classes the matrix is wrong", slips, tolerance=ROUNDING)


@exercise("quadratic form")
def check_form(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Check ``form(p, dz)``: gᵀF(x)g, true Fisher information, from P(x) and the change Jg of the logits, [c] each."""
    for count in (2, 3, 10):
        p, dz = random(count, seed=count).softmax(0), random(count, seed=count + 1)
        mean = (p * dz).sum()
        expected = (p * (dz - mean).square()).sum()
        value = answer(p, dz)
        slips = {
            "a shift of all logits changes no prediction: take the mean out first": (p * dz.square()).sum(),
            "weight the classes by p": (dz - mean).square().sum(),
            "that is a standard deviation": expected.sqrt(),
            "the half belongs to the KL, not to the form": expected / 2,
        }
        problem = f"for {count} classes you say {float(value):.4f}, expected {float(expected):.4f}"
        expect_close(value, expected, problem, slips, tolerance=ROUNDING)


@exercise("diagonal")
def check_diagonal(answer: Callable[[Tensor], Tensor]) -> None:
    """Check ``diagonal(gradients)``: the diagonal of the empirical Fisher from per-example gradients [n, weights]."""
    for n, weights in ((2, 4), (50, 7), (1, 3)):
        g = random(n, weights, seed=n)
        expected = g.square().mean(0)
        value = answer(g)
        slips = {
            "that is the square of the batch's gradient: square first, then average": g.mean(0).square(),
            "that is the sum over examples, expected the mean": g.square().sum(0),
            "that is the variance: the mean gradient is not taken out": g.var(0, correction=0),
            "that is one number for each example: average over examples, not over weights": g.square().mean(1),
        }
        given, shape = f"for {n} gradient{'s' if n > 1 else ''}", tuple(torch.as_tensor(value).shape)
        misshaped = f"{given} of {weights} weights you give shape {shape}, expected {(weights,)}"
        problem = f"{given} the values are wrong" if shape == (weights,) else misshaped
        expect_close(value, expected, problem, slips if n > 1 else {}, tolerance=ROUNDING)


@exercise("mask")
def check_mask(answer: Callable[[Tensor, float], Tensor]) -> None:
    """Check ``mask(fisher, keep)``: True where a weight is among the share `keep` with the largest information.

    Where entries tie at the threshold, all of them may be kept (Eq. 10), or as many as the share needs.
    """
    for size, keep, zeros in ((4, 0.5, 0), (10, 0.3, 0), (101, 0.75, 0), (8, 1.0, 0), (12, 0.25, 9), (12, 0.5, 9)):
        fisher = random(size, seed=size).abs()
        fisher[:zeros] = 0.0
        count = -int(-keep * size // 1)
        least = fisher.sort(descending=True).values[count - 1]
        value = torch.as_tensor(answer(fisher, keep))
        told = f"keep = {keep:g} of {size}" + (f", {zeros} of them 0" if zeros else "")
        expect(value.dtype == torch.bool, f"{told}: you give {value.dtype}, expected True and False")
        expect_shape(value, (size,))
        kept, allowed = int(value.sum()), {count, int((fisher >= least).sum())}
        hint = "; the weight at the threshold itself is kept (≥)" if kept == int((fisher > least).sum()) else ""
        hint = "; that is how many are to be masked" if kept == size - count != count else hint
        expect(kept in allowed, f"{told}: you keep {kept}, expected {' or '.join(map(str, sorted(allowed)))}{hint}")
        right = bool(value[fisher > least].all()) and not bool(value[fisher < least].any())
        lowest = torch.equal(value, fisher <= fisher.sort().values[count - 1]) and count < size
        hint = "; these have the least information" if lowest else ""
        expect(right, f"{told}: other weights are kept{hint}")


@exercise("masked step")
def check_masked_step(answer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Check ``masked_step(w, g, v, M)``: one SGD step that neither moves a masked weight nor leaves it momentum.

    Learning rate 0.1, momentum 0.9, weight decay 0.01: v ← 0.9 v + g + 0.01 w, w ← w − 0.1 v where M is True.
    """
    w, g, v = (random(6, seed=seed) for seed in (1, 2, 3))
    M = torch.tensor([True, False, True, False, True, False])
    new_w, new_v = (torch.as_tensor(part, dtype=torch.float64) for part in answer(w, g, v, M))
    velocity = 0.9 * v + g + 0.01 * w
    moved = new_w[~M] - w[~M]
    slips = {
        "by its momentum and weight decay: masking the gradient is not enough": 0.9 * v + g * M + 0.01 * w,
        "by its gradient": velocity,
        "by its momentum": 0.9 * v,
        "by weight decay": 0.01 * w,
    }
    told = next((slip for slip, wrong in slips.items() if torch.allclose(moved, -0.1 * wrong[~M])), "")
    expect(bool((moved.abs() < ROUNDING).all()), f"a masked weight moves {told}".rstrip())
    expect_close(new_w[M], (w - 0.1 * velocity)[M], "a weight that may move goes elsewhere", tolerance=ROUNDING)
    expect(bool((new_v[~M] == 0).all()), "a masked weight keeps its momentum, expected 0: at rest")
    expect_close(new_v[M], velocity[M], "the momentum of a weight that may move is wrong", tolerance=ROUNDING)
