"""Checkers of chapter 5."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gendyn_lite.chapters.live import close, exercise, expect, expect_close, random, slip


def _same(value: float | None, expected: float | None) -> bool:
    """Whether both are None, or equal numbers."""
    return value is expected if value is None or expected is None else abs(float(value) - expected) < 1e-6


@exercise("knot of a unit")
def check_knot(answer: Callable[[float, float], float | None]) -> None:
    """Check ``knot(a, b)``: where in [0, 1] a unit that changes linearly from a to b passes 0, or None."""
    cases = [(-1, 1, 0.5), (1, -3, 0.25), (-0.2, 0.6, 0.25), (2, 5, None), (-1, -4, None)]
    for a, b, expected in [*cases, (0, 2, None), (-3, 0, None), (2, 0, None), (0, 0, None)]:
        value = answer(float(a), float(b))
        hint = ": the side never changes" if expected is None else ""
        hint = ": touching 0 at an end is no change on the way" if a * b == 0 else hint
        if value is not None and expected is not None and _same(1 - value, expected):
            hint = "; you measure from the other end"
        expect(_same(value, expected), f"from {a:g} to {b:g} you say {value}, expected {expected}{hint}")


@exercise("where the class is left")
def check_leave(answer: Callable[[Sequence[float], Sequence[float]], float | None]) -> None:
    """Check ``leave(start, end)``: where on a linear piece the first margin reaches 0, or None if all stay above 0.

    `start` and `end` hold the margins of the class over the other classes at both ends of the piece; those at the start
    are at least 0.
    """
    cases: list[tuple[list[float], list[float], float | None]] = [
        ([1.0, 2.0], [-1.0, 1.0], 0.5),
        ([1.0, 1.0], [-1.0, -3.0], 0.25),
        ([8.0, 0.5], [-4.0, -0.5], 0.5),
        ([1.0, 2.0], [0.5, 3.0], None),
        ([1.0, 3.0, 2.0], [2.0, -1.0, 1.0], 0.75),
        ([1.0, 2.0], [0.0, 1.0], None),
        ([0.0, 1.0], [-1.0, -1.0], 0.0),
    ]
    for start, end, expected in cases:
        value = answer(list(start), list(end))
        told = f"for margins {start} to {end} you say {value}, expected {expected}"
        if value is not None and expected is not None and value > expected:
            told += "; the first class to overtake ends the interval, not the one that is furthest ahead at the end"
        expect(_same(value, expected), told)


@exercise("interval from samples")
def check_sampled_interval(answer: Callable[[Sequence[float], Sequence[int]], tuple[float, float]]) -> None:
    """Check ``interval(alphas, classes)``: first and last sample of the stretch of equal classes around α = 0."""
    cases = [
        ([-1.0, 0.0, 1.0, 2.0], [3, 3, 3, 3], (-1.0, 2.0)),
        ([-1.0, -0.5, 0.0, 0.5, 1.0], [1, 2, 2, 2, 0], (-0.5, 0.5)),
        ([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5], [5, 4, 5, 5, 4, 5], (0.0, 0.5)),
        ([-1.0, 0.0, 2.0], [0, 1, 0], (0.0, 0.0)),
    ]
    for alphas, classes, expected in cases:
        value = answer(list(alphas), list(classes))
        told = f"for classes {classes} at {alphas} you say {value}, expected {expected}"
        if len(classes) == 6:
            told += "; the class may come back beyond another class, but the interval has already ended"
        expect(close(value, expected), told)


@exercise("knots of a max-pool")
def check_pool_knots(answer: Callable[[Tensor, Tensor], Sequence[float]]) -> None:
    """Check ``pool_knots(start, end)``: where in (0, 1) the largest of several lines changes, in rising order."""
    cases = [
        ([1.0, 0.0], [0.0, 1.0], [0.5]),
        ([1.0, 0.0], [2.0, 1.0], []),
        ([4.0, 0.0, 2.0], [0.0, 4.0, 2.1], [2 / 4.1, 2 / 3.9]),
        ([0.0, 2.0, 4.0], [4.0, 2.1, 0.0], [2 / 4.1, 2 / 3.9]),
        ([2.0, 1.0, 0.0], [0.0, 1.0, 4.0], [1 / 3]),
        ([2.0, 0.0, 0.0], [0.0, 1.0, 2.0], [0.5]),
    ]
    for start, end, expected in cases:
        value = [float(each) for each in answer(torch.tensor(start).double(), torch.tensor(end).double())]
        given, wanted = ([round(each, 3) for each in knots] for knots in (value, expected))
        told = f"for lines from {start} to {end} you give {given}, expected {wanted}"
        hint = "; below the largest line crossings make no kink" if len(value) > len(expected) else ""
        expect(len(value) == len(expected), told + hint)
        expect(value == sorted(value), f"{told}: in rising order")
        expect(all(abs(v - w) < 1e-6 for v, w in zip(value, expected, strict=True)), told)


@exercise("midline of a triangle")
def check_midline(answer: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Check ``midline(a, b, c)``: origin and direction of the line from the midpoint of ab (α = 0) to that of ac."""
    for d in (1, 2, 50):
        a, b, c = random(3, d)
        origin, direction = answer(a, b, c)
        expect(close(origin, (a + b) / 2), "α = 0 is not the middle of a and b")
        hint = slip(direction, {"your step is twice as long": c - b})
        expect(close(origin + direction, (a + c) / 2), f"α = 1 is not the middle of a and c{hint}")


@exercise("∞-norm")
def check_norm(answer: Callable[[Tensor], float]) -> None:
    """Check ``norm(W)``: the ∞-norm, the largest change of an output while no input changes by more than 1."""
    for shape in ((1, 1), (3, 5), (10, 4), (2, 300)):
        W = random(*shape)
        value, expected = float(answer(W)), float(W.abs().sum(1).max())
        slips = {
            "that is the largest column sum": W.abs().sum(0).max(),
            "that is the largest entry": W.abs().max(),
            "take absolute values before you add": W.sum(1).abs().max(),
            "that is the spectral norm": torch.linalg.matrix_norm(W, 2),
        }
        expect_close(
            value, expected, f"for a {shape} matrix you say {value:.5f}, expected {expected:.5f}", slips, tolerance=1e-6
        )
