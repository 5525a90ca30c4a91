"""The diagonal Fisher information equals the mean of squared gradients taken one by one, for every network."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gendyn_lite import models
from gendyn_lite.errors import UserError
from gendyn_lite.measures import fisher
from gendyn_lite.threads import threads
from tests.measures import naive, networks
from tests.measures.networks import Centred, Net, convolution, examples, scrambled

NETWORKS = {  # in_shape, options
    "mlp": ((5,), {"widths": [7, 6], "activation": "tanh"}),
    "alexnet_small": ((3, 7, 7), {}),
    "inception_small": ((3, 4, 4), {}),
    "resnet18": ((3, 8, 8), {}),
    "vgg19": ((3, 32, 32), {}),
}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def loop(model, x, y, loss=None):
    """The mean of squared gradients, one backward pass for each example."""
    rows = naive.gradients(model, x, y, loss)
    shapes = {name: value.shape for name, value in model.named_parameters()}
    return {name: torch.stack([row[name] for row in rows]).square().mean(0).view(shapes[name]) for name in rows[0]}


def same(found, expected, tolerance):
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        worst = (found[name].double() - value.double()).abs().max()
        assert worst <= tolerance * value.abs().max().clamp(min=1e-300), (name, worst, value.abs().max())


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_equals_the_loop(name, dtype, count):
    shape, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, y = examples(count, shape)
    expected = loop(model, x, y)
    same(fisher.diagonal(model.to(dtype), x.to(dtype), y), expected, TOLERANCE[dtype])


CONVOLUTIONS = networks.CONVOLUTIONS | {
    "whole-input": {"kernel_size": (6, 5)},
    "whole-input-groups": {"kernel_size": (6, 5), "groups": 2},
}


@pytest.mark.parametrize("small", [False, True], ids=["one block", "small blocks"])
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_equals_the_loop(options, small, monkeypatch):
    if small:
        monkeypatch.setattr("gendyn_lite.measures.fisher.squares.GRADIENT_BYTES", {"cpu": 300})
        monkeypatch.setattr("gendyn_lite.measures.per_example.factors.PATCH_BYTES", {"cpu": 2000})
    torch.manual_seed(0)
    model, (x, y) = convolution(4, 8, **options).double(), examples(5, (4, 6, 5))
    same(fisher.diagonal(model, x, y), loop(model, x, y), 1e-10)


@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_in_float32_equals_the_loop_in_float64(options):
    torch.manual_seed(0)
    model, (x, y) = convolution(4, 8, **options), examples(5, (4, 6, 5))
    expected = loop(model.double(), x, y)
    same(fisher.diagonal(model.float(), x.float(), y), expected, 1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 8], ids="{} threads".format)
def test_the_number_of_threads_changes_nothing(count):
    torch.manual_seed(0)
    model, (x, y) = convolution(4, 8, kernel_size=3, groups=2).double(), examples(5, (4, 6, 5))
    with threads(count):
        same(fisher.diagonal(model, x, y), loop(model, x, y), 1e-10)


@pytest.mark.parametrize("room", [100, 1 << 20], ids=["one at a time", "all"])
def test_the_way_of_a_gpu_gives_the_same(room, monkeypatch):
    from gendyn_lite.measures.fisher import squares

    monkeypatch.setattr(squares, "_add_one_by_one", squares._add_in_blocks)
    monkeypatch.setattr(squares, "GRADIENT_BYTES", {"cpu": room})
    torch.manual_seed(0)
    model, (x, y) = convolution(4, 8, kernel_size=3, groups=2).double(), examples(5, (4, 6, 5))
    same(fisher.diagonal(model, x, y), loop(model, x, y), 1e-10)


def norm(layer, shape):
    size = torch.zeros(shape).numel()
    return scrambled(nn.Sequential(layer, nn.Flatten(), nn.Linear(size, 3))), shape


def shared():
    hidden = nn.Linear(4, 4)
    net = Net(lambda m, x: m.out(torch.tanh(m.hidden(torch.tanh(m.hidden(x))))), hidden=hidden, out=nn.Linear(4, 3))
    return net.double(), (4,)


def shared_convolution():
    layer = nn.Conv2d(2, 2, 3, padding=1)
    net = Net(lambda m, x: m.out(m.conv(torch.tanh(m.conv(x))).flatten(1)), conv=layer, out=nn.Linear(32, 3))
    return net.double(), (2, 4, 4)


def sequence():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Flatten(), nn.Linear(20, 3)).double(), (5, 3)


def conv1d():
    return nn.Sequential(nn.Conv1d(2, 4, 3, stride=2), nn.Flatten(), nn.Linear(12, 3)).double(), (2, 7)


LAYERS = {
    "batch-norm": lambda: norm(nn.BatchNorm2d(3), (3, 4, 4)),
    "batch-norm of features": lambda: norm(nn.BatchNorm1d(6), (6,)),
    "layer-norm": lambda: norm(nn.LayerNorm((4, 4)), (3, 4, 4)),
    "group-norm": lambda: norm(nn.GroupNorm(2, 4), (4, 3, 3)),
    "shared linear": shared,
    "shared convolution": shared_convolution,
    "sequence": sequence,
    "one dimension": conv1d,
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_equals_the_loop(make):
    torch.manual_seed(0)
    model, shape = make()
    x, y = examples(6, shape)
    same(fisher.diagonal(model, x, y, batch_size=4), loop(model, x, y), 1e-10)


@pytest.mark.parametrize("padding", [None, 1], ids=["plain", "with padding"])
def test_an_embedding_adds_the_places_of_a_token_before_it_squares(padding):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4, padding_idx=padding), nn.Flatten(), nn.Linear(24, 3)).double()
    x = torch.tensor([[0, 0, 0, 1, 2, 4], [3, 3, 1, 1, 0, 0], [2, 2, 2, 2, 2, 2]])
    y = torch.tensor([0, 2, 1])
    same(fisher.diagonal(model, x, y), loop(model, x, y), 1e-10)


def test_shared_embedding_and_output_go_through_torch_func():
    torch.manual_seed(0)
    embedding, out = nn.Embedding(3, 4), nn.Linear(4, 3, bias=False)
    out.weight = embedding.weight
    model = Net(lambda m, x: m.out(m.embedding(x).mean(1)), embedding=embedding, out=out).double()
    x, y = torch.tensor([[0, 1], [2, 2], [1, 0]]), torch.tensor([0, 1, 2])
    with pytest.warns(UserWarning, match=r"no formula for embedding \(Embedding\)"):
        found = fisher.diagonal(model, x, y)
    same(found, loop(model, x, y), 1e-10)


class Scale(nn.Module):
    """A layer that nobody has a formula for."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.factor.exp()


