"""Tidy tables of chapter 3 with known contents."""

from __future__ import annotations

import math
from itertools import product

import pandas as pd

from tests.chapters import fake_sizes

# (how, share kept) → gain of the best accuracy over no mask, in points.
GAINS = {("fisher", 0.7): 0.5, ("fisher", 0.8): 0.5, ("fisher", 0.75): 2.0, ("fisher", 0.25): -1.0}
GAINS |= {("magnitude", 0.75): 1.0, ("magnitude", 0.25): -1.0, ("random", 0.75): 2.0, ("random", 0.25): -3.0}
GAINS |= {("random_fixed", 0.75): 2.0, ("random_fixed", 0.25): -3.0}
GAINS |= {("shorter_steps", 0.75): 1.0, ("shorter_steps", 0.25): -3.0}


def table(*, seeds=5, data="made-up data", gains=None, resnet=False, **shown):
    """Runs of one network.

    Args:
        seeds: Number of seeds.
        data: What the data is called.
        gains: Instead of `GAINS`.
        resnet: Whether there are runs of ResNet-18 too, with running and with re-estimated statistics.
        **shown: falls (whether influence falls over epochs), less (whether it is less on random labels), late (what it
            is multiplied by there at the last epoch), slower (whether a mask slows its fall, and the rise of the test
            loss), diagonal (over the whole form), wrong (influence of steps on wrong over that of steps on right
            labels), held (share of the gradients of wrong labels where a mask would hold the weights; of right ones
            0.3), spared (by how much less of the wrong labels the mask fits), lag (what running statistics multiply
            influence by).
    """
    told = {"falls": True, "less": True, "late": 1.0, "slower": True, "diagonal": 0.01, "wrong": 0.5, "held": 0.5}
    told |= {"spared": 0.1, "lag": 10.0, **shown}
    ways = {("fisher", 1.0): 0.0, **(gains or GAINS)}
    shares = [(0.0, *way, gain) for way, gain in ways.items()]
    shares += [(0.5, *way, gain) for way, gain in ways.items() if way[1] not in (0.7, 0.8)] + [
        (1.0, "fisher", 1.0, 0.0)
    ]
    runs = [_run(data, *way, seed, told) for way, seed in product(shares, range(seeds))]
    if resnet:
        both = product(("running", "re-estimated"), range(seeds))
        runs += [_run(data, 0.0, "fisher", 1.0, 0.0, seed, told, statistics=name) for name, seed in both]
    return pd.DataFrame([row for rows in runs for row in rows])


def _run(data, corruption, by, keep, gain, seed, shown, statistics=""):
    model = "resnet18" if statistics else "mlp"
    told = {"data": data, "dataset": "cifar10", "network": "mlp (widths 256, 256)" if model == "mlp" else model}
    told |= {"model": model, "epochs": 8, "label_corruption": corruption, "mask_by": by, "mask_keep": keep}
    told |= {"batch_norm_statistics": statistics or "running"}
    about = fake_sizes.about("fisher_mask", f"{data}-{model}-{statistics}-{corruption}-{by}-{keep}", seed, **told)
    slower = keep < 1 and shown["slower"]
    for epoch in range(9):
        share = epoch / 8
        rate = (0.5 if slower else 1.0) * (1 if shown["falls"] else -1)
        level = 100 * math.exp(-2 * rate * share) * (1 + 0.01 * seed)
        level *= (0.3 if shown["less"] else 3.0) ** corruption
        level *= shown["late"] if corruption == 1 and epoch == 8 else 1.0
        level *= shown["lag"] if statistics == "running" else 1.0
        loss = 1.0 + share * (0.5 if slower else 1.0) + 0.001 * seed
        test = 0.3 + 0.1 * share + gain / 100 * share + 0.0005 * seed * share if corruption < 1 else 0.1
        row = {"epoch": epoch, "train_accuracy": share, "train_loss": 2.3 * math.exp(-4 * share)}
        row |= {"test_accuracy": test, "test_loss": loss, "seconds": share, "mask/kept": keep}
        if keep == 1 or keep in (0.7, 0.8):
            row |= {"influence/kl": 1.05 * level, "influence/quadratic_true": level}
            row |= {"influence/quadratic_empirical": 0.5 * level}
            row |= {"influence/quadratic_diagonal": 0.5 * shown["diagonal"] * level}
        if corruption == 0.5:
            spared = shown["spared"] if by == "fisher" and keep < 1 else 0.0
            row |= {"fit/right": share, "fit/wrong": share * (0.8 - spared + 0.002 * seed), "fit/true_of_wrong": 0.1}
            if keep == 1:
                row |= {"right/influence": level, "wrong/influence": shown["wrong"] * level}
                row |= {"right/gradient": 5.0, "wrong/gradient": 5.0 + 0.01 * seed}
                held = shown["held"] + 0.001 * seed
                row |= {"below/right_75": 0.3, "below/right_25": 0.3, "below/wrong_75": held, "below/wrong_25": held}
        yield {**about, **row}
