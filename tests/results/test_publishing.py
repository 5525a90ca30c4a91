"""Publishing adds; it replaces and drops only what it is told to; it is whole at every instant; runs verify it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest

from gendyn_lite import cli, results
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import Failed, UserError
from gendyn_lite.results import publishing
from gendyn_lite.results.published import METRICS
from gendyn_lite.results.runs import writing
from tests.results.test_runs import CONFIG, ENV, record, sealed_again

FILES = ("runs.csv", "curves.csv", "provenance.json")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two published runs, which do not exist locally any more, and one that is not published yet."""
    place = tmp_path_factory.mktemp("base")
    for seed in (3, 4):
        record(place / "runs", seed=seed)
    record(place / "runs", seed=5, profile="smoke")
    publish(place)
    shutil.rmtree(place / "runs")
    record(place / "runs", seed=0)
    return place


@pytest.fixture
def place(base, tmp_path):
    """A copy of `base` to change."""
    return Path(shutil.copytree(base, tmp_path / "place"))


def publish(place, **options):
    return results.publish("random_labels", root=place / "runs", to=place / "tables", **options)


def verify(place):
    return results.verify_experiment("random_labels", root=place / "runs", folder=place / "tables")


def files(place):
    return {name: (place / "tables" / "random_labels" / name).read_text() for name in FILES}


def table(place):
    return results.published("random_labels", folder=place / "tables")


def run_ids(place):
    return list(table(place)["run_id"].unique())


def one_row(root, *, env=ENV, config=CONFIG, rows=({},), **finish):
    """A complete run, by default of one row."""
    run = results.open_run(config, "ab" * 8, root=root / "runs")
    with writing(run, env) as writer:
        for row in rows:
            whole = dict.fromkeys(METRICS, 0) | row
            writer.write({name: value for name, value in whole.items() if value is not None})
        writer.finish(**finish)
    return run


def test_published_tables_are_the_runs_without_the_smoke_runs(tmp_path):
    for seed in range(3):
        record(tmp_path / "runs", seed=seed, profile="smoke" if seed == 2 else "colab")
    publish(tmp_path)
    runs = results.load("random_labels", root=tmp_path / "runs")
    runs = runs[runs["profile"] == "colab"].sort_values(["run_id", "epoch"], ignore_index=True)
    found = table(tmp_path)[runs.columns].sort_values(["run_id", "epoch"], ignore_index=True)
    pd.testing.assert_frame_equal(found, runs, check_dtype=False)
    before = files(tmp_path)
    assert verify(tmp_path).startswith(f"random_labels: 2 runs, {len(found)} rows, as published; 2 of 2 runs are")
    publish(tmp_path)
    assert files(tmp_path) == before


def test_what_many_runs_share_is_written_once_and_read_back(tmp_path, monkeypatch):
    for seed in range(3):
        record(tmp_path / "runs", seed=seed)
    publish(tmp_path)
    plain, before = table(tmp_path), files(tmp_path)
    shutil.rmtree(tmp_path / "tables")
    monkeypatch.setattr(publishing, "MANY", 3)
    publish(tmp_path)
    found, after = table(tmp_path), files(tmp_path)
    pd.testing.assert_frame_equal(found[plain.columns], plain)
    assert "dataset" in before["runs.csv"] and "dataset" not in after["runs.csv"]
    assert sum(map(len, after.values())) < sum(map(len, before.values()))
    assert "3 of 3 runs are available locally" in verify(tmp_path)
    record(tmp_path / "runs", seed=7)  # one more is added to them
    publish(tmp_path)
    assert run_ids(tmp_path)[:3] == list(plain["run_id"].unique()) and len(run_ids(tmp_path)) == 4


def test_of_a_run_that_stops_at_a_loss_the_end_is_published(tmp_path):
    rows = [{"epoch": epoch, "train_loss": 1 / (1 + epoch)} for epoch in range(4)]
    one_row(tmp_path, config=CONFIG.replace(stop_at_loss=0.3), rows=rows)
    publish(tmp_path)
    assert table(tmp_path)["epoch"].tolist() == [3]


def test_published_runs_that_do_not_exist_locally_stay_line_by_line(place):
    before = files(place)
    done = publish(place).done
    after = files(place)
    for name in ("runs.csv", "curves.csv"):
        assert after[name].startswith(before[name]) and len(after[name]) > len(before[name])
    old, new = (json.loads(text["provenance.json"])["runs"] for text in (before, after))
    assert old.items() <= new.items() and len(new) == 3
    assert len(done) == 2 and done[0].startswith("added: ")
    assert "; 1 of 3 runs are available locally" in verify(place)


