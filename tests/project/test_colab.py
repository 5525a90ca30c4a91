"""A chapter opened alone where torch is another, older one: it installs the package and leaves the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv

import nbformat
import pytest

from gendyn_lite import notebooks
from gendyn_lite.notebooks.committed import tidy, with_address
from tests.book.trial import ROOT

# Versions older than what a new installation takes, and at least our lower bounds, and the newest that there are; a
# kernel is there, as on Colab.
TORCH = {
    "older": ("torch==2.9.1", "torchvision==0.24.1", "numpy==2.1.3"),
    "newest": ("torch", "torchvision", "numpy"),
}
KERNEL = ("ipykernel", "nbclient")
VERSIONS = """
import importlib.metadata, json
print(json.dumps({name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy")}))
"""


EXECUTE = "from nbclient.cli import main; main()"


@pytest.fixture(scope="module", params=TORCH)
def colab(request, tmp_path_factory):
    """Another Python environment, and a repository to install from."""
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *TORCH[request.param], *KERNEL], check=True)
    subprocess.run(["git", "clone", "-q", ROOT, folder / "repository"], check=True)
    yield python, folder / "repository"
    shutil.rmtree(folder / "env")


@pytest.mark.minutes("installs two versions of torch, of gigabytes each")
@pytest.mark.parametrize("chapter", ["01_random_labels", "05_generalization_intervals", "07_what_holds"])
def test_a_chapter_opened_alone_installs_itself_and_changes_no_version(colab, tmp_path, tmp_path_factory, chapter):
    python, repository = colab
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}

    def run(*arguments):
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run([python, *arguments], check=False, **options)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    before = json.loads(run("-c", VERSIONS))
    run("-m", "pip", "uninstall", "-q", "-y", "gendyn_lite")
    source = tmp_path_factory.mktemp("source") / f"{chapter}.ipynb"
    source.write_text(with_address(notebooks.chapter_path(chapter), f"file://{repository}"), encoding="utf-8")
    alone = tmp_path / f"{chapter}.ipynb"  # nothing else of the repository is there
    nbformat.write(notebooks.plain(source), alone)
    run("-c", EXECUTE, "--inplace", "--timeout=600", "--kernel_name=python3", alone)

    assert json.loads(run("-c", VERSIONS)) == before
    where = run("-c", "import gendyn_lite; print(gendyn_lite.__file__)")
    assert str(python.parents[1]) in where
    executed = tidy(nbformat.read(alone, as_version=4))
    shown = [str(output.get("data", {})) for cell in executed.cells for output in cell.get("outputs", [])]
    assert any("profile colab" in text or "profile full" in text or "All published tables" in text for text in shown)
