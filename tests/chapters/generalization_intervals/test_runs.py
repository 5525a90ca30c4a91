"""Chapter 5's runs, the lines that it draws, and its explorer."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch

from gendyn_lite import data, results
from gendyn_lite.chapters import runner
from gendyn_lite.chapters.generalization_intervals import charts, probes, tables
from gendyn_lite.chapters.generalization_intervals import demo as interval_lines
from gendyn_lite.chapters.generalization_intervals import runs as experiment
from gendyn_lite.charts.parts import MOST_TOLD
from gendyn_lite.measures import intervals
from tests.chapters.generalization_intervals import fake
from tests.chapters.specs import described, rows


def test_every_plan_is_valid_and_paired():
    full = [("full", dataset) for dataset in ("mnist", "cifar10", "digits")]
    for profile, dataset in [("smoke", "digits"), ("colab", "mnist"), *full]:
        configs = experiment.plan(profile, dataset=dataset)
        assert {config.dataset for config in configs} == {dataset, "two_moons"}
        ends = [config for config in configs if config.eval_every == config.epochs]
        seeds = {q: {c.seed for c in ends if c.label_corruption == q} for q in (0.0, 1.0)}
        assert seeds[0.0] == seeds[1.0] == set(range(2) if profile == "smoke" else range(15, 20))
    assert {config.dataset for config in experiment.plan("smoke", moons=False)} == {"digits"}


def test_fewer_lines_are_another_run():
    """Profiles train the same networks, on MNIST or on the digits, and measure them with more lines or fewer."""
    few, many = ([config.run_id("00") for config in experiment.plan(profile)] for profile in ("colab", "full"))
    assert not set(few) & set(many)
    version = experiment.PROBE_VERSION["full"]
    assert many == [config.replace(probe_version=version).run_id("00") for config in experiment.plan("colab")]


def test_lines_go_both_ways_along_a_component_and_one_way_towards_another_class():
    network = interval_lines.trained("digits")
    points = network.x[network.y == 3][:5]
    found = probes.class_directions(network.model, network.x, network.y, 3, points, other=4, seed=0)
    for kind in ("principal", "minor"):
        there, back = found[kind][::2], found[kind][1::2]
        assert torch.equal(there[:2], -back) and torch.equal(there[2], there[0])
    assert found["means"].shape == points.shape[1:]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two short runs on digits and one that is watched."""
    root = tmp_path_factory.mktemp("runs")
    configs = [config for config in experiment.plan("smoke", seeds=1) if config.dataset == "digits"]
    short = [config.replace(epochs=20, eval_every=min(config.eval_every, 20)) for config in (*configs[:2], configs[-1])]
    return results.load_runs(experiment.run_all(short, profile="smoke", root=root))


def test_a_run_records_every_direction(table):
    last = tables.ends(table)
    assert list(last["labels"]) == ["true labels", "random labels"]
    assert last[["widths", "downsample", "intervals/method"]].drop_duplicates().values.tolist() == [
        ["3x128", 1, "exact"]
    ]
    for kind, (low, high) in tables.SPANS.items():
        assert last[f"intervals/{kind}_mean"].between(0, high - low).all()
        for _, row in last.iterrows():  # the recorded distribution has the recorded mean, to half a bin
            mean = float(np.average(tables.middles(kind), weights=tables.counts(row, kind)))
            assert mean == pytest.approx(row[f"intervals/{kind}_mean"], abs=(high - low) / tables.BINS / 2 + 1e-9)


def test_a_watched_run_is_measured_at_every_epoch(table):
    watched = tables.described(table).query("training")
    assert list(watched["epoch"]) == list(range(21)) and watched["intervals/pair_mean"].between(0, 3).all()
    assert watched["intervals/principal_mean"].isna().all()


def test_the_appendix_s_bound_is_that_of_a_plain_loop():
    """Every pair of one class, and every new image with every training image of its class, one at a time."""
    network = interval_lines.trained("digits")
    model, x, y = deepcopy(network.model).double(), network.x[:40].double(), network.y[:40]
    test = network.x[60:100].double(), network.y[60:100]
    found = experiment.bound(model, (x, y), test)
    norm = intervals.weight_norms(model).without_relus
    with torch.no_grad():
        outputs, kept = model(x), model(x).argmax(1) == y
    ratios, reach = [], {}
    for i in kept.nonzero().flatten().tolist():
        rivals = outputs[i].clone()
        rivals[y[i]] = -torch.inf
        reach[i] = float(outputs[i, y[i]] - rivals.max()) / (2 * norm)
        for j in range(i):
            if kept[j] and y[i] == y[j]:
                ratios.append(float((outputs[i] - outputs[j]).abs().max() / norm / (x[i] - x[j]).abs().max()))
    distances = []
    for image, label in zip(*test, strict=True):
        near = {i: float((image - x[i]).abs().max()) for i in reach if y[i] == label}
        if near and int(model(image[None]).argmax()) == label:
            distances.append((min(near.values()), any(near[i] < reach[i] for i in near)))
    expected = {"ratio": ratios, "reach": list(reach.values()), "nearest": [each for each, _ in distances]}
    expected |= {"within": [ratio <= 1 for ratio in ratios], "covered": [held for _, held in distances]}
    assert found == pytest.approx({f"bound_{name}": np.mean(values) for name, values in expected.items()}, rel=1e-5)
    assert experiment.bound(torch.nn.Conv2d(1, 1, 3), (x, y), test) == {}


