"""Tidy tables of chapter 2 with known contents."""

from __future__ import annotations

from itertools import product

import pandas as pd

from gendyn_lite.results.tables import network_name
from tests.chapters import fake_sizes

LAYERS = ("relu1", "relu2", "relu3")
KINDS = ("paths", "activations")
DECAYS = (9, 11)
EPOCHS = 12
NUMBERS = {"mean": 0.0, "q05": -0.04, "q25": -0.02, "q50": 0.0, "q75": 0.02, "q95": 0.04}


def _about(seed, q, schedule, model="alexnet_small", **changes):
    options = changes.pop("options", {})
    milestones = "" if schedule == "constant" else " ".join(map(str, DECAYS))
    network = network_name(model, options)
    told = {"dataset": "made_up", "probe_version": 2, "epochs": EPOCHS}
    told |= {"batch_size": 25, "random_crop": 0, "flip": False}
    told |= {"network": network, "model": model, "label_corruption": q, "schedule": schedule, "milestones": milestones}
    key = f"{network}-{q}-{schedule}-{sorted(changes.items())}"
    return fake_sizes.about(changes.pop("experiment", "path_networks"), key, seed, **told | changes)


def _similarities(level):
    keys = [f"{of}/{layer}:{measure}" for of, layer, measure in product(KINDS, LAYERS, ("self", "cross"))]
    return {f"{key}:{name}": level + more for key in keys for name, more in NUMBERS.items()}


def networks(
    *, seeds=3, early=0.8, late=0.98, constant=0.9, random=0.05, gap=0.1, rank=-0.4, changed=0.3, kept=0.8, alone=0.1,
    pixels=-0.3, older=0.3, others=0.6, walk=0.99, walk_late=0.99, random_alone=-0.2, model="alexnet_small", **about,
):  # fmt: skip
    """Runs on true labels, on random ones (higher by `random`), and on true ones without decay (late: `constant`)."""
    rows = []
    kinds = ((0.0, "step"), (1.0, "step"), (0.0, "constant"))
    for (q, schedule), seed, epoch in product(kinds, range(seeds), range(EPOCHS + 1)):
        row = _about(seed, q, schedule, model, **about)
        row |= {"epoch": epoch, "seconds": 1.0 * epoch, "learning_rate": 0.01}
        row |= {"train_accuracy": min(1.0, epoch / 10), "test_accuracy": 0.5}
        row |= {f"paths/{layer}:on": 0.4 for layer in LAYERS}
        for space, kind in product(("pixels", "distance"), ("rank", "linear")):
            value = pixels if space == "pixels" else rank
            row |= {f"{space}/{layer}:{kind}": value - 0.001 * seed for layer in LAYERS}
        row["isolation/mean"] = row["isolation/between"] = alone + 0.001 * seed
        row["isolation/random"] = random_alone
        if epoch:
            end = late if schedule == "step" else constant
            level = early if epoch <= DECAYS[0] else end
            level += (random if q else 0.0) + 0.0005 * seed
            row |= _similarities(level) | {"paths/epochs_between": 1}
            moved = walk if epoch <= DECAYS[0] else walk_late
            row |= {f"movement/{layer}:{of}:mean": moved for layer, of in product(LAYERS, ("self", "cross"))}
            row |= {f"apart/{layer}:others": others + 0.001 * seed for layer in LAYERS}
            for layer, lag in product(LAYERS, (2, 4, 8)):
                if epoch >= lag:
                    row |= {f"apart/{layer}:{of}{lag}": level - older * lag / 8 for of in ("self", "cross")}
            row |= {"paths/own:loss": 2.0 - 0.1 * epoch, "paths/before:loss": 2.0 - 0.1 * epoch - gap}
            row |= {f"neighbours/{layer}:kept": kept for layer in LAYERS}
            row |= {f"neighbours/{layer}:changed": changed + 0.001 * seed for layer in LAYERS}
            row |= {f"activations/{layer}:kept": kept + 0.001 * seed for layer in LAYERS}
        if epoch == EPOCHS:
            for space in ("pixels", "distance"):
                row |= {f"{space}/{layer}:bins": "1000 100 200 300/2000 50 150 250" for layer in LAYERS}
            ranks = " ".join(["3"] * EPOCHS + ["0"])
            row |= {f"neighbours/{layer}:ranks": f"5 7: {ranks}/10 2: {ranks}" for layer in LAYERS}
        rows.append(row)
    return pd.DataFrame(rows)


def deep(*, seeds=3, level=0.9, running=0.7, lag=0.8, **about):
    """Runs of two deep networks on true labels, with frozen weights and random steps beside them."""
    parts = [networks(seeds=seeds, early=level, model=model, **about) for model in ("resnet18", "vgg19")]
    both = pd.concat(parts, ignore_index=True)
    both = both[(both["label_corruption"] == 0) & (both["schedule"] == "step")]
    left = ("activations", "neighbours", "distance", "pixels", "apart", "isolation")
    both = both.drop(columns=[name for name in both if str(name).split("/")[0] in left])
    later = (both["epoch"] > 0).map({True: 1.0, False: float("nan")}) + 0.001 * both["seed"]
    for (name, value), layer, of in product({"running": running, "lag": lag}.items(), LAYERS, ("self", "cross")):
        both[f"{name}/{layer}:{of}:mean"] = value * later
    return both.assign(experiment="path_deep")


def ratio(*, networks=14, slope=-1.0, noise=0.0, seeds=2, fitted=True):
    """Networks whose generalization error falls along their ratio with a slope, and alternating noise."""
    rows = []
    for number in range(networks):
        value = 0.8 + 0.2 * number / networks
        error = 0.5 + slope * (value - 0.9) + noise * (-1) ** number
        changes = {"weight_decay": 5e-3 if number % 3 == 0 else 0.0, "random_crop": 2 if number % 4 == 0 else 0}
        changes |= {"model": "mlp", "options": {"widths": [8 * (number + 1)]}, "experiment": "path_ratio"}
        for seed, epoch in product(range(seeds), range(3)):
            row = _about(seed, 0.0, "step", **changes)
            row |= {"epoch": epoch, "seconds": 1.0, "learning_rate": 0.01 if epoch < 2 else 0.001}
            trained = 1.0 if fitted else 0.5
            row |= {"train_accuracy": trained, "test_accuracy": trained - error}
            # The more it is trained, the smaller the ratio, roughly.
            row["train_loss"] = 0.1 * (value - 0.8) + 0.01 * (number % 3)
            if epoch:
                row |= {"paths/mean": 0.9, "paths/first": 0.95, "paths/last": 0.85, "paths/self": 0.9}
            if epoch == 2:
                row |= {"paths/ratio": value, "paths/ratio_first": value + 0.01, "paths/ratio_last": value - 0.01}
            rows.append(row)
    return pd.DataFrame(rows)


def unseen(*, seeds=3, share=0.2, right=0.0):
    """Runs whose difference of losses on unseen images is a share of that on training images."""
    rows = []
    for seed, epoch in product(range(seeds), range(5)):
        row = _about(seed, 0.0, "constant", experiment="path_unseen") | {"epoch": epoch, "seconds": 1.0}
        for kind, gap in (("trained", 0.1), ("unseen", 0.1 * (share + 0.001 * seed))):
            row[f"{kind}/own:loss"] = 1.0
            if epoch:
                row |= {f"{kind}/before:loss": 1.0 - gap, f"{kind}/before:accuracy": 0.5}
                row[f"{kind}/own:accuracy"] = 0.5 + right + 0.001 * seed
        rows.append(row)
    return pd.DataFrame(rows)