def test_a_run_with_other_numbers_is_refused_until_it_is_named(place):
    publish(place)
    run = results.open_run(CONFIG, "ab" * 8, root=place / "runs")
    shutil.rmtree(run.path)
    record(place / "runs", accuracies=(0.1, 0.5, 0.9))
    before = files(place)
    found = publish(place)
    assert files(place) == before and len(found.done) == 1
    assert len(found.refused) == 1 and f"--replace {run.run_id}" in found.refused[0]
    order = run_ids(place)
    old, new, _ = publish(place, replace=[run.run_id]).done
    assert old.startswith(f"replaced: {run.run_id}") and "train accuracy 1, loss 0; " in old and "3 epochs" in old
    assert new.startswith(f"by: {run.run_id}") and "train accuracy 0.9, loss 0.1; " in new and "2 epochs" in new
    assert run_ids(place) == order  # in its place
    assert not publish(place).refused


def test_the_same_numbers_in_another_time_and_place_are_the_same_run(place):
    publish(place)
    before = files(place)
    shutil.rmtree(place / "runs")
    rows = table(place)[lambda rows: rows["seed"] == 0].to_dict("records")
    again = [{name: row[name] for name in METRICS} | {"seconds": 9.5 * row["epoch"]} for row in rows]
    one_row(place, env={**ENV, "device": "a GPU"}, rows=again, wall_seconds=40.0)
    found = publish(place)
    assert not found.refused and files(place) == before
    assert "; 1 of 3 runs are available locally" in verify(place)


def test_a_run_of_before_loads_and_its_edited_record_is_refused(place):
    """It does not hash env.json; its published record tells."""
    run = results.open_run(CONFIG, "ab" * 8, root=place / "runs")
    marker = run.path / "complete.json"
    marker.write_text(json.dumps({"metrics_sha256": json.loads(marker.read_text())["metrics_sha256"]}))
    assert run.complete and not publish(place).refused
    env = run.path / "env.json"
    env.write_text(env.read_text().replace("CPU", "GPU"))
    assert "device of run" in publish(place).refused[0]
    with pytest.raises(UserError, match="device of run"):
        verify(place)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"replace": ["0" * 16]}, "run '0000000000000000' is not published"),
        ({"withdraw": ["../x"]}, r"run '../x' is not published"),
        ({"replace": ["{0}"]}, "cannot be replaced: it is to be withdrawn, or is not complete locally"),
        ({"withdraw": ["{0}", "{1}"]}, "every published run would be withdrawn"),
    ],
    ids=["replace_unknown", "withdraw_unknown", "replace_absent", "withdraw_all"],
)
def test_what_cannot_be_changed_changes_nothing(place, options, said):
    before = files(place)
    names = run_ids(place)
    with pytest.raises(UserError, match=said):
        publish(place, **{key: [text.format(*names) for text in texts] for key, texts in options.items()})
    assert files(place) == before


