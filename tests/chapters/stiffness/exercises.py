"""Exercises of chapter 4: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.stiffness import exercises

FITTED = (
    "A = torch.stack([torch.ones_like(d), d], 1)\na, b = torch.linalg.lstsq(A, s[:, None]).solution[:, 0].tolist()\n"
)
NOTEBOOK = "04_stiffness"
CHECKS = {
    "ex-cosine": ("cosine(g)", exercises.check_cosine),
    "ex-linear-gram": ("linear_gram(a, z)", exercises.check_linear_gram),
    "ex-change": ("predicted_change(g, i, eps)", exercises.check_predicted_change),
    "ex-within": ("within(m, y)", exercises.check_within),
    "ex-length": ("critical_length(d, s)", exercises.check_critical_length),
}
SLIPS = {
    "ex-cosine": {
        "d = g.diagonal(); return g / (d[:, None] * d).clamp(min=1e-300)": "their roots",
        "d = g.diagonal().sqrt(); return g / (d[:, None] * d)": "0/0",
        "g /= g.diagonal().mean(); return g": "changed the matrix itself",
    },
    "ex-linear-gram": {
        "(a @ a.T) * (z @ z.T)": "the bias is missing",
        "a @ a.T @ (z @ z.T)": "entry by entry",
        "a.T @ a": "the result has shape",
    },
    "ex-change": {
        "eps * g[i]": "the sign is wrong",
        "-g[i]": "the step size ε is missing",
        "-eps * g[i, i]": "expected (5,)",
    },
    "ex-within": {
        "m[y[:, None] == y].mean()": "leave the diagonal out",
        "m.mean()": "these are all pairs",
    },
    "ex-length": {
        FITTED + "return a": "the stiffness at distance 0",
        FITTED + "return a / b": "the sign is wrong",
    },
}
