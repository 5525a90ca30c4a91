"""Checkers of 'Which lens?'."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gendyn_lite.chapters.live import exercise, expect


@exercise("agreement along a setting")
def check_agreement(answer: Callable[[Sequence[float], Sequence[float], Sequence[tuple[int, int]]], float]) -> None:
    """Check ``agreement(measure, accuracy, pairs)``: right minus wrong orders over all pairs; a tie is neither."""
    cases: list[tuple[list[float], list[float], list[tuple[int, int]], float]] = [
        ([1.0, 2.0], [0.3, 0.4], [(0, 1)], 1.0),
        ([2.0, 1.0], [0.3, 0.4], [(0, 1)], -1.0),
        ([1.0, 2.0, 0.0], [0.3, 0.4, 0.5], [(0, 1), (0, 2)], 0.0),
        ([1.0, 2.0, 9.0, 3.0], [0.3, 0.4, 0.1, 0.2], [(0, 1), (3, 2), (1, 0)], 1 / 3),
        ([1.0, 1.0, 2.0], [0.3, 0.4, 0.5], [(0, 1), (1, 2)], 0.5),
        ([1.0, 1.0], [0.3, 0.4], [(0, 1)], 0.0),
    ]
    for measure, accuracy, pairs, expected in cases:
        value = float(answer(list(measure), list(accuracy), list(pairs)))
        tied = any(measure[i] == measure[j] for i, j in pairs)
        hint = "; a tie of the measure is neither right nor wrong, and it counts in the number of pairs" if tied else ""
        hint = "; you count over all networks: take the pairs that are given" if not tied and len(pairs) < 3 else hint
        told = f"for measures {measure}, accuracies {accuracy} and pairs {pairs} you say {value:.3g}"
        expect(abs(value - expected) < 1e-6, f"{told}, expected {expected:.3g}{hint}")


@exercise("worst setting")
def check_worst(answer: Callable[[dict[str, list[int]]], str]) -> None:
    """Check ``worst(signs)``: the setting along which a measure agrees least on average; `signs` holds 1, −1 or 0."""
    cases = [
        ({"width": [1, 1, -1], "rate": [-1, -1], "depth": [1]}, "rate"),
        ({"width": [1] * 9 + [-1] * 9, "depth": [1, 1, -1]}, "width"),
        ({"width": [-1] * 3 + [1] * 9, "depth": [-1, 1], "rate": [1]}, "depth"),
        ({"width": [0, 0, 0], "depth": [1, -1, 1]}, "width"),
    ]
    for signs, expected in cases:
        found = answer({name: list(each) for name, each in signs.items()})
        most = max(signs, key=lambda name: signs[name].count(-1))
        hint = "; settings have different numbers of pairs: compare means, not counts" if found == most else ""
        expect(found == expected, f"for {signs} you say {found!r}, expected {expected!r}{hint}")
