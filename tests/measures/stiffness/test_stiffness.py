"""From the Gram matrix to stiffness: closed forms, slow twins and laws; what is refused."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gendyn_lite import data, models, train
from gendyn_lite.config import RunConfig
from gendyn_lite.measures import fisher, relu_paths, stiffness
from gendyn_lite.measures.per_example import checks
from tests.measures import naive
from tests.measures.networks import Gain, Net, built, check_refused, examples, refused


def problem(count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, dtype=torch.float64, generator=generator)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    for value in model.parameters():
        value.data = torch.randn(value.shape, dtype=torch.float64, generator=generator)
    return model, x, torch.arange(count) % 3


def test_cosine_and_sign_are_those_of_the_gradients():
    model, x, y = problem()
    rows = [torch.cat(list(row.values())) for row in naive.gradients(model, x, y)]
    gram = stiffness.gradient_gram(model, x, y)
    for (i, a), (j, b) in itertools.product(enumerate(rows), repeat=2):
        assert stiffness.cosine(gram)[i, j] == pytest.approx(float(a @ b / a.norm() / b.norm()), abs=1e-9)
        assert stiffness.sign(gram)[i, j] == float((a @ b).sign())


def test_a_layer_that_the_loss_does_not_depend_on_counts_as_zero(monkeypatch):
    monkeypatch.setattr(stiffness.gram, "MOST", 4)
    for used in (lambda s, x: s.used(x) + 0 * s.idle(x).detach(), lambda s, x: s.used(x)):
        model, (x, y) = Net(used, used=nn.Linear(4, 3), idle=nn.Linear(4, 3)).double(), examples(6, (4,))
        found = stiffness.gradient_gram(model, x, y, per_layer=True)
        assert (found["idle"] == 0).all()
        torch.testing.assert_close(found["used"], stiffness.gradient_gram(model.used, x, y))


def test_groups_are_sums_of_their_layers():
    model, x, y = built("resnet18")
    layers = stiffness.gradient_gram(model, x, y, per_layer=True)
    found = stiffness.gradient_gram(model, x, y, groups={"first": ["conv", "norm"], "block": "block1a", "head": ["fc"]})
    block = sum(gram for name, gram in layers.items() if name.startswith("block1a."))
    expected = {"first": layers["conv"] + layers["norm"], "block": block, "head": layers["fc"]}
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected)


@settings(max_examples=25)
@given(st.integers(2, 8), st.integers(0, 1000))
def test_the_matrix_is_symmetric_and_has_no_negative_eigenvalue(count, seed):
    model, x, y = problem(count, seed=seed)
    gram = stiffness.gradient_gram(model, x, y)
    assert torch.equal(gram, gram.T)
    assert torch.linalg.eigvalsh(gram).min() > -1e-9 * gram.diagonal().max()
    assert stiffness.cosine(gram).abs().max() <= 1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(stiffness.gradient_gram(model, x[order], y[order]), gram[order][:, order])


@pytest.mark.parametrize("two", [False, True], ids=["one-set", "two-sets"])
def test_averages_equal_loops_over_pairs(two):
    y, other = torch.tensor([0, 1, 0, 2, 1, 1]), torch.tensor([1, 0, 0, 2])
    columns = other if two else y
    matrix = torch.randn(6, len(columns), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = [(i, j) for i in range(6) for j in range(len(columns)) if two or i != j]

    def mean(chosen):
        values = [float(matrix[i, j]) for i, j in pairs if chosen(int(y[i]), int(columns[j]))]
        return pytest.approx(sum(values) / len(values) if values else math.nan, nan_ok=True)

    found = stiffness.by_pair(matrix, y, other if two else None, resamples=0)
    assert found["all"].mean == mean(lambda a, b: True)
    assert found["within"].mean == mean(lambda a, b: a == b)
    assert found["between"].mean == mean(lambda a, b: a != b)
    if not two:
        classes = stiffness.by_class(matrix, y, num_classes=4)
        for a, b in itertools.product(range(4), repeat=2):
            assert float(classes[a, b]) == mean(lambda c, d, pair=(a, b): (c, d) == pair)


@pytest.mark.parametrize("two", [False, True], ids=["one-set", "two-sets"])
def test_the_interval_is_that_of_resampled_examples(two):
    matrix, draw = torch.rand(6, 4 if two else 6, dtype=torch.float64), torch.Generator().manual_seed(3)
    rows = torch.randint(0, 6, (40, 6), generator=draw)
    columns = torch.randint(0, 4, (40, 4), generator=draw) if two else rows
    counted = torch.ones(6, 4) if two else 1 - torch.eye(6)
    picked = [(matrix[i][:, j], counted[i][:, j]) for i, j in zip(rows, columns, strict=True)]
    means = torch.stack([(values * mask).sum() / mask.sum() for values, mask in picked])
    found = stiffness.average(matrix, two_sets=two, resamples=40, seed=3)
    ends = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    assert [found.low, found.high] == pytest.approx(ends)
    assert all(math.isnan(value) for value in stiffness.average(torch.ones(1, 1)))  # no pair has no mean


def test_the_critical_length_of_a_straight_line_is_where_it_crosses():
    x = torch.rand(40, 1, generator=torch.Generator().manual_seed(0))
    distances = stiffness.pair_distances(x, kind="euclidean")
    found = stiffness.critical_length(0.6 - 1.5 * distances, distances)
    assert [found.mean, found.low, found.high] == pytest.approx([0.4, 0.4, 0.4])
    rising = stiffness.critical_length(distances, distances, resamples=10)
    assert math.isnan(rising.mean)
    equal = torch.full_like(distances, 0.3)
    assert math.isnan(stiffness.critical_length(distances, equal, resamples=10).mean)
    near = distances < 0.5
    unknown = torch.where(near, distances, torch.nan)
    assert stiffness.critical_length(0.6 - 1.5 * distances, unknown, near).mean == pytest.approx(0.4)


def test_bins_hold_equally_many_pairs_and_their_means_by_the_distances_of_the_definition():
    x = torch.randn(20, 3, 2, generator=torch.Generator().manual_seed(0))
    cos, euclidean = stiffness.pair_distances(x), stiffness.pair_distances(x, kind="euclidean")
    for (i, a), (j, b) in itertools.product(enumerate(x.flatten(1).double()), repeat=2):
        assert float(cos[i, j]) == pytest.approx(float(1 - a @ b / a.norm() / b.norm()), abs=1e-12)
        assert float(euclidean[i, j]) == pytest.approx(float((a - b).norm()), abs=1e-12)
    for found in stiffness.by_distance(-euclidean, euclidean, bins=5):
        assert (found.pairs, found.stiffness.mean) == (38, pytest.approx(-found.distance))
        assert found.stiffness.low <= found.stiffness.mean <= found.stiffness.high


@pytest.mark.parametrize("given", [problem(), built("mlp"), built("resnet18")], ids=["tanh", "mlp", "resnet18"])
def test_small_steps_change_losses_as_predicted_and_the_error_falls_with_the_square_of_the_step(given):
    before = [value.clone() for value in given[0].parameters()]
    unit = 1e-4 / float(stiffness.squared_norms(*given).max())
    large, small = (stiffness.loss_change(*given, examples=[0, 2], eps=eps) for eps in (unit, unit / 10))
    errors = [(found.actual - found.predicted).abs().max() for found in (large, small)]
    assert math.log10(errors[0] / errors[1]) == pytest.approx(2, abs=0.1)
    assert small.slope == pytest.approx(1, abs=0.02)
    assert all(torch.equal(a, b) for a, b in zip(before, given[0].parameters(), strict=True))


@pytest.mark.parametrize(("start", "dtype"), [(-1, torch.float64), (300, torch.float32)], ids=["centre", "far"])
def test_the_map_equals_a_loop_over_neighbours(start, dtype):
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)
    model[0].bias.data -= start * model[0].weight.data.sum(1)  # it bends where the map is
    corners = {"low": (start, start), "high": (start + 2, start + 1)}
    found = stiffness.neighbourhood_map(model, **corners, radius=0.41, resolution=6)
    labels = model(found.points).argmax(1)
    assert torch.equal(labels, found.predicted)
    matrix = stiffness.cosine(stiffness.gradient_gram(model, found.points, labels))
    points = found.points.double()
    for i, point in enumerate(points):
        near = [j for j, other in enumerate(points) if j != i and float((point - other).norm()) <= 0.41]
        assert float(found.stiffness[i]) == pytest.approx(float(matrix[i, near].mean()), abs=1e-5)


def test_the_probes_record_what_the_functions_say():
    config = RunConfig(experiment="demo", model="mlp", model_options={"widths": [8]}, epochs=2)
    loaded, _ = data.load_for_run(config)
    model = models.build("mlp", num_classes=10, in_shape=loaded.in_shape, seed=0, widths=[8])
    (x, y), (u, v) = (next(iter(data.batcher(loaded, config, split=s).epoch(0))) for s in ("train_eval", "test"))
    x, y, u, v = x[:40], y[:40], u[:30], v[:30]
    both = stiffness.stiffness_probe(x, y, test=(u, v), lengths=True)
    probes = {"stiffness": both, "layers": stiffness.layer_probe(x, y)}
    row = train.fit(model, loaded, config, probes=probes, device="cpu").rows[-1]
    matrix = stiffness.cosine(stiffness.gradient_gram(model, torch.cat([x, u]), torch.cat([y, v])))
    own, pairs, distances = matrix[:40, :40], y[:, None] == y[None], stiffness.pair_distances(x)
    layer = stiffness.cosine(stiffness.gradient_gram(model, x, y, per_layer=True)["fc1"])
    expected = {
        "stiffness/within_cosine": stiffness.by_pair(own, y, resamples=0)["within"].mean,
        "stiffness/test_between_cosine": stiffness.by_pair(matrix[:40, 40:], y, v, resamples=0)["between"].mean,
        "stiffness/critical_length": stiffness.critical_length(own, distances, pairs, resamples=0).mean,
        "stiffness/zero_gradients": 0,
        "layers/fc1:all": stiffness.average(layer, resamples=0).mean,
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-4, nan_ok=True)


X4, Y4 = torch.linspace(-1, 1, 12).view(3, 4), torch.tensor([0, 1, 2])


def example_calls(model, x, y):
    return {
        "gram": lambda: stiffness.gradient_gram(model, x, y),
        "norms": lambda: stiffness.squared_norms(model, x, y),
        "change": lambda: stiffness.loss_change(model, x, y, examples=[0], eps=0.1).actual,
        "diagonal": lambda: fisher.diagonal(model, x, y)["gain"],
        "influence": lambda: fisher.influence(model, x, y, x, eps=0.1, y_eval=y).kl,
        "image functions": lambda: relu_paths.image_functions(model, x, y).each("gain"),
    }


@pytest.mark.filterwarnings("ignore:no formula")
@pytest.mark.parametrize("name", ["gram", "norms", "change", "diagonal", "influence", "image functions"])
def test_inference_mode_and_parameters_without_axes(name):
    """The same in inference mode, and with inputs that were made there."""
    model = Gain().double()
    with torch.inference_mode():
        x, y = X4.double(), Y4.clone()
        inside = example_calls(model, x, y)[name]()
    torch.testing.assert_close(inside, example_calls(model, x, y)[name]())
    torch.testing.assert_close(inside, example_calls(model, X4.double().requires_grad_(), Y4)[name]())
    with torch.no_grad():
        torch.testing.assert_close(inside, example_calls(model, X4.double(), Y4)[name]())
    if name == "gram":
        rows = torch.stack([torch.cat(list(row.values())) for row in naive.gradients(model, X4.double(), Y4)])
        torch.testing.assert_close(inside, rows @ rows.T)


NET, X, Y = problem(6)
NAN, ONES = torch.full((2, 2), math.nan), {(n, m): torch.ones(n, m) for n in (1, 2, 3) for m in (1, 2, 3)}


def test_a_matrix_that_would_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(checks, "available_memory", lambda device: 10**6)
    x, y = X.repeat(1000, 1), Y.repeat(1000)
    message = "2 Gram matrices of 6,000 by 6,000 examples takes 1.2 GB, 1.0 MB are free on cpu: take fewer examples"
    check_refused(stiffness.gradient_gram, message, NET, x, y, per_layer=True)


@pytest.mark.parametrize(("scale", "message"), [(1e-22, "too small for float32"), (1e19, "is beyond float32")])
def test_gradients_beyond_float32_are_refused(scale, message):
    torch.manual_seed(0)
    check_refused(stiffness.gradient_gram, message, nn.Linear(4, 3, bias=False), scale * X4, Y4)


REFUSED = {
    "one example": (stiffness.gradient_gram, (NET, X[:1], Y[:1]), {}, "x has 1 example, expected at least 2"),
    "group": (stiffness.gradient_gram, (NET, X, Y), {"groups": {"all": ["00"]}}, "unknown layer '00': did you mean"),
    "loss": (stiffness.gradient_gram, (NET, X, Y), {"loss": F.cross_entropy}, r"shape \(\), expected one value"),
    "cosine-of-a-part": (stiffness.cosine, (ONES[2, 3],), {}, r"the Gram matrix is \[2, 3\], expected \[n, n\]"),
    "cosine-of-layers": (stiffness.cosine, ({"fc1": ONES[2, 2]},), {}, "expected a matrix; of a dict"),
    "cosine-of-nan": (stiffness.cosine, (NAN,), {}, "gram has values that are not finite"),
    "sign-of-nan": (stiffness.sign, (NAN,), {}, "gram has values that are not finite"),
    "average": (stiffness.average, (ONES[2, 3],), {}, r"stiffness has shape \(2, 3\), expected \[n, n\]"),
    "pairs": (stiffness.average, (ONES[2, 2], ONES[3, 3].bool()), {}, r"pairs has shape \(3, 3\)"),
    "resamples": (stiffness.average, (ONES[3, 3],), {"resamples": -1}, "resamples is -1, expected a whole number"),
    "many-resamples": (stiffness.average, (ONES[3, 3],), {"resamples": 10**12}, "a bootstrap of 1,.* takes .* GB"),
    "by-pair": (stiffness.by_pair, (ONES[2, 2], Y[:3]), {}, "3 and 3 labels for a matrix"),
    "class": (stiffness.by_class, (ONES[3, 3], Y[:3]), {"num_classes": 2}, r"labels are \[0, 1, 2\], expected .* to 1"),
    "class-count": (stiffness.by_class, (ONES[3, 3], Y[:2]), {"num_classes": 2}, "2 and 2 labels for a matrix"),
    "distance": (stiffness.pair_distances, (X,), {"kind": "euclid"}, "unknown distance 'euclid': did you mean"),
    "distance-nan": (stiffness.by_distance, (ONES[2, 2], NAN), {"bins": 1}, "a distance is not finite"),
    "distance-infinite": (
        stiffness.critical_length,
        (ONES[2, 2], math.inf * ONES[2, 2]),
        {},
        "a distance is not finite",
    ),
    "bins": (stiffness.by_distance, (ONES[2, 2], ONES[2, 2]), {"bins": 2}, "bins is 2, expected .* from 1 to 1, the"),
    "no-pairs": (stiffness.by_distance, (ONES[1, 1], ONES[1, 1]), {}, "no pair of different examples"),
    "shapes": (stiffness.critical_length, (ONES[2, 2], ONES[3, 3]), {}, r"expected \[n, n\] both"),
}


STEPS = [
    ({"eps": 0}, "eps is 0, expected a step size above 0"),
    ({"eps": "a"}, "eps is 'a', expected"),
    ({"examples": []}, "examples is empty"),
    ({"examples": [0.5]}, "example is 0.5, expected a whole number from 0 to 11"),
    ({"examples": [12]}, "example is 12, expected a whole number from 0 to 11"),
]
MAPS = [
    ({"resolution": 2.5}, "resolution is 2.5, expected a whole number"),
    ({"resolution": 10**6}, "a map of 1,000,000 by 1,000,000 points with each other takes .* GB"),
    ({"radius": 0.1, "resolution": 5}, "radius is 0.1, expected at least 0.25"),
    ({"high": (0, 1)}, "the grid from .* is empty"),
]
STEP, GRID = {"examples": [0], "eps": 1}, {"low": (0, 0), "high": (1, 1), "radius": 1}
REFUSED |= {str(each): (stiffness.loss_change, problem(), STEP | each, said) for each, said in STEPS}
REFUSED |= {str(each): (stiffness.neighbourhood_map, (nn.Linear(2, 2),), GRID | each, said) for each, said in MAPS}
test_bad_input_is_one_line = refused(REFUSED)


@pytest.mark.parametrize("stretch", [3, 4])
def test_examples_that_are_fitted_beyond_the_digits_of_float32_have_the_gradients_that_float64_gives(stretch):
    model, x, _ = problem(count=24)
    model[2].weight.data *= stretch
    y = model(x).argmax(1)  # fitted, some of them with a loss that float32 takes for zero
    losses = F.cross_entropy(model(x), y, reduction="none")
    assert 1e-14 < losses.min() < 1e-6
    expected = stiffness.cosine(stiffness.gradient_gram(model, x, y))
    traces = [
        sum(float(value.sum()) for value in fisher.diagonal(each, part, y).values())
        for each, part in ((model, x), (copy.deepcopy(model).float(), x.float()))
    ]
    found = stiffness.cosine(stiffness.gradient_gram(model.float(), x.float(), y))
    torch.testing.assert_close(found.double(), expected, atol=2e-4, rtol=0)
    assert traces[1] == pytest.approx(traces[0], rel=1e-4)


def test_a_gradient_too_small_for_the_number_format_counts_as_zero():
    """Where its square has lost digits, a cosine would be anything; in float64 it is there."""
    generator = torch.Generator().manual_seed(0)
    norms = torch.tensor([1.0, 1e-18, 1e-20, 1e-22, 1e-30], dtype=torch.float64)
    g = torch.nn.functional.normalize(torch.randn(5, 9, generator=generator).double(), dim=1)
    gram = (g * norms[:, None]) @ (g * norms[:, None]).T
    single = gram.float()
    expected = g @ g.T
    assert (stiffness.zero_gradients(gram), stiffness.zero_gradients(single)) == (0, 3)
    torch.testing.assert_close(stiffness.cosine(gram), expected)
    torch.testing.assert_close(stiffness.cosine(single)[:2, :2], expected[:2, :2].float())
    assert not stiffness.cosine(single)[2:].any()
