"""Exercises of chapter 5: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.generalization_intervals import exercises

SAME = "own = classes[alphas.index(0.0)]\nsame = [a for a, c in zip(alphas, classes) if c == own]\n"
CROSSINGS = "d, e = a[:, None] - a, b[:, None] - b\nt = (d / (d - e)).triu(1)\n"
NOTEBOOK = "05_generalization_intervals"
CHECKS = {
    "ex-knot": ("knot(a, b)", exercises.check_knot),
    "ex-leave": ("leave(start, end)", exercises.check_leave),
    "ex-sampled": ("interval(alphas, classes)", exercises.check_sampled_interval),
    "ex-pool": ("pool_knots(a, b)", exercises.check_pool_knots),
    "ex-midline": ("midline(a, b, c)", exercises.check_midline),
    "ex-norm": ("norm(W)", exercises.check_norm),
}
SLIPS = {
    "ex-knot": {
        "b / (b - a) if a * b < 0 else None": "you measure from the other end",
        "a / (a - b)": "expected None: the side never changes",
        "None": "you say None, expected 0.5",
    },
    "ex-leave": {
        "m, e = min(zip(end, start))[::-1]\nreturn m / (m - e) if e < 0 else None": "the first class to overtake",
        "None": "expected 0.5",
    },
    "ex-sampled": {
        SAME + "return same[0], same[-1]": "the same one may come back",
    },
    "ex-pool": {
        CROSSINGS
        + "return [x for x in t.flatten().tolist() if 0 < x < 1]": "below the largest line crossings make no kink",
    },
    "ex-midline": {
        "(a + b) / 2, c - b": "your step is twice as long",
        "a, (c - b) / 2": "α = 0 is not the middle",
    },
    "ex-norm": {
        "W.abs().sum(0).max()": "the largest column sum",
        "W.abs().max()": "the largest entry",
        "W.sum(1).abs().max()": "take absolute values",
        "torch.linalg.matrix_norm(W, 2)": "the spectral norm",
    },
}
