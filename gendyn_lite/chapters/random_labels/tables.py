"""Which regularizers a run had on, read from its settings, so that tables and charts can compare runs by them."""

from __future__ import annotations

import json

import pandas as pd

from gendyn_lite.results.tables import network_name, summarize, with_sizes

NONE = "no regularizer"


def with_regularizers(table: pd.DataFrame) -> pd.DataFrame:
    """The runs on true inputs with true or with random labels, and which regularizers they had.

    Args:
        table: A tidy table of `gendyn_lite.results.load`, experiments ``"regularizers"`` and ``"random_labels"``.

    Returns:
        Those rows with the columns ``base`` (the network, its dropout left out), ``crop``, ``decay``, ``dropout``,
        ``random`` (truth values) and ``regularizers`` (in words).

    >>> run = {"inputs": "true", "label_corruption": 1.0, "model": "mlp", "model_options": "{}", "random_crop": 0}
    >>> with_regularizers(pd.DataFrame([{**run, "weight_decay": 0.1}]))[["regularizers", "random"]].values.tolist()
    [['weight decay', True]]
    """
    rows = table[(table["inputs"] == "true") & table["label_corruption"].isin([0.0, 1.0])]
    options = [json.loads(text) for text in rows["model_options"]]
    dropout = [each.pop("dropout", 0.0) > 0 for each in options]
    rows = rows.assign(
        base=[network_name(model, rest) for model, rest in zip(rows["model"], options, strict=True)],
        crop=rows["random_crop"] > 0,
        decay=rows["weight_decay"] > 0,
        dropout=dropout,
        random=rows["label_corruption"] == 1,
    )
    named = zip(rows["crop"], rows["dropout"], rows["decay"], strict=True)
    return rows.assign(regularizers=[in_words(*which) for which in named])


def in_words(crop: bool, dropout: bool, decay: bool) -> str:
    """The regularizers that are on, in words.

    >>> in_words(True, False, True), in_words(False, False, False)
    ('random crop + weight decay', 'no regularizer')
    """
    words = [name for name, on in (("random crop", crop), ("dropout", dropout), ("weight decay", decay)) if on]
    return " + ".join(words) or NONE


def row_by_row(table: pd.DataFrame) -> pd.DataFrame:
    """What was run for each network and setting: seeds, epochs until it stopped, minutes of training a run.

    Args:
        table: A tidy table of `gendyn_lite.results.load`.

    >>> run = {"inputs": "true", "label_corruption": 1.0, "model": "mlp", "model_options": "{}", "random_crop": 0}
    >>> run |= {"weight_decay": 0.1, "run_id": "a", "n_train": 50, "seed": 0, "epoch": 7, "seconds": 90.0}
    >>> run |= {"train_accuracy": 1.0, "test_accuracy": 0.1}
    >>> " | ".join(map(str, row_by_row(pd.DataFrame([run | {"data": "MNIST"}])).iloc[0]))
    'mlp | 50 | weight decay | random | 1 | 7 to 7 | 1.5'
    """
    ends = with_sizes(summarize(with_regularizers(table)), of="base")
    rows = []
    for key, runs in ends.groupby(["base", "n_train", "rest", "regularizers", "random"], sort=False):
        base, n, rest, words, random = key  # type: ignore[misc]
        rows.append(
            {
                "network": f"{base}{rest}",
                "n": f"{n:,}",
                "regularizers": words,
                "labels": "random" if random else "true",
                "seeds": runs["seed"].nunique(),
                "epochs": f"{runs['epoch'].min()} to {runs['epoch'].max()}",
                "minutes a run": f"{runs['seconds'].mean() / 60:.1f}",
            }
        )
    return pd.DataFrame(rows)