# What breaks each file of a run, or of a published table.
DAMAGES = {
    "edited": lambda path: path.write_text(path.read_text().replace("0", "1", 1)),
    "flipped_bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] | 0x80]) + path.read_bytes()[1:]),
    "empty": lambda path: path.write_text(""),
    "list": lambda path: path.write_text("[1, 2]\n"),
    "nested": lambda path: path.write_text("[" * 100_000),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "missing": lambda path: path.unlink(),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.json", "env.json", "metrics.jsonl", "complete.json"])
def test_a_damaged_run_is_named_and_the_others_are_published(place, name, damage):
    run = record(place / "runs", seed=7)
    DAMAGES[damage](run.path / name)
    found = publish(place)
    assert len(run_ids(place)) == 3
    if (name, damage) == ("complete.json", "missing"):
        assert f"not complete, left out: {run.run_id}" in found.done
        return
    assert not run.complete
    assert len(found.refused) == 1 and "\n" not in found.refused[0]
    assert str(run.path) in found.refused[0] and "remove the run's folder" in found.refused[0]
    shutil.rmtree(place / "runs" / "random_labels" / CONFIG.run_id("ab" * 8))
    with pytest.raises(Failed, match=re.escape(found.refused[0])):
        publish(place)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_table_is_named(place, name, damage):
    DAMAGES[damage](place / "tables" / "random_labels" / name)
    for attempt in (table, publish):
        with pytest.raises(UserError, match=r"tables.random_labels.* restore its files"):
            attempt(place)


@pytest.mark.parametrize("more", [{}, {"erv_sha256": "00"}], ids=["dropped", "renamed"])
def test_a_run_says_the_hash_of_each_of_its_files(place, more):
    run = record(place / "runs", seed=7)
    marker = json.loads((run.path / "complete.json").read_text())
    del marker["env_sha256"]
    (run.path / "complete.json").write_text(json.dumps(marker | more))
    assert not run.complete
    assert f"{run.path / 'complete.json'} is not as its run wrote it" in publish(place).refused[0]


IMPOSSIBLE = {
    "accuracy": ([{"test_accuracy": 7.5}], r"test_accuracy of run \w+ is 7.5, expected 0 to 1"),
    "true": ([{"epoch": True}], "epoch is not always a whole number"),
    "infinite": ([{"epoch": 1e400}], "epoch is not always a whole number"),
    "fraction": ([{"step": 0.5}], "step is not always a whole number"),
    "long": ([{"epoch": 10**30}], "epoch is not always a whole number"),
    "text": ([{"train_loss": "a"}], r"train_loss of run \w+ is a, expected 0 to inf"),
    "setting": ([{"seed": 7}], "the metric 'seed' has the name of a setting"),
    "later_setting": ([{"mask_by": "random"}], "the metric 'mask_by' has the name of a setting"),
    "label": ([{"device": "GPU"}], "the metric 'device' has the name of a setting"),
    "record": ([{"resumed_at": 3}], "the metric 'resumed_at' has the name of a setting"),
    "run_id": ([{"run_id": "x"}], "name different runs"),
    "newline": ([{"probe\nx": 1}], r"the column name 'probe\\nx' is not one line of text"),
    "formula": ([{"=a": 1}], "the column '=a' starts like a spreadsheet formula"),
    "return": ([{"probe/text": "a\rb"}], r"'a\\rb' cannot be published: .* carriage return"),
    "no_epoch": ([{"epoch": None}], "the columns epoch are missing"),
    "no_epoch_once": ([{}, {"epoch": None}], "epoch is not always a whole number"),
    "twice": ([{}, {}], "an epoch is duplicated"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_run_is_refused_by_its_folder_and_the_others_are_published(place, name, capsys):
    rows, said = IMPOSSIBLE[name]
    run = one_row(place, config=CONFIG.replace(seed=9), rows=rows)
    options = ["--root", str(place / "runs"), "--folder", str(place / "tables")]
    assert cli.main(["results", "publish", "random_labels", *options]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"gendyn: not published: {run.path}") and err.count("\n") == 1
    assert re.search(said, err)
    assert set(table(place)["seed"]) == {0, 3, 4}


def cells(name, change):
    """Edit a table, and seal it again as one would who knows how."""

    def edit(folder):
        change(pd.read_csv(folder / name, dtype=str, keep_default_na=False)).to_csv(folder / name, index=False)
        sealed_again(folder)

    return edit


def last(column, value):
    """Another value in the last row."""
    return lambda rows: rows.assign(**{column: [*rows[column][:-1], value]})


def said(change):
    """Edit what the record says."""

    def edit(folder):
        record = json.loads((folder / "provenance.json").read_text())
        change(record)
        (folder / "provenance.json").write_text(json.dumps(record))

    return edit


SEAL = "its seal differs"
FORGED = {
    "metric": (cells("curves.csv", last("test_accuracy", "0.123")), r"test_accuracy of run \w+ at epoch 3 is"),
    "row": (cells("curves.csv", lambda rows: rows[:-1]), r"curves.csv: \w+ of run \w+ at epoch 3 is '', its run says"),
    "setting": (cells("runs.csv", last("momentum", "0.7")), r"momentum of run \w+ is '0.7', its run says"),
    "device": (cells("runs.csv", last("device", "GPU")), r"device of run \w+ is 'GPU', its run says 'CPU'"),
    "column": (cells("runs.csv", lambda rows: rows.drop(columns="device")), "the columns device are missing"),
    "impossible": (cells("curves.csv", last("train_accuracy", "1.5")), r"run \w+ is 1.5, expected 0 to 1"),
    "no_seal": (said(lambda record: record.pop("seal")), SEAL),
    "empty_seal": (said(lambda record: record.update(seal={})), SEAL),
    "commit": (said(lambda record: next(iter(record["runs"].values())).update(commit="0" * 12)), SEAL),
    "key_added": (said(lambda record: record.update(reviewed=True)), SEAL),
}


@pytest.mark.parametrize(("edit", "told"), FORGED.values(), ids=FORGED)
def test_an_edited_table_is_found_by_its_seal_its_values_or_the_runs(place, edit, told):
    publish(place)
    edit(place / "tables" / "random_labels")
    with pytest.raises(UserError, match=told):
        verify(place)


def test_a_table_under_another_name_does_not_verify(place):
    (place / "tables" / "random_labels").rename(place / "tables" / "regularizers")
    with pytest.raises(UserError, match=SEAL):
        results.published("regularizers", folder=place / "tables")
    with pytest.raises(UserError, match="did you mean 'regularizers'"):
        results.published("regularizer", folder=place / "tables")


TEXTS = ["=1+1", "+cmd", "-x", "@sum", "\tx", "\nx", "'x", "NA", "1e5", 'a "b", c']


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_text_is_read_back_exactly_and_is_no_formula(tmp_path, text):
    config = RunConfig(experiment="random_labels", dataset=f"folder:/disks/someone/{text}")
    rows = [{"probe/text": f"{text} 1", "probe/map": "0110"}]
    run = one_row(tmp_path, config=config, env={**ENV, "data": text}, rows=rows)
    publish(tmp_path)
    published = table(tmp_path)
    assert published["data"][0] == text and published["dataset"][0] == f"folder:{text}"
    assert (published["probe/text"][0], published["probe/map"][0]) == (f"{text} 1", "0110")
    assert published["run_id"][0] == run.run_id
    assert "someone" not in "".join(files(tmp_path).values())
    for name in ("runs.csv", "curves.csv"):
        cells = pd.read_csv(tmp_path / "tables" / "random_labels" / name, dtype=str, keep_default_na=False).iloc[0]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert not publish(tmp_path).refused


@pytest.mark.parametrize(
    ("resumed", "told", "shown"),
    [([], "not resumed", "[]"), ([7, 20], "resumed at [7, 20]", "[7, 20]"), (None, "not recorded", "")],
    ids=str,
)
def test_where_a_run_was_resumed_is_published(tmp_path, resumed, told, shown):
    one_row(tmp_path, **({} if resumed is None else {"resumed_at": resumed}))
    assert told in publish(tmp_path).done[0]
    assert table(tmp_path).get("resumed_at", pd.Series([""]))[0] == shown


NAMES = ["../../x", "x/y", "", ".", ".x", "x\n", "é", "a" * 65, "-x", "performance"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_is_a_name(place, name):
    before = sorted(place.rglob("*"))
    for attempt, options in ((results.publish, {"to": place / "tables"}), (results.published, {"folder": place})):
        with pytest.raises(UserError, match="experiment "):
            attempt(name, **options)
    assert sorted(place.rglob("*")) == before


def test_several_at_once_lose_nothing(place):
    """Threads exclude one another as processes do: each opens the lock file anew."""
    roots = {seed: place / f"runs{seed}" for seed in range(10, 14)}
    for seed, root in roots.items():
        record(root, seed=seed)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda root: results.publish("random_labels", root=root, to=place / "tables"), roots.values()))
    assert set(table(place)["seed"]) == {3, 4, *roots}


def test_the_command_says_what_was_done_and_what_was_not(place, capsys):
    gone, stays = run_ids(place)
    broken = record(place / "runs", seed=7)
    (broken.path / "env.json").write_text("")
    options = ["--root", str(place / "runs"), "--folder", str(place / "tables")]
    assert cli.main(["results", "publish", "random_labels", *options, "--withdraw", gone]) == 1
    out, err = capsys.readouterr()
    withdrawn, added, _ = out.splitlines()
    assert withdrawn.startswith(f"withdrawn: {gone} (") and added.startswith("added: ")
    assert err.startswith(f"gendyn: not published: {broken.path / 'env.json'}") and err.count("\n") == 1
    assert stays in run_ids(place) and gone not in run_ids(place)
    assert cli.main(["results", "verify", *options[2:], "--withdraw", gone]) == 2


def test_killed_at_any_instant_it_is_whole_and_the_next_one_goes_on(tmp_path):
    record(tmp_path / "runs", seed=0)
    publish(tmp_path)
    (tmp_path / "tables" / "random_labels" / "NOTES.md").write_text("not ours")
    record(tmp_path / "runs", seed=1)
    command = [sys.executable, "-m", "tests.results.kills", str(tmp_path / "runs"), str(tmp_path / "tables")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 15
