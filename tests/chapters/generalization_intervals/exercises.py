"""Exercises of chapter 5: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.generalization_intervals import exercises
from tests.chapters.solutions import Chapter

CHECKS = {
    "ex-knot": ("knot", exercises.check_knot),
    "ex-leave": ("leave", exercises.check_leave),
    "ex-sampled": ("interval", exercises.check_sampled_interval),
    "ex-pool": ("pool_knots", exercises.check_pool_knots),
    "ex-midline": ("midline", exercises.check_midline),
    "ex-norm": ("norm", exercises.check_norm),
}
SLIPS = {
    "from_the_other_end": (
        "ex-knot",
        "def knot(a, b): return b / (b - a) if a * b < 0 else None",
        "you measure from the other end",
    ),
    "always_a_knot": ("ex-knot", "def knot(a, b): return a / (a - b)", "expected None: the side never changes"),
    "never_a_knot": ("ex-knot", "def knot(a, b): return None", "you say None, expected 0.5"),
    "worst_at_the_end": (
        "ex-leave",
        "def leave(start, end):\n    i = end.index(min(end))\n"
        "    return start[i] / (start[i] - end[i]) if end[i] < 0 else None",
        "the first class to overtake",
    ),
    "ends_only": ("ex-leave", "def leave(start, end): return None", "expected 0.5"),
    "not_connected": (
        "ex-sampled",
        "def interval(alphas, classes):\n    own = classes[alphas.index(0.0)]\n"
        "    same = [a for a, c in zip(alphas, classes) if c == own]\n    return same[0], same[-1]",
        "the same one may come back",
    ),
    "all_pairs_of_lines": (
        "ex-pool",
        "def pool_knots(a, b):\n    n = range(len(a))\n"
        "    t = [((a[i] - a[j]) / (a[i] - a[j] - b[i] + b[j])).item() for i in n for j in n if i < j]\n"
        "    return [x for x in t if 0 < x < 1]",
        "below the largest line crossings make no kink",
    ),
    "whole_side": ("ex-midline", "def midline(a, b, c): return (a + b) / 2, c - b", "your step is twice as long"),
    "from_a_corner": ("ex-midline", "def midline(a, b, c): return a, (c - b) / 2", "α = 0 is not the middle"),
    "columns": ("ex-norm", "def norm(W): return W.abs().sum(0).max()", "the largest column sum"),
    "entry": ("ex-norm", "def norm(W): return W.abs().max()", "the largest entry"),
    "signed": ("ex-norm", "def norm(W): return W.sum(1).abs().max()", "take absolute values"),
    "spectral": ("ex-norm", "def norm(W): return torch.linalg.matrix_norm(W, 2)", "the spectral norm"),
    "not_started": ("ex-norm", "def norm(W):\n    raise NotImplementedError", "your turn"),
}
CHAPTER = Chapter("05_generalization_intervals", CHECKS, SLIPS)
