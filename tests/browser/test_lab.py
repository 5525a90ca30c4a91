"""A plain notebook in JupyterLab, without a network: folded, set, run, and its charts drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser

from gendyn_lite import notebooks
from tests.browser.lab import opened
from tests.project.beside import Beside, made


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """An environment with the wheel and JupyterLab."""
    folder = tmp_path_factory.mktemp("jupyterlab")
    yield made(folder, "jupyterlab>=4.2")
    shutil.rmtree(folder / "env")


@pytest.mark.browser
@pytest.mark.minutes("runs a chapter in JupyterLab")
def test_jupyterlab_shows_a_chapter_without_a_network(jupyterlab: Beside, tmp_path: Path, browser: Browser) -> None:
    notebooks.student(["04_stiffness"], out=tmp_path)
    with opened(jupyterlab, tmp_path, "04_stiffness", browser) as lab:
        definitions = lab.find("## Definitions")
        lab.wait(definitions, "mjx-container[display=true]")
        assert lab.within(definitions, "mjx-container[display=true]") == 3
        assert "(4.2) is the stiffness of that layer" in lab.page.locator("text=(4.2) is the stiffness").inner_text()
        for folded in ("<summary>A hint", "<summary>Solution"):
            number = lab.find(folded)
            lab.wait(number, "details")
            assert lab.within(number, "details[open]") == 0
        lab.run_all()
        numbers = lab.figures()
        committed = nbformat.read(notebooks.chapter_path("04_stiffness"), as_version=4).cells
        assert len(numbers) == sum("gendyn-spec" in str(cell.get("outputs")) for cell in committed) > 0
        for number in numbers:
            lab.show(number)
            lab.wait(number, "figure.gendyn-chart .gendyn-panel[data-drawn=yes] svg.marks")
        lab.wait(lab.find("StiffnessExplorer().panel"), ".jupyter-widgets select")
        assert lab.elsewhere == []