def test_convolutional_networks_are_certified_through_max_pooling():
    config = next(c for c in experiment.plan("full", dataset="mnist") if c.model == "alexnet_small")
    assert config.model_options == {"response_norm": False}
    small = config.replace(dataset="digits", train_size=40, test_size=40, epochs=8, eval_every=8)
    loaded = data.load_for_run(small)[0]
    amount = experiment.CONVOLUTIONAL._replace(lines=3)
    row = experiment.measured(runner.trained(small, loaded), *runner.inputs(small, loaded), amount, seed=0)
    assert row["method"] == "certified" and set(row) >= {"pair_mean", "midline_mean"} and "norm_ratio" not in row
    assert 0 <= row["pair_certain"] <= row["pair_mean"] and 0 <= row["midline_certain"] <= row["midline_mean"]


def test_lines_start_at_fitted_points_of_their_class():
    network = interval_lines.trained("digits")
    found = experiment.directions(network.model, network.x, network.y, experiment.Amount(30, 20), seed=0)
    assert {kind: len(origin) for kind, (origin, _) in found.items()} == {
        kind: 30 if kind in ("pair", "midline") else 20 for kind in tables.SPANS
    }
    length = {kind: direction.flatten(1).norm(dim=1) for kind, (_, direction) in found.items()}
    for kind in ("minor", "means", "random", "varying", "span", "adversarial"):
        assert torch.allclose(length[kind], length["principal"], rtol=1e-4)


def test_the_span_of_a_class_is_that_of_its_images_and_constant_pixels_do_not_vary():
    network = interval_lines.trained("digits")
    x, y = network.x[network.y < 2][:20], network.y[network.y < 2][:20]
    found = experiment.directions(network.model, x, y, experiment.Amount(4, 8), seed=0)
    by_class = (found[kind][1].split(4) for kind in ("varying", "span"))
    for label, (of_varying, of_span) in enumerate(zip(*by_class, strict=True)):
        own = x[y == label].flatten(1).double()
        assert bool((of_varying.flatten(1)[:, own.std(0) == 0] == 0).all())
        left = of_span.flatten(1).double()
        basis = torch.linalg.svd(own - own.mean(0), full_matrices=False)[2][: len(own) - 1]
        assert torch.allclose(left @ basis.T @ basis, left, atol=1e-5)


def test_an_untrained_network_is_measured_on_labels_of_its_own():
    """The same as measuring a network whose training data had those labels: all of them fit."""
    config = next(c for c in experiment.plan("smoke", seeds=1) if c.dataset == "digits")
    loaded = data.load_for_run(config)[0]
    model, (x, _) = runner.build(config, loaded).eval(), runner.inputs(config, loaded)
    amount = experiment.Amount(10, 10)
    row = experiment.untrained(model, x, amount, seed=0)
    with torch.no_grad():
        expected = experiment.measured(model, x, model(x).argmax(1), amount, seed=0)
    assert expected["fitted"] == 1 and row["untrained_pair_mean"] == expected["pair_mean"]
    assert set(row) == {f"untrained_{kind}_mean" for kind in tables.SPANS}


