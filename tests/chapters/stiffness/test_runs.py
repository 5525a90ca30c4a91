"""Runs of chapter 4: plans are those asked for, a run is trained with its probes or loaded, demonstrations show it."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from gendyn_lite import data, models, results
from gendyn_lite.chapters.stiffness import charts, demo, probes
from gendyn_lite.chapters.stiffness import runs as runs_of
from gendyn_lite.chapters.stiffness.tables import long_layers
from gendyn_lite.measures import stiffness
from gendyn_lite.results.runs import PROFILES
from tests.chapters.specs import described
from tests.measures import naive


@pytest.mark.parametrize("profile", [profile for profile in PROFILES if profile != "smoke"])
@pytest.mark.parametrize("kind", runs_of.KINDS)
def test_a_plan_above_smoke_has_five_seeds(kind, profile):
    assert len({config.seed for config in runs_of.plan(kind, profile)}) >= 5


def test_a_plan_takes_another_data_set_seeds_and_epochs():
    (config, _) = runs_of.plan("maps", dataset="rings", seeds=2, epochs=7)
    assert (config.dataset, config.epochs, config.learning_rate) == ("rings", 7, 0.05)


@pytest.mark.filterwarnings("error::gendyn_lite.measures.per_example.lag.LagWarning")  # nor is one heard of the lag
def test_beside_a_deep_network_stands_at_the_end_what_learned_nothing(tmp_path):
    config = runs_of.plan("deep", seeds=1)[0].replace(train_size=20, test_size=20, epochs=2, eval_every=1)
    table = results.load_runs([runs_of.run(config, profile="smoke", root=tmp_path)])
    own, moved, lag = (long_layers(table, probe=probe) for probe in ("layers", "movement", "lag"))
    assert set(own["epoch"]) == {0, 1, 2} and set(moved["epoch"]) == set(lag["epoch"]) == {2}
    last = own[own["epoch"] == 2]
    assert list(last["layer"]) == list(moved["layer"]) == list(lag["layer"])
    for rows in (moved, lag):
        assert (rows["within"].to_numpy() != last["within"].to_numpy()).any() and rows["within"].between(-1, 1).all()


@pytest.mark.parametrize("kind", ["layers", "maps", "training"])
def test_a_run_is_trained_with_its_probes_and_then_loaded(kind, tmp_path, monkeypatch):
    (config, *_) = runs_of.plan(kind, seeds=1, epochs=4)
    run = runs_of.run(config, profile="smoke", root=tmp_path)
    table = results.load_runs([run])
    if kind == "layers":
        rows = long_layers(table)
        assert rows["layer"].unique().tolist() == ["fc1", "fc2", "fc3", "fc4", "fc5"]
        assert rows["within"].between(-1, 1).all() and set(rows["state"]) == {"untrained", "trained"}
    elif kind == "maps":
        lengths = table["map/stiffness"].str.split().str.len(), table["map/predicted"].str.len()
        assert {*lengths[0], *lengths[1]} == {probes.RESOLUTION**2}
    else:
        assert table["stiffness/within_cosine"].between(-1, 1).all()
        assert table.loc[table["detail/classes"].notna(), "epoch"].tolist() == [0, 4]
        assert table["epoch"].tolist() == [0, 0.1, 0.2, 0.5, 1, 2, 3, 4]  # of ten steps an epoch
    monkeypatch.setattr(runs_of.runner.train, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert runs_of.run(config, profile="smoke", root=tmp_path).rows() == run.rows()


def test_examples_are_as_many_of_each_class():
    (config, *_) = runs_of.plan("layers", seeds=1, epochs=1)
    _, y = probes.sample(config, data.load_for_run(config)[0], "train_eval", 100)
    assert y.bincount().tolist() == [50, 50]


def mlp(seed):
    return models.build("mlp", num_classes=2, in_shape=(2,), seed=seed, widths=[8]).double()


def within(x, radius):
    return [[j for j in range(len(x)) if j != i and (x[i] - x[j]).norm() <= radius] for i in range(len(x))]


def closest(x, count):
    pairs = [[((x[i] - x[j]).norm().item(), j) for j in range(len(x)) if j != i] for i in range(len(x))]
    return [[j for _, j in sorted(row)[:count]] for row in pairs]


def test_the_map_and_what_it_must_look_like_are_those_of_slow_loops(monkeypatch):
    """The map and its three baselines, by a gradient for each example and a loop over pairs."""
    monkeypatch.setattr(probes, "RESOLUTION", 7)
    loaded = data.load("two_moons", train_size=60)
    model, start = mlp(3), mlp(4)
    found = probes.map_probe(loaded, keep=False, radius=0.9, untrained=start)(model, 0)
    sides = [torch.linspace(*ends, 7).double() for ends in zip(*probes.corners(loaded), strict=True)]
    points, x = torch.cartesian_prod(*sides), loaded.train.x.double()
    shifted = copy.deepcopy(start)
    shifted[-1].bias.data -= start(points).median(0).values.detach()
    own, other = (network(points).argmax(1) for network in (model, shifted))
    assert len(set(other.tolist())) == 2
    cases = {"": (model, points, own, within(points, 0.9)), "labelled_": (start, points, own, within(points, 0.9))}
    cases |= {"shifted_": (shifted, points, other, within(points, 0.9))}
    cases |= {"points_": (model, x, loaded.train.y, closest(x, 30))}
    for prefix, (network, inputs, y, neighbours) in cases.items():
        rows = torch.stack([torch.cat(list(each.values())) for each in naive.gradients(network, inputs, y)])
        cosine = rows @ rows.T / rows.norm(dim=1)[:, None] / rows.norm(dim=1)
        means: dict[str, list[float]] = {"boundary": [], "inside": []}
        for i, others in enumerate(neighbours):
            mixed = any(y[j] != y[i] for j in others)
            means["boundary" if mixed else "inside"].append(sum(cosine[i, j].item() for j in others) / len(others))
        for name, values in means.items():
            expected = sum(values) / len(values) if values else math.nan
            assert found[prefix + name] == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_a_small_step_does_what_is_predicted_and_a_large_one_does_not():
    changes = demo.step_changes(count=10, examples=2, steps=(0.0003, 0.1))
    steps = (rows[["predicted", "actual"]].to_numpy(dtype=float).T for _, rows in changes.groupby("step"))
    small, large = (predicted @ actual / (predicted @ predicted) for predicted, actual in steps)
    assert small == pytest.approx(1, abs=0.02)
    assert abs(large - 1) > 0.05
    assert described(charts.step_changes(changes))


def test_the_trap_hides_most_of_the_stiffness():
    trap = demo.batch_norm_trap()
    assert trap.right > 2 * max(trap.alone, trap.batch)


def test_the_right_side_of_the_trap_is_what_the_library_measures():
    model = demo._with_batch_norm().eval()
    x, y = probes.sample(demo.DIGITS, demo.trained()[1], "train_eval", 6)
    loop = demo._loop(model, x, y, alone=True)
    torch.testing.assert_close(stiffness.gradient_gram(model, x, y), loop, rtol=1e-3, atol=1e-5)
