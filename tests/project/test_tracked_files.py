"""What is committed names no machine, no registry and no one's home."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.book.trial import ROOT

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
    sizes: dict[str, int] = {}
    for path in (ROOT / "book" / "results").glob("*/*"):
        sizes[path.parent.name] = sizes.get(path.parent.name, 0) + path.stat().st_size
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}
