"""Exercises of chapter 1: what checks each one, and its classical slips with what is told of them."""

from __future__ import annotations

from gendyn_lite import results
from gendyn_lite.chapters.random_labels import exercises
from tests.chapters.random_labels import fake as fake_runs


def check_gap(gap) -> bool:
    return exercises.check_gap(gap, results.summarize(fake_runs.table(inputs=())))


SEEDED = "g = torch.Generator().manual_seed(seed)\nu = torch.rand(len(y), generator=g)\n"
DRAWN = "d = torch.randint({}, {}, (len(y),), generator=g)\n"
UNPAIRED = "y = y.clone()\ny[u < q] = torch.randint(num_classes, (int((u < q).sum()),), generator=g)\nreturn y"
NOTEBOOK = "01_random_labels"
CHECKS = {
    "ex-corrupt": ("corrupt(y, q, num_classes, seed)", exercises.check_corruption),
    "ex-expected": ("accuracy(q, num_classes)", exercises.check_expected_accuracy),
    "ex-fit-epoch": ("fit_epoch(a)", exercises.check_fit_epoch),
    "ex-gap": ("gap(ends)", check_gap),
    "ex-best": ("best_so_far(a)", exercises.check_best_so_far),
    "ex-decay": ("step(w, g, lr, wd)", exercises.check_weight_decay),
}
SLIPS = {
    "ex-corrupt": {
        SEEDED + UNPAIRED: "draw u for every example from the seed alone",
        SEEDED
        + DRAWN.format(1, "num_classes")
        + "return torch.where(u < q, (y + d) % num_classes, y)": "its own among them",
        SEEDED + DRAWN.format(0, "num_classes") + "y[u < q] = d[u < q]\nreturn y": "changed y itself",
        "torch.where(torch.rand(len(y)) < q, torch.randint(num_classes, (len(y),)), y)": "two calls with one seed",
        SEEDED + DRAWN.format(0, "num_classes + 1") + "return torch.where(u < q, d, y)": "expected 0 to",
    },
    "ex-expected": {
        "1 - q": "right by luck",
    },
    "ex-fit-epoch": {
        "next((e for e, x in enumerate(a) if x > 0.99), None)": "[0.1, 0.995] you say 1, expected None",
        "max((e for e, x in enumerate(a) if x < 0.999), default=-1) + 1": "expected 1",
    },
    "ex-gap": {
        "(ends.test_accuracy - ends.train_accuracy).groupby(ends.label_corruption).mean()": "the sign is wrong",
    },
    "ex-best": {
        "[max(a)] * len(a)": "a later epoch is not known yet",
        "[max(a[:i], default=a[0]) for i in range(len(a))]": "you say 0.1 at 1, expected 0.5",
        "[max(a, default=0)]": "you give 1 numbers, expected 5",
    },
    "ex-decay": {
        "w - lr * g - wd * w": "multiplies it too",
        "w - lr * (g - wd * w)": "your weights grow",
        "w - lr * g": "a weight is wrong by",
        "w -= lr * (g + wd * w)\nreturn w": "changed w itself",
    },
}
