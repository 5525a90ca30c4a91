"""Labels of made-up runs; and the runs of a tidy table once more, at another size and with other numbers."""

from __future__ import annotations

import json
import re

import pandas as pd

from gendyn_lite.results.tables import network_name

# What a tidy table says of a run beside its settings.
ABOUT = {"profile": "colab", "data": "made-up data", "dataset": "digits", "data_fingerprint": "00", "device": "CPU"}
ABOUT |= {"n_train": 1000, "num_classes": 10, "precision": "float32"}
# Numbers that say what a run is, or when a row was measured.
KEPT = (
    "label_corruption",
    "learning_rate",
    "weight_decay",
    "mask_keep",
    "train_accuracy",
    "intervals/fitted",
    "seconds",
)
SIZES = {"n_train": 50_000, "precision": "bfloat16", "epochs": 7_000}
WORDS = {"n_train": "n = 50,000", "precision": "bfloat16", "epochs": "at most 7000 epochs"}


def labels(key: str, seed: int, *, model: str = "mlp", options: dict | None = None, **more) -> dict:
    """The columns of a tidy table that are the same in each row of a run."""
    named = {"network": network_name(model, options or {}), "model": model, "model_options": json.dumps(options or {})}
    return {"run_id": f"{key}-{seed}", "group_id": key, "seed": seed, **ABOUT, **named, **more}


def other(table: pd.DataFrame, *fields: str) -> pd.DataFrame:
    """The same runs with other `SIZES`: what they measured is a tenth less, and counts are halved."""
    ids = {name: table[name] + "b" for name in ("run_id", "group_id")}
    found = table.assign(**{field: SIZES[field] for field in fields}, **ids)
    for name in table.columns:
        if name not in KEPT and pd.api.types.is_float_dtype(table[name]):
            found[name] = 0.9 * table[name]
        if re.search(r"[:_/]bins$|^detail/classes$", str(name)):
            found[name] = table[name].map(_halved, na_action="ignore")
    return found


def _halved(text: str) -> str:
    return re.sub(r"\d+", lambda number: str(int(number[0]) // 2), text)


def both(table: pd.DataFrame, *fields: str) -> pd.DataFrame:
    """The runs at both sizes."""
    return pd.concat([table, other(table, *fields)], ignore_index=True)
