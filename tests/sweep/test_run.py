"""`gendyn run`: its cost is said first, where it stands meanwhile, how it ended afterwards; killed it goes on."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from gendyn_lite import cli, notebooks
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.sweep import command
from gendyn_lite.sweep.command import read_record, record_path, run_chapter
from gendyn_lite.sweep.cost import Cost, said
from gendyn_lite.sweep.jobs import Outcome
from gendyn_lite.sweep.live import Line, Live, Tally
from tests.book import trial
from tests.book.trial import chapter_of
from tests.sweep.test_command import complete

BAR = {"label": "mlp", "unit": "step", "steps": 9, "done": 3, "epoch": 1, "train": "0.6", "test": "0.500"}


class Terminal(io.StringIO):
    """A terminal, where somebody may answer."""

    def isatty(self) -> bool:
        return True


def test_lines_at_intervals_say_cell_progress_and_time(tmp_path: Path) -> None:
    stream = io.StringIO()
    train = "from gendyn_lite.train.history import Progress\nimport time"
    steps = "with Progress(40, enabled=False, label='runs', unit='run') as bar:\n    bar.advance(30)\n    time.sleep(1)"
    path = chapter_of(tmp_path, train, f"time.sleep(0.4)\n{steps}")
    with Live("chapter", Line(stream, 0.2), expected=3600) as live:
        notebooks.run(path, out=tmp_path / "out", reached=live.reach)
    lines = stream.getvalue().splitlines()
    assert any(line.startswith("chapter: cell 3 of 3 · runs 30 of 40 runs") for line in lines)
    assert "59:" in lines[-1] and "left" in lines[-1]
    assert not live.file.parent.exists()
    assert "GENDYN_PROGRESS" not in os.environ


def test_on_a_terminal_one_line_changes_and_what_is_kept_stays() -> None:
    screen = Terminal()
    with Live("chapter", Line(screen, 0.05)) as live:
        live.reach(0, 4)
        live.file.write_text(json.dumps({"bars": [BAR], "gpu_bytes": 0}))
        time.sleep(0.3)
    assert "\n" not in screen.getvalue()
    assert "chapter: cell 0 of 4 · mlp 3 of 9 steps (epoch 1, test 0.500)" in screen.getvalue()
    assert screen.getvalue().endswith("\r\033[K")
    live.shown.keep("failed: a run")
    assert screen.getvalue().endswith("\r\033[Kfailed: a run\n")


def test_a_tally_counts_and_corrects_the_time_left() -> None:
    tally = Tally(dict.fromkeys("abcd", 10.0), at_once=lambda: 2)
    assert tally.left() == 20
    tally.outcomes |= {"a": Outcome("a", 30.0, True), "b": Outcome("b", 0.0, False, "died", where="here")}
    assert tally.left() == 30  # two runs, three times as slow as was thought, two at once
    assert tally.line() == "1 of 4 runs done · 1 failed · 0:00 elapsed · 2 at once · about 0:30 left"
    unknown = Tally({"a": 10.0, "b": None, "c": None})
    assert unknown.left() is None
    unknown.outcomes["a"] = Outcome("a", 5.0, True)
    assert unknown.left() == 10
    unknown.outcomes |= {name: Outcome(name, 0.0, False) for name in "bc"}
    assert unknown.left() is None


def test_the_record_says_what_was_run_and_how_it_ended(tmp_path: Path, capsys, runs) -> None:
    path = chapter_of(tmp_path, "x = bytearray(points)", "import time; time.sleep(0.8)")
    out = run_chapter(str(path), values={"points": "3"}, out=tmp_path / "out")
    assert capsys.readouterr().out == "estimate: an unknown time on CPU; memory not measured yet\n"
    record = read_record("chapter", "smoke", out=tmp_path / "out")
    assert record is not None
    assert record["device"] == "CPU" and record["seconds"] >= 0.8 and record["peak_bytes"] > 10**6
    about = json.loads((tmp_path / "out" / "chapter.smoke.record.json").read_text())
    assert {"chapter": "chapter", "profile": "smoke", "parameters": {"points": 3}, "exit": 0}.items() <= about.items()
    assert sorted(file.name for file in out.parent.iterdir()) == ["chapter.smoke.ipynb", "chapter.smoke.record.json"]
    run_chapter(str(path), values={"points": "3"}, out=tmp_path / "out")
    told = capsys.readouterr().out
    assert said(record["seconds"]) in told
    assert "GB of memory" in told


def test_after_a_failure_notebook_and_record_are_kept_and_name_the_cell(tmp_path: Path, runs) -> None:
    path = chapter_of(tmp_path, "x = 1", "x / 0")
    with pytest.raises(Failed, match=r"failed in cell \[3\]"):
        run_chapter(str(path), out=tmp_path / "out")
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["chapter.smoke.failed.ipynb", "chapter.smoke.failed.record.json"]
    record = json.loads((tmp_path / "out" / names[1]).read_text())
    assert record["exit"] == 1
    assert "failed in cell [3] ('x / 0') with ZeroDivisionError" in record["error"]
    path = chapter_of(tmp_path, "x = 1", "x / 1")
    run_chapter(str(path), out=tmp_path / "out")
    assert not any("failed" in file.name for file in (tmp_path / "out").iterdir())


def test_more_than_an_hour_is_refused_without_a_terminal_and_asked_for_on_one(capsys) -> None:
    ask = command._consent
    for seconds, yes in ((7200, True), (3599, False), (None, False)):
        ask("05", seconds, yes=yes, stream=io.StringIO())
    ask("05", 7200, yes=False, stream=Terminal("y\n"))
    assert "Start? [y/N]" in capsys.readouterr().out
    for answer in ("n\n", "\n", ""):
        with pytest.raises(UserError, match="not started, because"):
            ask("05", 7200, yes=False, stream=Terminal(answer))


def test_a_full_chapter_is_refused_before_anything_runs(runs, tmp_path, monkeypatch) -> None:
    def hours(configs, **_):
        return [Cost(config, 600.0, False) for config in configs]

    monkeypatch.setattr(command, "estimated", hours)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(UserError, match=r"01_random_labels would take about 2\.6 days, more than an hour"):
        run_chapter("01_random_labels", profile="full", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "[1]", "\xff", '{"chapter": "a"}', '{"seconds": "many"}', "[" * 10_000])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    path = record_path("chapter", "smoke", out=tmp_path / "mine.ipynb")
    assert path.parent == tmp_path  # beside the notebook also where its path is given
    path.write_text(text, encoding="latin-1")
    assert read_record("chapter", "smoke", out=tmp_path) is None


def shortened(folder: Path) -> Path:
    """The chapter of stiffness up to its runs: its first three cells of code, and the one that trains."""
    chapter = nbformat.read(notebooks.chapter_path("04_stiffness"), as_version=4)
    first, second, third, *others = [cell for cell in chapter.cells if cell.cell_type == "code"]
    (trains,) = [cell for cell in others if "run_all(" in cell.source]
    chapter.cells = [first, second, third, trains]
    path = folder / "04_stiffness.ipynb"
    nbformat.write(chapter, path)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="SIGKILL test: not on Windows")
def test_a_killed_chapter_goes_on_with_what_is_finished(tmp_path: Path, runs: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["run", str(shortened(tmp_path)), "-p", "seeds=1", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "gendyn_lite.cli", *words]
    victim = subprocess.Popen(command, cwd=trial.ROOT, stdout=subprocess.DEVNULL)
    while victim.poll() is None and len(complete(runs)) < 2:
        time.sleep(0.02)
    kernels = psutil.Process(victim.pid).children(recursive=True)
    victim.kill()
    assert victim.wait() == -signal.SIGKILL
    assert psutil.wait_procs(kernels, timeout=20)[1] == []  # they notice that nobody is there
    before = complete(runs)
    assert 2 <= len(before) < 9
    assert cli.main(words) == 0
    assert f"9 runs, {len(before)} of them complete" in capsys.readouterr().out
    after = complete(runs)
    assert len(after) == 9
    assert {name: after[name] for name in before} == before
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == [f"04_stiffness.smoke.{kind}" for kind in ("ipynb", "record.json")]
