"""Runs travel in one file: the same bytes each time, nothing taken in that was not packed, nothing overwritten."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
from functools import partial

import pytest

from gendyn_lite import cli, results
from gendyn_lite.results import files, packing, runs
from tests.results.test_runs import CONFIG, record

RUN = f"random_labels/{CONFIG.run_id('ab' * 8)}"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two complete runs, one that is not, and their pack."""
    place = tmp_path_factory.mktemp("base")
    for seed in range(3):
        record(place / "runs", seed=seed, finish=seed < 2)
    packing.pack(root=place / "runs", out=place / "runs.xz")
    return place


def call(*words):
    return cli.main(["results", *map(str, words)])


def tree(root):
    """Every file of the complete runs, or of the tables, in a folder."""
    folders = {path.parent for name in ("complete.json", "runs.csv") for path in root.rglob(name)}
    return {path.relative_to(root): path.read_bytes() for folder in folders for path in folder.iterdir()}


def forged(pack, edit=("env.json", b"", b""), hashes=True, rename=(RUN, RUN), **index):
    """A pack whose files, names or index were edited, by one who also makes the hashes in complete.json anew."""
    about, (file, old, new) = json.loads(lzma.decompress(pack.read_bytes())), edit
    run = about["runs"][RUN]
    run[file] = run[file].replace(old.decode(), new.decode(), 1)
    if hashes:
        found = {key: hashlib.sha256(run[name].encode()).hexdigest() for key, name in runs.HASHED.items()}
        run["complete.json"] = json.dumps(found)
    about["runs"][rename[1]] = about["runs"].pop(rename[0])
    return lzma.compress(json.dumps(about | index).encode())


def bomb(pack):
    return lzma.compress(bytes(packing.MOST_BYTES + 1), preset=0)


NO_PACK, CHANGED = "is not a pack of runs: expected a file written by", "was cut or changed after it"
NAMED = "expected runs as EXPERIMENT/RUN_ID, each with the texts config.json, env.json, metrics.jsonl, complete.json"
ID = "0" * 16
OUTSIDE = ("../x", "/x", f"../a/{ID}", f"/a/{ID}", f"a\\{ID}", f"a/{ID}\n", f"a/{ID}/..", f"a/../{ID}", f"a\0/{ID}", "")
METRICS = ("metrics.jsonl", b"0.5", b"0.6")
BAD = {
    "empty": (lambda pack: b"", NO_PACK),
    "text": (lambda pack: b"not a pack", NO_PACK),
    **{f"cut {n}": (lambda pack, n=n: pack.read_bytes()[:n], CHANGED) for n in (20, 60, 500, -64, -1)},
    "byte": (lambda pack: pack.read_bytes()[:500] + b"?" + pack.read_bytes()[501:], CHANGED),
    "more": (lambda pack: pack.read_bytes() + b"more", CHANGED),
    "bomb": (bomb, "refused as a possible zip bomb"),
    "no JSON": (lambda pack: lzma.compress(b"{"), "cannot be read"),
    "metrics": (partial(forged, edit=METRICS, hashes=False), "metrics.jsonl is not as its run wrote it"),
    "no metrics": (partial(forged, edit=("metrics.jsonl", b"{", b"")), "metrics.jsonl cannot be read"),
    "settings": (partial(forged, edit=("config.json", b'"seed": 0', b'"seed": 7')), "its config belongs to"),
    "unknown": (partial(forged, edit=("config.json", b'"seed"', b'"sead"')), "(packed by gendyn_lite '"),
    "no number": (partial(forged, edit=("env.json", b'"n_train": 10', b'"n_train": []')), "n_train is [] (list)"),
    "no device": (partial(forged, edit=("env.json", b'"CPU"', b"7")), "device is 7 (int), expected text"),
    "terminal": (
        partial(forged, edit=("env.json", b"CPU", b"\\u001b[2J")),
        "device' is '\\x1b[2J', expected text without",
    ),
    "huge": (partial(forged, edit=("metrics.jsonl", b'"seconds": 0.5', b'"seconds": ' + b"9" * 400)), "'seconds' is"),
    "version": (partial(forged, version=2), "is version 2 of 'runs of gendyn_lite', expected 1 of"),
    "a list": (partial(forged, runs=[1]), NAMED),
    "a number": (partial(forged, runs={RUN: 1}), NAMED),
    "no texts": (partial(forged, runs={RUN: dict.fromkeys(packing.FILES, 1)}), NAMED),
    "fewer": (partial(forged, runs={RUN: {"env.json": ""}}), NAMED),
    **{f"name {name!r}": (partial(forged, rename=(RUN, name)), NAMED) for name in OUTSIDE},
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_not_as_it_was_packed_is_refused_whole(base, tmp_path, capsys, name):
    make, said = BAD[name]
    (tmp_path / "bad.xz").write_bytes(make(base / "runs.xz"))
    assert call("unpack", tmp_path / "bad.xz", "--root", tmp_path / "runs") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"gendyn: error: {tmp_path / 'bad.xz'}") and said in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_runs_come_home_and_publish_the_same_tables(base, tmp_path, capsys):
    for _ in range(2):  # the second time it replaces the first
        assert call("pack", "--root", base / "runs", "--out", tmp_path / "runs.xz") == 0
        assert "packed: 2 runs; 1 not complete, left out; " in capsys.readouterr().out
        assert (tmp_path / "runs.xz").read_bytes() == (base / "runs.xz").read_bytes()
    for told in ("unpacked: 2 runs; there already: 0", "unpacked: 0 runs; there already: 2"):
        assert call("unpack", tmp_path / "runs.xz", "--root", tmp_path / "home") == 0
        assert capsys.readouterr().out.strip() == told
    assert tree(tmp_path / "home") == tree(base / "runs")
    for root in (base / "runs", tmp_path / "home"):
        results.publish("random_labels", root=root, to=tmp_path / "tables" / root.name)
    assert len(one := tree(tmp_path / "tables" / "home" / "random_labels")) == 3
    assert one == tree(tmp_path / "tables" / "runs" / "random_labels")


