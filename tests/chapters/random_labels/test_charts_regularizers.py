"""Charts of regularizers: valid, one data set each, drawn from the means and the best epochs of the table."""

from __future__ import annotations

import pandas as pd
import pytest

from gendyn_lite.chapters.random_labels import charts
from gendyn_lite.errors import UserError
from tests.chapters.random_labels import fake as fake_runs
from tests.chapters.specs import rows

CHARTS = {
    "explicit": charts.explicit_regularizers,
    "batch_norm": charts.batch_norm,
    "final": charts.final_accuracy,
}
OF_FIG_1 = {name: getattr(charts, name) for name in ("learning_curves", "time_to_fit", "test_error", "loss_curves")}


@pytest.mark.parametrize("draw", [*CHARTS.values(), *OF_FIG_1.values()], ids=[*CHARTS, *OF_FIG_1])
def test_runs_of_two_data_sets_are_never_one_chart(draw):
    make = fake_runs.regularized if draw in CHARTS.values() else fake_runs.table
    other = make().assign(data="other data", run_id=lambda table: table["run_id"] + "b")
    with pytest.raises(UserError, match="runs on made-up data and other data: choose one"):
        draw(pd.concat([make(), other]))


@pytest.mark.parametrize("draw", OF_FIG_1.values(), ids=list(OF_FIG_1))
def test_runs_of_two_sizes_are_two_networks(draw):
    small = fake_runs.table().assign(n_train=50, run_id=lambda table: table["run_id"] + "b")
    shown = rows(draw(pd.concat([fake_runs.table(), small])), "network")
    assert set(shown["network"]) == {"mlp_1x512, n = 1,000", "mlp_1x512, n = 50"}


def test_the_shaded_area_reaches_from_the_accuracy_to_the_best_so_far():
    shown = rows(charts.batch_norm(fake_runs.regularized()), "test", "best")
    assert (shown["best"] >= shown["test"] - 1e-9).all()
    plain = shown[shown["setting"] == "no batch-norm"].set_index("epoch")
    assert plain.loc[3, "best"] - plain.loc[3, "test"] == pytest.approx(0.05)
    assert plain.loc[0, "best"] == plain.loc[0, "test"]


def test_a_run_that_stopped_keeps_its_accuracy():
    """Seed 1 trains one epoch longer; the mean there is over all three seeds."""
    shown = rows(charts.explicit_regularizers(fake_runs.regularized()), "test", "best")
    plain = shown[(shown["setting"] == "no regularizer") & (shown["network"] == "inception_small")].set_index("epoch")
    assert plain.loc[4, "test"] == pytest.approx(0.801)


def test_the_final_means_are_those_of_the_seeds():
    shown = rows(charts.final_accuracy(fake_runs.regularized()), "mean", "setting")
    ends = shown[shown["taken at"] == "end of training"].set_index(["network", "setting"])["mean"]
    assert ends["inception_small", "crop + decay"] == pytest.approx(0.851)
    assert ends["inception_small without batch-norm", "no regularizer"] == pytest.approx(0.761)


def test_random_labels_are_not_drawn():
    shown = rows(charts.explicit_regularizers(fake_runs.regularized(random_train=0.2)), "train")
    assert shown.groupby("setting")["train"].max().min() == pytest.approx(1)


def test_runs_without_a_pair_have_no_batch_norm_chart():
    table = fake_runs.regularized()
    with pytest.raises(UserError, match="no network was trained with and without batch-norm"):
        charts.batch_norm(table[table["model_options"] == "{}"])


def test_no_run_on_true_labels_is_refused():
    table = fake_runs.regularized()
    with pytest.raises(UserError, match="no run on true labels"):
        charts.explicit_regularizers(table[table["label_corruption"] == 1])
