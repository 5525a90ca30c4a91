"""Exact ends against brute force in float64: dense samples, then bisection."""

from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gendyn_lite.measures.intervals import Intervals, generalization_interval
from gendyn_lite.measures.intervals.grid import grid_ends
from gendyn_lite.measures.intervals.knots import Lines, margins
from gendyn_lite.models import build
from tests.measures.networks import Net

# Lines of each network in the table below: 5,100 in all.
LINES = int(os.environ.get("GENDYN_TEST_LINES", "510"))


def residual(width: int) -> nn.Module:
    """Two branches of different depth, added, and the input of a ReLU used again behind it."""

    def forward(s: Net, x: Tensor) -> Tensor:
        before = s.first(x)
        return x + s.third(s.relu(s.second(s.relu(before)))) - 0.5 * before

    return Net(forward, relu=nn.ReLU(), **{name: nn.Linear(width, width) for name in ("first", "second", "third")})


class Functional(nn.Module):
    """Operations in place of modules, sizes read from the batch, branches joined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(83, 4)
        self.register_buffer("mean", torch.full((2, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv((x - self.mean) / 0.7))
        strongest = y.amax(1, True)[..., ::2, ::2]
        y = torch.cat([F.max_pool2d(y, 2), F.avg_pool2d(y, 2), strongest], 1)
        y = torch.maximum(y, -0.3 * y)
        y = torch.cat([y.view(y.size(0), -1), x.mean((2, 3))], dim=1)
        return F.linear(y, self.out.weight, bias=self.out.bias)


def maxout(pieces: int) -> nn.Module:
    """The largest of each few neighbouring features."""
    return Net(lambda s, x: x.unflatten(1, (-1, pieces)).amax(2))


def shifted(width: int) -> nn.Module:
    """A parameter that is added."""
    return Net(lambda s, x: x + s.shift, shift=nn.Parameter(-torch.linspace(0.2, 0.6, width)))


def bordered(value: float) -> nn.Module:
    return Net(lambda s, x: F.pad(x, (1, 1, 1, 1), value=value))


def conv_net(*layers: nn.Module, features: int) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 4))


def perceptron(size: int, *layers: nn.Module, features: int) -> tuple[nn.Sequential, tuple[int]]:
    return nn.Sequential(nn.Linear(size, 20), *layers, nn.Linear(features, 4)), (size,)


NETWORKS = {
    "mlp": lambda: (build("mlp", num_classes=5, in_shape=(10,), widths=(32, 24, 16)), (10,)),
    "leaky": lambda: (build("mlp", num_classes=5, in_shape=(6,), widths=(24, 24), activation="leaky_relu"), (6,)),
    "residual": lambda: (nn.Sequential(residual(8), nn.ReLU(), residual(8), nn.Linear(8, 4)), (8,)),
    "maxout": lambda: perceptron(6, maxout(2), nn.Linear(10, 12), maxout(4), features=3),
    "clipped": lambda: perceptron(5, nn.ReLU6(), nn.Linear(20, 9), nn.Hardtanh(), features=9),
    "prelu": lambda: perceptron(5, nn.PReLU(20, 1.7), nn.Linear(20, 9), nn.PReLU(), features=9),
    "conv": lambda: (
        conv_net(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1), nn.LeakyReLU(),
                 nn.AvgPool2d(2, 1), nn.Dropout(), features=36),
        (1, 6, 6),
    ),
    "max_pool": lambda: (
        conv_net(nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.ReLU(), nn.BatchNorm2d(3),
                 nn.MaxPool2d(2, ceil_mode=True), nn.AdaptiveAvgPool2d((2, 1)), features=6),
        (1, 7, 6),
    ),
    "max_pool_1d": lambda: (conv_net(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(3, 2), features=12), (2, 10)),
    "functional": lambda: (Functional(), (2, 6, 6)),
    "slopes below 0": lambda: perceptron(5, nn.LeakyReLU(-1.0), nn.Linear(20, 9), nn.PReLU(init=-0.8), nn.Linear(9, 9),
                                         nn.PReLU(init=-2.0), features=9),
    "orthogonal weights": lambda: perceptron(5, nn.ReLU(), parametrizations.orthogonal(nn.Linear(20, 20)), nn.ReLU(),
                                             nn.Linear(20, 20), nn.ReLU(), features=20),
    "a bias of its own": lambda: perceptron(5, nn.ReLU(), nn.Linear(20, 9), shifted(9), nn.ReLU(), features=9),
    "a border below 0": lambda: (conv_net(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), bordered(-0.5),
                                          nn.Conv2d(3, 1, 3, groups=1), nn.ReLU(), features=16), (1, 4, 4)),
    "the largest of a picture": lambda: (
        nn.Sequential(nn.Conv2d(1, 9, 3), nn.ReLU(), Net(lambda s, x: x.amax((2, 3)) - x.amax((1, 2, 3))[:, None]),
                      nn.Linear(9, 4)), (1, 4, 4)
    ),
    "the largest feature": lambda: perceptron(5, nn.ReLU(), Net(lambda s, x: x - x.amax(1, keepdim=True)), features=20),
}  # fmt: skip


def network(name: str, seed: int = 0) -> tuple[nn.Module, tuple[int, ...]]:
    """A random network in float64 whose classes are about equally likely."""
    torch.manual_seed(seed)
    model, shape = NETWORKS[name]()
    with torch.no_grad():
        x = torch.randn(256, *shape)
        model(x)  # in train mode: moves batch-norm's statistics
        model.eval()
        last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        last.weight.mul_(3)
        last.bias.sub_(model(x).mean(0))
    return model.double(), shape


def random_lines(shape: tuple[int, ...], count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, *shape, dtype=torch.float64, generator=generator) for _ in range(2))  # type: ignore[return-value]


def linear(weights: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights)).double()
    layer.weight.data, layer.bias.data = (torch.tensor(each, dtype=torch.float64) for each in (weights, bias))
    return layer


def ends(found: Intervals) -> Tensor:
    return torch.stack([found.lower, found.upper], dim=1)


@torch.no_grad()
def brute_force(model: nn.Module, x: Tensor, d: Tensor, *, samples: int, tolerance: float = 1e-11) -> Tensor:
    return grid_ends(model, Lines(x, d, model(x).argmax(1), (-1.0, 2.0)), samples=samples, tolerance=tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_ends_are_those_of_brute_force_and_in_float32_near_them(name):
    model, shape = network(name)
    x, d = random_lines(shape, LINES)
    found = generalization_interval(model, x, d)
    assert found.exact and not found.tied.any()
    exact, sampled = ends(found), brute_force(model, x, d, samples=200)
    inside = (exact > -1) & (exact < 2)
    assert inside.float().mean() > 0.2, "too few changes of class for a test"
    assert bool(((exact - sampled).abs()[~inside] <= 1e-9).all())
    # No change of class is missed: nothing sampled lies before an exact end.
    outwards = torch.tensor([-1.0, 1.0]).double()
    assert float(((exact - sampled) * outwards).max()) <= 1e-9
    # Where the samples stepped over a sliver the class is indeed lost there.
    early = ((sampled - exact) * outwards > 1e-9).nonzero()
    assert len(early) < 0.03 * exact.numel()
    line, side = early.unbind(1)
    behind = (exact[line, side] + 1e-9 * outwards[side]).view(-1, *[1] * len(shape))
    assert not len(line) or bool((margins(model(x[line] + behind * d[line]), found.label[line]).amin(1) < 0).all())
    x, d = x[: LINES // 4].float(), d[: LINES // 4].float()
    truth = ends(generalization_interval(model, x.double(), d.double()))
    single = generalization_interval(model.float(), x, d)
    assert single.exact and single.lower.dtype == torch.float64
    assert float((ends(single) - truth).abs().max()) <= 1e-5


def lattice(seed: int) -> nn.Sequential:
    """Whole-number weights with dead units, equal units and two classes whose logits are the same function."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randint(-2, 3, parameter.shape, generator=generator))
        first, second, last = model[0], model[2], model[4]
        first.weight[0], first.bias[0] = 0, -1  # dead
        first.weight[1], first.bias[1] = first.weight[2], first.bias[2]
        second.weight[0], second.bias[0] = 0, 0  # flat at its kink
        last.weight[-1], last.bias[-1] = last.weight[0], last.bias[0]
    return model


