"""A course that has the wheel alone: its notebooks run, pass its CI, and are graded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml

from gendyn_lite import notebooks
from tests.book.trial import ROOT
from tests.chapters.test_exercises import FOLDED, KNOWN
from tests.project.beside import Beside, bare, made, wheel_in

EXECUTE = "from nbclient.cli import main; main()"
CHAPTERS = notebooks.chapters()


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    """An environment with the wheel and otter-grader."""
    folder = tmp_path_factory.mktemp("course")
    yield made(folder, "otter-grader[grading]>=6")
    shutil.rmtree(folder / "env")


@pytest.mark.minutes("runs a chapter")
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_plain_notebook_runs_from_an_empty_folder(course: Beside, tmp_path: Path, chapter: str) -> None:
    path = tmp_path / f"{chapter}.ipynb"
    nbformat.write(notebooks.plain(chapter), path)
    done = course.run("-c", EXECUTE, "--inplace", "--timeout=600", "--kernel_name=python3", path, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    executed = nbformat.read(path, as_version=4)
    first = next(cell for cell in executed.cells if cell.cell_type == "code")
    told = "".join(output.get("text", "") for output in first.outputs)
    assert f"runs: {tmp_path / 'runs'}" in told
    texts = [output.get("text", "") for cell in executed.cells for output in cell.get("outputs", [])]
    counted = re.findall(r"You have solved 0 of (\d)\.", "".join(texts))
    assert counted == ([str(len(FOLDED[chapter]))] if chapter in FOLDED else [])


COURSE = ROOT / "book" / "course.yml"


def commands() -> tuple[list[str], dict[str, str]]:
    """What the workflow of a course runs, step by step, and its variables."""
    workflow = yaml.safe_load(COURSE.read_text(encoding="utf-8"))
    return [step["run"] for step in workflow["jobs"]["chapters"]["steps"] if "run" in step], workflow["env"]


def requirements(wheel: Path) -> str:
    """The requirements of a course as the page for teachers has them, the package by its wheel."""
    page = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^```text\n(gendyn_lite @ .*?)```$", page, re.MULTILINE | re.DOTALL)
    return re.sub(r"git\+\S+", wheel.as_uri(), listed)


def test_the_workflow_of_a_course_sets_up_what_it_runs(tmp_path: Path) -> None:
    (install, test), environ = commands()
    assert install.startswith("python -m venv .venv && .venv/bin/pip install -r requirements.txt")
    assert test.startswith(".venv/bin/python -m pytest --nbval ") and test.endswith(" $CHAPTERS")
    assert {Path(name).stem for name in environ["CHAPTERS"].split()} <= set(CHAPTERS)
    assert requirements(tmp_path / "a.whl").splitlines() == [
        f"gendyn_lite @ {(tmp_path / 'a.whl').as_uri()}",
        "pytest",
        "nbval",
    ]


@pytest.mark.minutes("runs two chapters")
def test_the_workflow_of_a_course_passes_in_a_clone_and_sees_what_is_broken(tmp_path: Path) -> None:
    """Its commands as they are; what they install besides the package is found in this environment."""
    (install, test), variables = commands()
    chapters = variables["CHAPTERS"].split()
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    notebooks.student([Path(name).stem for name in chapters], out=origin, solutions=False)
    (origin / "requirements.txt").write_text(requirements(wheel_in(tmp_path)), encoding="utf-8")
    who = ["-c", "user.name=a", "-c", "user.email=a@localhost"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "course"], ["clone", "-q", ".", "../clone"]):
        subprocess.run(["git", *words], cwd=origin, check=True)
    environment = {**bare(clone / ".venv").environ, **variables, "PATH": os.environ["PATH"]}
    environment["PIP_EXTRA_INDEX_URL"] = ""  # PyTorch is here

    def ran(command: str, **others: str) -> tuple[int, str]:
        words = ["bash", "-e", "-c", command]
        done = subprocess.run(
            words, cwd=clone, env={**environment, **others}, capture_output=True, text=True, check=False
        )
        return done.returncode, (done.stdout + done.stderr)[-9000:]

    code, told = ran(install)
    assert code == 0, told
    code, told = ran(".venv/bin/python -c 'import gendyn_lite; print(gendyn_lite.__file__)'")
    assert Path(told.strip()).is_relative_to(clone / ".venv")
    code, told = ran(test)
    assert code == 0, told
    broken = clone / chapters[-1]
    broken.write_text(broken.read_text().replace("stiffness.gradient_gram(network", "stiffness.gradient_grams(network"))
    code, told = ran(test, CHAPTERS=chapters[-1])
    assert code == 1 and "gradient_grams" in told


OTTER = """#!/bin/sh
case "$*" in *endless*) sleep 60;; esac
echo '{}' > "$5/results.json"
"""


def test_a_notebook_without_an_end_is_named_and_the_others_are_graded(tmp_path: Path) -> None:
    page = (ROOT / "book" / "teaching.md").read_text(encoding="utf-8")
    loop = re.search(r"^for notebook in .*?^done$", page, re.MULTILINE | re.DOTALL)
    assert loop and "timeout 10m otter run -a 04_stiffness.zip -o " in loop[0]
    (tmp_path / "otter").write_text(OTTER)
    (tmp_path / "otter").chmod(0o755)
    (tmp_path / "handed_in").mkdir()
    for name in ("ada", "endless one", "zoe"):
        (tmp_path / "handed_in" / f"{name}.ipynb").write_text("{}")
    environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-c", loop[0].replace("10m", "1")]
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    told = "not graded: it took more than 10 minutes, or otter has said why"
    assert done.stdout == f"handed_in/endless one.ipynb: {told}\n"
    assert sorted(path.parent.name for path in tmp_path.glob("grades/*/results.json")) == ["ada", "zoe"]


# What a student may hand in for chapter 3, beside the right answers: what is told of it.
WRONG = {
    "kl": ("return (q * (q / p).log()).sum()", "that is KL(q ‖ p)"),
    "logit-fisher": ("return torch.diag(p)", "what does the normalization"),
    "form": ("while True: pass", "it ran longer than 30 seconds: does a loop never end?"),
    "squares": ("print('x' * 10**6); return g.square().mean(0)", "it prints more than 10,000 characters"),
    "mask": ("return f", "expected True and False"),
    "masked-step": ("raise NotImplementedError", "your turn"),
}


def handed_in(folder: Path, *, right: bool) -> Path:
    """Chapter 3 with all answers right, or all of them wrong."""
    notebook, chapter = notebooks.plain("03_fisher_mask", solutions=False), "03_fisher_mask"
    for label in FOLDED[chapter]:
        signature, checker, _ = KNOWN[label]
        cell = next(one for one in notebook.cells if f"exercises.{checker.__name__}(" in one.source)
        code = FOLDED[chapter][label] if right else f"def {signature}:\n    {WRONG[label][0]}\n"
        cell.source = f"import torch\n{code}\n{cell.source.splitlines()[-1]}"
    path = folder / "03_fisher_mask.ipynb"
    folder.mkdir()
    nbformat.write(notebook, path)
    return path


@pytest.mark.minutes("grades a chapter twice")
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_otter_grades_each_answer_by_our_checker(course: Beside, tmp_path: Path, right: bool) -> None:
    notebooks.student(["03_fisher_mask"], out=tmp_path / "course", solutions=False)
    tests, zipped = tmp_path / "course" / "tests" / "03_fisher_mask", tmp_path / "03.zip"
    otter = ("-m", "otter")
    done = course.run(*otter, "generate", "-t", tests, "-o", zipped, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    path = handed_in(tmp_path / "handed_in", right=right)
    done = course.run(*otter, "run", "-a", zipped, "-o", tmp_path, path, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["tests"]
    graded = {one["name"]: one for one in found if one["name"].startswith("ex_")}
    assert set(graded) == {f"ex_{label.replace('-', '_')}" for label in WRONG}
    for label, (_, told) in WRONG.items():
        one = graded[f"ex_{label.replace('-', '_')}"]
        assert one["score"] == float(right), one
        assert right or told in one["output"]
