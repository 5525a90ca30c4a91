"""Statistics of chapter 6: what is chosen is chosen on held-out images, and a peak is one beside its neighbours."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite.chapters.capacity import claims
from gendyn_lite.chapters.capacity.tables import described
from tests.chapters.capacity.fake import ridges

PHOTOGRAPHS = "CIFAR-10 (JPEG q75)"


def values(judged: pd.DataFrame) -> dict[str, float]:
    return judged.set_index("id")["value"].to_dict()


def test_the_width_below_the_threshold_is_chosen_by_held_out_images_not_by_the_test():
    runs = ridges(data=PHOTOGRAPHS, seeds=1, conv=(0.3, 0.2, 0.8, 0.2, 0.24))
    assert values(claims.widths(runs))["second_descent"] == pytest.approx(0.24 / 0.2)
    chooses_fewest = runs.assign(**{"ridge/validation_accuracy": 1 - runs["ridge/share"] / 100})
    assert values(claims.widths(chooses_fewest))["second_descent"] == pytest.approx(0.24 / 0.3)


def test_a_peak_is_an_error_above_those_at_half_and_at_twice_as_many_features():
    found = values(claims.widths(ridges(data=PHOTOGRAPHS, seeds=1, conv=(0.01, 0.2, 0.8, 0.1, 0.01), with_ridge=0.15)))
    assert found["error_peaks"] == pytest.approx(0.8 / 0.02**0.5)
    assert found["ridge_removes_peak"] == pytest.approx(0.15 / (0.15 * 0.1) ** 0.5)
    falling = values(claims.widths(ridges(data=PHOTOGRAPHS, seeds=1, conv=(0.8, 0.4, 0.2, 0.1, 0.05))))
    assert falling["error_peaks"] == pytest.approx(1)  # an error that falls all the way has none


def test_the_norm_chooses_on_every_data_set_and_gabor_features_are_judged_on_mnist():
    asked = {"gabor_lowers", "gabor_norm_larger", "norm_chooses_badly"}
    assert set(claims.norms(ridges(seeds=1))["id"]) == asked
    assert set(claims.norms(ridges(seeds=1, data=PHOTOGRAPHS))["id"]) == {"norm_chooses_badly"}


def test_the_regret_of_the_norm_is_that_to_the_choice_of_held_out_images():
    """The smallest norm, 15, is of the worse width of Gabor features; held-out images choose the better one."""
    runs = ridges(seeds=1, gabor=0.05, gabor_norms=(15.0, 45.0))
    kernels = described(runs).query("features != 'random_conv'")
    assert claims._norm_regret(kernels).tolist() == pytest.approx([0.03])
