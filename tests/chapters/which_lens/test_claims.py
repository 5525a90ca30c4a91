"""The claims of 'Which lens?' on planted networks: what holds there is found, what does not is not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gendyn_lite.chapters.which_lens import claims
from tests.chapters.which_lens import fake


def verdicts(runs: pd.DataFrame) -> pd.Series:
    return claims.of_networks(runs).set_index("id")["verdict"]


@pytest.fixture(scope="module")
def planted() -> pd.DataFrame:
    """Networks in which stiffness within classes says what is to be predicted, and nothing else does."""
    runs = fake.runs(settings=4)
    random = np.random.default_rng(1)
    runs["lens/margins:margin"] = random.normal(size=len(runs))
    runs["lens/stiffness:within"] = runs["lens/test:held_accuracy"] + random.normal(0, 0.003, len(runs))
    return runs


def test_a_lens_that_tells_holds_and_those_of_chance_do_not(planted):
    found = verdicts(planted)
    assert found["within_ranks"] == "holds" and found["validation_ranks"] == "holds"
    others = found[[f"{name}_ranks" for name in claims.RANKS if name not in ("within", "epoch")]]
    assert "holds" not in set(others)
    assert found["lens_beats_coin"] == found["lens_beats_rivals"] == "holds"
    assert found["every_lens_fails_somewhere"] == "reversed"  # this one does not


def test_a_lens_that_says_the_opposite_is_reversed_and_chooses_all_the_same(planted):
    found = verdicts(planted.assign(**{"lens/stiffness:within": -planted["lens/stiffness:within"]}))
    assert found["within_ranks"] == "reversed" and found["lens_beats_coin"] == "holds"


def test_what_follows_random_labels_alone_is_flattered(planted):
    noise = np.random.default_rng(2).normal(0, 0.01, len(planted))
    found = verdicts(planted.assign(**{"lens/stiffness:within": noise - planted["label_corruption"]}))
    assert found["labels_flatter"] == "holds" and found["within_ranks"] != "holds"


def test_what_was_seen_on_others_is_asked_of_convolutional_networks_alone(planted):
    accuracy = planted["lens/test:held_accuracy"]
    values = {"lens/intervals:adversarial": accuracy, "lens/flatness:sharpness": accuracy}  # less of which is better
    found = verdicts(planted.assign(**values, model="alexnet_small"))
    for labels in ("alike", "random"):
        assert (found[f"adversarial_tells_{labels}"], found[f"sharpness_tells_{labels}"]) == ("holds", "reversed")
    assert not [name for name in verdicts(planted).index if name.endswith(("_alike", "_random"))]


def test_what_tells_networks_with_random_labels_is_asked_of_these_alone(planted):
    accuracy, random = planted["lens/test:held_accuracy"], planted["label_corruption"] > 0
    noise = np.random.default_rng(3).normal(0, 1, len(planted))
    values = {"lens/intervals:adversarial": np.where(random, accuracy, noise)}
    values["lens/intervals:pair"] = np.where(random, planted["label_corruption"], accuracy)  # shares are never compared
    found = verdicts(planted.assign(**values, model="alexnet_small"))
    assert found["adversarial_tells_random"] == "holds" != found["adversarial_tells_alike"]
    assert found["pair_tells_random"] != "holds" == found["pair_tells_alike"]
    of_true = verdicts(planted[~random].assign(model="alexnet_small"))
    assert "adversarial_tells_alike" in of_true and "adversarial_tells_random" not in of_true


def test_what_was_seen_on_digits_is_asked_of_photographs_and_a_rule_is_turned_round_for_random_labels(planted):
    rate, batch = planted["learning_rate"], planted["batch_size"]
    told = planted.assign(model="alexnet_small", **{"lens/test:held_accuracy": 0.5 + 0.1 * np.log2(rate / batch) / 10})
    found = verdicts(told.assign(dataset="cifar10"))
    assert (found["rate_tells_alike"], found["rate_tells_random"]) == ("holds", "reversed")
    assert not {"rate_tells_alike", "random_tells_random"} & set(verdicts(told).index)


def test_of_few_settings_nothing_is_said():
    assert claims.of_networks(fake.runs()).empty  # 12 with true labels, where 20 are needed


def test_an_estimate_has_the_interval_of_its_resampled_values(planted):
    table = claims.of_networks(planted).set_index("id").loc["within_ranks"]
    assert table["low"] < table["value"] <= table["high"] <= 1 and table["n_seeds"] == 48
