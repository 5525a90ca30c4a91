"""A sweep on a Ray of two workers that are killed at random: all finish, nothing twice, the tables of a sequential one.

Skipped by name without Ray, but not in CI: there it has to be installed.
"""

from __future__ import annotations

import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import psutil
import pytest

from gendyn_lite import cli, results
from gendyn_lite.errors import UserError
from gendyn_lite.sweep import command, on_ray
from gendyn_lite.sweep.grid import plan
from tests.book import trial
from tests.sweep.test_command import complete

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None and os.environ.get("CI") != "true", reason="needs Ray: pip install 'ray[default]'"
)
GRID = ("q=0:1:0.5", "network=mlp_1x512,mlp_3x512", "seed=0..3", "epochs=8")
RUNS = 24
Complete = dict[str, tuple[int, int]]


def start(store: Path) -> subprocess.Popen[str]:
    """The command, in a process of its own."""
    words = [sys.executable, "-m", "gendyn_lite.cli", "sweep", "01_random_labels", "--grid", *GRID]
    words += ["--store", str(store), "--engine", "ray", "--workers", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipe = subprocess.PIPE
    return subprocess.Popen(words, cwd=trial.ROOT, env=environment, text=True, stdout=pipe, stderr=pipe)


def workers(driver: int) -> list[psutil.Process]:
    """The processes of Ray that have a run or wait for one; not those that make a machine of it."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if process.cmdline()[0].startswith(("ray::_begin", "ray::IDLE")):
                found.append(process)
        except (psutil.Error, IndexError):
            continue
    return found


def kill_at_random(sweep: subprocess.Popen[str], root: Path, *, kills: int, seed: int) -> list[Complete]:
    """Kill so many workers with SIGKILL, at random moments of the sweep; gives what was complete each time."""
    chance, seen = random.Random(seed), list[Complete]()
    begun = len(complete(root))
    while sweep.poll() is None and len(seen) < kills:
        time.sleep(chance.uniform(0.1, 1.0))
        if len(complete(root)) <= begun + len(seen):  # each kill costs two runs at most: do not only kill
            continue
        busy = workers(sweep.pid)
        if busy:
            chance.choice(busy).kill()
            seen.append(complete(root))
    return seen


def table(root: Path) -> pd.DataFrame:
    """The tidy table of the runs, without how long they took and whether a kill met one: its record says so."""
    rows = results.load("random_labels", root=root).drop(columns=["seconds", "resumed_at"])
    return rows.sort_values(["run_id", "epoch"], ignore_index=True)


@pytest.mark.slow
def test_killed_and_interrupted_it_does_every_run_once_with_the_numbers_of_a_sequential_one(tmp_path: Path) -> None:
    root = tmp_path / "together"
    first = start(root)
    seen = kill_at_random(first, root, kills=2, seed=0)
    begun = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGTERM)  # which Ray would answer itself, with an exit code or an abort of its own
    said = first.communicate()[1]
    assert first.returncode == 130, said
    assert "run the same command again to go on" in said.splitlines()[-1]
    assert psutil.wait_procs(begun, timeout=20)[1] == []  # nothing goes on in secret
    second = start(root)
    seen += kill_at_random(second, root, kills=2, seed=1)
    out, said = second.communicate()
    assert second.returncode == 0, said
    assert len(seen) >= 3
    ended = complete(root)
    assert len(ended) == RUNS
    for then in seen:
        assert {name: ended[name] for name in then} == then  # no file of a complete run was written again
    assert out.startswith(f"{RUNS} runs: ")
    command.sweep(plan("01_random_labels", grid=GRID, store=str(tmp_path / "alone")))
    pd.testing.assert_frame_equal(table(root), table(tmp_path / "alone"), check_exact=True)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "no cluster at 127.0.0.1:9: Connection refused; start one with `ray start --head`"),
        ("ray://127.0.0.1:9", "--address 'ray://127.0.0.1:9' is not HOST:PORT"),
        ("headnode", "--address 'headnode' is not HOST:PORT (of the head, usually 6379), nor auto on it"),
        ("host:port", "--address 'host:port' is not HOST:PORT"),
        ("127.0.0.1:99999", "no cluster at 127.0.0.1:99999"),
    ],
)
def test_no_cluster_at_the_address_is_one_line(runs: Path, capsys, address: str, said: str) -> None:
    words = ["sweep", "01_random_labels", "--grid", "seed=0", "--engine", "ray", "--address", address]
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert complete(runs) == {}


def test_a_server_that_is_no_ray_is_not_waited_for_in_vain() -> None:
    connect = "from gendyn_lite.sweep.on_ray import Resources, connected; connected(Resources({!r})).__enter__()"
    quick = {"RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_py_gcs_connect_timeout_s": "1"}
    with socket.create_server(("127.0.0.1", 0)) as server:  # which never answers
        words = [sys.executable, "-c", connect.format(f"127.0.0.1:{server.getsockname()[1]}")]
        done = subprocess.run(words, env=os.environ | quick, capture_output=True, text=True, check=False, timeout=60)
    assert "UserError: no cluster at 127.0.0.1:" in done.stderr.splitlines()[-1]
    told = "(if it asks for a token: RAY_AUTH_MODE=token)" if "Failed to connect" in done.stderr else "no answer"
    assert f"{told}; start one with `ray start --head`" in done.stderr
    assert "rpc_client" not in done.stderr  # Ray's own account of its trials


@pytest.mark.parametrize(
    ("wanted", "has", "said"),
    [
        (0.25, 0, "--gpus-per-run 0.25: the cluster has 0 GPUs, take fewer (0 trains on processors)"),
        (4, 2, "--gpus-per-run 4: the cluster has 2 GPUs"),
        (1.5, 2, "--gpus-per-run 1.5: expected a fraction of one GPU, or a whole number of them"),
        (-1, 2, "--gpus-per-run is -1, expected a whole number in [0, 1000]"),
        (math.nan, 2, "--gpus-per-run is nan, expected a number in [0, 1000]"),
        (math.inf, math.inf, "--gpus-per-run is inf, expected a number in [0, 1000]"),
    ],
)
def test_fewer_gpus_than_asked_for_is_one_line(wanted: float, has: float, said: str) -> None:
    with pytest.raises(UserError) as raised:
        on_ray.share(wanted, has)
    assert str(raised.value).startswith(said)
