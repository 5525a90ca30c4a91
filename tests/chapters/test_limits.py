"""An answer that never ends or prints without end is stopped, told in one line; the summary counts what is right."""

from __future__ import annotations

import _thread
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
import torch

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


def stubborn() -> None:
    while True:
        with suppress(BaseException):
            time.sleep(0.4)
        time.sleep(0.1)


def loud(stream: str = "stdout") -> None:
    for _ in range(1000):
        getattr(sys, stream).write("x" * 999)


ENDLESS = {"loop": endless, "sleep": lambda: time.sleep(60), "wait": threading.Event().wait, "catches all": stubborn}


@pytest.mark.parametrize("answer", ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_stopped(answer: Any, checker: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SECONDS", 0.2)
    began = time.monotonic()
    assert checker(answer) is False
    assert time.monotonic() - began < 20
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


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_neither_stream_is_filled(stream: str, checker: Any, capsys: Any) -> None:
    assert checker(lambda: loud(stream)) is False
    captured = capsys.readouterr()
    assert "it prints more than 10,000 characters" in captured.out and len(captured.err) < 10_000


class DumbError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("A" * 10**6), f"ValueError: {'A' * 500} …"),
        (ValueError("one\ntwo\r\x1b[2Jthree\x00"), "ValueError: one two [2Jthree"),
        (DumbError(), "DumbError: its message cannot be shown"),
        (MemoryError(), "MemoryError"),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_stops_an_answer_is_told_in_one_line(error: Any, told: str, checker: Any, capsys: Any) -> None:
    def fails() -> None:
        raise error

    assert checker(fails) is False
    assert capsys.readouterr().out == f"Not yet (two): your code stopped with {told}\n"


def test_no_interrupt_comes_after_the_block_however_close_its_end_is() -> None:
    """Code that ends just as its time does: it is over time or it is not, and nothing is interrupted later."""
    for number in range(60):
        limit, until = 0.02, time.perf_counter() + 0.02 * (0.9 + 0.2 * number / 60)
        with suppress(TimeoutError), limits.limited(limit):
            while time.perf_counter() < until:
                pass
    time.sleep(0.2)


def test_nothing_but_what_was_given_may_hold_nan(capsys: Any) -> None:
    given = torch.tensor([1.0, torch.nan])

    @live.exercise("same")
    def check(answer: Any) -> None:
        live.expect(answer(given) == 2, "it is two")

    assert check(len), capsys.readouterr().out


def test_an_answer_cannot_change_what_it_is_compared_with(capsys: Any) -> None:
    given, listed = torch.ones(3), [1, 2]

    @live.exercise("sums")
    def check(answer: Any) -> None:
        live.expect_close(answer(given, listed), given + sum(listed), "it is another one")

    assert check(lambda x, values: x + values.pop() + values.pop()) and listed == [1, 2]
    assert not check(lambda x, values: x.zero_() + 3)
    assert "your function changed what it was given; work on a copy" in capsys.readouterr().out
    assert given.tolist() == [1, 1, 1]


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
