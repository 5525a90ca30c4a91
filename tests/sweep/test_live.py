"""What runs says where it stands: in its place on a terminal, in lines elsewhere."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import nbformat
import pytest

from gendyn_lite import notebooks
from gendyn_lite.config import RunConfig
from gendyn_lite.sweep.jobs import Job, Outcome
from gendyn_lite.sweep.live import Live, Table
from tests.book import trial
from tests.results.test_files import dead_process

BAR = {"label": "mlp", "unit": "step", "steps": 9, "done": 3, "epoch": 1, "train": "0.6", "test": "0.500"}
JOBS = [Job("01", RunConfig(experiment="demo", seed=seed), "00ff", "smoke", "runs", "datasets") for seed in range(4)]


class Terminal(io.StringIO):
    """A terminal, where somebody may answer."""

    def isatty(self) -> bool:
        return True


def test_lines_at_intervals_say_cell_progress_and_time(tmp_path: Path) -> None:
    stream, path = io.StringIO(), tmp_path / "chapter.ipynb"
    train = "from gendyn_lite.train.history import Progress\nimport time"
    steps = "with Progress(40, enabled=False, label='runs', unit='run') as bar:\n    bar.advance(30)\n    time.sleep(2)"
    nbformat.write(trial.small(train, f"time.sleep(0.6)\n{steps}"), path)
    with Live("chapter", stream=stream, expected=3600, seconds=0.2) as live:
        notebooks.run(path, out=tmp_path / "out", reached=live.reach)
    lines = stream.getvalue().splitlines()
    assert any(line.startswith("chapter: cell 3 of 3 · runs 30 of 40 runs") for line in lines)
    assert "59:" in lines[-1] and "left" in lines[-1]
    assert not list(live.file.parent.glob(f"{live.file.name}*"))
    assert "GENDYN_PROGRESS" not in os.environ


def test_on_a_terminal_one_line_changes() -> None:
    screen = Terminal()
    with Live("chapter", stream=screen, seconds=0.05) as live:
        live.reach(0, 4)
        live.file.write_text(json.dumps({"bars": [BAR], "gpu_bytes": 0}))
        time.sleep(0.3)
    assert "\n" not in screen.getvalue()
    assert "chapter: cell 0 of 4 · mlp 3 of 9 steps (epoch 1, test 0.500)" in screen.getvalue()
    assert screen.getvalue().endswith("\r\033[K")


def test_progress_files_of_killed_processes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    folder, dead = tmp_path / "gendyn-progress", dead_process()
    folder.mkdir()
    kept = [f"{os.getppid()}.json", "notes.txt"]
    for name in (f"{dead}.json", f"{dead}.json.{dead}", *kept):
        (folder / name).write_text("{}")
    with Live("chapter") as live:
        live.file.write_text("{}")
        assert live.file.parent == folder
        assert {file.name for file in folder.iterdir()} == {f"{os.getpid()}.json", *kept}
    assert not live.file.exists()


def test_the_table_counts_and_corrects_the_time_left() -> None:
    table = Table(JOBS, {each.run_id: 10.0 for each in JOBS}, at_once=2, stream=io.StringIO())
    assert table.left() == 20
    table.add(Outcome(JOBS[0].run_id, 30.0, True))
    table.add(Outcome(JOBS[1].run_id, 0.0, False, "died", where="here"))
    table.show({JOBS[2].run_id: "here"}, now=True)
    assert table.counts() == (1, 1, 1, 1)
    assert table.left() == 30  # two runs, three times as slow as was thought, two at once
    unknown = Table(JOBS, dict.fromkeys((each.run_id for each in JOBS), None), stream=io.StringIO())
    assert unknown.left() is None
    unknown.add(Outcome(JOBS[0].run_id, 5.0, True))
    assert unknown.left() == 15


def test_on_a_terminal_the_table_stays_in_its_place() -> None:
    screen = Terminal()
    table = Table(JOBS[:2], {}, stream=screen)
    table.show({JOBS[0].run_id: "here, process 7"}, now=True)
    counts, running = screen.getvalue().splitlines()
    assert counts == "0 done · 1 running · 0 failed · 1 waiting · 0:00 elapsed"
    assert running == "  digits mlp_1x512 q=0 seed=0 (here, process 7)"
    table.show({}, now=True)
    assert "\033[2F\033[J" in screen.getvalue()
