"""What must not change by moving code: ids of runs, and tables of claims. This file, run, makes `frozen.json`.

What a page shows is compared with its committed outputs when it is executed (nbval).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gendyn_lite import results
from gendyn_lite.chapters import registry
from gendyn_lite.claims.sections import all_claims
from tests.chapters.conftest import Judged

FROZEN = Path(__file__).with_name("frozen.json")
DATA = {
    "01_random_labels": ("digits", "mnist", "cifar10", "cifar100"),
    "05_generalization_intervals": ("digits", "mnist", "cifar10"),
}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def planned() -> dict[str, Any]:
    """Of every group of runs, profile and data set: how many runs, and a digest of their ids in order."""
    found = {}
    groups = [(name, group) for name in registry.NOTEBOOKS for group in registry.groups(name)]
    for number, (chapter, group) in enumerate(groups):
        for profile in ("smoke", "colab", "full"):
            for dataset in ("", *DATA.get(chapter, ())):
                configs = group.plan(profile, {"dataset": dataset} if dataset else {})
                name = f"{chapter} {number} {profile} {dataset}".strip()
                found[name] = [len(configs), digest(" ".join(config.run_id("") for config in configs))]
    return found


def published() -> dict[str, Any]:
    """Of every published experiment: its runs."""
    return {name: sorted(results.published(name)["run_id"].unique()) for name in results.published_experiments()}


def of_claims(tables: list[pd.DataFrame]) -> dict[str, Any]:
    """Of every section of 'What holds': how many claims, and a digest of their table."""
    found = {}
    for (chapter, section), table in zip(registry.sections(), tables, strict=True):
        found[f"{chapter} {section.anchor} {' '.join(section.tables)}"] = [
            len(table),
            digest(table.to_csv(index=False, float_format="%.6g")),  # as other versions of scipy compute them
        ]
    return found


KINDS = {"planned": planned, "published": published}


def check(kind: str, found: dict[str, Any]) -> None:
    expected = json.loads(FROZEN.read_text())[kind]
    assert [name for name in expected if found.get(name) != expected[name]] == []
    assert list(found) == list(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_as_it_was(kind):
    check(kind, KINDS[kind]())


def test_judged_as_it_was(judged: Judged) -> None:
    check("judged", of_claims(judged.tables))


if __name__ == "__main__":
    claims = of_claims([all_claims([section]) for section in registry.sections()])
    made = {"planned": planned(), "published": published(), "judged": claims}
    FROZEN.write_text(json.dumps(made, indent=1) + "\n")