def test_a_layer_without_a_formula_is_named_or_refused():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), Scale(), nn.Linear(4, 3)).double()
    x, y = examples(5, (3,))
    with pytest.warns(UserWarning, match=r"no formula for 1 \(Scale\)") as told:
        found = fisher.diagonal(model, x, y, batch_size=2)
    assert len(told) == 1
    same(found, loop(model, x, y), 1e-10)
    with pytest.raises(UserError, match=r"no formula for 1 \(Scale\): leave strict=True out"):
        fisher.diagonal(model, x, y, strict=True)


def test_strict_is_content_where_every_layer_has_a_formula():
    model = models.build("resnet18", num_classes=3, in_shape=(3, 8, 8), seed=0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fisher.diagonal(model, *examples(2, (3, 8, 8), dtype=torch.float32), strict=True)


def test_the_batch_size_does_not_change_the_result():
    model = scrambled(models.build("alexnet_small", num_classes=3, in_shape=(3, 7, 7), seed=0))
    x, y = examples(7, (3, 7, 7))
    whole = fisher.diagonal(model, x, y)
    for size in (1, 3, 100):
        same(fisher.diagonal(model, x, y, batch_size=size), whole, 1e-12)
    batches = zip(x.split(3), y.split(3), strict=True)
    same(fisher.diagonal_over(model, batches), whole, 1e-12)


def test_it_is_not_the_square_of_the_batch_gradient():
    torch.manual_seed(0)
    model = nn.Linear(3, 3).double()
    x, y = examples(8, (3,))
    batch = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    found = fisher.diagonal(model, x, y)
    for value, gradient in zip(found.values(), batch, strict=True):
        assert (value > gradient.square()).all()
    one = fisher.diagonal(model, x[:1], y[:1])
    alone = torch.autograd.grad(F.cross_entropy(model(x[:1]), y[:1]), list(model.parameters()))
    for value, gradient in zip(one.values(), alone, strict=True):
        torch.testing.assert_close(value, gradient.square())


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


@pytest.mark.parametrize("name", ["mlp", "alexnet_small"])
def test_the_true_fisher_is_the_expectation_over_the_networks_labels(name):
    shape, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, _ = examples(4, shape)
    p = model(x).softmax(1).detach()
    expected = None
    for label in range(3):
        for i in range(len(x)):
            one = loop(model, x[i : i + 1], torch.tensor([label]))
            part = {key: p[i, label] * value / len(x) for key, value in one.items()}
            expected = part if expected is None else {key: expected[key] + part[key] for key in part}
    same(fisher.diagonal(model, x, kind="true"), expected, 1e-10)


def test_the_monte_carlo_fisher_tends_to_the_true_one_and_repeats_with_its_seed():
    torch.manual_seed(0)
    model = nn.Linear(4, 3).double()
    x, _ = examples(5, (4,))
    true = fisher.diagonal(model, x, kind="true")
    few, again, other = (
        fisher.diagonal(model, x, kind="monte_carlo", samples=2, seed=seed)["weight"] for seed in (0, 0, 1)
    )
    assert torch.equal(few, again) and not torch.equal(few, other)
    many = fisher.diagonal(model, x, kind="monte_carlo", samples=2000)
    for name, value in true.items():
        assert ((many[name] - value).abs() / value).max() < 0.15


def test_half_precision_is_summed_in_float32():
    model = models.build("mlp", num_classes=3, in_shape=(6,), seed=0, widths=[32]).eval()
    x, y = examples(64, (6,), dtype=torch.float32)
    exact = fisher.diagonal(model, x, y)
    found = fisher.diagonal(model, x, y, precision="bfloat16")
    for name, value in exact.items():
        assert found[name].dtype == torch.float32
        assert (found[name] - value).abs().max() < 0.02 * value.max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: compares GPU and CPU")
@pytest.mark.parametrize("name", ["mlp", "resnet18"])
def test_a_gpu_gives_the_same(name):
    shape, options = NETWORKS[name]
    model = scrambled(models.build(name, num_classes=3, in_shape=shape, seed=0, **options))
    x, y = examples(7, shape)
    expected = fisher.diagonal(model, x, y)
    found = fisher.diagonal(model.cuda(), x.cuda(), y.cuda())
    same({key: value.cpu() for key, value in found.items()}, expected, 1e-10)


def test_the_network_is_left_as_it_was():
    model = models.build("resnet18", num_classes=3, in_shape=(3, 8, 8), seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fisher.diagonal(model, *examples(3, (3, 8, 8), dtype=torch.float32))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3)).double()
    model[0].weight.requires_grad_(False)
    assert set(fisher.diagonal(model, *examples(2, (3,)))) == {"0.bias", "1.weight", "1.bias"}


