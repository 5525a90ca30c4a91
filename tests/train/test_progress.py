"""Progress of every way that trains: in the end at 100 %, on a terminal and in a notebook."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import Any

import nbformat
import pytest
import tqdm
from nbclient import NotebookClient

from gendyn_lite.chapters import runner
from gendyn_lite.train import fit_many
from gendyn_lite.train.history import Progress
from tests.train.conftest import make_network, stop_and_go_on, trained


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """Bars are shown, every change of them."""
    bar: Any = tqdm.tqdm
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr(tqdm, "tqdm", lambda **options: bar(**options | {"mininterval": 0}))


def many(configs, digits, **options):
    fit_many([make_network(config, digits) for config in configs], [digits] * len(configs), configs, **options)


def twice(config, digits, folder):
    for _ in "12":
        trained(config, digits, checkpoint_dir=folder, progress=True)


def chapters(config, digits, folder, *, run_all):
    """Runs of a chapter: one is loaded, one is trained."""
    configs = [config.replace(seed=seed) for seed in (0, 1)]
    runner.load_or_run(configs[0], profile="smoke", root=folder)
    run_all(configs, profile="smoke", root=folder)


EARLY = {"stop_at_loss": 2.3}  # after an epoch or two of four
ONE_BY_ONE = partial(runner.one_by_one, runner.load_or_run)
WAYS = {
    "fit": (20, lambda config, digits, folder: trained(config, digits, progress=True)),
    "fit, stopped by its loss": (20, lambda c, digits, folder: trained(c.replace(**EARLY), digits, progress=True)),
    "fit, resumed": (20, lambda c, digits, folder: stop_and_go_on(c, digits, folder, 7, progress=True)),
    "fit, resumed at its end": (20, twice),
    "many together": (8, lambda c, d, folder: many([c, c.replace(seed=1)], d, progress=True)),
    "many, stopped by their losses": (
        8,
        lambda c, d, folder: many([c.replace(seed=seed, **EARLY) for seed in (0, 1)], d, progress=True),
    ),
    "many, one alone": (8, lambda c, d, folder: many([c, c.replace(batch_size=50, **EARLY)], d, progress=True)),
    "a chapter's runs": (2, partial(chapters, run_all=ONE_BY_ONE)),
    "a chapter's quick runs": (2, partial(chapters, run_all=runner.run_all)),
}


@pytest.mark.parametrize(("units", "way"), WAYS.values(), ids=WAYS)
def test_the_bar_of_each_way_that_trains_ends_full(config, digits, tmp_path, capsys, units, way):
    way(config, digits, tmp_path)
    last = capsys.readouterr().err.rstrip("\n").split("\r")[-1]
    assert re.search(rf": 100%\|█+\| {units}/{units} \[\d\d:\d\d<(00:00|\?), ", last), last


def test_a_bar_has_an_estimate_and_what_was_measured(config, digits, capsys):
    trained(config, digits, progress=True)
    said = capsys.readouterr().err
    assert all(part in said for part in ("mlp: ", "11/20", "epoch=3", "train=0.", "step/s"))


@pytest.mark.parametrize(("raised", "end"), [(None, "10/10"), (KeyboardInterrupt, " 3/10")], ids=["done", "stopped"])
def test_a_bar_ends_full_unless_something_was_raised(raised, end, capsys):
    with suppress(KeyboardInterrupt), Progress(10, enabled=True) as bar:
        bar.advance(3)
        if raised:
            raise raised
    assert end in capsys.readouterr().err.split("\r")[-1]


def test_how_far_a_run_is_stands_beside_the_bar_of_all_runs(config, digits, capsys, monkeypatch):
    monkeypatch.setattr("gendyn_lite.train.history.SECONDS", 0.0)
    with Progress(2, enabled=True, label="runs", unit="run") as bar:
        trained(config, digits)
        bar.advance()
    said = capsys.readouterr().err.split("\r")
    assert any(re.match(r"runs: +0%.* 0/2 .*, mlp 7 of 20 steps \(epoch 1, test 0\.\d+\)\]", line) for line in said)
    assert "mlp" not in said[-1]


NOTEBOOK = """
import tqdm, torch
from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig
settings = {"model": "mlp", "model_options": {"widths": [8]}, "epochs": 4, "batch_size": 50}
config = RunConfig(experiment="test", train_size=100, **settings)
digits, _ = data.load_for_run(config)
make = lambda: models.build("mlp", num_classes=10, in_shape=digits.in_shape, widths=[8])
train.fit(make(), digits, config, device="cpu", progress=True)
train.fit_many([make(), make()], [digits] * 2, [config.replace(stop_at_loss=9.0)] * 2, device="cpu", progress=True)
with train.history.Progress(3, enabled=True) as bar:
    bar.advance()
    raise ValueError
"""


def test_a_notebook_keeps_each_bar_as_it_was_at_the_end():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    *bars, error = notebook.cells[0].outputs
    assert [bar.data["text/plain"].partition(" [")[0] for bar in bars] == [
        "mlp: 100%|██████████| 8/8",
        "runs: 100%|██████████| 8/8",
        "training:  33%|███▎      | 1/3",
    ]
    assert {tuple(bar.data) for bar in bars} == {("text/plain",)} and error.ename == "ValueError"
