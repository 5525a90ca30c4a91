"""Published tables are computed again from the runs, and the book's figures are looked up in them."""

from __future__ import annotations

import nbformat
import pandas as pd
import pytest

from gendyn_lite import notebooks, results
from gendyn_lite.chapters import what_holds as planned
from gendyn_lite.errors import UserError
from tests.results.test_runs import record, sealed_again


@pytest.fixture
def place(tmp_path):
    """Two published runs, at hand."""
    for seed in range(2):
        record(tmp_path / "runs", seed=seed)
    results.publish("random_labels", root=tmp_path / "runs", to=tmp_path / "tables")
    return tmp_path


def check(place):
    return results.verify_experiment("random_labels", root=place / "runs", folder=place / "tables")


def forge(place, name, change):
    """Edit a published table as one would who also mends its seal."""
    folder = place / "tables" / "random_labels"
    change(pd.read_csv(folder / name, dtype=str)).to_csv(folder / name, index=False)
    sealed_again(folder)


def test_runs_at_hand_give_the_published_rows(place):
    found = check(place)
    assert (found.runs, found.recomputed) == (2, 2)
    assert found.rows == len(results.published("random_labels", folder=place / "tables"))


def test_without_the_runs_the_tables_are_still_checked(place):
    for folder in (place / "runs" / "random_labels").iterdir():
        if folder.is_dir():
            (folder / "complete.json").unlink()
    assert check(place).recomputed == 0


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [("curves.csv", "test_accuracy", "0.123"), ("runs.csv", "momentum", "0.7"), ("runs.csv", "device", "GPU")],
    ids=["metric", "setting", "device"],
)
def test_a_digit_edited_with_its_hash_is_found_by_the_runs(place, name, column, value):
    forge(place, name, lambda table: table.assign(**{column: [value, *table[column][1:]]}))
    with pytest.raises(UserError, match=rf"{name}: {column} of run \w+ .*is .* its run says .*: publish it again"):
        check(place)


def test_a_missing_row_is_found_by_the_runs(place):
    forge(place, "curves.csv", lambda table: table.drop(index=0))
    with pytest.raises(UserError, match=r"curves.csv: \w+ of run \w+ at epoch 0 is '', its run says"):
        check(place)


def test_a_missing_column_is_named(place):
    forge(place, "runs.csv", lambda table: table.drop(columns="device"))
    with pytest.raises(UserError, match="the columns device are missing"):
        check(place)


def notebook(place, caption):
    """A notebook with one figure under this caption."""
    output = nbformat.v4.new_output("display_data", {"text/html": f"<p>{caption}</p>"})
    path = place / "chapter.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])]), path)
    return path


@pytest.mark.parametrize(
    ("demo", "group", "counted"),
    [("", "known", 1), (": method demo, not evidence", "deadbeef", 0)],
    ids=["published", "smoke"],
)
def test_figures_are_looked_up(place, demo, group, counted):
    known = results.published("random_labels", folder=place / "tables")["group_id"].iloc[0]
    group = known[:8] if group == "known" else group
    path = notebook(place, f"MNIST; mlp (n = 10); 2 runs; profile colab{demo}; CPU; groups <code>{group}</code>.")
    assert results.verify_figures([path], folder=place / "tables") == counted


def test_a_figure_without_rows_is_named(place):
    path = notebook(place, "MNIST; mlp (n = 10); 2 runs; profile colab; CPU; groups <code>deadbeef</code>.")
    with pytest.raises(UserError, match=r"chapter.ipynb: a figure names group deadbeef, which no published table has"):
        results.verify_figures([path], folder=place / "tables")


def test_every_published_figure_of_the_book_has_rows_behind_it():
    chapters = notebooks.chapters()
    counted = {name: results.verify_figures([notebooks.chapter_path(name)]) for name in chapters}
    assert all(counted[name] > 3 for name in chapters if name.startswith(("01", "02", "03", "04", "05")))


def test_benchmarks_of_the_book_are_as_published():
    assert results.verify_benchmarks() >= 3


def test_the_status_counts_every_published_run_once():
    status = results.status()
    assert status["runs"].sum() == sum(
        results.published(name)["run_id"].nunique() for name in results.published_experiments()
    )
    assert (status["hours"] >= 0).all() and (status["seeds"] >= 1).all()


def test_what_is_planned_counts_published_runs_with_the_same_settings():
    table = planned.full_size().set_index(["experiment", "data", "network"])
    assert (table["published"] <= table["planned"]).all()
    assert table.loc[("generalization_intervals", "mnist", "mlp"), "published"] > 0
    assert table.loc[("imagenet_regularizers", "imagenet", "inception_v3"), "published"] == 0


def test_what_is_planned_stands_beside_runs_on_as_many_images_with_other_settings():
    table = planned.full_size().set_index(["experiment", "data", "network"])["other settings"]
    assert table["random_labels"].sum() == 13 and table["random_labels", "cifar10", "mlp_1x512"] == 2
    assert table["regularizers"].sum() == 4 and table["path_networks"].sum() == 2
    assert table["generalization_intervals"].sum() == 0
