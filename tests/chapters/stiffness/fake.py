"""Tables of chapter 4 with known contents, for tests of what is computed and drawn from tables."""

from __future__ import annotations

import json
from itertools import product

import pandas as pd

from tests.chapters import fake_sizes

MLP = {"activation": "relu", "widths": [32, 32, 32, 32]}


def _labels(kind, dataset, network, seed, **more):
    told = {"data": f"made-up {dataset}", "dataset": dataset, "network": network, "model": network}
    told |= {"model_options": json.dumps(MLP), "n_train": 300, "epochs": 10, "num_classes": 2, "learning_rate": 0.01}
    key = "-".join(map(str, (kind, dataset, network, *more.values())))
    return fake_sizes.about(f"stiffness_{kind}", key, seed, **told | more)


def training(
    *, seeds=3, peak=0.5, end=0.1, test=0.48, between=0.0, slower=0.7, random=0.2, half=0.6, fast=0.3, fitted=1.0,
    later=0.0,
) -> pd.DataFrame:  # fmt: skip
    """Within-class stiffness of `peak` at epoch 1 and `end` at the last; lengths fall, more with the larger rate.

    At the last epoch every run has the same training loss; stiffness there is `fast` times `end` with the larger rate,
    `random` times with random labels, and `half` times with half of them.
    """
    rows = []
    kinds = ((0.003, 0.0), (0.01, 0.0), (0.03, 0.0), (0.01, 1.0), (0.01, 0.5))
    for (rate, q), seed, epoch in product(kinds, range(seeds), (0, 0.5, 1, 2, 3)):
        first = _labels("training", "digits", "mlp", seed, learning_rate=rate, label_corruption=q)
        kept = {0.5: half, 1.0: random}.get(q, fast if rate == 0.03 else 1)
        top = random if q == 1 else peak
        within = {0: 0.9, 0.5: 0.9 * top, 1: top}.get(epoch, end * kept) + 0.001 * seed
        length = {0: 1.2, 0.5: 1.1, 1: 1.0, 2: 0.8, 3: 0.6}[epoch] * (slower if rate == 0.03 else 1) + 0.001 * seed
        values = {"train_accuracy": min(fitted, 0.3 + 0.3 * epoch), "test_accuracy": 0.5, "seconds": epoch}
        values["train_loss"] = {0: 2.3, 0.5: 2.0, 1: 1.0, 2: 0.3, 3: 0.01}[epoch]
        for kind in ("cosine", "sign"):
            for name, value in (("within", within), ("between", between), ("all", within / 2)):
                values[f"stiffness/{name}_{kind}"] = value
                values[f"stiffness/test_{name}_{kind}"] = value + (test - peak) if name == "within" else value
                if name == "within" and epoch == 3:
                    values[f"stiffness/test_within_{kind}"] = value + later
        texts = {"detail/classes": "30 -5/-5 25", "detail/bins": "100 300/400 100"} if epoch in (0, 3) else {}
        rows.append({**first, "epoch": epoch, **values, "stiffness/critical_length": length, **texts})
    return pd.DataFrame(rows)


def maps(*, seeds=3, contrast=0.5, shifted=0.2, labelled=0.3, before=0.1, points=0.4) -> pd.DataFrame:
    """Maps of four places at two epochs; stiffness is `contrast` lower at the boundary at the end.

    It is `shifted` and `labelled` lower in the untrained networks, and around data points `before` and then `points`.
    """
    rows = []
    for dataset, seed, epoch in product(("two_moons", "spirals"), range(seeds), (0, 10)):
        low = 1 - (contrast if epoch else 0) + 0.001 * seed
        values = {"map/inside": 1.0, "map/boundary": low, "map/boundary_share": 0.5, "train_accuracy": 1.0}
        lower = {"labelled": labelled, "points": points if epoch else before} | ({} if epoch else {"shifted": shifted})
        for name, less in lower.items():
            values |= {f"map/{name}_inside": 1.0, f"map/{name}_boundary": 1 - less + 0.003 * seed}
        texts = {"map/stiffness": "100 50 -20 90", "map/predicted": "0110"} if seed == 0 else {}
        rows.append({**_labels("maps", dataset, "mlp", seed), "epoch": epoch, **values, **texts})
    return pd.DataFrame(rows)


def layers(*, seeds=3, tanh=0.3, leaky=0.0, change=0.3, accuracy=1.0) -> pd.DataFrame:
    """Five layers with stiffness 0.4 … 0.8 within classes before training, `change` lower after it."""
    rows = []
    kinds = (("relu", 0.0), ("tanh", tanh), ("leaky_relu", leaky))
    shapes = [(kind, width, 4) for kind, width in product(kinds, (8, 32))] + [(kinds[0], 32, depth) for depth in (2, 8)]
    for ((activation, more), width, depth), seed, epoch in product(shapes, range(seeds), (0, 10)):
        options = json.dumps({"activation": activation, "widths": [width] * depth})
        first = _labels("layers", "rings", f"mlp {activation} {width} {depth}", seed, model_options=options)
        values = {"train_accuracy": accuracy if epoch else 0.5, "test_accuracy": 0.9, "seconds": 1.0}
        for layer in range(1, depth + 2):
            within = 0.3 + 0.1 * layer - (change - more if epoch else 0) + 0.001 * seed
            kinds = {"within": within, "between": -within, "all": within}
            values |= {f"layers/fc{layer}:{name}": value for name, value in kinds.items()}
        rows.append({**first, "epoch": epoch, **values})
    return pd.DataFrame(rows)


def deep(*, seeds=3, late=0.3, random=-0.1, untrained=0.1, moved=0.1, lag=0.0) -> pd.DataFrame:
    """Two networks with different layers; within minus between grows by `late` (or `untrained`) from first to last."""
    rows = []
    names = {"resnet18": "conv block1a.conv1 block1a.norm1 fc", "vgg19": "conv1_1 norm1_1 conv1_2 fc"}
    for (network, layers), q, seed, epoch in product(names.items(), (0.0, 1.0), range(seeds), (0, 5)):
        first = _labels("deep", "cifar10", network, seed, label_corruption=q, model_options="{}")
        values = {"train_accuracy": 0.9, "test_accuracy": 0.3, "seconds": 1.0}
        values["batch_norm_statistics"] = "re-estimated"
        for number, layer in enumerate(layers.split()):
            within = 0.4 + (late if epoch else untrained) * number / 3 + (random if q else 0) + 0.001 * seed
            kinds = {"within": within, "between": 0.1, "all": 0.2}
            values |= {f"layers/{layer}:{name}": value for name, value in kinds.items()}
            if epoch:
                for probe, grows, more in (("movement", moved, 0.0), ("lag", untrained, lag + 0.001 * seed)):
                    kinds["within"] = 0.4 + grows * number / 3 + 0.001 * seed + more + (random if q else 0)
                    values |= {f"{probe}/{layer}:{name}": value for name, value in kinds.items()}
        rows.append({**first, "epoch": epoch, **values})
    return pd.DataFrame(rows)
