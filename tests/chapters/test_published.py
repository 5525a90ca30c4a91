"""What all chapters publish: the tables are those that were published, from clean commits."""

from __future__ import annotations

import pytest

from gendyn_lite import results
from gendyn_lite.results.published import opened

# What is no original says so.
CIFAR = "CIFAR-10 (JPEG q75)"
DATA = {
    "random_labels": {CIFAR, "MNIST"},
    "regularizers": {CIFAR},
    **{f"path_{kind}": {CIFAR} for kind in ("networks", "unseen", "deep", "ratio")},
    "fisher_mask": {CIFAR, "CIFAR-100 (JPEG q75, about 20 % train label noise)"},
}


@pytest.mark.parametrize("name", results.published_experiments())
def test_a_table_is_the_one_that_was_published_from_a_clean_commit(name):
    assert not any(run["commit"].endswith("+") for run in opened(name).records.values())
    data = set(results.published(name)["data"])
    assert data == DATA.get(name, data)
