"""What runs says where it stands: in its place on a terminal, in lines elsewhere."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path

import nbformat

from gendyn_lite import notebooks
from gendyn_lite.sweep.jobs import Outcome
from gendyn_lite.sweep.live import Line, Live, Tally
from tests.book import trial

BAR = {"label": "mlp", "unit": "step", "steps": 9, "done": 3, "epoch": 1, "train": "0.6", "test": "0.500"}


class Terminal(io.StringIO):
    """A terminal, where somebody may answer."""

    def isatty(self) -> bool:
        return True


def test_lines_at_intervals_say_cell_progress_and_time(tmp_path: Path) -> None:
    stream, path = io.StringIO(), tmp_path / "chapter.ipynb"
    train = "from gendyn_lite.train.history import Progress\nimport time"
    steps = "with Progress(40, enabled=False, label='runs', unit='run') as bar:\n    bar.advance(30)\n    time.sleep(2)"
    nbformat.write(trial.small(train, f"time.sleep(0.6)\n{steps}"), path)
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