@pytest.mark.parametrize("seed", range(20))
def test_ties_and_flat_pieces(seed):
    """In whole numbers, at places that are sums of powers of 2, brute force computes without rounding."""
    model = lattice(seed)
    generator = torch.Generator().manual_seed(seed)
    x, d = torch.randint(-2, 3, (2, 120, 3), generator=generator).double()
    d[(d == 0).all(1)] = 1
    found = generalization_interval(model, x, d)
    sampled = brute_force(model, x, d, samples=1024, tolerance=2.0**-34)
    logits = model(x)
    top = logits == logits.amax(1, keepdim=True)
    assert torch.equal(found.tied, top.sum(1) > 1)
    assert torch.equal(found.label, top.int().argmax(1))
    assert float((ends(found) - sampled).abs().max()) <= 1e-9


LINE = torch.zeros(1, 1).double(), torch.ones(1, 1).double()


def test_a_kink_that_touches_the_boundary_does_not_end_the_interval():
    """Logits 0 and -|α - 1|: equal at α = 1 alone."""
    last = linear([[0.0, 0.0], [-1.0, -1.0]], [0.0, 0.0])
    model = nn.Sequential(linear([[1.0], [-1.0]], [-1.0, 1.0]), nn.ReLU(), last)
    found = generalization_interval(model, *LINE)
    assert (found.lower.item(), found.upper.item(), found.tied.item()) == (-1.0, 2.0, False)


def test_a_sliver_between_two_samples_is_found():
    """A hat of another class, 1e-7 wide, at α = 1.2345: the grid steps over it."""
    centre, width = 1.2345, 1e-7
    first = linear([[1.0]] * 3, [width - centre, -centre, -centre - width])
    last = linear([[0.0, 0, 0], [2 / width, -4 / width, 2 / width]], [0.0, -1.0])
    model = nn.Sequential(first, nn.ReLU(), last)
    assert generalization_interval(model, *LINE, method="grid").upper.item() == 2.0
    wanted = (centre - width) + width / 2  # the kinks lie where the rounded biases say
    assert generalization_interval(model, *LINE).upper.item() == pytest.approx(wanted, abs=1e-9)


def test_little_memory_changes_nothing(monkeypatch):
    model, shape = network("max_pool")
    x, d = random_lines(shape, 12)
    wanted = ends(generalization_interval(model, x, d))
    monkeypatch.setattr("gendyn_lite.measures.intervals.walk.MEMORY", 126 * 8 * 24)
    monkeypatch.setattr("gendyn_lite.measures.intervals.search.BYTES", 126 * 8 * 24)
    assert torch.allclose(ends(generalization_interval(model, x, d)), wanted, rtol=0, atol=1e-12)
