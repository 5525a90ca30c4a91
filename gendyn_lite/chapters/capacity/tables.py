"""Tidy tables of runs without training: the settings and results of each run in columns of their own."""

from __future__ import annotations

import pandas as pd

# Test errors of the Gaussian kernel in Zhang et al. (2017), Sec. 5.
PAPER = {"MNIST": {"pixels": 0.012, "gabor": 0.006}, "CIFAR-10": {"pixels": 0.46}}
POINTS = {"pixels": "pixels", "gabor": "Gabor features", "random_conv": "random filters"}
SWEEP = tuple(POINTS)
VALIDATION = 500  # of the training images of a sweep
OPTIONS = {"features": r"\w+", "filters": r"\d+", "depth": r"\d+", "start": r"\w+"}


def paper_errors(data: str) -> dict[str, float]:
    """Return the paper's test error by features, for a data set or a copy of it.

    >>> paper_errors("MNIST (JPEG q75)")
    {'pixels': 0.012, 'gabor': 0.006}
    """
    return PAPER.get(data.split(" (", maxsplit=1)[0], {})


def described(runs: pd.DataFrame) -> pd.DataFrame:
    """Add columns for the model's options and short names for the results.

    Args:
        runs: A tidy table of any experiment of the chapter.

    Returns:
        The table with these columns added: the model's options (``features``, ``filters``, ``depth``, ``start``;
        missing where the model has no such option), ``error`` and ``held_out_error`` (shares), ``ridge``, ``norm`` (not
        squared), ``n_fitted``, and the probe's columns without their prefix: ``share``, ``distance``, ``outside``, …
        Two are renamed: ``size`` is ``of_features`` (number of features, or width of a kernel), ``epochs`` is
        ``passes``.

    >>> runs = {"model_options": ['{"features": "random_conv", "filters": 200}'], "test_accuracy": 0.75, "n_train": 9}
    >>> described(pd.DataFrame(runs).assign(weight_decay=0.0))[["features", "filters", "error"]].to_dict("records")
    [{'features': 'random_conv', 'filters': 200.0, 'error': 0.25}]
    """
    options = runs["model_options"].str
    made = {name: options.extract(rf'"{name}": "?({shape})"?')[0] for name, shape in OPTIONS.items()}
    made |= {name: made[name].astype(float) for name in ("filters", "depth")}
    found = {name: runs[name] for name in runs.columns if "/" in name}
    found = {name.partition("/")[2].removeprefix("relative_"): column for name, column in found.items()}
    for name, clearer in (("size", "of_features"), ("epochs", "passes")):  # which have another meaning in a tidy table
        found[clearer] = found.pop(name, pd.Series(dtype=float))
    rows = runs.assign(**{"ridge": runs["weight_decay"], "n_fitted": runs["n_train"], **made, **found})
    if "validation_accuracy" in rows:
        rows = rows.assign(held_out_error=1 - rows["validation_accuracy"], n_fitted=rows["n_train"] - VALIDATION)
    norm = {"norm": rows["squared_norm"] ** 0.5} if "squared_norm" in rows else {}
    return rows.assign(error=1 - runs["test_accuracy"], **norm)


def memorizing(runs: pd.DataFrame) -> list[tuple[str, ...]]:
    """Summarize networks that fit any labels: a row for each data set, number of images and depth.

    Args:
        runs: A tidy table of experiment ``"memorizing_networks"``.

    Returns:
        As text: data, number of images, layers of weights, weights, units of the widest layer, largest residual, share
        of random labels fitted, and test accuracy with true labels.
    """
    found = []
    keys = ["data", "n_train", "depth"]
    for (data, n, depth), rows in described(runs).sort_values(keys[1:]).groupby(keys, sort=False):
        random, true = (rows[rows["label_corruption"] == q] for q in (1.0, 0.0))
        sizes = f"{rows['weights'].max():,.0f}", f"{rows['widest'].max():,.0f}", f"{rows['residual'].max():.0e}"
        shares = f"{random['train_accuracy'].min():.1%}", f"{true['test_accuracy'].mean():.1%}" if len(true) else "–"
        found.append((str(data), f"{n:,}", f"{depth:g}", *sizes, *shares))
    return found
