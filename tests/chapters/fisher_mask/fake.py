"""Tidy tables of chapter 3 with known contents."""

from __future__ import annotations

import math
from itertools import product

import pandas as pd

from tests.chapters import fake_sizes

# (how, share kept) → gain of the best accuracy over no mask, in points.
GAINS = {("fisher", 0.7): 0.5, ("fisher", 0.8): 0.5, ("fisher", 0.75): 2.0, ("fisher", 0.25): -1.0}
GAINS |= {("magnitude", 0.75): 1.0, ("magnitude", 0.25): -1.0, ("random", 0.75): 2.0, ("random", 0.25): -3.0}
EPOCHS = (0, 1, 2, 4, 8)


def table(*, seeds=5, data="made-up data", falls=True, less=True, slower=True, diagonal=0.01, gains=None):
    """Runs of one network.

    Args:
        seeds: Number of seeds.
        data: What the data is called.
        falls: Whether influence falls over epochs.
        less: Whether it is less on random labels.
        slower: Whether a mask slows its fall, and the rise of the test loss.
        diagonal: Diagonal over whole form.
        gains: Instead of `GAINS`.
    """
    shown = {"falls": falls, "less": less, "slower": slower, "diagonal": diagonal}
    ways = [(0.0, *way, gain) for way, gain in {("fisher", 1.0): 0.0, **(gains or GAINS)}.items()]
    runs = product([*ways, (1.0, "fisher", 1.0, 0.0)], range(seeds))
    return pd.DataFrame([row for way, seed in runs for row in _run(data, *way, seed, shown)])


def _run(data, corruption, by, keep, gain, seed, shown):
    told = {"data": data, "dataset": "cifar10", "network": "mlp (widths 256, 256)", "model": "mlp", "epochs": 8}
    told |= {"label_corruption": corruption, "mask_by": by, "mask_keep": keep}
    about = fake_sizes.about("fisher_mask", f"{data}-{corruption}-{by}-{keep}", seed, **told)
    for epoch in range(9):
        share = epoch / 8
        rate = (1.0 if keep == 1 or not shown["slower"] else 0.5) * (1 if shown["falls"] else -1)
        level = 100 * math.exp(-2 * rate * share) * (1 + 0.01 * seed)
        level *= (0.3 if shown["less"] else 3.0) if corruption else 1.0
        loss = 1.0 + share * (0.5 if keep < 1 and shown["slower"] else 1.0) + 0.001 * seed
        test = 0.1 if corruption else 0.3 + 0.1 * share + gain / 100 * share + 0.0005 * seed * share
        row = {"epoch": epoch, "train_accuracy": share, "test_accuracy": test, "test_loss": loss, "seconds": share}
        if epoch in EPOCHS:
            row |= {"influence/kl": 1.05 * level, "influence/quadratic_true": level}
            row |= {"influence/quadratic_empirical": 0.5 * level}
            row |= {"influence/quadratic_diagonal": 0.5 * shown["diagonal"] * level}
        yield {**about, **row}
