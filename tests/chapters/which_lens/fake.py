"""Planted networks whose answer is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd

from gendyn_lite.chapters.which_lens import tables
from tests.chapters import fake_sizes


def runs(*, settings: int = 1) -> pd.DataFrame:
    """24 settings or so many times more, two seeds; validation accuracy is the answer, the margin its opposite."""
    random = np.random.default_rng(0)
    rows = []
    for number, (width, rate, corruption, seed, batch) in enumerate(
        product((128, 256, 512), (0.003, 0.01, 0.03, 0.1), (0.0, 0.25), range(2), range(settings))
    ):
        accuracy = 0.2 + 0.05 * np.log2(width / 64) + 2 * min(rate, 0.04) - 0.4 * corruption + random.normal(0, 0.004)
        told = {"run_id": f"{number:016x}", "dataset": "planted", "data": "planted", "commit": "0" * 40}
        told |= {"network": "mlp", "model": "mlp"}
        told |= {"model_options": {"widths": [width] * 2}, "batch_size": 32 * 2**batch, "learning_rate": rate}
        told |= {"label_corruption": corruption, "train_size": 1000, "random_crop": 0, "flip": False}
        told |= {"stop_at_loss": 0.05, "lens/test:n_held": 2000}
        run = fake_sizes.about("which_lens", f"{width} {rate} {corruption} {batch}", seed, **told)
        end = {"train_loss": 0.04, "train_accuracy": 1.0, "epoch": 10 + int(1000 * corruption) + seed}
        end |= {measure.column: random.normal() for measure in tables.MEASURES.values() if "/" in measure.column}
        end |= {f"lens/{lens}:seconds": 0.1 for lens in ("paths", "fisher", "stiffness", "intervals", "norms")}
        end |= {f"lens/{lens}:seconds": 0.1 for lens in ("margins", "flatness", "test")}
        end |= {"lens/test:held_accuracy": accuracy, "lens/margins:margin": -accuracy}
        end["lens/test:validation_accuracy"] = accuracy + random.normal(0, 0.002)
        rows += [{**run, "epoch": 0, "train_loss": 2.3, "train_accuracy": 0.1}, {**run, **end}]
    rows[1]["train_loss"] = 0.2  # one network that never gets there
    return pd.DataFrame(rows)