def test_downsampled_networks_have_the_intervals_of_downsampled_images():
    """Averaging is linear: a line of images is a line of small images, with the same α."""
    small = next(c for c in experiment.plan("smoke", seeds=1) if c.model_options.get("downsample") == 2)
    model = runner.build(small, data.load_for_run(small)[0])
    x, d = torch.randn(2, 10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pool, rest = model[0], model[1:]  # type: ignore[index]
    whole = intervals.generalization_interval(model, x, d)
    pooled = intervals.generalization_interval(rest, pool(x), pool(d))
    assert torch.allclose(whole.length, pooled.length, atol=1e-5)


def test_the_plane_agrees_with_the_network():
    plane = interval_lines.plane(starts=2, resolution=8)
    first = plane.lines.query("start == 1 and angle == 105").iloc[0]
    words = f"{first['lower']:.2f} to {first['upper']:.2f}, through {first['regions']:.0f} regions"
    assert words in described(charts.planar(*plane))
    network = interval_lines.trained("two_moons", 0.0, (12, 12))
    corners = torch.tensor(plane.cells[["x", "y", "x2", "y2"]].to_numpy(), dtype=torch.float32)
    same = network.model(corners.view(-1, 2, 2).mean(1)).argmax(1).numpy() == plane.cells["class"].to_numpy()
    assert same.mean() > 0.95  # the table's corners are rounded
    assert len(plane.lines) == 2 * len(interval_lines.ANGLES)
    per_line = plane.knots.groupby(["start", "angle"]).size()
    regions = plane.lines.set_index(["start", "angle"])["regions"]
    assert (per_line + 1 == regions.loc[per_line.index]).all()


@pytest.fixture(scope="module")
def lines_table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """The two runs that record lines, on digits."""
    root = tmp_path_factory.mktemp("lines")
    return results.load_runs(experiment.run_all(experiment.plan_lines("smoke"), profile="smoke", root=root))


def test_recorded_lines_are_those_of_the_network(lines_table):
    recorded = probes.of_runs(lines_table).intervals.set_index("labels").loc["true labels"].set_index("towards")
    for kind, words in probes.KINDS.items():
        (shown,) = interval_lines.one_line(kind).intervals.itertuples()
        assert (shown.lower, shown.upper, shown.regions) == pytest.approx(
            tuple(recorded.loc[words, ["lower", "upper", "regions"]]), abs=2e-3
        )


def test_lines_have_pictures_and_margins_that_end_with_the_interval(lines_table):
    found = probes.of_runs(lines_table)
    words = [f"{row.labels}, {row.towards}: {row.lower:.2f} to {row.upper:.2f}" for row in found.intervals.itertuples()]
    said = described(charts.paths(*found))
    assert all(each in said for each in words[:MOST_TOLD])
    assert len(found.intervals) == 2 * len(probes.KINDS)
    assert found.images["image"].str.startswith("data:image/png;base64,").all()
    keys = ["labels", "towards"]
    wide = found.logits.merge(found.intervals, on=keys)
    inside = wide[wide["alpha"].between(wide["lower"] + 1e-3, wide["upper"] - 1e-3)]
    assert (inside["its class"] - inside["strongest other class"] > -2e-3).all() and len(inside) > len(wide) / 4


def test_shares_add_up_to_one_for_data_and_resolution():
    other = fake.table(data="other data", networks=fake.NETWORKS[:1])
    runs = pd.concat([fake.table(), other])
    found = rows(charts.densities(runs))
    assert set(found["subject"]) == {"made-up data", "made-up data, 1/4 of the side", "other data"}
    assert set(rows(charts.densities(runs, by="widths"))["subject"]) == {"1x512", "3x128"}
    assert found.groupby(["subject", "labels"])["share"].sum().round(6).eq(1).all()


def test_the_bound_s_reach_stands_beside_the_distance_to_new_images():
    chart = charts.bound_reach(fake.table(bound_reach=0.001, bound_nearest=2.0))
    found = rows(chart).groupby("of")["distance"].unique().map(list).to_dict()
    assert found == {charts.REACH: [0.001], charts.NEAREST: [2.0]}
    assert f"3x128, {charts.REACH}: 0.001" in described(chart)


def test_convolutional_networks_have_a_row_for_each_kind_of_labels():
    runs = fake.table(conv=True)
    proved = {"intervals/method": "certified", "intervals/pair_certain": 2.0, "intervals/midline_certain": 3.0}
    assert [row[2:] for row in tables.convolutional(runs.assign(**proved))] == [
        ("true labels", "100.0%", "2.70 (2.00 proved)", "4.60 (3.00 proved)", "50", "certified"),
        ("random labels", "100.0%", "2.70 (2.00 proved)", "3.60 (3.00 proved)", "50", "certified"),
    ]
    assert tables.convolutional(runs.assign(**{"intervals/method": "grid"}))[0][4:] == ("2.70", "4.60", "50", "grid")
    without = runs["model_options"].where(runs["model"] == "mlp", '{"response_norm": false}')
    both = pd.concat([runs, runs.assign(network=runs["network"] + " (no norm)", model_options=without, **proved)])
    assert len(tables.convolutional(both.assign(run_id=range(len(both))))) == 4


def test_a_coarse_grid_shrinks_the_difference():
    found = interval_lines.grid_trap(points=(4, 64), midlines=100).set_index("method")
    assert found.loc["exact", "stepped over"] == 0
    assert found.loc["4 points", "stepped over"] > found.loc["64 points", "stepped over"]
    assert found.loc["4 points", "difference"] < found.loc["exact", "difference"]
