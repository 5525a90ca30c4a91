"""The commands that readers are told exist, pass on what they are given, and say what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from gendyn_lite import models
from tests.book.trial import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))


def make(*arguments: str, folder: Path = ROOT, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """GNU make, as a reader calls it: without the environment of a make that may be running the tests."""
    exported = ("MAKE", "MFLAGS", "VENV", "OUT", "GENDYN_RUNS")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(exported)}
    environment["PATH"] = path or environment["PATH"]
    command = [shutil.which("make") or "make", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


def made(*arguments: str, folder: Path) -> str:
    """What a make that succeeds says."""
    done = make(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What a failed make says beside its own lines."""
    assert done.returncode != 0
    return [line for line in done.stderr.splitlines() if not line.startswith("make:")]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what `make` reads first, and nothing installed."""
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(ROOT / file, tmp_path / file)
    return tmp_path


def pretended(environment: Path, script: str, *, program: str = "bin/python") -> None:
    """An environment whose Python is a shell script."""
    path = environment / program
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(0o755)


def bin_with(folder: Path, **programs: str) -> str:
    """A PATH of the tools that the Makefile uses, and programs given as shell scripts; no other Python."""
    folder.mkdir()
    for tool in ("sh", "cat", "cksum", "cut", "tr", "sed", "echo", "printf", "rm", "touch"):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    for program, script in programs.items():
        pretended(folder, script, program=program)
    return str(folder)


def test_the_readmes_commands_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|bash|console)?\n(.*?)```", readme, re.DOTALL) + re.findall(r"`(make [^`]+)`", readme)
    used = {target for block in blocks for target in re.findall(r"^(?:\$ )?make ([a-z-]+)", block, re.MULTILINE)}
    assert {"book", "test"} <= used
    assert used <= TARGETS


def test_help_lists_every_target() -> None:
    assert set(re.findall(r"^  make ([a-z-]+) ", made("help", folder=ROOT), re.MULTILINE)) == TARGETS
    assert set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()) == TARGETS  # type: ignore[index]


# Each would be run by make or by the shell, were it ever read as code.
CODE = {
    "quotes": 'it\'s "5"; touch ran',
    "backticks": "`touch ran`",
    "shell": "$(touch ran)",
    "make": "$(shell touch ran) $(error no)",
    "dollars": "$$5 $HOME ${HOME}",
    "lines": "a\ntouch ran\n#b",
    "others": "a; touch ran & touch ran | * ~ \\ ! > ran",
}


def told(clone: Path, *arguments: str) -> list[str]:
    """The arguments with which make calls a Python that only writes them down."""
    pretended(clone / "env", """case "$*" in *gendyn_lite*) printf '%s\\0' "$@" > told;; esac""")
    made(*arguments, "VENV=env", folder=clone)
    assert not (clone / "ran").exists()
    return (clone / "told").read_text().split("\0")[2:-1]


def test_run_passes_every_other_name_on_as_a_parameter(clone: Path) -> None:
    given = ["CHAPTER=01_random_labels", "PROFILE=colab", "OUT=a b", "YES=1", "DATASET=mnist", "epochs=5"]
    called = told(clone, "run", *given)
    assert called[:7] == ["run", "01_random_labels", "--profile", "colab", "--out", "a b", "--yes"]
    assert sorted(zip(called[7::2], called[8::2], strict=True)) == [("-p", "dataset=mnist"), ("-p", "epochs=5")]
    timed = told(clone, "run", "CHAPTER=01_random_labels", "PROFILE=full", "FOR=8m", "DATASET=mnist")
    assert timed == ["sweep", "01_random_labels", "--profile", "full", "--for", "8m", "-p", "dataset=mnist"]


@pytest.mark.parametrize("value", CODE.values(), ids=CODE)
def test_values_are_never_run(clone: Path, value: str) -> None:
    given = [f"{name}={value}" for name in ("CHAPTER", "PROFILE", "OUT", "NOTE")]
    expected = ["run", value, "--profile", value, "--out", value, "-p", f"note={value}"]
    assert told(clone, "run", *given) == expected


@pytest.mark.parametrize("value", [CODE["quotes"], CODE["make"], "`touch ran`/env"], ids=["quotes", "make", "ticks"])
def test_the_place_of_an_environment_is_never_run(clone: Path, value: str) -> None:
    done = make("setup", f"VENV={value}", "PYTHON=`touch ran`", folder=clone, path=bin_with(clone / "bin"))
    assert "error: no Python 3.11 or newer found" in done.stderr
    assert not (clone / "ran").exists()


def test_refresh_takes_chapters_as_words(clone: Path) -> None:
    assert told(clone, "refresh", "CHAPTER=01_a `touch ran` *") == ["refresh", "01_a", "`touch", "ran`", "*"]
    assert told(clone, "refresh") == ["refresh"]


def test_plain_notebooks_of_the_chapters_that_are_named(clone: Path) -> None:
    called = told(clone, "student", "CHAPTER=01_a `touch ran` *", "SOLUTIONS=no", "OUT=a b")
    assert called == ["student", "01_a", "`touch", "ran`", "*", "--out", "a b", "--no-solutions"]
    assert told(clone, "student") == told(clone, "student", "SOLUTIONS=yes") == ["student", "--out", "student"]
    done = make("student", "VENV=env", "SOLUTIONS=No", folder=clone)
    assert complaints(done) == ["error: SOLUTIONS=No, expected yes or no"]


def test_lab_writes_a_chapter_once_and_opens_it(clone: Path) -> None:
    pretended(clone / "env", """case "$*" in *cli*|*-m\\ jupyterlab*|*-e*lab*) echo "$@ $GENDYN_RUNS" >> told;; esac""")
    made("lab", "VENV=env", "CHAPTER=04_stiffness", folder=clone)
    path = "student/04_stiffness.ipynb"
    opens = f"-m jupyterlab {path} {clone}/runs"
    assert (clone / "told").read_text().splitlines()[-2:] == [
        "-m gendyn_lite.cli student 04_stiffness --out student ",
        opens,
    ]
    (clone / path).parent.mkdir(parents=True)
    (clone / path).write_text("mine")
    made("lab", "VENV=env", "CHAPTER=04_stiffness", folder=clone)
    assert (clone / "told").read_text().splitlines()[-2:] == [opens, opens]


@pytest.mark.parametrize("target", ["run", "lab"])
def test_without_a_chapter_it_is_said_how(clone: Path, target: str) -> None:
    pretended(clone / "env", "exit 0")  # not .venv: where the tests run in another environment, it would be installed
    (line,) = complaints(make(target, "VENV=env", folder=clone))
    assert line.startswith(f"error: which chapter? make {target} CHAPTER=0")


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_changed_requirements_are_installed_again(clone: Path, file: str) -> None:
    pretended(clone / "env", 'case "$*" in *install*) echo "$@" >> installed;; esac; exit 0')

    def installations() -> int:
        made("setup", "VENV=env", folder=clone)
        return (clone / "installed").read_text().count("-c constraints.txt -e .[book,test]")

    assert [installations(), installations()] == [1, 1]
    with (clone / file).open("a") as requirements:
        requirements.write("# another\n")
    assert [installations(), installations()] == [2, 2]


NO_VENV = 'case "$2" in *ensurepip*) exit 1;; esac; exit 0'
MISSING = {
    "none": ({}, "error: no Python 3.11 or newer found: install one, or name it: make PYTHON="),
    "too-old": ({"python3": "exit 1"}, "error: no Python 3.11 or newer found"),
    "no-venv": ({"python3": NO_VENV}, "error: python3 cannot create environments: install its venv module"),
}


@pytest.mark.parametrize(("programs", "message"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_one_line(clone: Path, tmp_path: Path, programs: dict[str, str], message: str) -> None:
    (line,) = complaints(make("setup", folder=clone, path=bin_with(tmp_path / "bin", **programs)))
    assert line.startswith(message)
    assert not (clone / ".venv").exists()


def test_an_interrupted_installation_is_not_taken_for_whole(clone: Path) -> None:
    pretended(clone / "env", 'case "$*" in *install*) exit 1;; esac; exit 0')
    (line,) = complaints(make("setup", "VENV=env", folder=clone))
    assert re.match(r"error: the installation did not finish; it takes about \d+ GB of disk on its way \(\S+ are", line)
    assert list((clone / "env").glob(".gendyn-*")) == []
    pretended(clone / "env", "exit 0")
    made("setup", "VENV=env", folder=clone)
    assert len(list((clone / "env").glob(".gendyn-*"))) == 1
    assert "Installing" not in made("setup", "VENV=env", folder=clone)


@pytest.mark.parametrize("broken", [None, "env-oldest", "env-canary", "env"])
def test_what_takes_long_is_one_command_that_runs_every_part_and_sums_up(clone: Path, broken: str | None) -> None:
    for environment in ("env", "env-oldest", "env-canary"):
        fails = "pytest" if environment != "env-canary" else "canary.py"
        pretended(clone / environment, f'case "$*" in *{fails}*) exit {int(environment == broken)};; esac; exit 0')
    done = make("test-slow", "VENV=env", folder=clone)
    parts = {"test-oldest": "env-oldest", "test-canary": "env-canary", "test-minutes": "env"}
    assert (done.returncode != 0) == (broken is not None), done.stderr
    summary = re.findall(r"^  (test-[a-z]+): (\w+), \d+ minutes$", done.stdout, re.MULTILINE)
    assert summary == [(part, "FAILED" if parts[part] == broken else "passed") for part in parts]


def test_the_oldest_versions_need_python_3_11(clone: Path, tmp_path: Path) -> None:
    pretended(clone / "env", 'case "$*" in *version_info?:2?*) exit 1;; esac; exit 0')
    told = complaints(make("test-oldest", "VENV=env", folder=clone, path=bin_with(tmp_path / "bin")))
    assert told == ["error: the oldest versions are of Python 3.11, and there is no python3.11 here: install it"]
    assert not (clone / "env-oldest").exists()


def test_ci_and_the_workflows_run_what_a_reader_runs_and_publish_only_what_is_tested() -> None:
    script = ROOT / ".ci" / "run"
    text = script.read_text()
    assert os.access(script, os.X_OK) and "set -euo pipefail" in text and text.rstrip().endswith("make test")
    texts = {name: (ROOT / ".github" / "workflows" / f"{name}.yml").read_text() for name in ("test", "book")}
    jobs = {name: yaml.safe_load(text)["jobs"] for name, text in texts.items()}
    steps = {name: [step for job in jobs[name].values() for step in job.get("steps", [])] for name in jobs}
    commands = {name: [step["run"] for step in steps[name] if "run" in step] for name in steps}
    notebooks = ["make student OUT=_build/student/chapters", ".ci/student"]
    assert commands == {"test": [".ci/run"], "book": ["make book", *notebooks]}
    assert "secrets" not in "".join(texts.values())
    book = jobs["book"]
    assert book["test"] == {"uses": "./.github/workflows/test.yml"}
    assert (book["render"]["needs"], book["publish"]["needs"]) == ("test", "render")
    assert [step["with"]["path"] for step in steps["book"] if "upload" in step.get("uses", "")] == ["_build/html"]


def test_plain_notebooks_are_alone_on_a_branch_where_launch_buttons_look(tmp_path: Path) -> None:
    def git(*words: str, folder: Path) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@localhost")
        return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout

    git("init", "--bare", "--quiet", "origin", folder=tmp_path)
    git("clone", "--quiet", "origin", "clone", folder=tmp_path)
    clone = tmp_path / "clone"
    (clone / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "student", clone / ".ci")
    (clone / ".gitignore").write_text("_build\n")
    git("add", ".", folder=clone)
    git("commit", "--quiet", "-m", "first", folder=clone)
    chapters = clone / "_build" / "student" / "chapters"
    chapters.mkdir(parents=True)
    for name in ("01_a", "02_b"):  # twice: the branch is replaced
        (chapters / f"{name}.ipynb").write_text(name)
        subprocess.run([clone / ".ci" / "student"], check=True)
    assert git("status", "--porcelain", folder=clone) == ""
    found = git("ls-tree", "-r", "--name-only", "student", folder=tmp_path / "origin").split()
    assert found == ["chapters/01_a.ipynb", "chapters/02_b.ipynb"]


def test_the_snippet_of_measures_in_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    network = models.build("mlp_1x512", num_classes=10, in_shape=(1, 8, 8), seed=0)
    exec(compile(blocks[1], "README.md", "exec"), {"network": network})
    assert len(capsys.readouterr().out.splitlines()) == 4
