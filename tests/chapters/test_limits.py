"""An answer that never ends or prints without end is stopped, told in one line; the summary counts what is right."""

from __future__ import annotations

import _thread
import sys
import time
from contextlib import suppress
from typing import Any

import pytest

from gendyn_lite.chapters import limits, live


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A checker that calls the answer; nothing was tried before."""
    monkeypatch.setattr(live, "_right", {})

    @live.exercise("two")
    def check(answer: Any) -> None:
        live.expect(answer() == 2, "it is not 2")

    return check


def endless() -> None:
    while True:
        with suppress(Exception):
            time.sleep(0.001)


def loud() -> None:
    for _ in range(1000):
        sys.stdout.write("x" * 999)


def test_a_loop_without_end_is_stopped(checker: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.2)
    began = time.monotonic()
    assert checker(endless) is False
    assert time.monotonic() - began < 5
    told = (
        "Not yet (two): your code stopped with TimeoutError: it ran longer than 0.2 seconds: does a loop never end?\n"
    )
    assert capsys.readouterr().out == told


def test_a_megabyte_is_not_printed(checker: Any, capsys: Any) -> None:
    assert checker(loud) is False
    out = capsys.readouterr().out
    assert len(out) < 11_000
    assert out.endswith("stopped with RuntimeError: it prints more than 10,000 characters: take the prints out\n")
    assert checker(lambda: sys.stdout.write("me") and 2)
    assert capsys.readouterr().out == "meRight (two).\n"


def test_a_readers_own_interruption_stays_one(checker: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        checker(_thread.interrupt_main)


def test_the_summary_counts_what_is_right_now(checker: Any, capsys: Any) -> None:
    live.summary(6)
    checker(lambda: 3)
    live.summary(6)
    checker(lambda: 2)
    live.summary(6)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("You")]
    assert said == ["You have solved 0 of 6.", "You have solved 0 of 6. Not yet: two.", "You have solved 1 of 6."]
