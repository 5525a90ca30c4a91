"""Exercises of chapter 3: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.fisher_mask import exercises
from tests.chapters.solutions import Chapter

CHECKS = {
    "ex-kl": ("kl", exercises.check_kl),
    "ex-logit-fisher": ("logit_fisher", exercises.check_logit_fisher),
    "ex-form": ("form", exercises.check_form),
    "ex-squares": ("diagonal", exercises.check_diagonal),
    "ex-mask": ("mask", exercises.check_mask),
    "ex-masked-step": ("masked_step", exercises.check_masked_step),
}
STEP = "def masked_step(w, g, v, M):\n    "
SLIPS = {
    "reversed": ("ex-kl", "def kl(p, q): return (q * (q / p).log()).sum()", "that is KL(q ‖ p)"),
    "negative": ("ex-kl", "def kl(p, q): return (p * (q / p).log()).sum()", "its sign is wrong"),
    "bits": ("ex-kl", "def kl(p, q): return (p * (p / q).log2()).sum()", "that is in bits"),
    "zero": ("ex-kl", "def kl(p, q): return (p * (p.log() - q.log())).sum()", "0·log 0 counts as 0"),
    "no normalization": ("ex-logit-fisher", "def logit_fisher(p): return torch.diag(p)", "what does the normalization"),
    "outer only": ("ex-logit-fisher", "def logit_fisher(p): return torch.outer(p, p)", "has one more term"),
    "diagonal only": ("ex-logit-fisher", "def logit_fisher(p): return torch.diag(p * (1 - p))", "not independent"),
    "a vector": ("ex-logit-fisher", "def logit_fisher(p): return p * (1 - p)", "expected (2, 2)"),
    "second moment": ("ex-form", "def form(p, dz): return (p * dz ** 2).sum()", "take the mean out first"),
    "standard deviation": ("ex-form", "def form(p, dz): return (p * (dz - (p * dz).sum()) ** 2).sum() ** 0.5", "stand"),
    "half": ("ex-form", "def form(p, dz): return (p * (dz - (p * dz).sum()) ** 2).sum() / 2", "the half belongs"),
    "square of the mean": ("ex-squares", "def diagonal(g): return g.mean(0) ** 2", "square first, then average"),
    "sum": ("ex-squares", "def diagonal(g): return (g ** 2).sum(0)", "that is the sum over examples"),
    "variance": ("ex-squares", "def diagonal(g): return g.var(0, correction=0)", "that is the variance"),
    "over weights": ("ex-squares", "def diagonal(g): return (g ** 2).mean(1)", "expected (4,)"),
    "least": ("ex-mask", "def mask(f, k): return f <= f.sort().values[-int(-k * len(f) // 1) - 1]", "the least infor"),
    "strict": (
        "ex-mask",
        "def mask(f, k): return f > f.sort(descending=True).values[-int(-k * len(f) // 1) - 1]",
        "the weight at the threshold itself is kept",
    ),
    "the rest": ("ex-mask", "def mask(f, k): return f.argsort().argsort() >= int(k * len(f))", "are to be masked"),
    "numbers": ("ex-mask", "def mask(f, k): return f", "expected True and False"),
    "gradient only": (
        "ex-masked-step",
        STEP + "v = 0.9 * v + g * M + 0.01 * w\n    return w - 0.1 * v, v * M",
        "by its momentum and weight decay",
    ),
    "no mask": (
        "ex-masked-step",
        STEP + "v = 0.9 * v + g + 0.01 * w\n    return w - 0.1 * v, v * M",
        "by its gradient",
    ),
    "momentum stays": (
        "ex-masked-step",
        STEP + "v = 0.9 * v + g + 0.01 * w\n    return w - 0.1 * v * M, v",
        "keeps its momentum, expected 0: at rest",
    ),
    "no decay": (
        "ex-masked-step",
        STEP + "v = (0.9 * v + g) * M\n    return w - 0.1 * v, v",
        "a weight that may move goes elsewhere",
    ),
    "not started": ("ex-kl", "def kl(p, q):\n    raise NotImplementedError", "your turn"),
}
CHAPTER = Chapter("03_fisher_mask", CHECKS, SLIPS)
