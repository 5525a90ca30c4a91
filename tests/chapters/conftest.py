"""Every claim of the book, judged once a session; those of a chapter for the tests in its folder."""

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


OfPage = Callable[[str], tuple[pd.DataFrame, pd.DataFrame]]


@pytest.fixture(scope="session")
def of_page(judged: Judged) -> OfPage:
    """The claims of a page, of all pages if it is empty, as `what_holds.judged` gives them."""

    def found(notebook: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        sections = zip(registry.sections(), judged.tables, strict=True)
        claims = pd.concat([table for (of, _), table in sections if notebook in ("", of)], ignore_index=True)
        records = [chapter.record for chapter in registry.CHAPTERS if notebook in ("", chapter.notebook)]
        return claims, statements(claims, records)

    return found


@pytest.fixture(scope="module")
def page(of_page: OfPage, request: pytest.FixtureRequest) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The claims of the chapter in whose folder the tests are, of all chapters outside of any."""
    folder = request.path.parent.name
    return of_page(next((chapter.notebook for chapter in registry.CHAPTERS if chapter.name == folder), ""))


@pytest.fixture(scope="module")
def claimed(page: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    """Those claims, network by network."""
    return page[0]


@pytest.fixture(scope="module")
def overall(page: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    """Those claims over all networks."""
    return page[1]


@pytest.fixture(scope="module")
def by_id(overall: pd.DataFrame) -> pd.DataFrame:
    """Those claims over all networks, by their ids."""
    return overall.set_index("id")


@pytest.fixture(scope="module")
def said(by_id: pd.DataFrame) -> pd.Series:
    """Their verdicts by their ids."""
    return by_id["verdict"]
