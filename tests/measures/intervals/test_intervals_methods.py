"""Which method a network gets, what each guarantees, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from gendyn_lite.measures.intervals import Intervals, generalization_interval, search
from gendyn_lite.measures.intervals.bounds import Bounds
from gendyn_lite.measures.intervals.knots import segments
from gendyn_lite.measures.intervals.network import read
from gendyn_lite.measures.intervals.walk import along_lines
from gendyn_lite.models import build
from tests.measures.intervals.test_intervals_exact import LINE, linear, network, random_lines
from tests.measures.intervals.test_intervals_exact import NETWORKS as CALLED
from tests.measures.networks import refused


def small_net() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU())
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(54, 3)).double().eval()


NETWORKS = [  # those of test_intervals_exact are compared with brute force
    ("mlp", (5,), {"widths": (16,), "activation": "tanh"}, "grid"),
    ("mlp_3x512", (1, 4, 4), {}, "exact"),
    ("alexnet_small", (1, 8, 8), {}, "grid"),
    ("inception_small", (1, 4, 4), {}, "exact"),
    ("inception_small", (1, 4, 4), {"batch_norm": False, "dropout": 0.5}, "exact"),
    ("resnet18", (1, 8, 8), {}, "exact"),
]


@pytest.mark.parametrize("case", NETWORKS, ids=lambda case: case[0])
def test_the_networks_of_the_chapter(case):
    name, shape, options, method = case
    model = build(name, num_classes=3, in_shape=shape, seed=0, **options).double().eval()
    x, d = random_lines(shape, 1)
    reach = {"resnet18": 1e-3, "inception_small": 1e-3}.get(name, 0.05)
    options = {"low": -reach, "high": reach, "samples": 5, "tolerance": 1e-10}
    found = generalization_interval(model, x, d, **options)
    sampled = generalization_interval(model, x, d, method="grid", **options)
    assert (found.method, found.exact) == (method, method == "exact")
    assert torch.allclose(found.length, sampled.length, rtol=0, atol=2e-10)
    if name == "alexnet_small":
        assert "layer 'norm1' (ResponseNorm)" in found.guarantee
        assert found.certain_upper.tolist() == [0.0]


def test_the_grid_on_a_smooth_network_has_the_closed_form():
    """tanh(α) against 1/2: the class changes at artanh(1/2)."""
    model = nn.Sequential(linear([[1.0]], [0.0]), nn.Tanh(), linear([[-1.0], [0.0]], [0.5, 0.0]))
    found = generalization_interval(model, *LINE, tolerance=1e-9)
    assert (found.method, found.lower.item()) == ("grid", -1.0)
    assert found.upper.item() == pytest.approx(math.atanh(0.5), abs=2e-9)


@pytest.mark.parametrize("name", CALLED)
def test_certified_bisection_is_sound_and_finds_the_exact_ends(name, monkeypatch):
    monkeypatch.setattr(search, "MOST_STEPS", 3000)
    model, shape = network(name)
    x, d = random_lines(shape, 20)
    exact = generalization_interval(model, x, d, method="exact")
    found = generalization_interval(model, x, d, method="certified", tolerance=1e-9)
    assert found.method == "certified" and not found.exact
    for certain, end in ((found.certain_upper, exact.upper), (-found.certain_lower, -exact.lower)):
        assert bool((certain <= end + 1e-12).all())
        assert torch.allclose(certain, end, rtol=0, atol=1e-7)


def test_a_search_that_would_prove_next_to_nothing_is_given_up(monkeypatch):
    """As in ResNet-18, and in no network where all steps would prove more than a hundredth of the range."""
    steps = []

    class Counted(search.Bounds):
        def judge(self, label: Tensor) -> tuple[Tensor, Tensor]:
            steps.append(len(label))
            return super().judge(label)

    def found(model: nn.Module, shape: tuple[int, ...]) -> Intervals:
        return generalization_interval(model, *random_lines(shape, 1), method="certified", samples=4)

    deep = build("resnet18", num_classes=3, in_shape=(3, 8, 8), seed=0).double().eval()
    monkeypatch.setattr(search, "Bounds", Counted)
    given_up = found(deep, (3, 8, 8))
    assert len(steps) < 15  # of 200
    assert float((given_up.certain_upper - given_up.certain_lower).max()) < 0.01
    assert float(given_up.length.min()) > 0.01  # by samples
    before = {name: found(*network(name)) for name in CALLED}
    monkeypatch.setattr(search, "SHARE", 0.0)
    for name, one in before.items():
        again = found(*network(name))
        assert torch.equal(one.certain_upper, again.certain_upper) and torch.equal(one.lower, again.lower)


def test_too_many_pieces_are_left_to_certified_bisection_that_says_how_far_it_came(monkeypatch):
    monkeypatch.setattr(search, "MOST_STEPS", 2)
    model, (x, d) = small_net(), random_lines((1, 6, 6), 10)
    found, exact = (generalization_interval(model, x, d, max_pieces=most) for most in (5, 10**6))
    assert (found.method, exact.method) == ("certified", "exact")
    assert bool((found.certain_upper < found.upper).any())
    assert torch.allclose(found.upper, exact.upper, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", CALLED)
def test_bounds_enclose_the_network(name):
    """Every logit lies between its chord plus the least and the largest deviation, on segments long and short."""
    model, shape = network(name)
    x, d = random_lines(shape, 10)
    ends = torch.cat([torch.linspace(-1, 0, 5), torch.linspace(0.01, 2, 40)]).double().expand(10, -1)
    program = read(model, torch.float64)
    bounds = Bounds(program, along_lines(program, x, d), segments(torch.arange(10), ends))
    alpha, line, first = bounds.knots.alpha, bounds.knots.ray[bounds.first], bounds.first
    logits, low, high = bounds.logits
    for t in torch.linspace(0.01, 0.99, 15).double():
        place = torch.lerp(alpha[first], alpha[first + 1], t).view(-1, *[1] * len(shape))
        off = model(x[line] + place * d[line]) - torch.lerp(logits[first], logits[first + 1], t)
        assert bool((off >= low - 1e-12).all()) and bool((off <= high + 1e-12).all())


def test_what_torch_fx_cannot_trace_gets_the_grid():
    class Looping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, -x], 1) if x.sum() > 1e9 else torch.cat([x, 1 - x], 1)

    found = generalization_interval(Looping(), torch.zeros(1, 1), torch.ones(1, 1), tolerance=1e-7)
    assert found.method == "grid" and "cannot be traced" in found.guarantee
    assert found.upper.item() == pytest.approx(0.5, abs=1e-6)


RELU = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
POINT, STEP = torch.zeros(1, 2), torch.ones(1, 2)


def with_nan() -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].weight.data[0, 0] = math.nan
    return model


def tanh(*last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Tanh(), *last)


REFUSED = {
    "low is above 0": ({"low": 0.0}, r"low is 0.0, expected a number below 0"),
    "high is below 0": ({"high": -1.0}, r"high is -1.0, expected a number above 0"),
    "direction is zero": ({"direction": torch.zeros(1, 2)}, r"direction is zero for lines \[0\] \(1 of 1\)"),
    "shapes differ": ({"direction": torch.ones(2, 2)}, r"x has shape \(1, 2\) and direction \(2, 2\), expected"),
    "other points": ({"x": torch.zeros(1, 3), "direction": torch.ones(1, 3)}, r"take points of shape \(3,\)"),
    "no batch": ({"x": torch.zeros(2), "direction": torch.ones(2)}, r"x has shape \(2,\), expected \[m, \*in_shape\]"),
    "wrong type": ({"x": POINT.double()}, "x is float64, expected float32 like the network's weights"),
    "pixels": ({"x": POINT.byte()}, "x is uint8, expected float32"),
    "no number": ({"x": torch.full((1, 2), math.nan)}, "x has entries that are not finite"),
    "NaN weights": ({"model": with_nan()}, r"weights '0.weight' are not finite"),
    "one logit": ({"model": nn.Linear(2, 1)}, r"output has shape \(1, 1\), expected logits"),
    "train mode": ({"model": tanh(nn.Dropout())}, r"'2' \(Dropout\) is in train mode"),
    "unknown method": ({"method": "exakt"}, "unknown method 'exakt': did you mean 'exact'"),
    "no samples": ({"samples": 0}, "samples is 0, expected a whole number of at least 1"),
    "tolerance": ({"tolerance": 0.0}, "tolerance is 0.0, expected a number from 1e-12 to 1"),
    "pieces": ({"method": "exact", "max_pieces": 1}, r"a line has \d+ linear pieces or more, expected at most max_p"),
    "tanh": ({"model": tanh(), "method": "exact"}, r"layer '1' \(Tanh\) is not piecewise linear: use method='grid'"),
    "half precision": ({"model": nn.Linear(2, 2).half()}, "the network computes in float16, expected float32 or"),
}


GIVEN = {"model": RELU, "x": POINT, "direction": STEP}
test_bad_input_gets_one_clear_line = refused(
    {name: (generalization_interval, (), GIVEN | changes, message) for name, (changes, message) in REFUSED.items()}
)


def test_weights_and_modes_are_left_alone():
    model, (x, d) = small_net().float(), random_lines((1, 6, 6), 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generalization_interval(model, x.float(), d.float())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
