"""The repository: import contracts hold, nothing committed names a machine, recipes work as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import pytest

from tests.book.trial import ROOT

LINT = "from importlinter.cli import lint_imports_command as lint; lint()"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over the packages of a folder."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", LINT, "--no-cache"]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


PLANTED = {  # what a module is made to import; that the contracts hold without it, `make test` says before all tests
    "charts.figure": ("import torch", "torch"),
    "claims.record": ("import gendyn_lite.models", "gendyn_lite.models"),  # torch by a detour
    "book": ("def late():\n    import torchvision", "torchvision"),
    "train.step": ("import gendyn_lite.measures", "gendyn_lite.measures"),
    "data.loading": ("import urllib.request", "urllib"),
}
BROKEN = {"train and measures do not know", "arrows one way", "needs no torch", "only data_scripts touches the network"}


def test_planted_imports_break_their_contracts(tmp_path: Path) -> None:
    for package in ("gendyn_lite", "data_scripts"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    for module, (line, _) in PLANTED.items():
        path = tmp_path / "gendyn_lite" / f"{module.replace('.', '/')}.py"
        path.write_text(f"{path.read_text()}\n\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert {words for words in BROKEN for line in broken if words in line} == BROKEN and len(broken) == len(BROKEN)
    for module, (_, imported) in PLANTED.items():
        assert re.search(rf"gendyn_lite\.{module} -> {imported}\b", done.stdout), (module, done.stdout)


# Written in parts, so that this file does not find itself.
FORBIDDEN = {
    "home": re.compile(r"/(home|Users)/[a-z]\w+/|/ro" + r"ot/"),
    "working folder": re.compile(r"/wo" + r"rk/|/op" + r"t/pypi|/tm" + r"p/[a-z]"),
    "registry": re.compile(r"py" + r"pi\.org|files\.python" + r"hosted|registry\.np" + r"mjs|deb\.debian" + r"\.org"),
    "credential": re.compile(r"\bAK" + r"IA[0-9A-Z]{16}\b|\b(gh" + r"p|hf" + r")_[A-Za-z0-9]{16}"),
}


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:  # a downloaded archive has no history: every file counts that a clone would have
        folders = ("gendyn_lite", "data_scripts", "book", "tests")
        return [str(path.relative_to(ROOT)) for folder in folders for path in (ROOT / folder).rglob("*.*")]
    return done.stdout.splitlines()


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_names_it(what: str) -> None:
    found = []
    for name in tracked():
        path = ROOT / name
        if path.suffix in (".png", ".gz", ".npz", ".pt") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{name}: {match[0]}" for match in FORBIDDEN[what].finditer(text)]
    assert found == []


def test_what_is_generated_is_not_tracked() -> None:
    made = ("_build/", "runs/", "datasets/", "student/", ".venv/")
    assert [name for name in tracked() if name.startswith(made)] == []


def test_results_stay_small() -> None:
    """Compressed, as git and wheels keep them."""
    sizes: dict[str, int] = {}
    for path in (ROOT / "book" / "results").glob("*/*"):
        sizes[path.parent.name] = sizes.get(path.parent.name, 0) + len(zlib.compress(path.read_bytes()))
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


def test_the_chapter_to_copy_plans_trains_and_measures(tmp_path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "EXPERIMENT =" in block]
    names: dict = {}
    exec(textwrap.dedent("   " + code.lstrip()), names)
    configs = names["plan"]("smoke")
    assert len(configs) == 4
    run = names["run"](configs[0].replace(epochs=1), profile="smoke", root=tmp_path)
    assert "outputs/mean" in run.rows()[-1]