def test_damaged_runs_are_named_and_only_a_pack_is_replaced(base, tmp_path, capsys):
    shutil.copytree(base / "runs", tmp_path / "runs")
    (damaged := tmp_path / "runs" / RUN / "env.json").write_text("{}")
    assert call("pack", "random_labels", "--root", tmp_path / "runs", "--out", tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert "packed: 1 runs" in out and err.startswith(f"gendyn: not packed: {damaged} is not as its run wrote it")
    assert call("pack", "--root", base / "runs", "--out", damaged) == 2
    assert "is not a pack of runs: it was not replaced, choose another name" in capsys.readouterr().err
    assert damaged.read_text() == "{}"


def test_a_complete_run_is_never_overwritten_and_one_in_work_is_left_alone(base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "SILENT_SECONDS", 0.05)
    record(tmp_path, seed=0, accuracies=(0.1, 0.5))
    other = record(tmp_path, seed=1, finish=False)
    before = tree(tmp_path)
    with files.alone(other.path.with_suffix(".lock")):
        assert call("unpack", base / "runs.xz", "--root", tmp_path) == 1
    out, err = capsys.readouterr()
    assert "unpacked: 0 runs" in out and tree(tmp_path) == before and not other.complete
    assert f"{tmp_path / RUN} is complete with other metrics" in err and f"holds {other.path}.lock: try again" in err


def test_the_same_metrics_in_other_seconds_are_the_same_run(base, tmp_path):
    """In the same seconds it is one execution, whose record cannot differ; as for `publish`."""
    packing.unpack(base / "runs.xz", root=tmp_path)
    for edit, there in (
        (("metrics.jsonl", b'"seconds": 0.5', b'"seconds": 0.7'), 2),
        (("env.json", b"CPU", b"GPU"), 1),
    ):
        (tmp_path / "runs.xz").write_bytes(forged(base / "runs.xz", edit))
        done = packing.unpack(tmp_path / "runs.xz", root=tmp_path)
        assert done.done == [f"unpacked: 0 runs; there already: {there}"] and len(done.refused) == 2 - there
    assert tree(tmp_path) == tree(base / "runs")


def test_killed_at_any_instant_every_run_is_whole_or_absent(base, tmp_path):
    record(tmp_path / "runs", seed=1, finish=False).checkpoints.mkdir()
    command = [sys.executable, "-m", "tests.results.kills", str(base / "runs.xz"), str(tmp_path / "runs")]
    assert int(subprocess.check_output(command, timeout=120)) > 15


def test_a_full_disk_is_one_line_and_leaves_what_was_there(base, tmp_path, capsys, monkeypatch):
    record(tmp_path, seed=0, finish=False)
    before = sorted(tmp_path.rglob("*.json*"))
    monkeypatch.setattr(os, "fsync", lambda _: os.write(os.open("/dev/full", os.O_WRONLY), b"more"))
    assert call("unpack", base / "runs.xz", "--root", tmp_path) == 1
    assert capsys.readouterr().err == "gendyn: error: input/output: No space left on device\n"
    assert sorted(tmp_path.rglob("*.json*")) == before and not [*tmp_path.rglob(".*")]


def test_neither_torch_nor_pandas_is_needed():
    code = f"""import importlib, sys, types
sys.modules["gendyn_lite.results"] = package = types.ModuleType("gendyn_lite.results")
package.__path__ = {list(results.__path__)!r}  # whatever the package itself imports
importlib.import_module("gendyn_lite.results.packing"), importlib.import_module("gendyn_lite.cli")
print({{"torch", "pandas", "numpy", "altair", "papermill"}} & set(sys.modules))"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
