"""A sweep on a Ray cluster whose workers are killed: all finish, nothing twice, with the numbers of a local one.

Skipped by name without Ray, but not in CI: there it has to be installed.
"""

from __future__ import annotations

import math
import os
import re
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
from gendyn_lite.sweep import on_ray
from gendyn_lite.sweep.grid import plan
from gendyn_lite.sweep.jobs import work
from tests.measures.networks import refused
from tests.sweep.test_command import complete
from tests.sweep.test_local import started

pytestmark = pytest.mark.skipif(
    find_spec("ray") is None and os.environ.get("CI") != "true", reason="needs Ray: pip install 'ray[default]'"
)
GRID = ("q=0:1:0.5", "network=mlp_1x512,mlp_3x512", "seed=0..1", "epochs=8")
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}  # which recent versions of Ray ask for
CLUSTER = """import ray, sys
options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80 * 2**20, "logging_level": "ERROR"}
print(ray.init(address="local", **options).address_info["gcs_address"], flush=True)
sys.stdin.read()"""


@pytest.fixture
def cluster():
    """A cluster of this machine: its process, and its address."""
    environment = os.environ | TOKEN | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command, pipe = [sys.executable, "-c", CLUSTER], subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield psutil.Process(process.pid), process.stdout.readline().strip()
        process.stdin.close()


def busy(cluster: psutil.Process) -> list[psutil.Process]:
    """Its processes that have a run."""
    return [each for each in cluster.children(recursive=True) if each.name().startswith("ray::_begin")]


def at_work(complete_runs: int, root: Path, cluster: psutil.Process) -> list[psutil.Process]:
    """Wait until so many runs are complete; gives the processes that have a run then."""
    deadline = time.monotonic() + 120
    while len(complete(root)) < complete_runs or not (found := busy(cluster)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def table(root: Path) -> pd.DataFrame:
    """The tidy table of the runs, without how long they took and whether a kill met one: its record says so."""
    rows = results.load("random_labels", root=root).drop(columns=["seconds", "resumed_at"])
    return rows.sort_values(["run_id", "epoch"], ignore_index=True)


@pytest.mark.slow
def test_killed_and_interrupted_it_does_every_run_once_with_the_numbers_of_a_local_one(cluster, tmp_path: Path) -> None:
    (ray, address), root = cluster, tmp_path / "together"
    words = ["sweep", "01_random_labels", "--grid", *GRID, "--store", str(root)]
    words += ["--engine", "ray", "--address", address]
    first = started(*words, **TOKEN, CUDA_VISIBLE_DEVICES="")
    for worker in at_work(3, root, ray):
        worker.kill()
    time.sleep(2)  # Ray itself aborts where a run ends just as it is cancelled
    first.send_signal(signal.SIGTERM)  # which Ray would answer itself, with an exit code or an abort of its own
    said = first.communicate()[1]
    assert first.returncode == 130, said
    assert "run the same command again to continue" in said.splitlines()[-1]
    assert psutil.wait_procs(busy(ray), timeout=20)[1] == []  # nothing goes on in secret
    seen = complete(root)
    second = started(*words, **TOKEN, CUDA_VISIBLE_DEVICES="")
    for worker in at_work(len(seen) + 1, root, ray):
        worker.kill()
    out, said = second.communicate()
    assert second.returncode == 0, said
    assert out.startswith("12 runs: ")
    ended = complete(root)
    assert len(ended) == 12 and seen.items() <= ended.items()  # no file of a complete run was written again
    for job in plan("01_random_labels", grid=GRID, store=str(tmp_path / "alone")):
        assert work(job).trained
    pd.testing.assert_frame_equal(table(root), table(tmp_path / "alone"), check_exact=True)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:9", "no cluster at 127.0.0.1:9: Connection refused; start one with `ray start --head`"),
        ("ray://127.0.0.1:9", "--address is 'ray://127.0.0.1:9', expected HOST:PORT"),
        ("headnode", "--address is 'headnode', expected HOST:PORT of the head (port usually 6379), or auto on it"),
        ("host:port", "--address is 'host:port', expected HOST:PORT"),
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


SHARES = [
    ((0.25, 0), "--gpus-per-run 0.25: the cluster has 0 GPUs, ask for fewer (0 trains on the CPU)"),
    ((4, 2), "--gpus-per-run 4: the cluster has 2 GPUs"),
    ((1.5, 2), "--gpus-per-run 1.5: expected a fraction of one GPU, or a whole number of them"),
    ((-1, 2), "--gpus-per-run is -1, expected a whole number in [0, 1000]"),
    ((math.nan, 2), "--gpus-per-run is nan, expected a number in [0, 1000]"),
    ((math.inf, math.inf), "--gpus-per-run is inf, expected a number in [0, 1000]"),
]
test_fewer_gpus_than_asked_for_is_one_line = refused(
    {str(given): (on_ray.share, given, {}, f"^{re.escape(said)}") for given, said in SHARES}
)
