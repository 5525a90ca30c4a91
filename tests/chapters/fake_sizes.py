"""What made-up runs are, and those of a tidy table once more, at another size: what must never be mixed with them."""

from __future__ import annotations

import re

import pandas as pd

ABOUT = {"profile": "full", "data": "made-up data", "data_fingerprint": "00", "device": "CPU", "precision": "float32"}
ABOUT |= {"n_train": 1000, "num_classes": 10, "model_options": "{}", "label_corruption": 0.0, "weight_decay": 0.0}
# Numbers that say what a run is, or when a row was measured.
KEPT = ("label_corruption", "learning_rate", "weight_decay", "mask_keep", "train_accuracy")
KEPT += ("intervals/fitted", "seconds", "ridge/size", "ridge/share", "ridge/ridge", "descent/epochs")
SIZES = {"n_train": 50_000, "precision": "bfloat16", "epochs": 7_000}
WORDS = {"n_train": "n = 50,000", "precision": "bfloat16", "epochs": "at most 7000 epochs"}


def about(experiment: str, key: str, seed: int, **more: object) -> dict[str, object]:
    """What every row of a made-up run says of it; runs of one key differ in their seeds."""
    return {**ABOUT, "experiment": experiment, "group_id": key, "run_id": f"{key}-{seed}", "seed": seed, **more}


def other(table: pd.DataFrame, *fields: str) -> pd.DataFrame:
    """The same runs with other `SIZES`: what they measured is a tenth less, and counts are halved."""
    ids = {name: table[name] + "b" for name in ("run_id", "group_id")}
    found = table.assign(**{field: SIZES[field] for field in fields}, **ids)
    if "eval_every" in table:  # what is evaluated at its end still is
        found["eval_every"] = table["eval_every"].mask(table["eval_every"] == table["epochs"], found["epochs"])
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
