"""Runs without training: recorded once, and each probe against what the measures give."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite import data
from gendyn_lite.chapters.capacity import probes, runs
from gendyn_lite.chapters.capacity.tables import VALIDATION
from gendyn_lite.config import RunConfig
from gendyn_lite.errors import UserError
from gendyn_lite.measures import capacity


def config(kind: str, **changes) -> RunConfig:
    return runs.plan(kind, seeds=1)[0].replace(**changes)


@pytest.mark.parametrize("kind", runs.EXPERIMENTS)
def test_a_run_is_recorded_and_loaded(kind, tmp_path, monkeypatch):
    smaller = {} if kind == "ridges" else {"train_size": 60}
    wanted = config(kind, **smaller)
    first = runs.run(wanted, profile="smoke", root=tmp_path)
    monkeypatch.setitem(runs.MEASURES, wanted.experiment, lambda *_: pytest.fail("solved again"))
    assert runs.run(wanted, profile="smoke", root=tmp_path).rows() == first.rows()
    assert all(0 <= row["test_accuracy"] <= 1 for row in first.rows())


def test_what_was_interrupted_begins_again(tmp_path, monkeypatch):
    wanted = config("kernels", train_size=60)
    with monkeypatch.context() as patch:
        patch.setitem(runs.MEASURES, wanted.experiment, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            runs.run(wanted, profile="smoke", root=tmp_path)
    assert runs.run(wanted, profile="smoke", root=tmp_path).rows()[0]["train_accuracy"] == 1.0


def test_an_unknown_kind_or_profile_is_refused():
    with pytest.raises(UserError, match="unknown kind of runs"):
        runs.plan("kernel")
    with pytest.raises(UserError, match="unknown profile"):
        runs.plan("kernels", "tiny")


def test_a_data_set_of_ones_own_takes_the_settings_of_the_first_part():
    found = runs.plan("ridges", "colab", dataset="digits", seeds=1)
    assert {run.dataset for run in found} == {"digits"} and len(found) == 3
    assert {run.seed for run in runs.plan("ridges", "colab")} == set(range(5, 10))  # after those that were seen


def test_every_share_of_features_is_reached_by_the_plans():
    for profile in ("smoke", "colab", "full"):
        for run in runs.plan("ridges", profile):
            if "filters" in run.model_options:
                fitted = run.train_size - VALIDATION
                assert 8 * run.model_options["filters"] == max(probes.SHARES) * fitted


def test_a_sweep_of_another_version_is_refused(tmp_path):
    with pytest.raises(UserError, match="probe_version is 1, but the probes of ridge_paths are version 2"):
        runs.run(config("ridges", probe_version=1), profile="smoke", root=tmp_path)


def test_an_iterative_regression_is_the_direct_one():
    plain = config("kernels", train_size=100)
    loaded, _ = data.load_for_run(plain)
    close = plain.replace(model_options={"features": "pixels", "tolerance": 1e-4})
    (direct,), (iterative,) = probes.kernel(plain, loaded), probes.kernel(close, loaded)
    assert iterative["test_accuracy"] == direct["test_accuracy"] and iterative["train_accuracy"] == 1
    assert iterative["kernel/squared_norm"] == pytest.approx(direct["kernel/squared_norm"], rel=1e-3)


def test_the_batch_size_of_a_descent_is_used():
    loaded, _ = data.load_for_run(config("descent"))
    small, large = (probes.descent(config("descent", batch_size=size, epochs=3), loaded) for size in (5, 60))
    assert small[-1]["step"] == 3 * 12 and large[-1]["step"] == 3
    assert small[-1]["descent/epochs"] == large[-1]["descent/epochs"] == 3
    assert small[-1]["descent/relative_distance"] < large[-1]["descent/relative_distance"]


@pytest.mark.parametrize("start", ["zero", "random"])
def test_a_descent_ends_at_the_smallest_norm_only_from_zero(start):
    wanted = config("descent", model_options={"features": "pixels", "start": start}, epochs=400)
    loaded, _ = data.load_for_run(wanted)
    last = probes.descent(wanted, loaded)[-1]
    outside = last["descent/outside"] / last["descent/aim_norm"]
    assert (outside > 0.5) == (start == "random")
    assert last["descent/relative_distance"] == pytest.approx(outside, abs=0.01)


def swept(**options):
    """The data and rows of a sweep; the images and labels that it fits, and those that it holds out."""
    wanted = config("ridges", model_options=options)
    loaded, _ = data.load_for_run(wanted)
    n = len(loaded.train.y) - VALIDATION
    order = torch.randperm(len(loaded.train.y), generator=torch.Generator().manual_seed(wanted.seed))
    fitted, held_out = ((loaded.train.x[some], loaded.train.y[some]) for some in (order[:n], order[n:]))
    return loaded, probes.ridges(wanted, loaded), fitted, held_out


def test_the_sweep_of_filters_is_least_squares_on_their_features():
    """At one width and ridge, beside `feature_regression` on the same filters; kernels likewise."""
    loaded, rows, (x, y), held_out = swept(features="random_conv", filters=50)
    row = next(row for row in rows if row["ridge/size"] == 400 and row["ridge/ridge"] == 0.1)
    features = capacity.random_conv_features(x, 50, seed=config("ridges").seed)
    ridge = 0.1 * row["ridge/scale"]
    found = capacity.feature_regression(features, x, y, ridge=ridge, num_classes=10, device="cpu")
    assert row["ridge/squared_norm"] == pytest.approx(float(found.weights.square().sum()), rel=1e-6)
    assert 1 - row["test_accuracy"] == pytest.approx(found.error(loaded.test.x, loaded.test.y), abs=0.003)
    assert 1 - row["ridge/validation_accuracy"] == pytest.approx(found.error(*held_out), abs=0.003)
    assert {row["ridge/ridge"] for row in rows} == set(probes.RIDGES)


def test_the_sweep_of_kernels_is_kernel_regression():
    loaded, rows, (x, y), _ = swept(features="pixels")
    for row in (rows[0], rows[-1]):
        found = capacity.kernel_regression(
            x, y, width=row["ridge/size"], ridge=row["ridge/ridge"], num_classes=10, device="cpu"
        )
        assert row["ridge/squared_norm"] == pytest.approx(float(found.squared_norm), rel=1e-6)
        assert 1 - row["test_accuracy"] == pytest.approx(found.error(loaded.test.x, loaded.test.y), abs=0.003)
