"""Run folders are complete only when whole, and become tidy tables; files are written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gendyn_lite import results
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.results import files
from gendyn_lite.results.files import seal, write_text
from gendyn_lite.results.runs import writing
from gendyn_lite.results.tables import FEWEST

ENV = {"profile": "colab", "device": "CPU", "data": "digits", "n_train": 10, "n_test": 5, "num_classes": 10}
CONFIG = RunConfig(experiment="random_labels")
ROW = {"train_loss": 0.5, "learning_rate": 0.1, "test_loss": 1.0, "test_accuracy": 0.25}


def record(root, *, seed=0, q=0.0, accuracies=(0.1, 0.6, 1.0, 1.0), finish=True, profile="colab"):
    """A run folder as the runner writes it, with given training accuracies."""
    run = results.open_run(CONFIG.replace(label_corruption=q, seed=seed), "ab" * 8, root=root)
    with writing(run, {**ENV, "profile": profile}) as writer:
        if writer is None:
            return run
        for epoch, accuracy in enumerate(accuracies):
            measured = {"train_loss": 1 - accuracy, "train_accuracy": accuracy}
            writer.write(ROW | measured | {"epoch": epoch, "step": 3 * epoch, "seconds": 0.5 * epoch})
        if finish:
            writer.finish(wall_seconds=1.0)
    return run


def sealed_again(folder):
    """Seal an edited table as one would who knows how."""
    record = json.loads((folder / "provenance.json").read_text())
    record["seal"] = seal(record, *((folder / name).read_bytes() for name in ("runs.csv", "curves.csv")))
    (folder / "provenance.json").write_text(json.dumps(record))


@pytest.mark.parametrize("known", [True, False])
def test_who_waits_for_a_run_says_so_once_and_for_whom(tmp_path, monkeypatch, capsys, known):
    monkeypatch.setattr(files, "SILENT_SECONDS", 0.05)
    run = results.open_run(CONFIG, "ab" * 8, root=tmp_path)
    waited = threading.Thread(target=lambda: record(tmp_path))
    with writing(run, ENV) as writer:
        if not known:
            run.path.with_name(f"{run.run_id}.lock.holder").unlink()
        waited.start()
        while not (said := capsys.readouterr().err):
            time.sleep(0.01)
        writer.write({"epoch": 0})
        writer.finish()
    waited.join()
    who = f"process {os.getpid()} on {platform.node()}" if known else "another process"
    assert said == f"{who} holds {run.path}.lock: waiting for it\n"
    assert capsys.readouterr().err == ""
    assert run.complete
    assert [path.name for path in run.path.parent.iterdir() if "holder" in path.name] == []


def test_who_waits_for_a_run_can_be_interrupted(tmp_path):
    """It ends at once with exit code 130, and the run stays the other process's."""
    lock = tmp_path / "run.lock"
    wait = (
        "import sys; from pathlib import Path; from gendyn_lite.arguments import answered; "
        "from gendyn_lite.results.files import alone; "
        f"sys.exit(answered(lambda: alone(Path({str(lock)!r})).__enter__()))"
    )
    with files.alone(lock):
        waiting = subprocess.Popen([sys.executable, "-c", wait], stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert "waiting for it" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=30) == 130
        assert waiting.stderr.read().startswith("gendyn: interrupted; what is complete is kept")
    with files.alone(lock):
        pass


def test_a_run_is_complete_only_after_finish(tmp_path):
    assert not record(tmp_path, finish=False).complete
    run = results.open_run(CONFIG, "cd" * 8, root=tmp_path)
    with pytest.raises(KeyboardInterrupt), writing(run, ENV) as writer:
        writer.write({"epoch": 0})
        raise KeyboardInterrupt
    assert not run.complete
    run = record(tmp_path)
    assert run.complete
    before = (run.path / "metrics.jsonl").stat().st_mtime_ns
    with writing(run, ENV) as writer:  # a second writer
        assert writer is None
    assert (run.path / "metrics.jsonl").stat().st_mtime_ns == before


def test_a_run_keeps_the_criteria_under_which_it_began(tmp_path):
    run = results.open_run(CONFIG, "cd" * 8, root=tmp_path)
    for marks in ("fits:1", "fits:2"):  # changed while it was interrupted
        with pytest.raises(KeyboardInterrupt), writing(run, {**ENV, "criteria": marks}):
            raise KeyboardInterrupt
    assert run.env()["criteria"] == "fits:1"


