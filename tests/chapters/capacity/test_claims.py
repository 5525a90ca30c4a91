"""Claims on kernels: the paper's errors are tested on the whole set only, and what fails is shown as failing."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest

from gendyn_lite.chapters.capacity import claims as kernel_claims

PLAIN = "A regression that interpolates generalizes (pixels)"
RANDOM = "The same kernel fits completely random labels"
RIDGE = "A ridge does not improve the error"
GABOR = "A Gabor transform lowers the error"

CONV = "Random convolutional features lower the error"
CONV_RIDGE = "A ridge lowers the error on random filters"


def table(*, n=3000, pixels=0.04, gabor=0.02, ridge_gain=0.0, random_train=1.0, seeds=3, data="MNIST"):
    rows = []
    for features, ridge, q, test_error in (
        ("pixels", 0.0, 0.0, pixels),
        ("gabor", 0.0, 0.0, gabor),
        ("pixels", 0.1, 0.0, pixels - ridge_gain),
        ("pixels", 0.0, 1.0, 0.9),
        ("pixels", 0.1, 1.0, 0.9),
    ):
        for seed in range(seeds):
            fitted = random_train if q and not ridge else (0.4 if q else 1.0)
            rows.append(
                {
                    "data": data,
                    "n_train": n,
                    "num_classes": 10,
                    "model_options": f'{{"features": "{features}"}}',
                    "weight_decay": ridge,
                    "label_corruption": q,
                    "seed": seed,
                    "train_accuracy": fitted,
                    "test_accuracy": 1 - test_error - 1e-4 * seed,
                }
            )
    return pd.DataFrame(rows)


def conv(*, conv_error=0.3, ridge_error=0.25, filters=(200, 1000), data="CIFAR-10 (JPEG q75)"):
    """The table with regressions on random filters added, the larger number of filters with the errors given."""
    pixels = table(data=data, pixels=0.5)
    rows = [pixels[pixels["model_options"].str.contains("pixels")]]
    for count, ridge in product(filters, (0.0, 10.0)):
        error = (ridge_error if ridge else conv_error) if count == max(filters) else 0.9
        plain = rows[0][(rows[0]["weight_decay"] == 0) & (rows[0]["label_corruption"] == 0)]
        rows.append(
            plain.assign(
                model_options=f'{{"features": "random_conv", "filters": {count}}}',
                weight_decay=ridge,
                test_accuracy=1 - error - 1e-4 * plain["seed"],
            )
        )
    return pd.concat(rows)


@pytest.mark.parametrize(
    ("options", "statement", "verdict"),
    [
        ({}, CONV, "holds"),
        ({"conv_error": 0.6}, CONV, "not seen"),
        ({}, CONV_RIDGE, "holds"),
        ({"ridge_error": 0.31}, CONV_RIDGE, "not seen"),
    ],
    ids=["lower", "higher", "gain", "loss"],
)
def test_random_filters_are_judged_at_their_largest_number(options, statement, verdict):
    found = kernel_claims.claims(conv(**options)).set_index("statement").loc[statement]
    assert found["verdict"] == verdict
    assert "1,000 random filters on CIFAR-10 (JPEG q75)" in found["subject"]


def test_a_copy_of_the_data_has_the_papers_value_and_no_verdict_on_it():
    found = kernel_claims.claims(conv()).set_index("statement").loc[PLAIN]
    assert (found["paper_value"], found["verdict"]) == ("0.46 (test error)", "not testable at this size")


def verdicts(**options):
    return kernel_claims.claims(table(**options)).set_index("statement")


def test_a_subset_cannot_test_the_papers_error():
    found = verdicts(pixels=0.012)
    assert found.loc[PLAIN, "verdict"] == "not testable at this size"
    assert "with all 60,000 original examples" in found.loc[PLAIN, "criterion"]


@pytest.mark.parametrize(("error", "verdict"), [(0.013, "holds"), (0.02, "not seen")], ids=["near", "far"])
def test_the_whole_set_needs_no_interval(error, verdict):
    found = verdicts(n=60_000, seeds=1, pixels=error)
    assert found.loc[PLAIN, "verdict"] == verdict


@pytest.mark.parametrize(
    ("options", "statement", "verdict"),
    [
        ({}, RANDOM, "holds"),
        ({"random_train": 0.5}, RANDOM, "not seen"),
        ({}, RIDGE, "holds"),
        ({"ridge_gain": 0.02}, RIDGE, "not seen"),
        ({}, GABOR, "holds"),
        ({"gabor": 0.05}, GABOR, "not seen"),
    ],
    ids=["fits", "does_not_fit", "no_gain", "gain", "lower", "higher"],
)
def test_each_verdict_follows_from_the_table(options, statement, verdict):
    assert verdicts(**options).loc[statement, "verdict"] == verdict


def test_data_of_which_the_paper_says_nothing_has_no_paper_value():
    found = verdicts(data="handwritten digits (8x8)")
    assert found.loc[PLAIN, "paper_value"] == "–"
    assert found.loc[PLAIN, "verdict"] == "not testable at this size"
