"""The diagonal Fisher information equals the mean of squared gradients taken one by one, for every network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite.measures import fisher
from tests.measures import naive
from tests.measures.networks import Net, Own, built, examples, refused


def same(found, expected, tolerance):
    assert set(found) == set(expected)
    for name, value in expected.items():
        worst = (found[name].double() - value.double()).abs().max()
        assert worst <= tolerance * value.abs().max().clamp(min=1e-300), (name, worst, value.abs().max())


def test_softmax_regression_has_a_closed_form():
    """F_true of W is E[p_c (1 − p_c) x_j²], the empirical one E[(p_c − [y = c])² x_j²]."""
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, y = examples(9, (4,))
    p = model(x).softmax(1).detach()
    true = torch.einsum("nc,nj->cj", p * (1 - p), x.square()) / len(x)
    observed = torch.einsum("nc,nj->cj", (p - F.one_hot(y, 3)).square(), x.square()) / len(x)
    torch.testing.assert_close(fisher.diagonal(model, x, kind="true")["weight"], true)
    torch.testing.assert_close(fisher.diagonal(model, x, kind="true")["bias"], (p * (1 - p)).mean(0))
    torch.testing.assert_close(fisher.diagonal(model, x, y)["weight"], observed)


@pytest.mark.parametrize("name", ["mlp", "alexnet_small", "inception_small"])
def test_the_true_fisher_is_the_expectation_over_the_networks_labels_and_float32_is_near(name):
    model, x, y = built(name)
    p = model(x).softmax(1).detach()
    rows = [naive.gradients(model, x, torch.full((len(x),), label)) for label in range(3)]
    expected = {}
    for name, value in model.named_parameters():
        squares = (p[:, k] @ torch.stack([row[name] for row in rows[k]]).square() for k in range(3))
        expected[name] = sum(squares).view(value.shape) / len(x)
    same(fisher.diagonal(model, x, kind="true"), expected, 1e-10)
    exact = fisher.diagonal(model, x, y)
    same(fisher.diagonal(model.float(), x.float(), y), exact, 1e-5)


def test_the_monte_carlo_fisher_tends_to_the_true_one_and_repeats_with_its_seed():
    torch.manual_seed(0)
    model, (x, _) = nn.Linear(4, 3).double(), examples(5, (4,))
    options = [{"samples": 2}, {"samples": 2}, {"samples": 2, "seed": 1}, {"samples": 2000}]
    few, again, other, many = (fisher.diagonal(model, x, kind="monte_carlo", **each) for each in options)
    assert torch.equal(few["weight"], again["weight"]) and not torch.equal(few["weight"], other["weight"])
    for name, value in fisher.diagonal(model, x, kind="true").items():
        assert ((many[name] - value).abs() / value).max() < 0.15


def linear():
    return nn.Linear(3, 3).double()


def idle(layer):
    return Net(lambda m, x: m.used(x), used=nn.Linear(3, 3), idle=layer).double()


def with_nan(place):
    x, y = examples(4, (3,))
    x[place] = float("nan")
    return x, y


TWO = examples(2, (3,))
LARGE = 1e21 * torch.ones(2, 3), torch.tensor([0, 1])
BAD = {  # network, inputs and labels, options
    "no gradient": (idle(nn.Linear(3, 3)), TWO, {}, "parameter 'idle.weight' gets no gradient: the loss does not"),
    "no gradient, no formula": (idle(Own()), TWO, {}, "parameter 'idle.scale' gets no gradient"),
    "square": (nn.Linear(3, 3), LARGE, {}, "or its square is beyond float32"),
    "NaN in a later batch": (linear(), with_nan(3), {"batch_size": 2}, "the gradient of example 3 is not finite"),
    "NaN, true": (linear(), with_nan(1), {"kind": "true"}, "the output of example 1 is not finite"),
    "NaN, Monte-Carlo": (linear(), with_nan(3), {"kind": "monte_carlo"}, "the output of example 3 is not finite"),
    "no labels": (linear(), TWO[:1], {}, "the empirical Fisher needs the observed labels y"),
    "kind": (linear(), TWO, {"kind": "empiric"}, "unknown kind of Fisher information 'empiric': did you mean 'emp"),
    "precision": (linear(), TWO, {"precision": "float8"}, "unknown precision 'float8'"),
    "samples": (linear(), TWO, {"samples": 0}, "samples is 0, expected a whole number of at least 1"),
    "batch size": (linear(), TWO, {"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1, or None"),
}


def changed(change):
    """Add a batch, change the network, and add another."""
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout()).double().eval()
    total = fisher.DiagonalSum(model)
    total.add(*TWO)
    change(model)
    total.add(*TWO)


def step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)  # whose steps raise no version
    F.cross_entropy(model(TWO[0]), TWO[1]).backward()
    optimizer.step()


SINCE = " of the network has changed since the first batch: make a new DiagonalSum for each state of the network"
CHANGED = {
    "a step": (step, f"'0.weight'{SINCE}"),
    "a write to data": (lambda model: model[0].bias.data.mul_(2), f"'0.bias'{SINCE}"),
    "a buffer": (lambda model: model[1].running_mean.add_(1), f"'1.running_mean'{SINCE}"),
    "another layer": (lambda model: model.append(nn.Linear(3, 3).double()), f"'3.weight'{SINCE}"),
    "train mode again": (lambda model: model[2].train(), r"'2' \(Dropout\) is in train mode"),
}
BAD_CALLS = {name: (fisher.diagonal, (row[0], *row[1]), row[2], row[3]) for name, row in BAD.items()}
BAD_CALLS["train mode"] = fisher.DiagonalSum, (nn.BatchNorm1d(3),), {}, r"\(BatchNorm1d\) is in train mode"
BAD_CALLS |= {name: (changed, (change,), {}, said) for name, (change, said) in CHANGED.items()}
BAD_CALLS["no batches"] = fisher.DiagonalSum(linear()).mean, "there is no example to take the Fisher information of"
test_bad_input_is_one_line = pytest.mark.filterwarnings("ignore:no formula")(refused(BAD_CALLS))