def unused():
    return Net(lambda m, x: m.used(x), used=nn.Linear(3, 3), idle=nn.Linear(3, 3)).double()


def unused_without_formula():
    return Net(lambda m, x: m.used(x), used=nn.Linear(3, 3), idle=Scale()).double()


def with_nan(place):
    x, y = examples(4, (3,))
    x[place] = float("nan")
    return x, y


BAD = {
    "train mode": (
        lambda: fisher.diagonal(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3)).double(), *examples(2, (3,))),
        r"'0' \(BatchNorm1d\) is in train mode",
    ),
    "dropout": (
        lambda: fisher.diagonal(nn.Sequential(nn.Dropout(), nn.Linear(3, 3)).double(), *examples(2, (3,))),
        r"'0' \(Dropout\) is in train mode and draws at random",
    ),
    "no gradient": (
        lambda: fisher.diagonal(unused(), *examples(2, (3,))),
        r"parameter 'idle.weight' gets no gradient: the loss does not depend on it",
    ),
    "no gradient, no formula": (
        lambda: fisher.diagonal(unused_without_formula(), *examples(2, (3,))),
        r"parameter 'idle.factor' gets no gradient",
    ),
    "NaN": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), *with_nan(2)),
        r"the gradient of example 2 is not finite",
    ),
    "square beyond float32": (
        lambda: fisher.diagonal(nn.Linear(3, 3), 1e21 * torch.ones(2, 3), torch.tensor([0, 1])),
        r"the square of the gradient of example \d is beyond the range of its number format: measure in float64",
    ),
    "mixed": (
        lambda: fisher.diagonal(Centred(3, 3), torch.eye(3), torch.tensor([0, 1, 2])),
        "the network mixes the examples of a batch",
    ),
    "NaN in a later batch": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), *with_nan(3), batch_size=2),
        r"the gradient of example 3 is not finite",
    ),
    "NaN, true": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), with_nan(1)[0], kind="true"),
        r"the output of example 1 is not finite",
    ),
    "NaN, Monte-Carlo": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), with_nan(3)[0], kind="monte_carlo"),
        r"the output of example 3 is not finite",
    ),
    "no labels": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), examples(2, (3,))[0]),
        r"the empirical Fisher needs the observed labels y",
    ),
    "kind": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), *examples(2, (3,)), kind="empiric"),
        r"unknown kind of Fisher information 'empiric': did you mean 'empirical'",
    ),
    "precision": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), *examples(2, (3,)), precision="float8"),
        r"unknown precision 'float8'",
    ),
    "samples": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), *examples(2, (3,)), kind="monte_carlo", samples=0),
        r"samples is 0, expected a whole number of at least 1",
    ),
    "batch size": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), *examples(2, (3,)), batch_size=0),
        r"batch_size is 0, expected a whole number of at least 1, or None",
    ),
    "no examples": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), *examples(0, (3,))),
        r"x has 0 examples, expected at least 1",
    ),
    "no batches": (
        lambda: fisher.diagonal_over(nn.Linear(3, 3).double(), []),
        r"there is no example to take the Fisher information of",
    ),
    "labels": (
        lambda: fisher.diagonal(nn.Linear(3, 3).double(), examples(2, (3,))[0], torch.tensor([0, 3])),
        r"labels span 0 to 3, expected 0 to 2",
    ),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
