"""Networks and losses that people bring: every measure gives the right answer or refuses, by kind of trouble."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite.measures.fisher import diagonal, influence
from gendyn_lite.measures.intervals import generalization_interval
from gendyn_lite.measures.relu_paths import record_paths
from gendyn_lite.measures.stiffness import gradient_gram
from tests.measures.networks import Net, check_refused

X = torch.linspace(-2, 2, 96).view(12, 8).sin().double()
Y = torch.arange(12) % 3


def net(*layers):
    return nn.Sequential(nn.Linear(8, 6), *layers, nn.ReLU(), nn.Linear(6, 3)).double().eval()


def spectral():
    return nn.Sequential(nn.utils.spectral_norm(nn.Linear(8, 6)), nn.ReLU(), nn.Linear(6, 3)).double().train()


def noisy(function):
    return Net(
        lambda s, x: s.out(function(torch.relu(s.first(x)))), first=nn.Linear(8, 6), out=nn.Linear(6, 3)
    ).double()


RANDOM = "the network draws at random when it is run|dropout in .* is in train mode"
MOVES = r"the network changes its buffer '0.weight_u' when it"
NETWORKS = {
    "functional dropout": (noisy(lambda h: F.dropout(h, 0.5, True)), RANDOM),
    "noise": (noisy(lambda h: h + torch.randn_like(h)), RANDOM),
    "a layer left out by chance": (noisy(lambda h: h * (torch.rand(()) > 0.5)), RANDOM),
    "spectral norm in train mode": (spectral(), MOVES),
}
MEASURES = {
    "gram": lambda model: gradient_gram(model, X, Y),
    "diagonal": lambda model: diagonal(model, X, Y),
    "true diagonal": lambda model: diagonal(model, X, kind="true"),
    "influence": lambda model: influence(model, X[:2], Y[:2], X, eps=1e-3),
    "paths": lambda model: record_paths(model, X),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_an_output_of_its_own_is_refused(name, measure):
    model, said = NETWORKS[name]
    check_refused(MEASURES[measure], said, model)


TARGETS = torch.linspace(0, 1, 12).double()
ONE = nn.Linear(8, 1).double()
REFUSED = {
    "the loss broadcasts": (
        lambda: gradient_gram(ONE, X, TARGETS, loss=lambda o, t: ((o - t) ** 2).mean(1)),
        r"the loss of example \d+ is .* among others and .* alone: it mixes examples \(do shapes broadcast",
    ),
    "the loss is centred": (
        lambda: diagonal(net(), X, Y, loss=lambda o, t: F.cross_entropy(o - o.mean(0), t, reduction="none")),
        r"the loss of example \d+ is .* it mixes examples",
    ),
    "one output, true": (lambda: diagonal(ONE, X, kind="true"), r"kind='true' draws labels from the softmax"),
    "one output, drawn": (lambda: diagonal(ONE, X, kind="monte_carlo"), "and the network has one output"),
    "arrays": (lambda: gradient_gram(net(), X.numpy(), Y), r"x is a ndarray, expected a tensor: torch.as_tensor\(x\)"),
    "a list": (lambda: gradient_gram(net(), X, Y.tolist()), r"y is a list, expected a tensor: torch.as_tensor\(y\)"),
    "compiled": (lambda: gradient_gram(torch.compile(net()), X, Y), r"is compiled .*: measure the one inside, model"),
    "a gate of some batches": (
        lambda: record_paths(
            Net(lambda s, x: s.late(s.early(x)) if x.sum() > 0 else s.early(x), early=nn.ReLU(), late=nn.ReLU()),
            torch.cat([X.abs(), -X.abs()]), batch_size=12,
        ),
        "gate 'late' is used 1 times in 2 batches, so that its rows are not the images'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_silently_wrong_is_refused(case):
    check_refused(*REFUSED[case])


def hooked():
    model = net()
    model[0].register_forward_hook(lambda module, given, out: torch.relu(out - 0.3))
    return model


NAMED = Net(
    lambda s, x: s.out(torch.sub(s.first(x), other=F.relu(s.first(x)))), first=nn.Linear(8, 6), out=nn.Linear(6, 3)
)
GIVEN = Net(
    lambda s, x: s.out(F.linear(input=torch.relu(x), weight=s.first.weight)), first=nn.Linear(8, 6), out=nn.Linear(6, 3)
)


@pytest.mark.parametrize("model", [hooked(), NAMED.double(), GIVEN.double()], ids=["hook", "other=", "input="])
def test_an_interval_of_a_network_that_is_not_what_was_traced_is_found_by_samples(model):
    direction = X.flip(0)
    found = generalization_interval(model, X, direction)
    assert found.method == "grid"
    alpha = torch.linspace(-1, 2, 3001).double()
    classes = torch.stack([model(X + a * direction).argmax(1) for a in alpha])
    for i in range(len(X)):
        inside = (alpha > found.lower[i] + 2e-3) & (alpha < found.upper[i] - 2e-3)
        assert (classes[inside, i] == model(X)[i].argmax()).all()
