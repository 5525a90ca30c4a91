"""The command line: a mistake is one line and exit code 2, a refusal of the machine exit code 1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from gendyn_lite import arguments, cli, notebooks
from gendyn_lite.errors import Failed
from gendyn_lite.notebooks import execution
from tests.results.test_runs import record


def last_line(capsys) -> str:
    captured = capsys.readouterr().err.strip().splitlines()
    assert len(captured) == 1, captured
    return captured[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "01_random_label"], "unknown chapter '01_random_label': did you mean '01_random_labels'"),
        (["run", "01_random_labels", "-p", "epoch=3"], "did you mean 'epochs'"),
        (["run", "01_random_labels", "-p", "epochs"], "is not NAME=VALUE"),
        (["run", "01_random_labels", "-p", "epochs=3", "-p", "epochs=5"], "-p epochs is given twice: '3' and '5'"),
        (["run", "01_random_labels", "-p", "profile=nonsense"], "use --profile"),
        (["run", "01_random_labels", "--out", ""], "argument --out: it is empty"),
        (["run"], "the following arguments are required: chapter; see gendyn run --help"),
        (["sweep", "01_random_labels", "--workers", "many"], "invalid int value: 'many'; see gendyn sweep --help"),
        (["no_such_command"], "invalid choice: 'no_such_command'"),
        ([], "the following arguments are required: COMMAND"),
        (["results", "publish"], "needs the name of an experiment"),
        (["results", "publish", "random_labels", "--root", "{empty}"], "run it first"),
        (["results", "pack", "random_labels", "--root", "{empty}"], "no complete run of 'random_labels' under"),
        (["results", "pack", "--replace", "a"], "results pack only moves runs: --folder, --replace and --withdraw"),
        (["results", "unpack"], "results unpack needs a file written by gendyn results pack"),
        (["results", "show", "--out", "a"], "--out is for results pack"),
        (["results", "verify", "random_lables"], "unknown published experiment 'random_lables'"),
        (["sweep", "01_random_labels", "--dry-run", "--store", ""], "argument --store: it is empty"),
        (["sweep", "01_random_labels", "--dry-run", "--store", "/dev/null/x"], "--store '/dev/null/x' is not a folder"),
        (["student", "04_stifness"], "unknown chapter '04_stifness': did you mean '04_stiffness'"),
        (["student", "--out", ""], "argument --out: it is empty"),
        (["configure", "--repository", "somewhere"], "is not an address"),
        (["data", "minst"], "did you mean 'mnist'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, said, capsys, tmp_path):
    assert cli.main([text.format(empty=tmp_path) for text in arguments]) == 2
    line = last_line(capsys)
    assert said in line
    assert line.startswith("gendyn: error: ")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    record(tmp_path / "runs")
    (tmp_path / "tables").write_text("a file where a folder should be")
    options = ["--root", str(tmp_path / "runs"), "--folder", str(tmp_path / "tables")]
    assert cli.main(["results", "publish", "random_labels", *options]) == 1
    assert str(tmp_path / "tables") in last_line(capsys)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (Failed("cell [3] failed"), 1, "cell [3] failed"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "runs/a"), 1, "runs/a: No space left on device"),
        (KeyboardInterrupt(), 130, "run the same command again"),
    ],
    ids=["failed", "memory", "disk", "interrupted"],
)
def test_what_stops_a_chapter_is_said_in_one_line(raised, code, said, monkeypatch, capsys, tmp_path):
    def stop(*_, **__):
        raise raised

    monkeypatch.setattr(execution, "run", stop)
    assert cli.main(["run", "06_performance", "--out", str(tmp_path)]) == code
    assert said in last_line(capsys)


def test_a_folder_of_images_is_looked_for_where_it_was_typed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    given = ["dataset=folder:pics", "other=folder:/pics", "note=in folder:pics"]
    there = {"dataset": f"folder:{tmp_path / 'pics'}", "other": "folder:/pics", "note": "in folder:pics"}
    assert arguments.pairs(given) == there


def test_a_termination_is_an_interruption(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(notebooks, "refresh", lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["refresh", "00_data"]) == 130
    assert "interrupted" in last_line(capsys)
    assert signal.getsignal(signal.SIGTERM) is before


def told_to(stdout) -> subprocess.CompletedProcess[str]:
    """A command that says one word, to a stream that may not take it."""
    code = "import sys; from gendyn_lite import cli; cli._do = lambda _: print('said') or 0; sys.exit(cli.main([]))"
    return subprocess.run([sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def test_a_reader_that_stops_reading_hears_nothing_and_output_that_cannot_be_written_is_one_line():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as deaf, open("/dev/full" if os.path.exists("/dev/full") else os.devnull, "w") as full:
        for stream, said in ((deaf, ""), (full, "gendyn: error: input/output: No space left on device\n")):
            done = told_to(stream)
            assert (done.returncode, done.stderr) == (1, said) or stream.name == os.devnull


def test_closed_streams_are_opened(tmp_path):
    opened = "import sys; from gendyn_lite import arguments; arguments._open_streams();"
    code, shell = f"{opened} print(sys.stdin.read(), sys.stdin.isatty())", 'exec "$0" -c "$1" <&-'
    done = subprocess.run(["sh", "-c", shell, sys.executable, code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (" False\n", "")


def test_publish_verify_and_show(tmp_path, capsys):
    record(tmp_path / "runs")
    folder = ["--folder", str(tmp_path / "tables")]
    assert cli.main(["results", "publish", "random_labels", "--root", str(tmp_path / "runs"), *folder]) == 0
    assert cli.main(["results", "verify", *folder]) == 0
    assert "as published" in capsys.readouterr().out
    assert cli.main(["results", "show", "random_labels", *folder]) == 0
    assert "digits" in capsys.readouterr().out
    curves = tmp_path / "tables" / "random_labels" / "curves.csv"
    curves.write_text(curves.read_text().replace("0.25", "0.26", 1))
    assert cli.main(["results", "verify", *folder]) == 2
    assert "is not the table that was published" in last_line(capsys)
