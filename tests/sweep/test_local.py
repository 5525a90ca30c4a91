"""A sweep on this machine: in the time given, as many at once as are faster, killed at any moment, without Jupyter."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import psutil
import pytest
import torch

from gendyn_lite import cli, results
from gendyn_lite.errors import UserError
from gendyn_lite.results.runs import open_run, read_run, writing
from gendyn_lite.sweep import local
from gendyn_lite.sweep.grid import everything, plan
from gendyn_lite.sweep.jobs import Outcome, Resources, begun, work
from gendyn_lite.sweep.local import Workers
from tests.data import trees
from tests.sweep.test_command import complete

SETTINGS = ["dataset=digits", "network=mlp_1x512", "q=0,1", "seed=0..1", "epochs=40", "train_size=400"]
COLAB = ["sweep", "01_random_labels", "--profile", "colab", "--grid", *SETTINGS]
WITHOUT = ["papermill", "altair", "ipykernel", "ipywidgets", "nbclient", "nbformat", "jupyter_client", "IPython"]
BARE = f"""
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {WITHOUT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Without())
"""
IN_TURN = """import json, sys
from gendyn_lite import cli
for words in json.loads(sys.argv[1]):
    assert cli.main(words) == 0"""


def started(*words: str, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "gendyn_lite.cli", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def some(each: list[float], workers: int = 0, **options) -> Workers:
    """Workers for as many runs, of so many seconds each, that have not started."""
    jobs = plan("01_random_labels", grid=[f"seed=0..{len(each) - 1}"])
    expected = {job.run_id: seconds for job, seconds in zip(jobs, each, strict=True)}
    return Workers(jobs, expected, Resources(workers=workers), **options)


def taken(workers: Workers) -> list[int]:
    """The seeds of the runs that would be started one after another without any time passing."""
    return [job.config.seed for job in iter(workers._next, None)]


@pytest.mark.parametrize(
    ("each", "given", "seeds"),
    [([100, 5, 5], 30, [1, 2]), ([100, 5, 5], 60, [1, 2, 0]), ([10, 100, 20], 1000, [0, 1, 2]), ([1, 1], 1.5, [0, 1])],
    ids=["what ends in time", "then a part", "in order", "each fits"],
)
def test_runs_that_end_in_time_come_first_then_a_part_of_one_that_does_not(runs, each, given, seeds) -> None:
    assert taken(some(each, seconds=given)) == seeds


def test_less_time_than_any_run_takes_is_refused(runs: Path, monkeypatch, capsys) -> None:
    with pytest.raises(UserError, match=r"--for leaves about 8 seconds, and the shortest of the runs takes about 20 s"):
        some([30, 20], seconds=8)
    with pytest.raises(UserError, match=r"--for leaves about 0 seconds, and the shortest"):  # the start took it all
        some([30, 20], seconds=-2)
    with pytest.raises(UserError, match="the shortest of the runs takes about 3 minutes: nothing was started"):
        some([300, 200], seconds=60)
    assert Workers([], {}, Resources(), seconds=-2).limit == 1  # all are complete
    monkeypatch.setattr(local, "begun", lambda job: 0.5)
    assert taken(some([30, 20], seconds=12)) == [1]  # it ends in time
    assert taken(some([300, 200], seconds=60))[0] == 0  # another part of what was begun
    with pytest.raises(UserError, match=r"the shortest of the runs takes about 50 seconds: nothing was started"):
        some([300, 100], seconds=40)  # it was begun, and there is no time for another part
    monkeypatch.undo()
    monkeypatch.setenv("GENDYN_RUNS", str(runs))
    assert cli.main(["sweep", "01_random_labels", "--for", "1s", "--grid", "epochs=2000", "seed=0..1"]) == 2
    assert "takes about" in capsys.readouterr().err and not list(runs.glob("*/*"))


@pytest.mark.parametrize(
    ("speeds", "expected"), [((1.0, 1.05), 1), ((1.0, 1.9, 1.95), 2), ((1.0, 1.5, 2.5, 3.9), 4)], ids=str
)
def test_one_more_at_once_is_kept_where_it_was_faster(runs, monkeypatch, speeds, expected) -> None:
    workers, clock = some([1000.0] * 8), [0.0]
    workers._most = 4
    monkeypatch.setattr(local.time, "monotonic", lambda: clock[0])
    workers._window = 0.0, 0.0

    class Simulated(local.Worker):
        def advance(self) -> float:
            return speeds[workers.limit - 1] / workers.limit / 1000  # the share done in a second

    for _ in range(200):
        while len(workers._busy()) < workers.limit:
            workers._workers.append(Simulated(None, None, Path(), workers._next(), warm=True))
        for worker in workers._busy()[workers.limit :]:
            worker.job = None
        workers._look()
        clock[0] += 1
    assert workers.limit == expected


def test_runs_that_are_only_evaluated_for_a_while_have_no_speed(runs: Path, monkeypatch) -> None:
    workers, clock = some([1000.0] * 3), [0.0]
    workers._most, workers._window = 2, (0.0, 0.0)
    monkeypatch.setattr(local.time, "monotonic", lambda: clock[0])
    workers._workers = [local.Worker(None, None, Path("no progress"), workers._next(), warm=True)]
    for _ in range(60):
        workers._look()
        clock[0] += 1
    assert (workers.limit, workers._speeds) == (1, {})
    workers._done += 30  # half a second's work in a second
    workers._look()
    assert workers.limit == 2
    assert workers._needs(workers._waiting[0]) == 2000.0


def finished(workers: Workers, **outcome) -> Outcome | None:
    """What the sweep is told where its first busy worker gives an outcome."""
    (worker, *_) = workers._busy()
    told = Outcome(worker.job.run_id, **{"seconds": 10.0, "trained": True, **outcome})
    worker.pipe, worker.process = SimpleNamespace(recv=lambda: told), MagicMock()
    return workers._outcome(worker)


def at_work(each: list[float], limit: int) -> Workers:
    """Workers of which so many are busy."""
    (workers := some(each)).limit = limit
    workers._workers = [local.Worker(None, None, Path(), workers._next()) for _ in range(limit)]
    return workers


def test_what_a_run_took_beside_others_tells_what_the_next_one_takes(runs: Path) -> None:
    workers = at_work([10.0] * 4, 2)
    workers._speeds = {1: 1.0, 2: 2.0}  # neither is slower beside the other
    finished(workers)
    assert workers._needs(workers._waiting[0]) == pytest.approx(10.0)
    finished(workers, seconds=30.0)
    assert workers._needs(workers._waiting[0]) == pytest.approx(30.0)


def test_a_run_for_which_memory_lacks_beside_others_waits(runs: Path) -> None:
    workers = at_work([10.0] * 4, 3)
    workers._most, first = 6, workers._workers[0].job
    lacks = {"trained": False, "error": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"}
    assert finished(workers, **lacks) is None
    assert workers._waiting[0] == first
    assert (workers.limit, workers._most, len(workers._workers)) == (2, 2, 2)
    workers = at_work([10.0], 1)
    assert finished(workers, **lacks).error  # alone it fails


def test_an_idle_worker_that_died_is_given_nothing(runs: Path, tmp_path: Path, monkeypatch) -> None:
    workers, made = some([10.0, 10.0]), []
    dead = local.Worker(MagicMock(), MagicMock(), tmp_path / "0.json")
    dead.process.is_alive.return_value, dead.pipe.send.side_effect = False, BrokenPipeError
    workers._workers = [dead]
    monkeypatch.setattr(workers, "_new", lambda folder: made.append(folder) or local.Worker(None, MagicMock(), folder))
    assert workers._start(tmp_path / "1.json")
    assert made


def test_a_gpu_that_is_not_used_decides_nothing(runs: Path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setenv("GENDYN_DEVICE", "cpu")
    assert (some([1.0])._most, some([1.0], workers=2)._most) == (3, 2)


def test_a_run_has_begun_with_its_first_checkpoint_evaluated_or_not(runs: Path) -> None:
    (job,) = plan("01_random_labels", grid=["seed=0", "epochs=10", "train_size=1000", "batch_size=100"])
    run = open_run(job.config, job.fingerprint, root=job.store)
    assert begun(job) == 0.0
    with writing(run, {"n_train": 1000}):
        run.checkpoints.mkdir()
        (run.checkpoints / "step_0000000025.safetensors").touch()
        assert begun(job) == 0.25
    (run.path / "env.json").write_text("{")
    assert begun(job) == 0.0


def test_a_worker_that_dies_is_named_and_the_others_go_on(runs: Path) -> None:
    jobs = plan("01_random_labels", grid=["seed=0..1", "epochs=60", "train_size=1000"])
    workers = Workers(jobs, dict.fromkeys((job.run_id for job in jobs), 1.0), Resources(retries=1))
    outcomes, killed = list[Outcome](), set[int]()
    for outcome in workers.run():
        outcomes += [outcome] if outcome else []
        for worker in workers._busy() if not outcomes else ():
            worker.process.kill()
            killed.add(worker.process.pid)
    died = "its process died with exit code -9 (out of memory?)"
    assert [outcome.error for outcome in outcomes] == [died, ""]
    assert len(killed) == 2  # it was begun again once


def test_without_jupyter_all_chapters_are_swept_and_packed(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BARE)
    bare = {"PYTHONPATH": str(tmp_path), "GENDYN_RUNS": str(runs)}
    pack = ["results", "pack", "--root", str(runs), "--out", str(tmp_path / "runs.xz")]
    words = [sys.executable, "-c", IN_TURN, json.dumps([["sweep", "smoke", "--for", "40s"], pack])]
    done = subprocess.run(words, env=os.environ | bare, capture_output=True, text=True, check=False)
    swept, packed = done.stdout.splitlines()
    assert " trained, 0 were complete, " in swept and " remain (about " in swept, done.stderr
    assert packed.startswith("packed: "), done.stderr
    assert (tmp_path / "runs.xz").exists()


def test_all_chapters_come_seed_by_seed_table_1_first_and_data_that_lack_are_named(runs: Path, capsys) -> None:
    jobs = everything("smoke", store=str(runs), data_root="nowhere")
    assert [job.config.seed for job in jobs] == sorted(job.config.seed for job in jobs)
    between = [job.config.label_corruption not in (0, 1) for job in jobs if job.chapter == "01_random_labels"]
    assert between.index(True) > 10  # Table 1, and the ends of Fig. 1
    assert list(dict.fromkeys(job.chapter[:2] for job in jobs if not job.config.seed)) == [
        *("01", "02", "03", "04", "05", "08")
    ]
    full = everything("full", store=str(runs), data_root="nowhere")
    points = {"two_moons", "rings", "spirals", "nested_rings", "linked_rings"}
    assert {job.config.dataset for job in full} == points | {"digits"}
    assert "not prepared (gendyn data NAME), left out: 1737 runs on cifar10" in capsys.readouterr().err


def of(root: Path, to: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a store publishes, less what tells one execution from another."""
    results.publish("random_labels", root=root, to=to)
    runs, curves = (pd.read_csv(to / "random_labels" / f"{name}.csv") for name in ("runs", "curves"))
    runs = runs.drop(columns="resumed_at", errors="ignore")  # where a kill came after a checkpoint
    return runs.sort_values("run_id", ignore_index=True), curves.drop(columns="seconds")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.minutes("ten kills"))])
