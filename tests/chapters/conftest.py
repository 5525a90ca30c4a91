"""Every claim of the book, judged once a session."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from gendyn_lite.chapters import registry
from gendyn_lite.claims.sections import statements
from tests.conftest import Once

JUDGE = """
import pickle, sys
from gendyn_lite.chapters import registry
from gendyn_lite.claims.sections import by_section
tables = [table.reset_index(drop=True) for table in by_section(registry.sections())]
with open(sys.argv[1], "wb") as file:
    pickle.dump((tables, "torch" in sys.modules), file)
"""


class Judged(NamedTuple):
    """The claims of each of `registry.sections`, in their order, and whether the process that judged them had torch."""

    tables: list[pd.DataFrame]
    with_torch: bool


@pytest.fixture(scope="session")
def judged(once: Once) -> Judged:
    """By a process of its own."""

    def judge(folder: Path) -> None:
        done = subprocess.run([sys.executable, "-c", JUDGE, str(folder / "claims")], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()[-4000:]

    return Judged(*pickle.loads((once("judged", judge) / "claims").read_bytes()))


@pytest.fixture(scope="session")
def of_page(judged: Judged) -> Callable[[str], tuple[pd.DataFrame, pd.DataFrame]]:
    """The claims of a page, of all pages if it is empty, as `what_holds.judged` gives them."""

    def found(notebook: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        sections = zip(registry.sections(), judged.tables, strict=True)
        claims = pd.concat([table for (of, _), table in sections if notebook in ("", of)], ignore_index=True)
        records = [chapter.record for chapter in registry.CHAPTERS if notebook in ("", chapter.notebook)]
        return claims, statements(claims, records)

    return found
