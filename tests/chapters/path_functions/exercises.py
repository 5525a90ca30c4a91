"""Exercises of chapter 2: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.path_functions import exercises
from tests.chapters.solutions import Chapter

CHECKS = {
    "ex-path": ("path", exercises.check_path),
    "ex-self-similarity": ("similarity", exercises.check_self_similarity),
    "ex-cross-path": ("cross", exercises.check_cross_similarity),
    "ex-image-function": ("update", exercises.check_image_function),
    "ex-own-function": ("own", exercises.check_own_function),
    "ex-early-mid": ("ratio", exercises.check_early_mid),
}
SLIPS = {
    "zero_is_on": ("ex-path", "def path(W, b, x): return x @ W.T + b >= 0", "exactly 0 is off"),
    "no_bias": ("ex-path", "def path(W, b, x): return x @ W.T > 0", "the bias is missing"),
    "activations": ("ex-path", "def path(W, b, x): return (x @ W.T + b).relu()", "expected bool"),
    "transposed": ("ex-path", "def path(W, b, x): return (W @ x.T).T[:1] > 0", "the result has shape"),
    "nan": (
        "ex-self-similarity",
        "def similarity(p, q): return (p & q).sum(1) / (p.sum(1) * q.sum(1)).sqrt()",
        "0, not 0/0",
    ),
    "agreement": (
        "ex-self-similarity",
        "def similarity(p, q): return (p == q).double().mean(1)",
        "units that are off do",
    ),
    "jaccard": (
        "ex-self-similarity",
        "def similarity(p, q): return (p & q).sum(1) / (p | q).sum(1).clamp(min=1)",
        "the Jaccard index",
    ),
    "one_number": ("ex-self-similarity", "def similarity(p, q): return (p & q).double().mean()", "one number an image"),
    "plain_overlap": (
        "ex-cross-path",
        "def cross(p, q): return p.double() @ q.double().T",
        "of one image now with another",
    ),
    "no_norm": (
        "ex-cross-path",
        "def cross(p, q): r = (p & q).double(); return r @ r.T",
        "the norms are missing",
    ),
    "no_root": (
        "ex-cross-path",
        "def cross(p, q):\n    p, q = p.double(), q.double(); r = p * q\n"
        "    return (r @ r.T) / ((p @ p.T) * (q @ q.T))",
        "take the square root",
    ),
    "uphill": (
        "ex-image-function",
        "def update(z, a, eta): return eta * torch.outer(z, a), eta * z",
        "the sign is wrong",
    ),
    "no_step": (
        "ex-image-function",
        "def update(z, a, eta): return -torch.outer(z, a), -z",
        "the step size is missing",
    ),
    "turned": (
        "ex-image-function",
        "def update(z, a, eta): return -eta * torch.outer(z, a).T, -eta * z",
        "units × inputs",
    ),
    "bias": (
        "ex-image-function",
        "def update(z, a, eta): return -eta * torch.outer(z, a), -z",
        "the bias's update is wrong",
    ),
    "no_path": (
        "ex-own-function",
        "def own(first, second, path): return second[0] @ first[0], second[0] @ first[1] + second[1]",
        "use the path",
    ),
    "bias_of_off_units": (
        "ex-own-function",
        "def own(first, second, path): return (second[0] * path) @ first[0], second[0] @ first[1] + second[1]",
        "passes its bias on neither",
    ),
    "to_the_end": (
        "ex-early-mid",
        "def ratio(v, a, b): return sum(v[:a]) / a / (sum(v[a:]) / len(v[a:]))",
        "ends with the second decay",
    ),
    "sums": ("ex-early-mid", "def ratio(v, a, b): return sum(v[:a]) / sum(v[a:b])", "stages differ in length"),
    "other_way": (
        "ex-early-mid",
        "def ratio(v, a, b): return (sum(v[a:b]) / (b - a)) / (sum(v[:a]) / a)",
        "that is mid over early",
    ),
    "not_started": ("ex-path", "def path(W, b, x):\n    raise NotImplementedError", "your turn"),
}
CHAPTER = Chapter("02_path_functions", CHECKS, SLIPS)