def test_killed_at_any_moment_it_publishes_what_an_uninterrupted_one_does(kills: int, tmp_path: Path, capsys) -> None:
    whole, killed, home = (tmp_path / name for name in ("whole", "killed", "home"))
    for job in plan("01_random_labels", profile="colab", grid=SETTINGS, store=str(whole)):
        assert work(job).trained
    drawn = random.Random(kills)
    for number in range(kills):
        process = started(*COLAB, "--store", str(killed), "--for", "60s")
        while number == 0 and process.poll() is None and not complete(killed):
            time.sleep(0.02)  # the first kill comes between two runs, or in the second
        time.sleep(drawn.uniform(2.0, 9.0) if number else drawn.uniform(0.0, 1.0))
        workers = psutil.Process(process.pid).children() if process.poll() is None else []
        process.send_signal(signal.SIGKILL)
        process.communicate()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive  # they end with the one that started them
    assert cli.main([*COLAB, "--store", str(killed), "--for", "10m"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("4 runs: ") and "remain" not in out
    pack = tmp_path / "runs.xz"
    assert cli.main(["results", "pack", "--root", str(killed), "--out", str(pack)]) == 0
    assert cli.main(["results", "unpack", str(pack), "--root", str(home)]) == 0
    assert {read_run(path.parent).whole() for path in home.glob("*/*/complete.json")} == {True}
    for ours, theirs in zip(of(home, tmp_path / "ours"), of(whole, tmp_path / "theirs"), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.minutes("a chapter at its full profile, swept and run on a small CIFAR-10")
def test_the_full_profile_swept_packed_taken_home_run_published_and_verified(tmp_path: Path) -> None:
    images = trees.write(tmp_path / "tree", trees.files(trees.CIFAR10, 16, 6, "jpg", size=(32, 32)))
    assert cli.main(["data", "cifar10", "--from", str(images), "--root", str(tmp_path / "data")]) == 0
    here = {"GENDYN_DATA": str(tmp_path / "data"), "GENDYN_RUNS": str(tmp_path / "card")}
    values = ["seeds=1", "epochs=15", "train_size=20", "networks=mlp_1x512", "corruptions=0,1"]
    chapter = ["01_random_labels", "--profile", "full", *(word for value in values for word in ("-p", value))]
    out, err = started("sweep", *chapter, "--for", "10m", **here).communicate()
    assert out.startswith("37 runs: 37 trained, 0 were complete; "), err
    pack, home, tables = (str(tmp_path / name) for name in ("runs.xz", "home", "tables"))
    assert cli.main(["results", "pack", "--root", here["GENDYN_RUNS"], "--out", pack]) == 0
    assert cli.main(["results", "unpack", pack, "--root", home]) == 0
    here["GENDYN_RUNS"] = home
    out, err = started("run", *chapter, "--yes", "--out", str(tmp_path / "out"), **here).communicate()
    assert "33 runs, 33 of them complete" in out and "executed notebook: " in out, err
    for name in ("random_labels", "regularizers"):
        assert cli.main(["results", "publish", name, "--root", home, "--folder", tables]) == 0
        assert cli.main(["results", "verify", name, "--root", home, "--folder", tables]) == 0
