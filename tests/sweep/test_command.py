"""`gendyn sweep` on the local engine: the chapter's own runs, resumable, its mistakes in one line, its dry run dry."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gendyn_lite import arguments, cli, results
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.random_labels import runs as random_labels
from gendyn_lite.errors import Failed
from gendyn_lite.sweep import command, on_ray
from gendyn_lite.sweep.grid import plan
from gendyn_lite.sweep.jobs import Resources, work
from gendyn_lite.sweep.live import Tally

GRID = ["--grid", "q=0,1", "seed=0..1", "epochs=2", "train_size=60"]
SWEEP = ["sweep", "01_random_labels", *GRID]


def complete(root: Path) -> dict[str, tuple[int, int]]:
    """The complete runs, and when which file said so."""
    files = list(root.glob("*/*/complete.json"))
    return {path.parent.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def test_its_runs_are_those_of_the_chapter(runs: Path, capsys) -> None:
    assert cli.main(SWEEP) == 0
    said = capsys.readouterr()
    assert said.out == f"4 runs: 4 trained, 0 were complete; they are in {runs}\n"
    assert "4 of 4 runs done · 0 failed · " in said.err
    settings = {"networks": "mlp_1x512", "corruptions": [0, 1], "epochs": 2, "train_size": 60, "seeds": 2}
    planned = [config for config in random_labels.plan("smoke", **settings) if config.inputs == "true"]
    before = complete(runs)
    loaded = [runner.load_or_run(config, profile="smoke", root=runs) for config in planned]
    assert {run.run_id for run in loaded} == set(before)
    assert complete(runs) == before  # nothing was trained again
    assert cli.main(SWEEP) == 0
    assert "0 trained, 4 were complete" in capsys.readouterr().out
    assert complete(runs) == before
    assert len(results.load("random_labels", root=runs)) == 4 * 3
    assert cli.main([*SWEEP, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("  complete\n") == 4


def test_dry_run_lists_runs_and_cost_and_writes_nothing(runs: Path, capsys) -> None:
    assert cli.main([*SWEEP, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert "random_labels  digits mlp_1x512 q=0 seed=0  about " in lines[0]
    assert lines[-1].startswith("4 runs, 0 of them complete; the others take about ")
    assert not runs.exists()


def test_interrupted_it_goes_on(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """By SIGTERM, which the command line makes an interruption by the keyboard."""

    class Impatient(Tally):
        def line(self) -> str:
            if len(self.outcomes) == 2 and not hasattr(self, "told"):
                self.told = os.kill(os.getpid(), signal.SIGTERM)
            return super().line()

    monkeypatch.setattr(command, "Tally", Impatient)
    assert cli.main(SWEEP) == 130
    assert "run the same command again" in capsys.readouterr().err
    before = complete(runs)
    assert 2 <= len(before) < 4
    monkeypatch.undo()
    monkeypatch.setenv("GENDYN_RUNS", str(runs))
    assert cli.main(SWEEP) == 0
    assert f"{4 - len(before)} trained, {len(before)} were complete" in capsys.readouterr().out
    assert before.items() <= complete(runs).items()


def test_a_run_that_fails_is_named_and_the_others_go_on(runs: Path, capsys) -> None:
    assert cli.main(["sweep", "01_random_labels", "--grid", "learning_rate=0.01,1e9", "epochs=2", "train_size=60"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("failed: digits mlp_1x512 q=0 seed=0 (")
    assert said[-1] == "gendyn: error: 1 of 2 runs failed (see above), the others are complete"
    assert len(complete(runs)) == 1


def test_a_disk_that_fills_stops_it(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(random_labels, "run", full)
    jobs = plan("01_random_labels", grid=GRID[1:])
    with pytest.raises(Failed, match=r"the sweep stopped: OSError: \[Errno 28\] No space left on device; complete"):
        command._follow(map(work, jobs), jobs, Tally({job.run_id: None for job in jobs}))
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("failed: ") for line in said) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["06_performance"], "has no runs to sweep: choose one of 01_random_labels"),
        (["01_random_labels", "--profile", "smal"], "unknown profile 'smal'"),
        (["01_random_labels", "--grid", "q=0:2:1"], "label_corruption is 2.0, expected a number in [0, 1]"),
        (["01_random_labels", "--grid", "network=mlp_1x51"], "unknown network 'mlp_1x51': did you mean"),
        (["01_random_labels", "--grid", "dataset=minst"], "unknown dataset 'minst': did you mean 'mnist'"),
        (["01_random_labels", "--grid", "train_size=90000"], "train_size is 90000, expected at most"),
        (["01_random_labels", "--grid", "seed=0..9999"], "the grid has 10,000 runs, at most 2,000"),
        (["01_random_labels", "--engine", "rai"], "unknown engine 'rai': did you mean 'ray'? Valid: local, ray"),
        (["01_random_labels", "--gpus-per-run", "0.25"], "are for a cluster: add --engine ray"),
        (["01_random_labels", "-p", "seeds=1000000000"], "seeds is 1000000000, expected a whole number in [0, 200]"),
        (["01_random_labels", "--workers", "-1"], "--workers is -1, expected a whole number in [0, 1000]"),
        (["01_random_labels", "--for", "0m"], "--for '0m' is not a time above 0: expected one such as 8m, 90s or 1.5h"),
        (["01_random_labels", "--for", "soon"], "--for 'soon' is not a time above 0"),
        (["01_random_labels", "--for", "8m", "--engine", "ray"], "--for works only with the local engine"),
        (["smoke", "--grid", "q=0"], "sweep smoke runs all chapters as they are planned"),
        (["01_random_labels", "--cpus-per-run", "0"], "--cpus-per-run is 0.0, expected a number in [0.001, 1000]"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(runs: Path, capsys, words: list[str], said: str) -> None:
    assert cli.main(["sweep", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert said in line
    assert not runs.exists()


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # which makes its import fail
    assert cli.main([*SWEEP, "--engine", "ray"]) == 2
    said = "gendyn: error: --engine ray needs Ray: install it with pip install 'ray[default]', or use --engine local\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("killed", [True, False], ids=["while it begins", "afterwards"])
def test_sigterm_interrupts_a_sweep_on_ray_too(monkeypatch: pytest.MonkeyPatch, killed: bool) -> None:
    def begin(**_: Any) -> None:
        """Answer SIGTERM in a way of its own, as Ray does."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))
        if killed:
            os.kill(os.getpid(), signal.SIGTERM)

    ray = SimpleNamespace(init=begin, cluster_resources=lambda: {"CPU": 2.0}, shutdown=lambda: None)
    monkeypatch.setattr(on_ray, "ray_module", lambda: ray)
    monkeypatch.setattr(on_ray, "reach", lambda address: None)
    with arguments._terminable(), pytest.raises(KeyboardInterrupt), on_ray.connected(Resources()):
        assert not killed
        os.kill(os.getpid(), signal.SIGTERM)


def test_the_default_sweep_is_the_whole_chapter(runs: Path) -> None:
    found = plan("01_random_labels", values={"seeds": "1"})
    assert {each.config.experiment for each in found} == {"random_labels", "regularizers", "augmented_labels"}
    assert len({each.run_id for each in found}) == len(found)