def test_load_gives_one_row_per_epoch_of_complete_runs_only(tmp_path):
    for seed in range(3):
        record(tmp_path, seed=seed, finish=seed < 2)
    table = results.load("random_labels", root=tmp_path)
    assert len(table) == 8
    assert set(table["seed"]) == {0, 1}
    assert table["group_id"].nunique() == 1
    assert not table[["run_id", "profile", "data", "data_fingerprint", "device"]].isna().any().any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "'config'"),
        ('{"config": [], "data_fingerprint": "00"}', "a configuration is"),
        ('{"config": {"experiment": "../x"}, "data_fingerprint": "00"}', "experiment is"),
        ('{"config": {"experiment": "x", "milestones": 5}, "data_fingerprint": "00"}', "milestones is 5"),
        ('{"config": {"experiment": "x", "epohs": 5}, "data_fingerprint": "00"}', "unknown config field 'epohs'"),
    ],
    ids=["empty", "list", "path", "milestones", "field"],
)
def test_a_configuration_that_cannot_be_is_named_with_its_file(tmp_path, text, said):
    run = record(tmp_path)
    (run.path / "config.json").write_text(text)
    with pytest.raises(UserError, match=rf"{run.run_id}.config.json cannot be read .*{said}"):
        results.load("random_labels", root=tmp_path)


def test_what_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected up to 64 letters"):
        results.load("../x", root=tmp_path)
    run = record(tmp_path)
    run.path.rename(run.path.with_name("0" * 16))
    with pytest.raises(UserError, match="its config belongs to"):
        results.load("random_labels", root=tmp_path)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [((0.1, 0.6, 1.0, 1.0), 2), ((1.0,), 0), ((0.1, 0.998), math.nan), ((0.1, 0.9991, 1.0), 1), ((0.5, 1.0, 0.9), 1)],
    ids=["reached", "at_once", "never", "all_but_one_in_a_thousand", "lost_again"],
)
def test_fit_epoch_is_the_first_epoch_with_every_label_fitted(tmp_path, accuracies, expected):
    record(tmp_path, accuracies=accuracies)
    summary = results.summarize(results.load("random_labels", root=tmp_path))
    assert len(summary) == 1
    np.testing.assert_equal(float(summary["fit_epoch"].iloc[0]), expected)
    assert summary["test_error"].iloc[0] == pytest.approx(0.75)
    assert summary["epoch"].iloc[0] == len(accuracies) - 1


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ({0.0: 1}, "1 run, 1 seed (0), 3 epochs;"),
        ({0.0: 3}, "3 runs, 3 seeds (0 to 2), 3 epochs;"),
        ({0.0: 3, 1.0: 1}, "4 runs, 1 to 3 seeds (0 to 2), 3 epochs;"),
    ],
    ids=["one", "alike", "of_unequal_numbers"],
)
def test_a_caption_names_the_fewest_and_the_most_seeds_of_any_setting(tmp_path, seeds, told):
    for q, count in seeds.items():
        for seed in range(count):
            record(tmp_path, q=q, seed=seed)
    assert told in results.provenance_line(results.load("random_labels", root=tmp_path))


@given(st.lists(st.floats(-1e3, 1e3), min_size=FEWEST, max_size=30), st.floats(-10, 10))
def test_mean_interval_moves_with_a_shift_and_holds_its_mean(values, shift):
    mean, low, high, n = results.mean_interval(values)
    moved = results.mean_interval([value + shift for value in values])
    assert low <= mean <= high
    assert n == len(values)
    np.testing.assert_allclose(moved[:3], np.array([mean, low, high]) + shift, atol=1e-6)


def test_the_commit_is_marked_where_any_module_of_the_package_was_changed(tmp_path):
    package = Path(results.__file__).parents[1]
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    asked = [sys.executable, "-c", "from gendyn_lite.results.runs import environment; print(environment()['commit'])"]

    def commit() -> str:
        return subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    clean = commit()
    with (tmp_path / package.name / "train" / "loop.py").open("a") as file:
        file.write("# changed\n")
    assert (len(clean), commit()) == (12, clean + "+")


def dead_process() -> int:
    """The number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chapter.ipynb"
    path.write_text("old")

    def interrupt(aside: Path, _: Path) -> None:
        assert aside.read_text() == "new"
        assert aside.suffix != ".ipynb"  # which nbval would collect
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_what_a_killed_process_left_goes_and_files_of_others_stay(tmp_path: Path) -> None:
    path, dead = tmp_path / "chapter[1].ipynb", dead_process()
    kept = [f".chapter[1].ipynb.{os.getppid()}.gendyn-partial", f"chapter[1].{dead}.partial.ipynb", "chapter[1].tmp"]
    for name in (*kept, f".chapter[1].ipynb.{dead}.gendyn-partial"):
        (tmp_path / name).write_text("mine")
    write_text(path, "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, path.name])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "chapter.ipynb").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_text(tmp_path / "chapter.ipynb", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["chapter.ipynb"]
