"""Exercises of chapter 4: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.stiffness import exercises
from tests.chapters.solutions import Chapter

CHECKS = {
    "ex-cosine": ("cosine", exercises.check_cosine),
    "ex-linear-gram": ("linear_gram", exercises.check_linear_gram),
    "ex-change": ("predicted_change", exercises.check_predicted_change),
    "ex-within": ("within", exercises.check_within),
    "ex-length": ("critical_length", exercises.check_critical_length),
}
SLIPS = {
    "no_root": (
        "ex-cosine",
        "def cosine(g): d = g.diagonal(); return g / (d[:, None] * d).clamp(min=1e-300)",
        "their roots",
    ),
    "nan": ("ex-cosine", "def cosine(g): d = g.diagonal().sqrt(); return g / (d[:, None] * d)", "0/0"),
    "in_place": ("ex-cosine", "def cosine(g): g /= g.diagonal().mean(); return g", "changed the matrix itself"),
    "no_bias": ("ex-linear-gram", "def linear_gram(a, z): return (a @ a.T) * (z @ z.T)", "the bias is missing"),
    "matrix_product": ("ex-linear-gram", "def linear_gram(a, z): return a @ a.T @ (z @ z.T)", "entry by entry"),
    "transposed": ("ex-linear-gram", "def linear_gram(a, z): return a.T @ a", "the result has shape"),
    "sign": ("ex-change", "def predicted_change(g, i, eps): return eps * g[i]", "the sign is wrong"),
    "no_step": ("ex-change", "def predicted_change(g, i, eps): return -g[i]", "the step size ε is missing"),
    "a_number": ("ex-change", "def predicted_change(g, i, eps): return -eps * g[i, i]", "expected (5,)"),
    "diagonal": ("ex-within", "def within(m, y): return m[y[:, None] == y].mean()", "leave the diagonal out"),
    "all_pairs": ("ex-within", "def within(m, y): return m.mean()", "these are all pairs"),
    "at_zero": (
        "ex-length",
        "def critical_length(d, s):\n"
        "    A = torch.stack([torch.ones_like(d), d], 1)\n"
        "    return torch.linalg.lstsq(A, s[:, None]).solution[0, 0].item()",
        "the stiffness at distance 0",
    ),
    "wrong_sign": (
        "ex-length",
        "def critical_length(d, s):\n"
        "    A = torch.stack([torch.ones_like(d), d], 1)\n"
        "    a, b = torch.linalg.lstsq(A, s[:, None]).solution[:, 0].tolist()\n"
        "    return a / b",
        "the sign is wrong",
    ),
    "not_started": ("ex-length", "def critical_length(d, s):\n    raise NotImplementedError", "your turn"),
    "crashes": ("ex-within", "def within(m, y): return m.means()", "your code stopped with AttributeError"),
}
CHAPTER = Chapter("04_stiffness", CHECKS, SLIPS, one_line=True)
