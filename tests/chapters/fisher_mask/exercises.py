"""Exercises of chapter 3: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite.chapters.fisher_mask import exercises

NOTEBOOK = "03_fisher_mask"
CHECKS = {
    "ex-kl": ("kl(p, q)", exercises.check_kl),
    "ex-logit-fisher": ("logit_fisher(p)", exercises.check_logit_fisher),
    "ex-form": ("form(p, dz)", exercises.check_form),
    "ex-squares": ("diagonal(g)", exercises.check_diagonal),
    "ex-mask": ("mask(f, k)", exercises.check_mask),
    "ex-masked-step": ("masked_step(w, g, v, M)", exercises.check_masked_step),
}
SLIPS = {
    "ex-kl": {
        "(q * (q / p).log()).sum()": "that is KL(q ‖ p)",
        "(p * (q / p).log()).sum()": "its sign is wrong",
        "(p * (p / q).log2()).sum()": "that is in bits",
        "(p * (p.log() - q.log())).sum()": "0·log 0 counts as 0",
    },
    "ex-logit-fisher": {
        "torch.diag(p)": "what does the normalization",
        "torch.outer(p, p)": "has one more term",
        "torch.diag(p * (1 - p))": "not independent",
        "p * (1 - p)": "expected (2, 2)",
    },
    "ex-form": {
        "(p * dz ** 2).sum()": "take the mean out first",
        "(p * (dz - (p * dz).sum()) ** 2).sum() ** 0.5": "stand",
        "(p * (dz - (p * dz).sum()) ** 2).sum() / 2": "the half belongs",
    },
    "ex-squares": {
        "g.mean(0) ** 2": "square first, then average",
        "(g ** 2).sum(0)": "that is the sum over examples",
        "g.var(0, correction=0)": "that is the variance",
        "(g ** 2).mean(1)": "expected (4,)",
    },
    "ex-mask": {
        "f <= f.sort().values[-int(-k * len(f) // 1) - 1]": "the least infor",
        "f > f.sort(descending=True).values[-int(-k * len(f) // 1) - 1]": "the weight at the threshold itself",
        "f.argsort().argsort() >= int(k * len(f))": "are to be masked",
        "f": "expected True and False",
    },
    "ex-masked-step": {
        "v = 0.9 * v + g * M + 0.01 * w\nreturn w - 0.1 * v, v * M": "by its momentum and weight decay",
        "v = 0.9 * v + g + 0.01 * w\nreturn w - 0.1 * v, v * M": "by its gradient",
        "v = 0.9 * v + g + 0.01 * w\nreturn w - 0.1 * v * M, v": "keeps its momentum, expected 0: at rest",
        "v = (0.9 * v + g) * M\nreturn w - 0.1 * v, v": "a weight that may move goes elsewhere",
    },
}
