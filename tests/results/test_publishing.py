"""Publishing adds; it replaces and drops only what it is told to; it is whole at every instant."""

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
from gendyn_lite.results.runs import writing
from tests.results.test_runs import ENV, record, sealed_again

FILES = ("runs.csv", "curves.csv", "provenance.json")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two published runs, which are not at hand any more, and one that is not published yet."""
    place = tmp_path_factory.mktemp("base")
    for seed in (3, 4):
        record(place / "runs", seed=seed)
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


def files(place):
    return {name: (place / "tables" / "random_labels" / name).read_text() for name in FILES}


def table(place):
    return results.published("random_labels", folder=place / "tables")


def run_ids(place):
    return list(table(place)["run_id"].unique())


def test_published_runs_that_are_not_at_hand_stay_line_by_line(place):
    before = files(place)
    done = publish(place).done
    after = files(place)
    for name in ("runs.csv", "curves.csv"):
        assert after[name].startswith(before[name]) and len(after[name]) > len(before[name])
    old, new = (json.loads(text["provenance.json"])["runs"] for text in (before, after))
    assert old.items() <= new.items() and len(new) == 3
    assert len(done) == 1 and done[0].startswith("added: ")


def test_a_run_with_other_numbers_is_refused_until_it_is_named(place):
    publish(place)
    run = results.open_run(RunConfig(experiment="random_labels"), "ab" * 8, root=place / "runs")
    shutil.rmtree(run.path)
    record(place / "runs", accuracies=(0.1, 0.5, 0.9))
    before = files(place)
    found = publish(place)
    assert files(place) == before and not found.done
    assert len(found.refused) == 1 and f"--replace {run.run_id}" in found.refused[0]
    order = run_ids(place)
    old, new = publish(place, replace=[run.run_id]).done
    assert old.startswith(f"replaced: {run.run_id}") and "train accuracy 1, loss 0; " in old and "3 epochs" in old
    assert new.startswith(f"by: {run.run_id}") and "train accuracy 0.9, loss 0.1; " in new and "2 epochs" in new
    assert run_ids(place) == order  # in its place
    assert not publish(place).refused


def test_the_same_numbers_in_another_time_and_place_are_the_same_run(place):
    publish(place)
    before = files(place)
    shutil.rmtree(place / "runs")
    run = results.open_run(RunConfig(experiment="random_labels"), "ab" * 8, root=place / "runs")
    with writing(run, {**ENV, "device": "a GPU"}) as writer:
        for row in table(place)[lambda rows: rows["seed"] == 0].to_dict("records"):
            writer.write({name: row[name] for name in METRICS} | {"seconds": 9.5 * row["epoch"]})
        writer.finish(wall_seconds=40.0)
    found = publish(place)
    assert not found.refused and files(place) == before
    assert results.verify_experiment("random_labels", root=place / "runs", folder=place / "tables").recomputed == 1


def test_an_edited_record_of_a_published_run_is_refused(place):
    """An old run folder does not hash env.json; its published record tells."""
    publish(place)
    env = next((place / "runs").rglob("env.json"))
    env.write_text(env.read_text().replace("CPU", "GPU"))
    (done := env.with_name("complete.json")).write_text(
        json.dumps({"metrics_sha256": json.loads(done.read_text())["metrics_sha256"]})
    )
    assert "device of run" in publish(place).refused[0]
    with pytest.raises(UserError, match="device of run"):
        results.verify_experiment("random_labels", root=place / "runs", folder=place / "tables")


def test_withdrawing_drops_what_is_named_and_says_so(place):
    gone, stays = run_ids(place)
    shutil.rmtree(place / "runs")
    found = publish(place, withdraw=[gone])
    assert run_ids(place) == [stays]
    assert [line.split(" (")[0] for line in found.done] == [f"withdrawn: {gone}"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"replace": ["0" * 16]}, "run '0000000000000000' is not published"),
        ({"withdraw": ["../x"]}, r"run '../x' is not published"),
        ({"replace": ["{0}"]}, "does not lie complete at hand"),
        ({"withdraw": ["{0}", "{1}"]}, "every published run would be withdrawn"),
        ({"profiles": ["larg"]}, "unknown profile 'larg'"),
    ],
    ids=["replace_unknown", "withdraw_unknown", "replace_absent", "withdraw_all", "profile"],
)
def test_what_cannot_be_changed_changes_nothing(place, options, said):
    before = files(place)
    names = run_ids(place)
    with pytest.raises(UserError, match=said):
        publish(place, **{key: [text.format(*names) for text in texts] for key, texts in options.items()})
    assert files(place) == before


def test_edited_tables_are_not_published_over(place):
    curves = place / "tables" / "random_labels" / "curves.csv"
    curves.write_text(curves.read_text().replace("0.25", "0.26", 1))
    before = files(place)
    with pytest.raises(UserError, match="is not the table that was published"):
        publish(place)
    assert files(place) == before


# What breaks each file of a run, or of a published table.
DAMAGES = {
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
    assert str(run.path / name) in found.refused[0] and "remove the run's folder" in found.refused[0]
    shutil.rmtree(place / "runs" / "random_labels" / open_id(seed=0))
    with pytest.raises(Failed, match=name):
        publish(place)


def open_id(**settings):
    return RunConfig(experiment="random_labels", **settings).run_id("ab" * 8)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_table_is_named(place, name, damage):
    DAMAGES[damage](place / "tables" / "random_labels" / name)
    for attempt in (table, publish):
        with pytest.raises(UserError, match=r"tables.random_labels.* restore its files"):
            attempt(place)


@pytest.mark.parametrize("name", ["config.json", "env.json"])
def test_edited_settings_of_a_complete_run_are_found(place, name):
    run = record(place / "runs", seed=7)
    path = run.path / name
    path.write_text(path.read_text().replace('"', ' "', 1))
    assert not run.complete
    assert f"{path} is not as its run wrote it" in publish(place).refused[0]


def test_a_run_of_before_says_only_what_its_metrics_are(place):
    run = record(place / "runs", seed=7)
    marker = run.path / "complete.json"
    marker.write_text(json.dumps({"metrics_sha256": json.loads(marker.read_text())["metrics_sha256"]}))
    assert run.complete and not publish(place).refused


@pytest.mark.parametrize("key", ["env_sha256", "config_sha256", "metrics_sha256"])
@pytest.mark.parametrize("change", ["dropped", "renamed"])
def test_a_run_says_the_hash_of_each_of_its_files(place, key, change):
    run = record(place / "runs", seed=7)
    marker = json.loads((run.path / "complete.json").read_text())
    value = marker.pop(key)
    (run.path / "complete.json").write_text(
        json.dumps(marker | ({key.replace("s", "r"): value} if change == "renamed" else {}))
    )
    assert not run.complete
    assert f"{run.path / 'complete.json'} is not as its run wrote it" in publish(place).refused[0]


METRICS = ("epoch", "step", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")


def one_row(root, *, env=ENV, config=None, extra=None, **finish):
    """A complete run of one row."""
    run = results.open_run(config or RunConfig(experiment="random_labels"), "ab" * 8, root=root / "runs")
    with writing(run, env) as writer:
        writer.write({**dict.fromkeys(METRICS, 0), **(extra or {})})
        writer.finish(**finish)
    return run


IMPOSSIBLE = {
    "accuracy": ({"test_accuracy": 7.5}, "test_accuracy is 7.5, expected a number of 0 to 1"),
    "true": ({"epoch": True}, "epoch is True, expected a whole number"),
    "infinite": ({"epoch": 1e400}, "epoch is inf, expected a whole number"),
    "fraction": ({"epoch": 0.5}, "epoch is 0.5, expected a whole number"),
    "long": ({"epoch": 10**30}, "epoch is 10+, expected a whole number"),
    "text": ({"train_loss": "1"}, "train_loss is '1', expected a number"),
    "setting": ({"seed": 7}, "the metric 'seed' is called as a setting"),
    "later_setting": ({"mask_by": "random"}, "the metric 'mask_by' is called as a setting"),
    "label": ({"device": "GPU"}, "the metric 'device' is called as a setting"),
    "run_id": ({"run_id": "x"}, "and no run_id"),
    "newline": ({"probe\nx": 1}, r"the column 'probe\\nx' is not a word in one line"),
    "formula": ({"=a": 1}, "the column '=a' begins like a formula"),
    "return": ({"probe/text": "a\rb"}, "it holds a carriage return"),
}


@pytest.mark.parametrize("name", [*IMPOSSIBLE, "no_epoch", "twice"])
def test_an_impossible_run_is_refused_by_its_folder_and_the_others_are_published(place, name, capsys):
    row = dict.fromkeys(METRICS, 0)
    rows = {"no_epoch": [dict.fromkeys(METRICS[1:], 0)], "twice": [row, row]}
    more, said = IMPOSSIBLE.get(name, ({}, "expected epoch, step" if name == "no_epoch" else "an epoch is duplicated"))
    run = results.open_run(RunConfig(experiment="random_labels", seed=9), "ab" * 8, root=place / "runs")
    with writing(run, ENV) as writer:
        for each in rows.get(name, [row | more]):
            writer.write(each)
        writer.finish()
    options = ["--root", str(place / "runs"), "--folder", str(place / "tables")]
    assert cli.main(["results", "publish", "random_labels", *options]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"gendyn: not published: {run.path}") and err.count("\n") == 1
    assert re.search(said, err)
    assert set(table(place)["seed"]) == {0, 3, 4}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [("epoch", True, "an epoch is no whole"), ("epoch", 1e400, "an epoch is no whole"), ("seed", 7, "as a setting")],
    ids=["true", "infinite", "setting"],
)
def test_impossible_rows_under_a_valid_seal_do_not_verify(place, column, value, said):
    folder = place / "tables" / "random_labels"
    curves = pd.read_csv(folder / "curves.csv", dtype={"run_id": str}).groupby("run_id").head(1)
    curves.assign(**{column: value}).to_csv(folder / "curves.csv", index=False)
    sealed_again(folder)
    with pytest.raises(UserError, match=said):
        results.verify("random_labels", folder=place / "tables")


def edit(change):
    """A change of provenance.json."""

    def apply(folder: Path) -> None:
        path = folder / "provenance.json"
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return apply


FORGERIES = {
    "no_seal": edit(lambda record: record.pop("seal")),
    "empty_seal": edit(lambda record: record.update(seal={})),
    "commit": edit(lambda record: next(iter(record["runs"].values())).update(commit="0" * 12)),
    "device": edit(lambda record: next(iter(record["runs"].values())).update(device="GPU")),
    "seconds": edit(lambda record: next(iter(record["runs"].values())).update(wall_seconds=0.1)),
    "run_removed": edit(lambda record: record["runs"].pop(next(iter(record["runs"])))),
    "key_added": edit(lambda record: record.update(reviewed=True)),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_edited_record_does_not_verify(place, forgery):
    FORGERIES[forgery](place / "tables" / "random_labels")
    with pytest.raises(UserError, match="its seal differs"):
        results.verify("random_labels", folder=place / "tables")


def test_a_table_under_another_name_does_not_verify(place):
    (place / "tables" / "random_labels").rename(place / "tables" / "regularizers")
    with pytest.raises(UserError, match="its seal differs"):
        results.verify("regularizers", folder=place / "tables")


TEXTS = ["=1+1", "+cmd", "-x", "@sum", "\tx", "\nx", "'x", "NA", "1e5", 'a "b", c']


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_text_is_read_back_exactly_and_is_no_formula(tmp_path, text):
    config = RunConfig(experiment="random_labels", dataset=f"folder:/disks/someone/{text}")
    run = one_row(tmp_path, config=config, env={**ENV, "data": text}, extra={"probe/text": f"{text} 1"})
    publish(tmp_path)
    published = table(tmp_path)
    assert published["data"][0] == text and published["dataset"][0] == f"folder:{text}"
    assert published["probe/text"][0] == f"{text} 1"
    assert published["run_id"][0] == run.run_id
    assert "someone" not in "".join(files(tmp_path).values())
    for name in ("runs.csv", "curves.csv"):
        cells = pd.read_csv(tmp_path / "tables" / "random_labels" / name, dtype=str, keep_default_na=False).iloc[0]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert not publish(tmp_path).refused


def test_a_carriage_return_is_refused(tmp_path):
    one_row(tmp_path, env={**ENV, "data": "a\rb"})
    with pytest.raises(Failed, match=r"'a\\rb' cannot be published: it holds a carriage return"):
        publish(tmp_path)


def test_a_probe_named_like_a_formula_is_refused(tmp_path):
    one_row(tmp_path, extra={"=a/b": 1})
    with pytest.raises(Failed, match="column '=a/b' begins like a formula"):
        publish(tmp_path)
    assert not (tmp_path / "tables" / "random_labels").exists()


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
    for attempt in (results.publish, results.published, results.verify):
        options = {"to": place / "tables"} if attempt is results.publish else {"folder": place / "tables"}
        with pytest.raises(UserError, match="experiment "):
            attempt(name, **options)
    assert sorted(place.rglob("*")) == before


def test_several_at_once_lose_nothing(place):
    """Threads exclude one another as processes do: each opens the lock file anew."""
    for seed in range(10, 14):
        record(place / f"runs{seed}", seed=seed)
    with ThreadPoolExecutor(4) as pool:
        roots = [place / f"runs{seed}" for seed in range(10, 14)]
        list(pool.map(lambda root: results.publish("random_labels", root=root, to=place / "tables"), roots))
    assert set(table(place)["seed"]) == {3, 4, 10, 11, 12, 13}


def test_the_command_says_what_was_done_and_what_was_not(place, capsys):
    gone = run_ids(place)[0]
    broken = record(place / "runs", seed=7)
    (broken.path / "env.json").write_text("")
    options = ["--root", str(place / "runs"), "--folder", str(place / "tables")]
    assert cli.main(["results", "publish", "random_labels", *options, "--withdraw", gone]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0].startswith(f"withdrawn: {gone}") and out.splitlines()[1].startswith("added: ")
    assert err.startswith(f"gendyn: not published: {broken.path / 'env.json'}") and err.count("\n") == 1
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
