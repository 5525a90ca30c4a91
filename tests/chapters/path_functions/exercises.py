"""Exercises of chapter 2: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.path_functions import exercises

NOTEBOOK = "02_path_functions"
CHECKS = {
    "ex-path": ("path(W, b, x)", exercises.check_path),
    "ex-self-similarity": ("similarity(p, q)", exercises.check_self_similarity),
    "ex-cross-path": ("cross(p, q)", exercises.check_cross_similarity),
    "ex-image-function": ("update(z, a, eta)", exercises.check_image_function),
    "ex-own-function": ("own(first, second, path)", exercises.check_own_function),
    "ex-early-mid": ("ratio(v, a, b)", exercises.check_early_mid),
}
SLIPS = {
    "ex-path": {
        "x @ W.T + b >= 0": "exactly 0 is off",
        "x @ W.T > 0": "the bias is missing",
        "(x @ W.T + b).relu()": "expected bool",
        "(W @ x.T).T[:1] > 0": "the result has shape",
    },
    "ex-self-similarity": {
        "(p & q).sum(1) / (p.sum(1) * q.sum(1)).sqrt()": "0, not 0/0",
        "(p == q).double().mean(1)": "units that are off do",
        "(p & q).sum(1) / (p | q).sum(1).clamp(min=1)": "the Jaccard index",
        "(p & q).double().mean()": "one number an image",
    },
    "ex-cross-path": {
        "p.double() @ q.double().T": "of one image now with another",
        "r = (p & q).double(); return r @ r.T": "the norms are missing",
        "p, q = p.double(), q.double()\nreturn (p * q) @ (p * q).T / (p @ p.T * (q @ q.T))": "take the square root",
    },
    "ex-image-function": {
        "eta * torch.outer(z, a), eta * z": "the sign is wrong",
        "-torch.outer(z, a), -z": "the step size is missing",
        "-eta * torch.outer(z, a).T, -eta * z": "units × inputs",
        "-eta * torch.outer(z, a), -z": "the bias's update is wrong",
    },
    "ex-own-function": {
        "second[0] @ first[0], second[0] @ first[1] + second[1]": "use the path",
        "(second[0] * path) @ first[0], second[0] @ first[1] + second[1]": "does not pass on its bias",
    },
    "ex-early-mid": {
        "sum(v[:a]) / a / (sum(v[a:]) / len(v[a:]))": "ends with the second decay",
        "sum(v[:a]) / sum(v[a:b])": "stages differ in length",
        "(sum(v[a:b]) / (b - a)) / (sum(v[:a]) / a)": "that is mid over early",
    },
}
